//! Completion scripts and the manual page, which are generated from the options.

use std::path::Path;

use crate::support::{PROGRAM, Sandbox, skipped};

/// Every option that the help lists.
fn options(sandbox: &Sandbox) -> Vec<String> {
    let help = sandbox.run("--help").finish().stdout;
    let options = help.split_whitespace().filter(|word| word.starts_with("--"));
    let options: Vec<_> = options
        .filter(|word| word[2..].chars().all(|c| c.is_ascii_lowercase() || c == '-'))
        .map(str::to_owned)
        .collect();
    assert!(options.len() > 20, "{options:?}");
    options
}

#[test]
fn completions_cover_every_option() {
    let sandbox = Sandbox::new();
    let options = options(&sandbox);
    for shell in ["bash", "fish", "powershell", "zsh"] {
        let script = sandbox.run(&format!("--completions {shell}")).finish().exits_with(0).stdout;
        for option in &options {
            assert!(script.contains(&option[2..]), "{shell}: {option}");
        }
    }
}

/// Returns the words that bash offers for the last of these words.
fn bash_completes(sandbox: &Sandbox, words: &[&str]) -> Vec<String> {
    let script = r#"eval "$("$0" --completions bash)"
        COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
        _tilt-honeycomb; echo "${COMPREPLY[@]}""#;
    let call = [&["/bin/bash", "-c", script, PROGRAM, "tilt-honeycomb"], words].concat();
    let offered = sandbox.command(&call).finish().exits_with(0).stdout;
    offered.split_whitespace().map(str::to_owned).collect()
}

#[test]
#[cfg_attr(windows, ignore = "needs a Unix shell and its files")]
fn bash_completes_commands_their_options_and_values() {
    let sandbox = Sandbox::new();
    for (words, offered) in [
        (&["ch"][..], &["check"][..]),
        (&["--st"], &["--state-dir"]),
        (&["check", "--js"], &["--json"]),
        (&["check", "--ht"], &[]),
        (&["--port", "1", "summary", "--ht"], &["--html"]),
        (&["--completions", ""], &["bash", "fish", "powershell", "zsh"]),
        (&["--completions", "=", "z"], &["zsh"]),
        (&["--outcome", "="], &["success", "failure"]),
        // Bash completes files itself.
        (&["--snapshot", "che"], &[]),
    ] {
        assert_eq!(bash_completes(&sandbox, words), offered, "{words:?}");
    }
    let all = bash_completes(&sandbox, &[""]);
    assert!(all.starts_with(&["check", "board", "summary"].map(str::to_owned)), "{all:?}");
}

/// Whether a program is installed. Reports that the test is skipped otherwise.
fn has(program: &str) -> bool {
    let is_there = Path::new(program).exists();
    if !is_there {
        skipped(&format!("no {program}"));
    }
    is_there
}

#[test]
#[cfg_attr(windows, ignore = "needs a Unix shell and its files")]
fn each_shell_accepts_the_syntax_of_its_script() {
    let sandbox = Sandbox::new();
    for (shell, program) in
        [("bash", "/bin/bash"), ("zsh", "/usr/bin/zsh"), ("fish", "/usr/bin/fish")]
    {
        if !has(program) {
            continue;
        }
        let script = sandbox.run(&format!("--completions {shell}")).finish().stdout;
        std::fs::write(sandbox.path("work/script"), script).expect("a script");
        let checked = sandbox.command(&[program, "-n", "script"]).finish().exits_with(0);
        assert_eq!(checked.stderr, "", "{shell}");
    }
}

#[test]
#[cfg_attr(windows, ignore = "needs a Unix shell and its files")]
fn fish_completes_commands_their_options_and_values() {
    if !has("/usr/bin/fish") {
        return;
    }
    let sandbox = Sandbox::new();
    for (line, offered) in [
        ("ch", &["check"][..]),
        ("check --js", &["--json"]),
        ("check --ht", &[]),
        ("summary --ht", &["--html"]),
        ("--completions p", &["powershell"]),
        ("--outcome s", &["success"]),
    ] {
        let script =
            format!("$argv[1] --completions fish | source; complete -C 'tilt-honeycomb {line}'");
        let call = ["/usr/bin/fish", "--no-config", "-c", &script, PROGRAM];
        let shown =
            sandbox.command(&call).env("PATH", "/usr/bin:/bin").finish().exits_with(0).stdout;
        let words: Vec<_> = shown.lines().filter_map(|line| line.split('\t').next()).collect();
        assert_eq!(words, offered, "{line}");
    }
}

#[test]
fn the_manual_page_covers_every_option_and_command() {
    let sandbox = Sandbox::new();
    let page = sandbox.run("--man-page").finish().exits_with(0).stdout;
    for option in options(&sandbox) {
        let name = option.replace('-', "\\-");
        assert!(page.contains(&format!("{name}\\fR")), "{option}");
    }
    for command in ["check", "board", "summary"] {
        assert!(page.contains(&format!("\n.B {command}\n")), "{command}");
    }
}

#[test]
#[cfg_attr(windows, ignore = "needs groff")]
fn groff_formats_the_manual_page_without_a_warning() {
    if !has("/usr/bin/groff") {
        return;
    }
    let sandbox = Sandbox::new();
    let page = sandbox.run("--man-page").finish().stdout;
    std::fs::write(sandbox.path("work/page.1"), page).expect("a page");
    let call = ["/usr/bin/groff", "-man", "-ww", "-Tascii", "-P-cbou", "page.1"];
    let shown = sandbox.command(&call).env("PATH", "/usr/bin:/bin").finish().exits_with(0);
    assert_eq!(shown.stderr, "");
    for text in ["--snapshot file", "tilt-honeycomb --once --dry-run", "EXIT STATUS"] {
        assert!(shown.stdout.contains(text), "{text}:\n{}", shown.stdout);
    }
}
