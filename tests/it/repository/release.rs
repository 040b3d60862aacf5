//! The release workflow, the installer and the documents agree on versions, platforms and names.

use std::collections::BTreeSet;

use super::tidy::read;

const WORKFLOW: &str = ".github/workflows/release.yml";
const INSTALLER: &str = "scripts/extension/install";

/// The words after `before` in each line of a text, up to one of the `ends`.
fn values<'a>(text: &'a str, before: &str, ends: &[char]) -> BTreeSet<&'a str> {
    let rest = text.lines().filter_map(|line| Some(line.split_once(before)?.1));
    rest.filter_map(|rest| rest.split(ends).next()).collect()
}

#[test]
fn the_installer_knows_exactly_the_released_targets() {
    let (workflow, installer) = (read(WORKFLOW), read(INSTALLER));
    let released = values(&workflow, "{ target: ", &[',']);
    assert_eq!(values(&installer, " target=", &[' ', '\n']), released);
    assert!(released.len() >= 5, "{released:?}");
}

#[test]
fn the_installer_asks_for_the_released_names() {
    let (workflow, installer) = (read(WORKFLOW), read(INSTALLER));
    assert!(installer.contains("\narchive=tilt-honeycomb-$target.tar.gz\n"));
    assert!(workflow.contains("tar -czf \"tilt-honeycomb-$TARGET.tar.gz\""));
    assert!(workflow.contains("path: tilt-honeycomb-${{ matrix.target }}.tar.gz"));
    assert!(workflow.contains("sha256sum tilt-honeycomb-*.tar.gz"));
    // The release publishes the archives and the list under these names.
    let published = workflow.lines().find(|line| line.contains("gh release create"));
    let published = published.expect("a release");
    assert!(published.contains("SHA256SUMS") && published.contains(" tilt-honeycomb-*.tar.gz"));
    // Both call the program by its name, with .exe on Windows.
    for (text, name) in [(&workflow, "program=$program.exe"), (&installer, "tilt-honeycomb.exe")] {
        assert!(text.contains(name), "{name}");
    }
}

#[test]
fn the_installer_asks_for_the_tag_of_the_version() {
    let (workflow, installer) = (read(WORKFLOW), read(INSTALLER));
    let pinned = values(&installer, "pinned=", &['\n']);
    assert_eq!(pinned, BTreeSet::from([env!("CARGO_PKG_VERSION")]), "{INSTALLER}");
    assert!(installer.contains("from=$releases/download/v$version\n"));
    assert!(workflow.contains("gh release create \"v$version\" --verify-tag "));
    assert!(workflow.contains("git tag \"v$version\"\n"));
}

#[test]
fn the_tag_contains_the_checksums_where_the_installer_looks() {
    let (workflow, installer) = (read(WORKFLOW), read(INSTALLER));
    assert!(workflow.contains("cp SHA256SUMS scripts/extension/SHA256SUMS\n"));
    assert!(installer.contains("sums=$(dirname \"$0\")/SHA256SUMS\n"));
}

#[test]
fn the_default_address_is_that_of_this_repository() {
    let releases = concat!(env!("CARGO_PKG_REPOSITORY"), "/releases");
    assert!(read(INSTALLER).contains(releases), "{INSTALLER} does not ask {releases}");
}
