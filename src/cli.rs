//! What the person typed, and nothing else: no environment, no defaults that need one.
//!
//! `argh` gives the options and their help; what it refuses, `--opt=value`, is met here before it
//! sees the arguments. Pure.

use std::str::FromStr;

use argh::{ArgsInfo, FromArgs};
use argh_complete::Generator;

/// What to do in place of reporting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    Check,
    Board,
}

impl Command {
    fn as_str(self) -> &'static str {
        match self {
            Self::Check => "check",
            Self::Board => "board",
        }
    }
}

impl FromStr for Command {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "check" => Ok(Self::Check),
            "board" => Ok(Self::Board),
            _ => Err("no such command"),
        }
    }
}

/// Whose completion script.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shell {
    Bash,
    Fish,
    Zsh,
}

impl FromStr for Shell {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "bash" => Ok(Self::Bash),
            "fish" => Ok(Self::Fish),
            "zsh" => Ok(Self::Zsh),
            _ => Err("there is bash, fish and zsh"),
        }
    }
}

impl Shell {
    /// From the one definition of the options.
    fn completions(self) -> String {
        let options = Cli::get_args_info();
        let generate = match self {
            Self::Bash => argh_complete::bash::Bash::generate,
            Self::Fish => argh_complete::fish::Fish::generate,
            Self::Zsh => argh_complete::zsh::Zsh::generate,
        };
        generate("tilt-honeycomb", &options).trim_end().to_owned()
    }
}

/// The options as typed.
#[expect(clippy::struct_excessive_bools, reason = "switches are what a command line has")]
#[expect(rustdoc::bare_urls, reason = "doc comments are the help texts")]
#[derive(FromArgs, ArgsInfo, Debug, Default, PartialEq)]
#[argh(
    description = "Reports the health of a Tilt environment to Honeycomb: every build once, as part\n\
                   of a trace, and each resource's status. Without --once it stays, follows Tilt,\n\
                   and reports every --interval; that is how the Tiltfile runs it.\n\n\
                   check looks whether all is set up, and says what to do and where to look.\n\
                   board makes a board of queries in Honeycomb, or completes the one there is.",
    usage = "[check|board] [options]",
    help_triggers("-h", "--help"),
    note = "The key is never an argument: HONEYCOMB_API_KEY or --api-key-file.",
    example = "Whether all is set up, and links to what was sent:\n  {command_name} check",
    example = "Look at what would be sent, without a key:\n  {command_name} --once --dry-run",
    example = "Beside a Tilt, until stopped:\n  {command_name} --dataset dev-environments",
    example = "One report, from cron or by hand:\n  {command_name} --once",
    example = "After tilt ci --output-snapshot-on-exit=tilt.json:\n  {command_name} --once --snapshot tilt.json --outcome $?",
    example = "What waits from before, and no more:\n  {command_name} --flush",
    example = "A board in Honeycomb, with a configuration key; first only its requests:\n  {command_name} board --dry-run\n  {command_name} board --api-key-file configuration-key",
    error_code(0, "done"),
    error_code(1, "unexpected"),
    error_code(2, "usage or configuration"),
    error_code(3, "no Tilt reachable"),
    error_code(4, "not delivered, kept for next time"),
    error_code(5, "refused by Honeycomb")
)]
pub struct Cli {
    /// check or board; without either it reports
    #[argh(positional)]
    pub command: Option<Command>,

    /// report once, then exit
    #[argh(switch)]
    pub once: bool,

    /// report from the FILE that `tilt ci --output-snapshot-on-exit=FILE` left, in place of a
    /// running Tilt
    #[argh(option, arg_name = "file")]
    pub snapshot: Option<String>,

    /// WORD for how that `tilt ci` ended: success, failure, or its exit code; any other says that
    /// nobody knows
    #[argh(option, arg_name = "word")]
    pub outcome: Option<String>,

    /// send what waits, look at nothing, then exit
    #[argh(switch)]
    pub flush: bool,

    /// say what went wrong, and exit with 0, so that no report fails a job
    #[argh(switch)]
    pub never_fail: bool,

    /// print the events as JSON lines on stdout; send nothing, change no state. With board, print
    /// the requests
    #[argh(switch)]
    pub dry_run: bool,

    /// what check finds, as JSON
    #[argh(switch)]
    pub json: bool,

    /// DURATION between two reports, such as 30s, 5m or 1h (default: 60s)
    #[argh(option, arg_name = "duration")]
    pub interval: Option<String>,

