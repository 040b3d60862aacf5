//! A short run of the chaos campaign. `scripts/chaos` runs a longer one.

#![cfg(target_os = "linux")]

use std::process::Command;

#[test]
fn no_build_is_lost_repeated_or_leaked_in_a_short_campaign() {
    let output = Command::new(env!("CARGO_BIN_EXE_chaos"))
        .args(["--seconds", "8", "--seed", "4"])
        .output()
        .expect("the campaign starts");
    let table = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{table}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(table.contains("builds lost"), "{table}");
}
