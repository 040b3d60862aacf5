//! The help of each command. The texts of the options come from [`Cli`]. Pure.

use std::fmt::Write;

use argh::ArgsInfo;

use crate::cli::{Cli, Command};

/// The layout is that of `argh`, which prints the help of the whole program.
const COLUMN: usize = 20;
const WIDTH: usize = 80;

/// The help of one command.
struct CommandHelp {
    /// A few words for completions.
    title: &'static str,
    about: &'static str,
    /// The options that the command reads, each with its own text or an empty one for that of [`Cli`].
    options: &'static [(&'static str, &'static str)],
    examples: &'static [(&'static str, &'static str)],
}

const CHECK: CommandHelp = CommandHelp {
    title: "test the set-up and say what to fix",
    about: "Checks everything that a report needs: Tilt, the state folder, the key, the\n\
            endpoint, the team and the dataset, and the running collector. Says what to fix,\n\
            and sends no event. Exits with the code that a report would have now, and with 0\n\
            if only Tilt is not running.",
    options: &[
        ("--json", "print the findings as JSON"),
        ("--links", "print links to queries in Honeycomb"),
        ("--require-tilt", "fail if no Tilt runs"),
        ("--port", ""),
        ("--tilt", ""),
        ("--state-dir", ""),
        ("--dataset", ""),
        ("--api-endpoint", ""),
        ("--api-key-file", ""),
        ("--timeout", "longest time for one request (default: 10s)"),
        ("--allow-insecure-http", ""),
    ],
    examples: &[
        ("Test the set-up and print links to queries:", "check --links"),
        ("Test it for a script:", "check --json"),
    ],
};

const BOARD: CommandHelp = CommandHelp {
    title: "create or update a board of queries in Honeycomb",
    about: "Creates a board of queries in Honeycomb, or adds what an existing one lacks. It\n\
            needs a configuration key that may create boards and run queries.",
    options: &[
        ("--dry-run", "print the requests and send nothing; needs no key"),
        ("--dataset", ""),
        ("--api-endpoint", ""),
        ("--api-key-file", ""),
        ("--timeout", "longest time for one request (default: 10s)"),
        ("--allow-insecure-http", ""),
    ],
    examples: &[
        ("Print the requests:", "board --dry-run"),
        ("Create the board:", "board --api-key-file configuration-key"),
    ],
};

const SUMMARY: CommandHelp = CommandHelp {
    title: "print how the environment started, without Honeycomb",
    about: "Prints the time to healthy, the waterfall of the start, and what was slow or\n\
            failed. It needs no key, sends nothing and changes no state. --dataset and\n\
            --api-endpoint only select the state of a collector.",
    options: &[
        ("--html", ""),
        ("--all", "print every row, not one screen"),
        ("--snapshot", ""),
        ("--outcome", ""),
        ("--port", ""),
        ("--tilt", ""),
        ("--state-dir", ""),
        ("--dataset", ""),
        ("--api-endpoint", ""),
    ],
    examples: &[
        ("Print how the environment started:", "summary"),
        ("Write it as a page, too:", "summary --html summary.html"),
        (
            "After tilt ci --output-snapshot-on-exit=tilt.json:",
            "summary --snapshot tilt.json --outcome $?",
        ),
    ],
};

/// Options that every command reads.
const COMMON: [&str; 3] = ["--never-fail", "--verbose", "--quiet"];

fn help_of(command: Command) -> &'static CommandHelp {
    match command {
        Command::Check => &CHECK,
        Command::Board => &BOARD,
        Command::Summary => &SUMMARY,
    }
}

/// Describes a command in a few words.
pub(super) fn title(command: Command) -> &'static str {
    help_of(command).title
}

/// Describes a command in a few sentences.
pub(super) fn about(command: Command) -> &'static str {
    help_of(command).about
}

/// The options that a command reads.
pub(super) fn options_of(command: Command) -> Vec<&'static str> {
    let own = help_of(command).options.iter().map(|(option, _)| *option);
    own.chain(COMMON).chain(["--help"]).collect()
}

/// The text that `COMMAND --help` prints.
pub(super) fn text(command: Command) -> String {
    let help = help_of(command);
    let info = Cli::get_args_info();
    let name = command.as_str();
    let mut text =
        format!("Usage: tilt-honeycomb {name} [options]\n\n{}\n\nOptions:\n", help.about);
    let common = COMMON.iter().map(|option| (*option, ""));
    for (option, own_text) in help.options.iter().copied().chain(common) {
        let flag = info.flags.iter().find(|flag| flag.long == option);
        let flag = flag.expect("a test looks up every option");
        push_option(
            &mut text,
            option,
            if own_text.is_empty() { flag.description } else { own_text },
        );
    }
    push_option(&mut text, "-h, --help", "display usage information");
    text.push_str("\nExamples:\n");
    for (what, arguments) in help.examples {
        let _ = writeln!(text, "  {what}\n    tilt-honeycomb {arguments}");
    }
    text.push_str("\nError codes:\n");
    for code in info.error_codes {
        let _ = writeln!(text, "  {} {}", code.code, code.description);
    }
    text.push_str("\ntilt-honeycomb --help lists every option.");
    text
}

fn push_option(text: &mut String, names: &str, description: &str) {
    let mut line = format!("  {names:<0$} ", COLUMN - 3);
    if line.len() > COLUMN {
        text.push_str(line.trim_end());
        text.push('\n');
        line = " ".repeat(COLUMN);
    }
    for word in description.split_whitespace() {
        if line.len() + word.len() > WIDTH {
            text.push_str(line.trim_end());
            text.push('\n');
            line = " ".repeat(COLUMN);
        }
        line.push_str(word);
        line.push(' ');
    }
    text.push_str(line.trim_end());
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::COMMANDS;

    /// Options that only a report reads, or that end the program before a command runs.
    const OF_REPORTS: [&str; 13] = [
        "--once",
        "--flush",
        "--interval",
        "--heartbeat-fold",
        "--user",
        "--field",
        "--vcs",
        "--send-error-text",
        "--send-stage-text",
        "--no-watch",
        "--completions",
        "--version",
        "--man-page",
    ];

    #[test]
    fn every_option_belongs_to_a_command_or_to_reports() {
        let own: Vec<_> = COMMANDS.into_iter().flat_map(options_of).chain(OF_REPORTS).collect();
        for flag in Cli::get_args_info().flags {
            assert!(own.contains(&flag.long), "{} is in no help of a command", flag.long);
        }
    }

    #[test]
    fn the_help_of_a_command_fits_eighty_columns() {
        for command in COMMANDS {
            let text = text(command);
            assert!(text.starts_with(&format!("Usage: tilt-honeycomb {} ", command.as_str())));
            assert!(text.contains("  -h, --help        display usage information\n"), "{text}");
            for line in text.lines() {
                assert!(line.chars().count() <= WIDTH && line == line.trim_end(), "{line}");
            }
        }
    }
}