    /// PORT of the Tilt to report on [env: TILT_PORT] (default: 10350)
    #[argh(option, arg_name = "port")]
    pub port: Option<String>,

    /// PATH of the tilt program (default: tilt, looked up on PATH)
    #[argh(option, arg_name = "path")]
    pub tilt: Option<String>,

    /// FOLDER for the queue and the seen builds (default: the user's state folder)
    #[argh(option, arg_name = "path")]
    pub state_dir: Option<String>,

    /// NAME of the Honeycomb dataset [env: HONEYCOMB_DATASET]
    #[argh(option, arg_name = "name")]
    pub dataset: Option<String>,

    /// URL of Honeycomb's API [env: HONEYCOMB_API_ENDPOINT] (default: https://api.honeycomb.io)
    #[argh(option, arg_name = "url")]
    pub api_endpoint: Option<String>,

    /// FILE that holds the API key [env: HONEYCOMB_API_KEY, the key itself]
    #[argh(option, arg_name = "path")]
    pub api_key_file: Option<String>,

    /// NAME for the field `user` [env: TILT_HONEYCOMB_USER]
    #[argh(option, arg_name = "name")]
    pub user: Option<String>,

    /// KEY=VALUE, a field of your own on every event, as text; may be repeated
    #[argh(option, arg_name = "key=value")]
    pub field: Vec<String>,

    /// say which repository, branch and commit the Tiltfile is in, by asking git
    #[argh(switch)]
    pub vcs: bool,

    /// longest DURATION of one delivery, retries included, or of one request of check or board
    /// (default: 10s)
    #[argh(option, arg_name = "duration")]
    pub timeout: Option<String>,

    /// send the text of build errors too, cut at 1 KiB: it may hold command lines
    #[argh(switch)]
    pub send_error_text: bool,

    /// send the text of image stages too: it may hold build arguments
    #[argh(switch)]
    pub send_stage_text: bool,

    /// only look every --interval, instead of watching every build as it happens
    #[argh(switch)]
    pub no_watch: bool,

    /// allow http:// to hosts other than this one
    #[argh(switch)]
    pub allow_insecure_http: bool,

    /// say more on stderr
    #[argh(switch)]
    pub verbose: bool,

    /// say nothing on stderr but usage errors
    #[argh(switch)]
    pub quiet: bool,

    /// print the options' completions for a SHELL: bash, fish or zsh
    #[argh(option, arg_name = "shell")]
    pub completions: Option<Shell>,

    /// print the version
    #[argh(switch, short = 'V')]
    pub version: bool,
}

impl Cli {
    /// Without any of these it stays.
    pub fn reports_once(&self) -> bool {
        self.once || self.flush || self.snapshot.is_some() || self.command.is_some()
    }

    /// What goes together with nothing else on the command line.
    fn contradiction(&self) -> Option<String> {
        if self.outcome.is_some() && self.snapshot.is_none() {
            return Some("--outcome goes with --snapshot".to_owned());
        }
        let Some(command) = self.command else {
            return self.json.then(|| "--json goes with check".to_owned());
        };
        let others = [
            ("--once", self.once),
            ("--flush", self.flush),
            ("--snapshot", self.snapshot.is_some()),
            ("--dry-run", self.dry_run && command == Command::Check),
            ("--json", self.json && command == Command::Board),
        ];
        let (other, _) = others.into_iter().find(|(_, is_given)| *is_given)?;
        Some(format!("{} goes without {other}", command.as_str()))
    }
}

/// Whether the arguments, be they right or wrong, ask for an exit with 0.
pub fn never_fails(arguments: &[String]) -> bool {
    has_one_of(arguments, &["--never-fail"])
}

/// Whether arguments that cannot be read ask for something that ends.
pub fn ends(arguments: &[String]) -> bool {
    has_one_of(arguments, &["--once", "--flush", "--snapshot"])
}

/// Though it were written `--once=true`, which is a mistake.
fn has_one_of(arguments: &[String], options: &[&str]) -> bool {
    arguments.iter().any(|a| options.contains(&a.split('=').next().unwrap_or_default()))
}

/// Why there is nothing to run.
#[derive(Debug, PartialEq)]
pub enum EarlyExit {
    /// `--help` or `--version`: the text for stdout.
    Print(String),
    /// The arguments make no sense: one line for stderr.
    Usage(String),
}

/// The line that `--version` prints.
pub fn version() -> String {
    format!("tilt-honeycomb {}", env!("CARGO_PKG_VERSION"))
}

