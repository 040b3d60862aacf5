//! Checks the layers of `src`: no file imports from a wing above its own, and no imports form a cycle.
//!
//! A wing is a folder or a single file directly in `src`. `CONTRIBUTING.md` says what each is for.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use super::size::{program_files, program_lines};
use super::tidy::{read, sources};

/// The layers from the bottom to the top. Wings of one layer must not import each other.
const LAYERS: &[&[&str]] = &[
    &["base"],
    &["tilt"],
    &["events"],
    &["metadata", "spool", "summary"],
    &["honeycomb"],
    &["cli"],
    &["config", "exit_code", "log", "messages"],
    &["commands", "sidecar"],
    &["lib", "main"],
];

/// The wing that a path below `src` or a module path begins with.
fn wing(path: &str) -> &str {
    let first = path.split(['/', ':']).next().expect("a path has a first part");
    first.strip_suffix(".rs").unwrap_or(first)
}

fn layer(wing: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&wing))
}

/// Removes comments, so that a link in a docstring is not an import.
fn without_comments(source: &str) -> String {
    let lines = source.lines().filter(|line| !line.trim_start().starts_with("//"));
    lines.collect::<Vec<_>>().join("\n")
}

/// Splits `a::b, c::{d, e}` at the commas outside braces.
fn split_list(list: &str) -> Vec<&str> {
    let mut depth = 0_usize;
    let splits = list.split(|letter| {
        match letter {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        letter == ',' && depth == 0
    });
    splits.map(str::trim).filter(|part| !part.is_empty()).collect()
}

/// The content of the braces that `text` starts with.
fn braces(text: &str) -> Option<&str> {
    let inner = text.strip_prefix('{')?;
    let mut depth = 1_usize;
    let end = inner.find(|letter| {
        match letter {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        depth == 0
    });
    Some(&inner[..end.expect("braces are closed")])
}

/// Expands a tree such as `a::{b, c::d}` into its paths. Ignores the text after the tree.
fn expand(tree: &str) -> Vec<String> {
    if let Some(list) = braces(tree) {
        return split_list(list).into_iter().flat_map(expand).collect();
    }
    let end = tree.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(tree.len());
    let (name, rest) = tree.split_at(end);
    let joined =
        |tail: String| if tail.is_empty() { name.to_owned() } else { format!("{name}::{tail}") };
    match rest.strip_prefix("::") {
        Some(tails) => expand(tails).into_iter().map(joined).collect(),
        None => vec![name.to_owned()],
    }
}

/// All paths that follow `crate::` in code, in `use` items and in expressions.
fn imports(code: &str) -> Vec<String> {
    let mut paths = Vec::new();
    for prefix in ["crate::", "tilt_honeycomb::"] {
        for (at, _) in code.match_indices(prefix) {
            let is_whole = !code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
            if is_whole {
                paths.extend(expand(&code[at + prefix.len()..]));
            }
        }
    }
    paths
}

/// Why a file may not import a path, and what to do about it.
fn violation(file: &str, import: &str) -> Option<String> {
    let (from, to) = (wing(file), wing(import));
    let unknown = [from, to].into_iter().find(|wing| layer(wing).is_none());
    if let Some(unknown) = unknown {
        return Some(format!(
            "src/{file} imports crate::{import}: {unknown} is not in LAYERS; add it"
        ));
    }
    let why = match layer(to).cmp(&layer(from)) {
        Ordering::Less => return None,
        Ordering::Equal if from == to => return None,
        Ordering::Equal => format!("{to} and {from} must not import each other"),
        Ordering::Greater => format!("{to} is above {from}"),
    };
    let target =
        if layer(from) == Some(0) { from.to_owned() } else { format!("{from} or a wing below") };
    Some(format!(
        "src/{file} imports crate::{import}, but {why}: move {import} to {target}, or move the code \
         that needs it from src/{file} to {to}"
    ))
}

#[test]
fn no_wing_imports_one_above_it() {
    let files = sources();
    assert!(files.iter().any(|file| file.contains('/')), "folders are searched");
    let violations: Vec<_> = files
        .iter()
        .flat_map(|file| {
            let imports = imports(&without_comments(&read(&format!("src/{file}"))));
            imports.into_iter().filter_map(|import| violation(file, &import)).collect::<Vec<_>>()
        })
        .collect();
    assert!(violations.is_empty(), "{}", violations.join("\n"));
}

/// The path of a file's module: `spool::state` for `spool/state.rs`, and `spool` for `spool/mod.rs`.
fn module(file: &str) -> String {
    let path = file.trim_end_matches(".rs").trim_end_matches("/mod");
    path.replace('/', "::")
}

/// The modules that each module imports, without test modules.
fn module_imports() -> BTreeMap<String, BTreeSet<String>> {
    let files = program_files();
    let modules: BTreeSet<_> = files.iter().map(|(file, _)| module(file)).collect();
    // An import may name an item, whose module is the longest part of the path that is one.
    let module_of = |path: &str| {
        let ends = path.match_indices("::").map(|(at, _)| at).chain([path.len()]);
        ends.map(|end| path[..end].to_owned()).filter(|part| modules.contains(part)).last()
    };
    let imports_of = |file: &str, text: &str| {
        let code = without_comments(&program_lines(text).join("\n"));
        let imported = imports(&code).iter().filter_map(|path| module_of(path)).collect();
        let imported: BTreeSet<String> = imported;
        imported.into_iter().filter(|other| *other != module(file)).collect()
    };
    files.iter().map(|(file, text)| (module(file), imports_of(file, text))).collect()
}

/// Removes modules that are in no cycle: those that import none of the rest, and those that none of
/// the rest imports.
fn only_cycles(
    mut imports: BTreeMap<String, BTreeSet<String>>,
) -> BTreeMap<String, BTreeSet<String>> {
    loop {
        let imported: BTreeSet<_> = imports.values().flatten().cloned().collect();
        let before = imports.len();
        imports.retain(|module, others| !others.is_empty() && imported.contains(module));
        let left: BTreeSet<_> = imports.keys().cloned().collect();
        for others in imports.values_mut() {
            others.retain(|other| left.contains(other));
        }
        if imports.len() == before {
            return imports;
        }
    }
}

#[test]
fn no_module_imports_itself_through_others() {
    let cycles = only_cycles(module_imports());
    let lines: Vec<_> = cycles
        .iter()
        .map(|(module, others)| {
            let others = others.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
            format!("{module} imports {others}")
        })
        .collect();
    assert!(lines.is_empty(), "move an item to break this cycle:\n{}", lines.join("\n"));
}

#[test]
fn a_cycle_is_found_among_other_imports() {
    let imports = [("a", "b"), ("b", "c"), ("c", "b"), ("c", "d"), ("d", "e")];
    let mut modules = BTreeMap::<String, BTreeSet<String>>::new();
    for (module, other) in imports {
        modules.entry(module.to_owned()).or_default().insert(other.to_owned());
    }
    let cycles = only_cycles(modules);
    assert_eq!(cycles.keys().collect::<Vec<_>>(), ["b", "c"]);
}

#[test]
fn every_wing_is_in_a_layer() {
    for file in sources() {
        assert!(layer(wing(&file)).is_some(), "src/{file} is in no wing of LAYERS; add it");
    }
    for wing in LAYERS.iter().copied().flatten() {
        let exists = sources().iter().any(|file| self::wing(file) == *wing);
        assert!(exists, "there is no wing {wing} in src; remove it from LAYERS");
    }
}

#[test]
fn imports_are_found_in_every_form() {
    let source = "
        use crate::tilt::model::{Outcome, Snapshot};
        use crate::{base::{time, ids::*}, events::fields, messages};
        pub use crate::spool::state as other;
        //! A link to [`crate::honeycomb::queries`].
        fn f(x: crate::config::Mode) { crate::base::text::cut(my_crate::sidecar::x) }
        use tilt_honeycomb::commands;";
    let expected = [
        "tilt::model::Outcome",
        "tilt::model::Snapshot",
        "base::time",
        "base::ids",
        "events::fields",
        "messages",
        "spool::state",
        "config::Mode",
        "base::text::cut",
        "commands",
    ];
    assert_eq!(imports(&without_comments(source)), expected);
}

#[test]
fn a_violation_names_the_import_and_the_wing_it_belongs_in() {
    for (file, import) in [
        ("tilt/client.rs", "tilt::model"),
        ("tilt/client.rs", "base::time"),
        ("config/mod.rs", "cli::Cli"),
        ("main.rs", "sidecar"),
    ] {
        assert_eq!(violation(file, import), None);
    }
    for (file, import, expected) in [
        (
            "tilt/client.rs",
            "events::event",
            "src/tilt/client.rs imports crate::events::event, but events is above tilt: move \
             events::event to tilt or a wing below, or move the code that needs it from \
             src/tilt/client.rs to events",
        ),
        (
            "base/ids.rs",
            "tilt::model",
            "src/base/ids.rs imports crate::tilt::model, but tilt is above base: move tilt::model \
             to base, or move the code that needs it from src/base/ids.rs to tilt",
        ),
        (
            "sidecar/a/b.rs",
            "commands::report",
            "src/sidecar/a/b.rs imports crate::commands::report, but commands and sidecar must not \
             import each other: move commands::report to sidecar or a wing below, or move the code \
             that needs it from src/sidecar/a/b.rs to commands",
        ),
        (
            "cli.rs",
            "config::Mode",
            "src/cli.rs imports crate::config::Mode, but config is above cli: move config::Mode to \
             cli or a wing below, or move the code that needs it from src/cli.rs to config",
        ),
        ("new/x.rs", "base", "src/new/x.rs imports crate::base: new is not in LAYERS; add it"),
    ] {
        assert_eq!(violation(file, import).as_deref(), Some(expected));
    }
}
