//! Checks that files and functions of `src` stay short, and that each type name has one meaning.
//! Test modules are not counted.

use std::collections::BTreeMap;

use super::tidy::{read, sources};

const MAX_FILE_LINES: usize = 500;
const MAX_FUNCTION_LINES: usize = 60;

/// The lines of a file without its test modules. rustfmt ends an item with a brace that is indented
/// like its first line.
pub fn program_lines(source: &str) -> Vec<&str> {
    let mut kept = Vec::new();
    let mut lines = source.lines();
    while let Some(line) = lines.next() {
        if line.trim() != "#[cfg(test)]" {
            kept.push(line);
            continue;
        }
        let indent = &line[..line.len() - line.trim_start().len()];
        let item = lines.find(|line| !line.trim_start().starts_with('#')).expect("an item");
        if !item.ends_with(';') && !item.ends_with('}') {
            let end = format!("{indent}}}");
            lines.find(|line| *line == end).expect("the end of the item");
        }
    }
    kept
}

/// Each file of the program with its lines, except those that contain only tests.
pub fn program_files() -> Vec<(String, String)> {
    let files = sources().into_iter().filter(|file| !file.ends_with("tests.rs"));
    files
        .map(|file| (read(&format!("src/{file}")), file))
        .map(|(text, file)| (file, text))
        .collect()
}

/// The word that follows `keyword` in an item, after `pub` and other modifiers.
fn declared<'a>(line: &'a str, keyword: &str) -> Option<&'a str> {
    const MODIFIERS: [&str; 4] = ["const", "async", "unsafe", "pub"];
    let mut words = line.split_whitespace();
    let is_modifier = |word: &str| MODIFIERS.contains(&word) || word.starts_with("pub(");
    let first = words.find(|word| !is_modifier(word))?;
    let name = words.next().filter(|_| first == keyword)?;
    Some(name.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or(name))
}

/// The name and the number of lines of each function.
fn functions<'a>(lines: &[&'a str]) -> Vec<(&'a str, usize)> {
    let mut functions = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let Some(name) = declared(line, "fn") else { continue };
        let indent = &line[..line.len() - line.trim_start().len()];
        let ends = |other: &&str| {
            let Some(rest) = other.strip_prefix(indent) else { return false };
            rest == "}" || !rest.starts_with(' ') && rest.ends_with(';')
        };
        let is_one_line = line.ends_with('}') || line.ends_with(';');
        let more =
            if is_one_line { 0 } else { 1 + lines[at + 1..].iter().position(ends).expect(name) };
        functions.push((name, 1 + more));
    }
    functions
}

/// The types that a file declares. An indented `type` is an associated type, not a new name.
fn types<'a>(lines: &[&'a str]) -> Vec<&'a str> {
    let is_alias = |line: &str| !line.starts_with(' ');
    let declared_type = |line: &&'a str| {
        let named = ["struct", "enum", "union", "trait"].iter().find_map(|k| declared(line, k));
        named.or_else(|| declared(line, "type").filter(|_| is_alias(line)))
    };
    lines.iter().filter_map(declared_type).collect()
}

#[test]
fn no_file_is_longer_than_500_lines() {
    let long: Vec<_> = program_files()
        .iter()
        .map(|(file, text)| (file.clone(), program_lines(text).len()))
        .filter(|(_, lines)| *lines > MAX_FILE_LINES)
        .map(|(file, lines)| format!("src/{file} has {lines} lines; split it"))
        .collect();
    assert!(long.is_empty(), "{}", long.join("\n"));
}

#[test]
fn no_function_is_longer_than_60_lines() {
    let mut long = Vec::new();
    for (file, text) in program_files() {
        for (name, lines) in functions(&program_lines(&text)) {
            if lines > MAX_FUNCTION_LINES {
                long.push(format!("{name} in src/{file} has {lines} lines; split it"));
            }
        }
    }
    assert!(long.is_empty(), "{}", long.join("\n"));
}

#[test]
fn no_type_name_is_defined_twice() {
    let mut files_of = BTreeMap::<String, Vec<String>>::new();
    for (file, text) in program_files() {
        let lines = program_lines(&text);
        let mut names = types(&lines);
        // One file may define a type once for each platform.
        names.sort_unstable();
        names.dedup();
        for name in names {
            files_of.entry(name.to_owned()).or_default().push(format!("src/{file}"));
        }
    }
    let twice: Vec<_> = files_of
        .iter()
        .filter(|(_, files)| files.len() > 1)
        .map(|(name, files)| format!("{name} is defined in {}; rename one", files.join(" and ")))
        .collect();
    assert!(twice.is_empty(), "{}", twice.join("\n"));
}

const EXAMPLE: &str = "\
pub(crate) struct One<T>(T);
impl One {
    type Err = ();
    pub const fn short() -> u8 { 1 }
    fn long(
        a: u8,
    ) -> u8 {
        a
    }
}
pub type Two = u8;
#[cfg(test)]
mod more_tests;
trait Three {
    fn declared(&self);
}
#[cfg(test)]
mod tests {
    struct Hidden;
    fn hidden() {
    }
}
enum Four { A }
";

#[test]
fn test_modules_are_not_counted() {
    let lines = program_lines(EXAMPLE);
    assert_eq!((lines.len(), lines.last()), (15, Some(&"enum Four { A }")));
}

#[test]
fn types_and_functions_are_found() {
    let lines = program_lines(EXAMPLE);
    assert_eq!(types(&lines), ["One", "Two", "Three", "Four"]);
    assert_eq!(functions(&lines), [("short", 1), ("long", 5), ("declared", 1)]);
}
