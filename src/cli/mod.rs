//! The command line as typed: no environment, and no defaults that depend on one. Pure.
//!
//! `argh` parses the options and prints their help. It takes only UTF-8 and only `--option value`,
//! so this module rewrites `--option=value` first and carries paths of any bytes around it.

mod completions;
mod help;
mod man_page;
#[cfg(test)]
mod tests;

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::str::FromStr;

use argh::{ArgsInfo, FromArgs};

use crate::base::nearest::nearest;

/// A subcommand. Without one, the program reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    Check,
    Board,
    Summary,
}

/// Every subcommand.
const COMMANDS: [Command; 3] = [Command::Check, Command::Board, Command::Summary];

impl Command {
    fn as_str(self) -> &'static str {
        match self {
            Self::Check => "check",
            Self::Board => "board",
            Self::Summary => "summary",
        }
    }
}

impl FromStr for Command {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let known = COMMANDS.into_iter().find(|command| command.as_str() == text);
        known.ok_or("unknown command")
    }
}

/// A shell that completions can be printed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shell {
    Bash,
    Fish,
    PowerShell,
    Zsh,
}

impl Shell {
    const NAMES: [&str; 4] = ["bash", "fish", "powershell", "zsh"];
}

impl FromStr for Shell {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "bash" => Ok(Self::Bash),
            "fish" => Ok(Self::Fish),
            "powershell" => Ok(Self::PowerShell),
            "zsh" => Ok(Self::Zsh),
            _ => Err("must be bash, fish, powershell or zsh"),
        }
    }
}

/// The options as typed.
#[expect(clippy::struct_excessive_bools, reason = "switches are what a command line has")]
#[expect(rustdoc::bare_urls, reason = "doc comments are the help texts")]
#[derive(FromArgs, ArgsInfo, Debug, Default, PartialEq)]
#[argh(
    description = "Reports the health of a Tilt environment to Honeycomb: every build once, as part\n\
                   of a trace, and the status of each resource. Without --once it keeps running,\n\
                   watches Tilt, and reports every --interval. The Tiltfile runs it that way.\n\n\
                   check tests the set-up and the running collector, and says what to fix.\n\
                   board creates a board of queries in Honeycomb, or updates the existing one.\n\
                   summary prints the time to healthy, the waterfall of the start, and what was\n\
                   slow or failed. It needs no key and sends nothing.",
    usage = "[check|board|summary] [options]",
    help_triggers("-h", "--help"),
    note = "check, board and summary have a --help of their own.",
    note = "The API key is never an argument: use HONEYCOMB_API_KEY or --api-key-file.",
    example = "Test the set-up and print links to queries:\n  {command_name} check --links",
    example = "Print what would be sent, without a key:\n  {command_name} --once --dry-run",
    example = "Run beside a Tilt until stopped:\n  {command_name} --dataset dev-environments",
    example = "Report once, from cron or by hand:\n  {command_name} --once",
    example = "After tilt ci --output-snapshot-on-exit=tilt.json:\n  {command_name} --once --snapshot tilt.json --outcome $?",
    example = "Print how the environment started, and write it as a page:\n  {command_name} summary --html summary.html",
    example = "Send the queued events and exit:\n  {command_name} --flush",
    example = "Create a board (needs a configuration key); first print its requests:\n  {command_name} board --dry-run\n  {command_name} board --api-key-file configuration-key",
    error_code(0, "done"),
    error_code(1, "unexpected error"),
    error_code(2, "usage or configuration error"),
    error_code(3, "no Tilt reachable"),
    error_code(4, "not delivered; events stay queued"),
    error_code(5, "rejected by Honeycomb")
)]
pub struct Cli {
    /// check, board or summary; without one, report
    #[argh(positional)]
    pub command: Option<Command>,

    /// report once, then exit
    #[argh(switch)]
    pub once: bool,

    /// report from FILE, written by `tilt ci --output-snapshot-on-exit=FILE`, instead of a running
    /// Tilt
    #[argh(option, arg_name = "file")]
    pub snapshot: Option<PathBuf>,

    /// how that `tilt ci` ended: success, failure or its exit code; any other WORD means unknown
    #[argh(option, arg_name = "word")]
    pub outcome: Option<String>,

    /// send the queued events without polling Tilt, then exit
    #[argh(switch)]
    pub flush: bool,

    /// log errors but exit with 0, so that a report never fails a job
    #[argh(switch)]
    pub never_fail: bool,

