//! The manual page, in the format of man(7), generated from the definition of the options. Pure.

use std::fmt::Write;

use argh::{ArgsInfo, FlagInfoKind};

use crate::cli::{COMMANDS, Cli, help};

/// The text that `man` formats.
pub(super) fn text() -> String {
    let info = Cli::get_args_info();
    let version = env!("CARGO_PKG_VERSION");
    let mut page = format!(".TH TILT\\-HONEYCOMB 1 \"\" \"tilt\\-honeycomb {version}\"\n");
    section(
        &mut page,
        "NAME",
        "tilt-honeycomb - report the health of Tilt environments to Honeycomb",
    );
    section(&mut page, "SYNOPSIS", "tilt-honeycomb [check|board|summary] [options]");
    page.push_str(".SH DESCRIPTION\n");
    for paragraph in info.description.split("\n\n") {
        let _ = writeln!(page, ".PP\n{}", plain(paragraph));
    }
    page.push_str(".SH COMMANDS\n");
    for command in COMMANDS {
        let options = help::options_of(command).join(", ");
        let text = format!("{} Options: {options}.", help::about(command));
        let _ = writeln!(page, ".TP\n.B {}\n{}", command.as_str(), plain(&text));
    }
    page.push_str(".SH OPTIONS\n");
    for flag in info.flags {
        let short = flag.short.map_or_else(String::new, |letter| format!("-{letter}, "));
        let value = match flag.kind {
            FlagInfoKind::Switch => String::new(),
            FlagInfoKind::Option { arg_name } => format!(" \\fI{}\\fR", escaped(arg_name)),
        };
        let name = escaped(&(short + flag.long));
        let _ = writeln!(page, ".TP\n\\fB{name}\\fR{value}\n{}", plain(flag.description));
    }
    page.push_str(".SH EXAMPLES\n");
    for example in info.examples {
        let example = example.replace("{command_name}", "tilt-honeycomb");
        let (what, commands) = example.split_once('\n').unwrap_or((&example, ""));
        let commands: Vec<_> = commands.lines().map(plain).collect();
        let _ = writeln!(page, ".PP\n{}\n.RS\n.nf\n{}\n.fi\n.RE", plain(what), commands.join("\n"));
    }
    page.push_str(".SH EXIT STATUS\n");
    for code in info.error_codes {
        let _ = writeln!(page, ".TP\n{}\n{}", code.code, plain(code.description));
    }
    let notes: Vec<_> = info.notes.iter().map(|note| note.replace('\n', " ")).collect();
    section(&mut page, "NOTES", &notes.join(" "));
    section(&mut page, "SEE ALSO", &format!("{}/tree/main/docs", env!("CARGO_PKG_REPOSITORY")));
    page.trim_end().to_owned()
}

fn section(page: &mut String, title: &str, text: &str) {
    let _ = writeln!(page, ".SH {title}\n{}", plain(text));
}

/// The text as one line. man never takes it for a request.
fn plain(text: &str) -> String {
    format!("\\&{}", escaped(&text.split_whitespace().collect::<Vec<_>>().join(" ")))
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\e").replace('-', "\\-")
}
