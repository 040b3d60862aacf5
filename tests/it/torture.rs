//! A short run of the campaign; `scripts/torture` runs it for as long as one likes.

use std::path::Path;
use std::process::Command;

use crate::sandbox::PROGRAM;

#[test]
fn nothing_is_lost_repeated_or_leaked_whatever_goes_wrong() {
    let campaign = Path::new(PROGRAM).with_file_name("examples").join("torture");
    let output = Command::new(campaign)
        .args(["--seconds", "8", "--seed", "4"])
        .output()
        .expect("an example, built by cargo test");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("builds lost"), "{said}");
}