    /// print the events as JSON lines on stdout; send nothing and change no state. With board,
    /// print the requests
    #[argh(switch)]
    pub dry_run: bool,

    /// print the findings of check as JSON
    #[argh(switch)]
    pub json: bool,

    /// let check print links to queries in Honeycomb
    #[argh(switch)]
    pub links: bool,

    /// let check fail if no Tilt runs
    #[argh(switch)]
    pub require_tilt: bool,

    /// also write the summary to FILE, as one HTML page without external content
    #[argh(option, arg_name = "file")]
    pub html: Option<PathBuf>,

    /// print every row of the summary, not one screen
    #[argh(switch)]
    pub all: bool,

    /// time between two reports, such as 30s, 5m or 1h (default: 60s)
    #[argh(option, arg_name = "duration")]
    pub interval: Option<String>,

    /// send one event for N unchanged reports of a resource, with a sample rate of N; 1 sends each
    /// report (default: 5; with --once: 1)
    #[argh(option, arg_name = "n")]
    pub heartbeat_fold: Option<String>,

    /// port of the Tilt to report on [env: TILT_PORT] (default: 10350)
    #[argh(option, arg_name = "port")]
    pub port: Option<String>,

    /// path of the tilt program (default: tilt, looked up on PATH)
    #[argh(option, arg_name = "path")]
    pub tilt: Option<PathBuf>,

    /// folder for the queue and the seen builds (default: the user's state folder)
    #[argh(option, arg_name = "path")]
    pub state_dir: Option<PathBuf>,

    /// name of the Honeycomb dataset [env: HONEYCOMB_DATASET]
    #[argh(option, arg_name = "name")]
    pub dataset: Option<String>,

    /// URL of Honeycomb's API [env: HONEYCOMB_API_ENDPOINT] (default: https://api.honeycomb.io)
    #[argh(option, arg_name = "url")]
    pub api_endpoint: Option<String>,

    /// file that holds the API key [env: HONEYCOMB_API_KEY, the key itself]
    #[argh(option, arg_name = "path")]
    pub api_key_file: Option<PathBuf>,

    /// value of the field `user` [env: TILT_HONEYCOMB_USER]
    #[argh(option, arg_name = "name")]
    pub user: Option<String>,

    /// add the text field KEY=VALUE to every event, or a number, true or false as KEY:=VALUE; may
    /// be repeated
    #[argh(option, arg_name = "key=value")]
    pub field: Vec<String>,

    /// add the repository, branch and commit of the Tiltfile's folder, read with git
    #[argh(switch)]
    pub vcs: bool,

    /// longest time for one delivery including retries, with --flush for one success, or for one
    /// request of check or board (default: 10s)
    #[argh(option, arg_name = "duration")]
    pub timeout: Option<String>,

    /// also send the text of build errors, cut to 1024 bytes; it may contain command lines
    #[argh(switch)]
    pub send_error_text: bool,

    /// also send the text of image build stages; it may contain build arguments
    #[argh(switch)]
    pub send_stage_text: bool,

    /// poll every --interval instead of watching every build as it happens
    #[argh(switch)]
    pub no_watch: bool,

    /// allow http:// to hosts other than this machine
    #[argh(switch)]
    pub allow_insecure_http: bool,

    /// log more on stderr
    #[argh(switch)]
    pub verbose: bool,

    /// log only usage errors on stderr
    #[argh(switch)]
    pub quiet: bool,

    /// print the completion script for SHELL: bash, fish, powershell or zsh
    #[argh(option, arg_name = "shell")]
    pub completions: Option<Shell>,

    /// print the manual page, for man
    #[argh(switch)]
    pub man_page: bool,

    /// print the version
    #[argh(switch, short = 'V')]
    pub version: bool,
}

impl Cli {
    /// Whether the program ends by itself. Otherwise it keeps running as a sidecar.
    pub fn ends_by_itself(&self) -> bool {
        self.once || self.flush || self.snapshot.is_some() || self.command.is_some()
    }

