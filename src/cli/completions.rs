//! Completion scripts for shells, generated from the definition of the options. They offer the commands, the
//! options that go with the command on the line, and the values of options with choices. Pure.

use argh::{ArgsInfo, FlagInfo, FlagInfoKind, Optionality};

use crate::cli::{COMMANDS, Cli, Command, Shell, help};

/// The kind of value that an option takes.
enum Value {
    Nothing,
    /// A file or a folder.
    Path,
    Choice(Vec<&'static str>),
    Text,
}

/// The completion script for a shell.
pub(super) fn script(shell: Shell) -> String {
    match shell {
        Shell::Bash => bash(),
        Shell::Fish => fish(),
        Shell::Zsh => zsh(),
        Shell::PowerShell => powershell(),
    }
}

fn flags() -> &'static [FlagInfo<'static>] {
    Cli::get_args_info().flags
}

fn value_of(flag: &FlagInfo) -> Value {
    match flag.kind {
        FlagInfoKind::Switch => Value::Nothing,
        FlagInfoKind::Option { arg_name: "file" | "path" } => Value::Path,
        FlagInfoKind::Option { arg_name: "shell" } => Value::Choice(Shell::NAMES.to_vec()),
        FlagInfoKind::Option { arg_name: "word" } => Value::Choice(vec!["success", "failure"]),
        FlagInfoKind::Option { .. } => Value::Text,
    }
}

/// The options that go with a command, or with none.
fn options_of(command: Option<Command>) -> Vec<&'static FlagInfo<'static>> {
    let known = command.map(help::options_of);
    flags()
        .iter()
        .filter(|flag| known.as_ref().is_none_or(|known| known.contains(&flag.long)))
        .collect()
}

fn command_names() -> String {
    COMMANDS.map(Command::as_str).join(" ")
}

/// One text for each command and one for none, which comes last.
fn for_each_command(text: impl Fn(&str, Option<Command>) -> String) -> String {
    let commands = COMMANDS.map(|command| text(command.as_str(), Some(command)));
    commands.concat() + &text("*", None)
}

fn bash() -> String {
    let values = flags().iter().filter_map(|flag| match value_of(flag) {
        Value::Choice(words) => Some(format!(
            "        {}) COMPREPLY=($(compgen -W \"{}\" -- \"$word\")); return ;;\n",
            flag.long,
            words.join(" ")
        )),
        _ => None,
    });
    let with_value = flags().iter().filter(|flag| !matches!(value_of(flag), Value::Nothing));
    let with_value: Vec<_> = with_value.map(|flag| flag.long).collect();
    let words = for_each_command(|name, command| {
        let options: Vec<_> = options_of(command).iter().map(|flag| flag.long).collect();
        let commands = if command.is_none() { command_names() + " " } else { String::new() };
        format!("        {name}) words=\"{commands}{}\" ;;\n", options.join(" "))
    });
    BASH.replace("{commands}", &COMMANDS.map(Command::as_str).join("|"))
        .replace("{values}", &values.collect::<String>())
        .replace("{with_value}", &with_value.join("|"))
        .replace("{words}", &words)
}

/// Bash splits `--option=value` into three words. It completes files where the function offers nothing.
const BASH: &str = r#"_tilt-honeycomb() {
    local word="${COMP_WORDS[COMP_CWORD]}" before="${COMP_WORDS[COMP_CWORD-1]}"
    local command="" other words
    COMPREPLY=()
    if [[ $word == "=" ]]; then
        word=""
    elif [[ $before == "=" ]]; then
        before="${COMP_WORDS[COMP_CWORD-2]}"
    fi
    case "$before" in
{values}        {with_value}) return ;;
    esac
    for other in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
        case "$other" in {commands}) command="$other" ;; esac
    done
    case "$command" in
{words}    esac
    COMPREPLY=($(compgen -W "$words" -- "$word"))
}
complete -o bashdefault -o default -F _tilt-honeycomb tilt-honeycomb"#;

fn fish() -> String {
    let mut lines = vec!["complete -c tilt-honeycomb -f".to_owned()];
    for command in COMMANDS {
        lines.push(format!(
            "complete -c tilt-honeycomb -n 'not __fish_seen_subcommand_from {}' -a {} -d {}",
            command_names(),
            command.as_str(),
            quoted(help::title(command), "\\'"),
        ));
    }
    for flag in flags() {
        let others = COMMANDS.iter().filter(|command| {
            let options = help::options_of(**command);
            !options.contains(&flag.long)
        });
        let others: Vec<_> = others.map(|command| command.as_str()).collect();
        let condition = if others.is_empty() {
            String::new()
        } else {
            format!(" -n 'not __fish_seen_subcommand_from {}'", others.join(" "))
        };
        let short = flag.short.map_or_else(String::new, |letter| format!(" -s {letter}"));
        let value = match value_of(flag) {
            Value::Nothing => String::new(),
            Value::Path => " -r -F".to_owned(),
            Value::Choice(words) => format!(" -x -a '{}'", words.join(" ")),
            Value::Text => " -x".to_owned(),
        };
        lines.push(format!(
            "complete -c tilt-honeycomb{condition} -l {}{short}{value} -d {}",
            &flag.long[2..],
            quoted(flag.description, "\\'"),
        ));
    }
    lines.join("\n")
}

