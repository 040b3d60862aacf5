//! The settings that the Tiltfile passes to a collector, read from its arguments. Pure.

use std::path::PathBuf;

/// Where a collector sends events and keeps its state, as far as its arguments tell. The key is never an
/// argument.
#[derive(Debug, Default, PartialEq)]
pub struct CollectorSettings {
    pub dataset: Option<String>,
    /// As typed: it may contain credentials.
    pub endpoint: Option<String>,
    pub state_dir: Option<PathBuf>,
    pub api_key_file: Option<PathBuf>,
    pub allow_insecure_http: bool,
}

impl CollectorSettings {
    /// Reads the settings from the arguments of a collector.
    pub fn of(arguments: &[String]) -> Self {
        Self {
            dataset: value(arguments, "--dataset"),
            endpoint: value(arguments, "--api-endpoint"),
            state_dir: value(arguments, "--state-dir").map(PathBuf::from),
            api_key_file: value(arguments, "--api-key-file").map(PathBuf::from),
            allow_insecure_http: arguments.iter().any(|option| option == "--allow-insecure-http"),
        }
    }
}

/// The value of an option, as `--option value` or `--option=value`.
fn value(arguments: &[String], option: &str) -> Option<String> {
    arguments.iter().enumerate().find_map(|(index, argument)| {
        match argument.strip_prefix(option)?.strip_prefix('=') {
            Some(value) => Some(value.to_owned()),
            None if argument == option => arguments.get(index + 1).cloned(),
            None => None,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read_in_both_spellings() {
        let dataset = |line: &str| {
            let arguments: Vec<_> = line.split(' ').map(ToOwned::to_owned).collect();
            CollectorSettings::of(&arguments).dataset
        };
        for (line, expected) in [
            ("sh run --interval 5s", None),
            ("sh run --dataset dev --port 1", Some("dev")),
            ("sh run --dataset=dev", Some("dev")),
            ("sh run --datasets x --dataset", None),
        ] {
            assert_eq!(dataset(line).as_deref(), expected, "{line}");
        }
    }
}
