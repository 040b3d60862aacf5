//! The API key is found without an argument, in the user's own private file.

use std::fs;
use std::path::PathBuf;

use fakes::honeycomb::Server;

use crate::support::{DATASET, Invocation, KEY, Sandbox, set_mode};

/// Writes a key file below a folder of settings, readable as the mode says.
fn write_key(sandbox: &Sandbox, settings: &str, key: &str, mode: u32) -> PathBuf {
    let folder = sandbox.path(settings).join("tilt-honeycomb");
    fs::create_dir_all(&folder).expect("a folder");
    let file = folder.join("key");
    fs::write(&file, format!("{key}\n")).expect("a file");
    set_mode(&file, mode);
    file
}

/// A run that has everything except a key.
fn run(sandbox: &Sandbox, server: &Server, options: &str) -> Invocation {
    sandbox
        .run(options)
        .env("HONEYCOMB_API_ENDPOINT", server.url())
        .env("HONEYCOMB_DATASET", DATASET)
}

fn used_key(server: &Server) -> Option<String> {
    let requests = server.requests();
    Some(requests.last()?.header("x-honeycomb-team")?.to_owned())
}

#[test]
fn the_users_key_file_needs_no_argument() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    write_key(&sandbox, "home/.config", KEY, 0o600);
    run(&sandbox, &server, "--once").finish().exits_with(0);
    assert_eq!(used_key(&server).as_deref(), Some(KEY));

    write_key(&sandbox, "settings", "an0ther-key", 0o400);
    let settings = sandbox.path("settings");
    run(&sandbox, &server, "--once").env("XDG_CONFIG_HOME", settings).finish().exits_with(0);
    assert_eq!(used_key(&server).as_deref(), Some("an0ther-key"));
}

#[test]
fn an_option_and_a_variable_win_over_the_key_file() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let own = write_key(&sandbox, "home/.config", "from-own-file", 0o600);
    let given = write_key(&sandbox, "work", "from-option", 0o644);
    let option = format!("check --api-key-file {}", given.display());
    let variable = ("HONEYCOMB_API_KEY", "from-variable");
    for (options, variables, key, source) in [
        (option.as_str(), &[variable][..], "from-option", given.display().to_string()),
        ("check", &[variable], "from-variable", "HONEYCOMB_API_KEY".to_owned()),
        ("check", &[], "from-own-file", own.display().to_string()),
    ] {
        let mut check = run(&sandbox, &server, options);
        for (name, value) in variables {
            check = check.env(name, value);
        }
        check.finish().finds("key", "note", &format!("{source}: not in a format of Honeycomb"));
        assert_eq!(used_key(&server).as_deref(), Some(key));
    }
}

#[test]
#[cfg_attr(windows, ignore = "Windows has no file modes")]
fn a_key_file_that_others_can_read_is_refused() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    for mode in [0o604, 0o640, 0o622] {
        let file = write_key(&sandbox, "home/.config", KEY, mode);
        let says = format!("the key file {}: other users can read it", file.display());
        let report = run(&sandbox, &server, "--once").finish().exits_with(2).says_one_line();
        report.says(&says).says("chmod 600");
        run(&sandbox, &server, "check").finish().exits_with(2).finds("key", "bad", &says);
    }
    assert!(server.requests().iter().all(|request| request.header("x-honeycomb-team").is_none()));
}

#[test]
fn an_empty_key_file_is_named() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let file = write_key(&sandbox, "home/.config", "", 0o600);
    let says = format!("the key in {} is empty", file.display());
    run(&sandbox, &server, "--once").finish().exits_with(2).says(&says);
}
