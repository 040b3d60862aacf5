//! Rules for the sources, the changelog and the captures of this repository.

use std::fs;
use std::path::Path;

/// The text of a file of this repository.
pub fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every source file of the program, as its path below `src`.
pub fn sources() -> Vec<String> {
    files_below("src")
}

/// Every file of a folder, as its path below that.
fn files_below(folder: &str) -> Vec<String> {
    fn collect(folder: &Path, prefix: &str, paths: &mut Vec<String>) {
        for entry in fs::read_dir(folder).expect("a folder of sources") {
            let entry = entry.expect("an entry");
            let path = format!("{prefix}{}", entry.file_name().to_string_lossy());
            if entry.path().is_dir() {
                collect(&entry.path(), &format!("{path}/"), paths);
            } else {
                paths.push(path);
            }
        }
    }
    let mut paths = Vec::new();
    collect(&Path::new(env!("CARGO_MANIFEST_DIR")).join(folder), "", &mut paths);
    paths.sort();
    paths
}

/// The source files whose code, without comments, contains one of these phrases.
fn sources_with(phrases: &[&str]) -> Vec<String> {
    let mut names: Vec<_> = sources()
        .into_iter()
        .filter(|name| {
            let source = read(&format!("src/{name}"));
            let code = source.lines().filter(|line| !line.trim_start().starts_with("//"));
            code.into_iter().any(|line| phrases.iter().any(|phrase| line.contains(phrase)))
        })
        .collect();
    names.sort();
    names
}

#[test]
fn one_file_runs_tilt_one_runs_git_and_one_speaks_http() {
    assert_eq!(sources_with(&["use duct", "duct::"]), ["base/child.rs", "tilt/process.rs"]);
    assert_eq!(sources_with(&["\"git\""]), ["metadata/git.rs"]);
    assert_eq!(sources_with(&["use ureq", "ureq::"]), ["honeycomb/client.rs"]);
}

#[test]
fn the_sources_contain_no_unfinished_code() {
    assert_eq!(sources_with(&["todo!", "unimplemented!", "dbg!", "FIXME", "TODO"]), [""; 0]);
}

#[test]
fn tests_use_only_unix_where_they_need_it() {
    let main = read("tests/it/main.rs");
    for file in files_below("tests/it").iter().filter(|file| !file.starts_with("support/")) {
        let module = file.rsplit('/').next().unwrap_or(file).trim_end_matches(".rs");
        let is_gated =
            |gate: &str, item: &str| main.contains(&format!("{gate}\n    {item} {module};"));
        if ["#[cfg(unix)]", "#[cfg(target_os = \"linux\")]"]
            .iter()
            .any(|gate| is_gated(gate, "mod") || is_gated(gate, "pub mod"))
        {
            continue;
        }
        let source = read(&format!("tests/it/{file}"));
        let is_unix =
            |line: &&str| ["use rustix", "use std::os::unix"].iter().any(|u| line.starts_with(u));
        let lines: Vec<_> = source.lines().filter(is_unix).collect();
        assert_eq!(
            lines, [""; 0],
            "{file}: tests/it/support has Signal, set_mode and others for Windows too"
        );
    }
}

#[test]
fn the_changelog_has_the_current_version() {
    let heading = concat!("## ", env!("CARGO_PKG_VERSION"));
    let changelog = read("CHANGELOG.md").replace(['[', ']'], "");
    assert!(changelog.lines().any(|line| line.starts_with(heading)), "no {heading:?}");
}

#[test]
fn the_captures_contain_no_real_home_folders() {
    // Home folders in captures are renamed to `/home/dev`, so that no name of a person is published.
    fn search(folder: &Path) {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                search(&path);
                continue;
            }
            let text = fs::read_to_string(&path).expect("text");
            for place in ["/home/", "/Users/", "/root/"] {
                let names = text.split(place).skip(1).map(|rest| &rest[..rest.len().min(4)]);
                let others: Vec<_> = names.filter(|name| *name != "dev/").collect();
                assert_eq!(others, [""; 0], "{place} in {}", path.display());
            }
        }
    }
    search(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/captures"));
}