    /// The error if options cannot be combined. It does not depend on the environment.
    fn conflict(&self) -> Option<String> {
        if self.outcome.is_some() && self.snapshot.is_none() {
            return Some("--outcome needs --snapshot".to_owned());
        }
        if self.flush && self.snapshot.is_some() {
            return Some("--snapshot also sends the queue; leave out --flush".to_owned());
        }
        if self.flush && self.dry_run {
            return Some("--flush cannot be combined with --dry-run".to_owned());
        }
        if self.command != Some(Command::Summary) {
            let own = [("--html", self.html.is_some()), ("--all", self.all)];
            if let Some((option, _)) = own.into_iter().find(|(_, is_given)| *is_given) {
                return Some(format!("{option} needs summary"));
            }
        }
        let of_check =
            [("--json", self.json), ("--links", self.links), ("--require-tilt", self.require_tilt)];
        let mut of_check = of_check.into_iter().filter(|(_, is_given)| *is_given);
        let Some(command) = self.command else {
            return of_check.next().map(|(option, _)| format!("{option} needs check"));
        };
        if command != Command::Check
            && let Some((option, _)) = of_check.next()
        {
            return Some(format!("{option} cannot be combined with {}", command.as_str()));
        }
        let others = [
            ("--once", self.once),
            ("--flush", self.flush),
            ("--snapshot", self.snapshot.is_some() && command != Command::Summary),
            ("--dry-run", self.dry_run && command != Command::Board),
        ];
        let (other, _) = others.into_iter().find(|(_, is_given)| *is_given)?;
        Some(format!("{other} cannot be combined with {}", command.as_str()))
    }

    fn paths(&mut self) -> [&mut Option<PathBuf>; 5] {
        let Self { snapshot, html, tilt, state_dir, api_key_file, .. } = self;
        [snapshot, html, tilt, state_dir, api_key_file]
    }
}

/// Whether the arguments ask for exit code 0 in any case, even if they are invalid.
pub fn never_fails(arguments: &[OsString]) -> bool {
    has_one_of(arguments, &["--never-fail"])
}

/// Whether the arguments ask for a run that ends by itself, even if they are invalid.
pub fn ends_by_itself(arguments: &[OsString]) -> bool {
    has_one_of(arguments, &["--once", "--flush", "--snapshot"])
}

/// `--once=true` is invalid but counts too.
fn has_one_of(arguments: &[OsString], options: &[&str]) -> bool {
    arguments.iter().any(|argument| {
        let text = argument.to_string_lossy();
        options.contains(&text.split('=').next().unwrap_or_default())
    })
}

/// Why there is nothing to run.
#[derive(Debug, PartialEq)]
pub enum EarlyExit {
    /// Text for stdout: the help, the version, completions or the manual page.
    Print(String),
    /// A usage error: one line for stderr.
    Usage(String),
}

/// The line that `--version` prints.
pub fn version() -> String {
    format!("tilt-honeycomb {}", env!("CARGO_PKG_VERSION"))
}

/// Parses the arguments that follow the program's name.
pub fn parse(arguments: &[OsString]) -> Result<Cli, EarlyExit> {
    let arguments = split_values(arguments);
    let texts: Vec<_> = arguments.iter().enumerate().map(text_or_placeholder).collect();
    let texts: Vec<_> = texts.iter().map(String::as_str).collect();
    match Cli::from_args(&["tilt-honeycomb"], &texts) {
        Ok(cli) if cli.version => Err(EarlyExit::Print(version())),
        Ok(Cli { completions: Some(shell), .. }) => {
            Err(EarlyExit::Print(completions::script(shell)))
        }
        Ok(Cli { man_page: true, .. }) => Err(EarlyExit::Print(man_page::text())),
        Ok(mut cli) => {
            restore_paths(&mut cli, &arguments)?;
            cli.conflict().map_or(Ok(cli), |conflict| Err(usage(&conflict)))
        }
        Err(exit) if exit.status.is_ok() => {
            let own_help = command_to_explain(&texts).map(help::text);
            let text = own_help.unwrap_or_else(|| exit.output.trim_end().to_owned());
            Err(EarlyExit::Print(text))
        }
        Err(exit) => Err(usage(&in_plain_words(&exit.output.replace(PLACEHOLDER, "?")))),
    }
}

/// The command whose help is asked for, in valid arguments that contain `--help`.
fn command_to_explain(arguments: &[&str]) -> Option<Command> {
    let others = arguments.iter().copied().filter(|argument| !HELP.contains(argument));
    Cli::from_args(&["tilt-honeycomb"], &others.collect::<Vec<_>>()).ok()?.command
}

const HELP: [&str; 2] = ["-h", "--help"];

/// No argument can contain a NUL, so it marks an argument that is not UTF-8. Its index follows.
const PLACEHOLDER: char = '\0';

fn text_or_placeholder((index, argument): (usize, &OsString)) -> String {
    argument.to_str().map_or_else(|| format!("{PLACEHOLDER}{index}"), str::to_owned)
}