/// Reads the arguments that follow the program's name.
pub fn parse(arguments: &[String]) -> Result<Cli, EarlyExit> {
    let arguments = split_values(arguments);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match Cli::from_args(&["tilt-honeycomb"], &arguments) {
        Ok(cli) if cli.version => Err(EarlyExit::Print(version())),
        Ok(Cli { completions: Some(shell), .. }) => Err(EarlyExit::Print(shell.completions())),
        Ok(cli) => match cli.contradiction() {
            Some(contradiction) => {
                Err(EarlyExit::Usage(format!("{contradiction}; see tilt-honeycomb --help")))
            }
            None => Ok(cli),
        },
        Err(exit) if exit.status.is_ok() => {
            Err(EarlyExit::Print(exit.output.trim_end().to_owned()))
        }
        Err(exit) => Err(EarlyExit::Usage(usage_error(&exit.output))),
    }
}

/// `--opt=value` becomes `--opt value`, which is all that argh takes.
fn split_values(arguments: &[String]) -> Vec<String> {
    let mut split = Vec::with_capacity(arguments.len());
    for argument in arguments {
        match argument.split_once('=') {
            Some((option, value)) if option.starts_with("--") => {
                split.extend([option.to_owned(), value.to_owned()]);
            }
            _ => split.push(argument.clone()),
        }
    }
    split
}

/// argh explains over several lines; a person's log wants one.
fn usage_error(output: &str) -> String {
    let first = output.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or("bad usage");
    let named = output.lines().skip_while(|line| line.trim() != first).nth(1).map_or("", str::trim);
    let joined =
        if named.starts_with("--") { format!("{first} {named}") } else { first.to_owned() };
    let mut letters = joined.trim_end_matches(['.', ':']).chars();
    let first = letters.next().map(|letter| letter.to_ascii_lowercase());
    format!("{}{}; see tilt-honeycomb --help", first.unwrap_or_default(), letters.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Cli, EarlyExit> {
        parse(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn an_option_takes_its_value_with_a_space_or_an_equals_sign() {
        for line in ["--interval 5s --field a=b", "--interval=5s --field=a=b"] {
            let cli = parsed(line).expect(line);
            assert_eq!(cli.interval.as_deref(), Some("5s"), "{line}");
            assert_eq!(cli.field, ["a=b"], "{line}");
        }
    }

    #[test]
    fn a_command_stands_anywhere_among_the_options() {
        for line in ["check --port 1 --json", "--port 1 check --json", "--json --port=1 check"] {
            let cli = parsed(line).expect(line);
            assert_eq!((cli.command, cli.json), (Some(Command::Check), true), "{line}");
        }
        assert_eq!(parsed("board --dry-run").expect("a board").command, Some(Command::Board));
    }

    #[test]
    fn version_and_help_are_answers_not_errors() {
        assert_eq!(parsed("--version"), Err(EarlyExit::Print(version())));
        assert_eq!(parsed("-V --once"), Err(EarlyExit::Print(version())));
        for line in ["--help", "-h"] {
            let Err(EarlyExit::Print(help)) = parsed(line) else { panic!("{line} is no answer") };
            assert!(help.contains("--dry-run") && help.contains("HONEYCOMB_API_KEY"), "{help}");
        }
    }

    #[test]
    fn help_fits_eighty_columns() {
        let Err(EarlyExit::Print(help)) = parsed("--help") else { panic!("no help") };
        for line in help.lines() {
            assert!(line.chars().count() <= 80, "{line}");
        }
    }

    #[test]
    fn a_mistake_is_one_line_that_names_the_argument() {
        for (line, named) in [
            ("--nosuch", "--nosuch"),
            ("--interval", "--interval"),
            ("stray", "stray"),
            ("--once=yes", "yes"),
            ("--port 1 --port 2", "--port"),
            ("check board", "board"),
            ("check --once", "check goes without --once"),
            ("check --dry-run", "check goes without --dry-run"),
            ("board --snapshot x", "board goes without --snapshot"),
            ("board --json", "board goes without --json"),
            ("--json --once", "--json goes with check"),
            ("--once --outcome 0", "--outcome goes with --snapshot"),
            ("--snapshot x --outcome", "--outcome"),
        ] {
            let Err(EarlyExit::Usage(message)) = parsed(line) else { panic!("{line} was taken") };
            assert!(message.contains(named), "{line}: {message}");
            assert!(!message.contains('\n'), "{message}");
        }
    }
}