fn zsh() -> String {
    let specification = |flag: &FlagInfo| {
        let text = flag.description.replace('[', "\\[").replace(']', "\\]").replace(':', "\\:");
        let repeated = if flag.optionality == Optionality::Repeating { "*" } else { "" };
        let value = match value_of(flag) {
            Value::Nothing => return format!("{}[{text}]", flag.long),
            Value::Path => ":file:_files".to_owned(),
            Value::Choice(words) => format!(":value:({})", words.join(" ")),
            Value::Text => ":value: ".to_owned(),
        };
        format!("{repeated}{}=[{text}]{value}", flag.long)
    };
    let options = for_each_command(|name, command| {
        let options = options_of(command).into_iter().map(specification);
        let options: Vec<_> = options.map(|text| quoted(&text, "'\\''")).collect();
        format!(
            "        {name}) options=(\n            {}\n        ) ;;\n",
            options.join("\n            ")
        )
    });
    let commands =
        COMMANDS.map(|command| format!("{}\\:{:?}", command.as_str(), help::title(command)));
    ZSH.replace("{commands}", &COMMANDS.map(Command::as_str).join("|"))
        .replace("{titles}", &commands.join(" "))
        .replace("{options}", &options)
}

const ZSH: &str = r#"#compdef tilt-honeycomb

_tilt-honeycomb() {
    local command="" other
    local -a options
    for other in "${(@)words[2,CURRENT-1]}"; do
        case "$other" in {commands}) command="$other" ;; esac
    done
    case "$command" in
{options}    esac
    _arguments -s -S $options '1::command:(({titles}))'
}

if [[ $funcstack[1] == _tilt-honeycomb ]]; then
    _tilt-honeycomb "$@"
else
    compdef _tilt-honeycomb tilt-honeycomb
fi"#;

fn powershell() -> String {
    let pair = |name: &str, text: &str| {
        format!("            ,@({}, {})\n", quoted(name, "''"), quoted(text, "''"))
    };
    let words = for_each_command(|name, command| {
        let options = options_of(command);
        let options = options.iter().map(|flag| pair(flag.long, flag.description));
        let commands = COMMANDS.iter().filter(|_| command.is_none());
        let commands = commands.map(|command| pair(command.as_str(), help::title(*command)));
        let name = if command.is_none() { "default".to_owned() } else { quoted(name, "''") };
        format!("        {name} {{\n{}        }}\n", commands.chain(options).collect::<String>())
    });
    let values = flags().iter().filter_map(|flag| match value_of(flag) {
        Value::Nothing => None,
        Value::Choice(words) => {
            Some((flag.long, words.into_iter().map(|word| pair(word, word)).collect::<String>()))
        }
        // PowerShell completes files where the script offers nothing.
        Value::Path | Value::Text => Some((flag.long, "            return\n".to_owned())),
    });
    let values =
        values.map(|(option, words)| format!("        '{option}' {{\n{words}        }}\n"));
    POWERSHELL
        .replace("{commands}", &COMMANDS.map(|command| quoted(command.as_str(), "''")).join(", "))
        .replace("{values}", &values.collect::<String>())
        .replace("{words}", &words)
}

/// The commas keep each pair of a word and its explanation together.
const POWERSHELL: &str = r#"Register-ArgumentCompleter -Native -CommandName tilt-honeycomb -ScriptBlock {
    param($wordToComplete, $commandAst, $cursorPosition)
    $before = @($commandAst.CommandElements |
        Where-Object { $_.Extent.EndOffset -lt $cursorPosition } |
        ForEach-Object { $_.ToString() })
    $command = $before | Where-Object { $_ -in @({commands}) } | Select-Object -First 1
    $known = switch ("$($before[-1])") {
{values}        default { $null }
    }
    if ($null -eq $known) { $known = switch ("$command") {
{words}    } }
    $known | Where-Object { $_[0] -like "$wordToComplete*" } | ForEach-Object {
        [System.Management.Automation.CompletionResult]::new($_[0], $_[0], 'ParameterValue', $_[1])
    }
}"#;

/// The text in single quotes. A single quote in it becomes `escaped`.
fn quoted(text: &str, escaped: &str) -> String {
    format!("'{}'", text.replace('\'', escaped))
}