/// Replaces the placeholders in paths by the original bytes. In other arguments, bytes that are not
/// UTF-8 are an error.
fn restore_paths(cli: &mut Cli, arguments: &[OsString]) -> Result<(), EarlyExit> {
    let mut restored = Vec::new();
    for path in cli.paths().into_iter().flatten() {
        let index = path.to_str().and_then(|text| text.strip_prefix(PLACEHOLDER)?.parse().ok());
        if let Some(index) = index {
            *path = PathBuf::from(&arguments[index]);
            restored.push(index);
        }
    }
    let stray = (0..arguments.len())
        .find(|index| arguments[*index].to_str().is_none() && !restored.contains(index));
    stray.map_or(Ok(()), |index| {
        Err(usage(&format!("{} is not valid UTF-8", arguments[index].to_string_lossy())))
    })
}

/// Splits `--opt=value` into `--opt value`, the only form that argh takes.
fn split_values(arguments: &[OsString]) -> Vec<OsString> {
    let mut split = Vec::with_capacity(arguments.len());
    for argument in arguments {
        match split_at_equals(argument) {
            Some((option, value)) => split.extend([option, value]),
            None => split.push(argument.clone()),
        }
    }
    split
}

#[cfg(unix)]
fn split_at_equals(argument: &OsStr) -> Option<(OsString, OsString)> {
    use std::os::unix::ffi::OsStrExt;
    let bytes = argument.as_bytes();
    let at = bytes.iter().position(|byte| *byte == b'=').filter(|_| bytes.starts_with(b"--"))?;
    let part = |bytes| OsStr::from_bytes(bytes).to_owned();
    Some((part(&bytes[..at]), part(&bytes[at + 1..])))
}

#[cfg(windows)]
fn split_at_equals(argument: &OsStr) -> Option<(OsString, OsString)> {
    use std::os::windows::ffi::{OsStrExt, OsStringExt};
    let units: Vec<_> = argument.encode_wide().collect();
    let is = |unit: u16, letter: char| u32::from(unit) == u32::from(letter);
    let is_option = units.len() > 2 && units[..2].iter().all(|unit| is(*unit, '-'));
    let at = units.iter().position(|unit| is(*unit, '=')).filter(|_| is_option)?;
    Some((OsString::from_wide(&units[..at]), OsString::from_wide(&units[at + 1..])))
}

fn usage(message: &str) -> EarlyExit {
    EarlyExit::Usage(format!("{message}; see tilt-honeycomb --help"))
}

/// Says what is wrong with the arguments, from the output of argh. Names the option or command that a
/// mistyped one is nearest to.
fn in_plain_words(output: &str) -> String {
    let line = first_line(output);
    let (what, word) = if let Some(word) = line.strip_prefix("unrecognized argument: ") {
        (if word.starts_with('-') { "unknown option" } else { "unexpected argument" }, word)
    } else if let Some(rest) = line.strip_prefix("error parsing positional argument") {
        ("unknown command", rest.split('\'').nth(3).unwrap_or_default())
    } else {
        return line;
    };
    let hint = meant(word).map(|known| format!(" (did you mean {known}?)"));
    format!("{what} {word}{}", hint.unwrap_or_default())
}

/// The option or command that a mistyped one was meant to be: the same word with other dashes, or the
/// nearest of its kind.
fn meant(word: &str) -> Option<&'static str> {
    let bare = |text: &str| text.trim_start_matches('-').to_owned();
    let options = Cli::get_args_info().flags.iter().map(|flag| flag.long);
    let known: Vec<_> = options.chain(COMMANDS.map(Command::as_str)).collect();
    let same = known.iter().copied().find(|other| *other != word && bare(other) == bare(word));
    same.or_else(|| {
        let is_option = word.starts_with('-');
        let kind = known.into_iter().filter(|other| other.starts_with('-') == is_option);
        nearest(word, &kind.collect::<Vec<_>>())
    })
}

/// argh explains an error over several lines; the log gets one.
fn first_line(output: &str) -> String {
    let lines = || output.lines().map(str::trim);
    let first = lines().find(|line| !line.is_empty()).unwrap_or("invalid usage");
    let next = lines().skip_while(|line| *line != first).nth(1).unwrap_or_default();
    let joined = if next.starts_with("--") { format!("{first} {next}") } else { first.to_owned() };
    let mut letters = joined.trim_end_matches(['.', ':']).chars();
    let first = letters.next().map(|letter| letter.to_ascii_lowercase());
    format!("{}{}", first.unwrap_or_default(), letters.as_str())
}
