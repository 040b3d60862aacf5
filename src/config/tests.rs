//! Tests of the configuration as a whole.

use std::ffi::OsString;
use std::path::Path;

use super::*;
use crate::cli;

fn arguments(line: &str) -> Vec<OsString> {
    line.split_whitespace().map(OsString::from).collect()
}

fn with_environment<T>(variables: &[(&str, &str)], resolve: impl FnOnce(&Environment) -> T) -> T {
    // The first of two variables of one name wins.
    let variable = |name: &str| {
        let known = variables.iter().find(|(known, _)| *known == name);
        known.map(|(_, value)| OsString::from(value))
    };
    let read_file = |path: &Path| match path.to_str() {
        Some("key.txt") => Ok("  fromfile\n".to_owned()),
        Some("two-lines.txt") => Ok("one\ntwo".to_owned()),
        Some("empty.txt") => Ok("\n".to_owned()),
        _ => Err(std::io::Error::from(std::io::ErrorKind::NotFound)),
    };
    let read_private_file = |path: &Path| match path.to_str() {
        Some("/home/ann/.config/tilt-honeycomb/key") => Ok("own\n".to_owned()),
        Some("/open/tilt-honeycomb/key") => Err(std::io::Error::other("others can read it")),
        _ => Err(std::io::Error::from(std::io::ErrorKind::NotFound)),
    };
    let environment = Environment {
        variable: &variable,
        names: &|| variables.iter().map(|(name, _)| (*name).to_owned()).collect(),
        read_file: &read_file,
        read_private_file: &read_private_file,
        ci_provider: None,
        cpu_count: 1,
    };
    resolve(&environment)
}

/// The mode for a command line and `NAME=value` variables.
fn resolve(line: &str, variables: &[(&str, &str)]) -> Result<Mode, ConfigError> {
    let cli = cli::parse(&arguments(line)).expect(line);
    with_environment(variables, |environment| Mode::resolve(&cli, environment))
}

/// The variable that leads to the folder for program state.
const HOME: &str = if cfg!(windows) { "LOCALAPPDATA" } else { "HOME" };
const USUAL: &[(&str, &str)] =
    &[("HONEYCOMB_API_KEY", "k3y"), ("HONEYCOMB_DATASET", "dev"), (HOME, "/home/ann")];

fn usual(line: &str, more: &[(&str, &str)]) -> Result<Mode, ConfigError> {
    resolve(line, &[more, USUAL].concat())
}

fn sidecar(mode: Mode) -> SidecarConfig {
    let Mode::Sidecar(config) = mode else { panic!("not a sidecar: {mode:?}") };
    config
}

fn destination_of(mode: Mode) -> Destination {
    sidecar(mode).send.destination
}

#[test]
fn an_option_wins_over_its_variable() {
    let destination = destination_of(usual("", &[]).expect("a configuration"));
    assert_eq!(destination.batch_url(), "https://api.honeycomb.io/1/batch/dev");
    assert_eq!(destination.key.expose(), "k3y");

    let mode = usual(
        "--dataset other --api-endpoint https://api.eu1.honeycomb.io/ --api-key-file key.txt",
        &[("HONEYCOMB_API_ENDPOINT", "https://ignored.example")],
    )
    .expect("a configuration");
    let destination = destination_of(mode);
    assert_eq!(destination.batch_url(), "https://api.eu1.honeycomb.io/1/batch/other");
    assert_eq!(destination.key.expose(), "fromfile");

    let mode = usual("", &[("HONEYCOMB_API_HOST", "api.eu1.honeycomb.io")]).expect("old name");
    assert_eq!(destination_of(mode).endpoint.url, "https://api.eu1.honeycomb.io");
}

#[cfg(unix)]
#[test]
fn the_users_key_file_comes_after_the_option_and_the_variable() {
    let key = |line, variables: &[(&str, &str)]| {
        let usual = &[("HONEYCOMB_DATASET", "dev"), ("HOME", "/home/ann")];
        resolve(line, &[variables, usual].concat())
            .map(|mode| destination_of(mode).key.expose().to_owned())
            .map_err(|error| error.to_string())
    };
    let variable = ("HONEYCOMB_API_KEY", "variable");
    assert_eq!(key("--api-key-file key.txt", &[variable]), Ok("fromfile".to_owned()));
    assert_eq!(key("", &[variable]), Ok("variable".to_owned()));
    assert_eq!(key("", &[]), Ok("own".to_owned()));
    // A relative path is ignored, as the XDG specification says.
    assert_eq!(key("", &[("XDG_CONFIG_HOME", "relative")]), Ok("own".to_owned()));

    let missing = key("", &[("XDG_CONFIG_HOME", "/none")]).expect_err("no key");
    assert!(missing.contains("write the key to /none/tilt-honeycomb/key"), "{missing}");
    let open = key("", &[("XDG_CONFIG_HOME", "/open")]).expect_err("no private file");
    assert_eq!(open, "the key file /open/tilt-honeycomb/key: others can read it");
    let homeless = key("", &[("HOME", "")]).expect_err("no folder");
    assert_eq!(homeless, "no API key: set HONEYCOMB_API_KEY or give --api-key-file");
}

#[test]
fn an_invalid_value_is_named_with_what_to_do() {
    for (line, variables, named) in [
        ("", &[("HONEYCOMB_API_KEY", ""), ("HOME", "/home/bob")][..], "set HONEYCOMB_API_KEY"),
        ("", &[("HONEYCOMB_DATASET", " ")], "set HONEYCOMB_DATASET"),
        ("", &[("HONEYCOMB_API_KEY", "one two")], "HONEYCOMB_API_KEY contains white space"),
        ("--api-key-file two-lines.txt", &[], "two-lines.txt contains white space"),
        ("--api-key-file empty.txt", &[], "empty.txt is empty"),
        ("--api-key-file nosuch", &[], "--api-key-file nosuch"),
        ("--dataset a/b", &[], "must not contain a slash"),
        ("--dataset ..", &[], "must not contain a slash"),
        ("--api-endpoint http://refinery:8080", &[], "--allow-insecure-http"),
        ("--api-endpoint ftp://x", &[], "use https://"),
        ("--api-endpoint https://u:p@x", &[], "must not contain a user name"),
        ("--api-endpoint https://x?y=1", &[], "must not contain a query"),
        ("--api-endpoint https://", &[], "must be a URL"),
        ("--api-endpoint https:/api.honeycomb.io", &[], "must be a URL"),
        ("--api-endpoint https://:443", &[], "must be a URL"),
        ("--api-endpoint https://x:", &[], "must be a URL"),
        ("--api-endpoint https://x:99999", &[], "must be a URL"),
        ("--api-endpoint https://x/1/events", &[], "must not end in /1/events"),
        ("--interval 5", &[], "--interval"),
        ("--interval 5M", &[], "between 1s and 1day"),
        ("--interval 0s", &[], "between 1s and 1day"),
        ("--timeout 1h", &[], "--timeout"),
        ("--port 0", &[], "--port"),
        ("--port abc", &[], "--port"),
        ("--field novalue", &[], "key=value"),
        ("--field =x", &[], "--field"),
        ("--field name=x", &[], "choose another key"),
        ("", &[(HOME, "")], "--state-dir"),
        ("", &[(HOME, "")], HOME),
        ("", &[("HONEYCOMB_UI_URL", "ftp://ui")], "HONEYCOMB_UI_URL"),
        ("", &[("HONEYCOMB_UI_URL", "https://u:p@ui")], "HONEYCOMB_UI_URL"),
        ("", &[("HONEYCOMB_UI_URL", "https://ui?team=x")], "HONEYCOMB_UI_URL"),
    ] {
        let error = usual(line, variables).expect_err(line).to_string();
        assert!(error.contains(named), "{line}: {error}");
        assert!(!error.contains('\n') && !error.contains("k3y"), "{error}");
    }
}

#[test]
fn the_ui_is_in_the_apis_region_unless_set() {
    for (endpoint, ui_url, expected) in [
        ("api.honeycomb.io", "", Some("https://ui.honeycomb.io")),
        ("api.eu1.honeycomb.io", "", Some("https://ui.eu1.honeycomb.io")),
        ("API.eu1.honeycomb.io.:443", "", Some("https://ui.eu1.honeycomb.io")),
        ("refinery.example", "", None),
        ("refinery.example", "ui.eu1.honeycomb.io/", Some("https://ui.eu1.honeycomb.io")),
        ("api.honeycomb.io", "http://gateway:80/ui", Some("http://gateway:80/ui")),
    ] {
        let more = [("HONEYCOMB_API_ENDPOINT", endpoint), ("HONEYCOMB_UI_URL", ui_url)];
        let destination = destination_of(usual("", &more).expect(endpoint));
        assert_eq!(destination.ui.as_deref(), expected, "{endpoint} {ui_url}");
    }
}

#[test]
fn check_resolves_each_part_by_itself() {
    let check = |line: &str, variables: &[(&str, &str)]| match resolve(line, variables)? {
        Mode::Check(config) => Ok::<_, ConfigError>(config),
        other => panic!("not a check: {other:?}"),
    };
    let nothing = check("check", &[]).expect("missing parts are findings");
    assert!(nothing.key.is_err() && nothing.dataset.is_err() && nothing.state_dir.is_err());
    assert_eq!(nothing.endpoint.expect("the default").host, "api.honeycomb.io");
    assert_eq!(nothing.port, "10350");

    let parts = check("check --port 1234", &[("HONEYCOMB_API_ENDPOINT", "ftp://x")]);
    let parts = parts.expect("an invalid part is a finding");
    assert!(parts.endpoint.is_err() && parts.ui.is_ok());
    assert_eq!(parts.port, "1234");
    assert!(check("check --port x", &[]).is_err());
}

#[test]
fn http_needs_permission_beyond_this_machine() {
    for url in ["http://localhost:8080", "http://127.0.0.1:1", "http://[::1]:1"] {
        let mode = usual(&format!("--api-endpoint {url}"), &[]).expect(url);
        assert!(destination_of(mode).endpoint.is_loopback, "{url}");
    }
    let line = "--allow-insecure-http --api-endpoint http://refinery:8080";
    assert!(!destination_of(usual(line, &[]).expect(line)).endpoint.is_https);
}

#[test]
fn the_last_of_two_fields_with_one_name_wins() {
    let mode = usual("--field team=a --field x=1 --field team=b", &[]).expect("fields");
    let expected = [("x", "1"), ("team", "b")].map(|(n, v)| (n.to_owned(), v.into()));
    assert_eq!(sidecar(mode).context.own_fields, expected);
}

#[test]
fn a_field_with_a_colon_is_a_number_or_a_truth_value() {
    use serde_json::{Value, json};
    for (option, name, value) in [
        ("size:=5", "size", json!(5)),
        ("size:=-1.5", "size", json!(-1.5)),
        ("size:=1e3", "size", json!(1000.0)),
        ("remote:=true", "remote", json!(true)),
        ("remote:=false", "remote", json!(false)),
        ("size=5", "size", json!("5")),
        ("size==5", "size", json!("=5")),
        ("url=a:=b", "url", json!("a:=b")),
    ] {
        let mode = usual(&format!("--field {option}"), &[]).expect(option);
        let expected: [(String, Value); 1] = [(name.to_owned(), value)];
        assert_eq!(sidecar(mode).context.own_fields, expected, "{option}");
    }
    for option in ["size:=five", "size:=", "size:=05", "size:=null", "size:=\"5\"", "size:=[1]"] {
        let error = usual(&format!("--field {option}"), &[]).expect_err(option).to_string();
        assert!(error.contains("write a number, true or false"), "{error}");
    }
}

#[test]
fn a_mistyped_variable_is_named_without_its_value() {
    for (missing, mistyped) in [
        ("HONEYCOMB_API_KEY", "HONEYCOMB_APIKEY"),
        ("HONEYCOMB_API_KEY", "HONEYCOMB_API_KEYS"),
        ("HONEYCOMB_DATASET", "HONEYCOMB_DATA_SET"),
    ] {
        // Ann has a key file.
        let others = [&[(HOME, "/home/bob")], USUAL].concat();
        let others: Vec<_> = others.into_iter().filter(|(name, _)| *name != missing).collect();
        let error = resolve("--once", &others).expect_err(missing).to_string();
        assert!(!error.contains("did you mean"), "{error}");
        let variables = [&others[..], &[(mistyped, "s3cr3t")]].concat();
        let error = resolve("--once", &variables).expect_err(mistyped).to_string();
        let hint = format!("; {mistyped} is set (did you mean {missing}?)");
        assert!(error.ends_with(&hint) && !error.contains("s3cr3t"), "{error}");
    }
}

#[test]
fn the_dataset_is_one_encoded_segment_of_the_url() {
    for (dataset, segment) in [
        ("dev envs", "dev%20envs"),
        ("a%20b", "a%2520b"),
        ("é?#", "%C3%A9%3F%23"),
        ("a.b_c~d", "a.b_c~d"),
    ] {
        let mode = usual("", &[("HONEYCOMB_DATASET", dataset)]).expect(dataset);
        assert_eq!(
            destination_of(mode).batch_url(),
            format!("https://api.honeycomb.io/1/batch/{segment}")
        );
    }
}

#[test]
fn each_destination_has_files_of_its_own() {
    let stem = |dataset, endpoint| {
        let more = [("HONEYCOMB_DATASET", dataset), ("HONEYCOMB_API_ENDPOINT", endpoint)];
        let destination = destination_of(usual("", &more).expect("a configuration"));
        destination.endpoint.file_stem(&destination.dataset)
    };
    let first = stem("dev", "https://api.honeycomb.io");
    assert!(first.starts_with("api.honeycomb.io-dev-"), "{first}");
    assert_eq!(first, stem("Dev", "https://api.honeycomb.io/"));
    assert_ne!(first, stem("dev", "https://api.eu1.honeycomb.io"));
    for same in ["HTTPS://API.Honeycomb.IO", "api.honeycomb.io:443//", "https://api.honeycomb.io."]
    {
        assert_eq!(first, stem("dev", same), "{same}");
    }
    for other in [
        "https://api.honeycomb.io:8443",
        "https://api.honeycomb.io/prefix",
        "https://api.honeycomb.io/Prefix",
        "http://localhost",
    ] {
        assert_ne!(first, stem("dev", other), "{other}");
    }
    assert_ne!(stem("dev", "https://x/a"), stem("dev", "https://x/A"), "paths differ in case");
    assert_eq!(stem("dev", "https://X.:8443/a/"), stem("dev", "https://x:8443/a"));
    assert_eq!(stem("dev", "http://LOCALHOST:80"), stem("dev", "http://localhost"));
    assert_ne!(stem("dev", "http://localhost:443"), stem("dev", "https://localhost"));
    assert_ne!(stem("a b", "https://x"), stem("a-b", "https://x"));
    let odd = stem("..é*", "https://x").replace(|c: char| c.is_ascii_alphanumeric(), "");
    assert!(odd.chars().all(|c| "._-".contains(c)), "{odd}");
}

#[test]
fn an_endpoint_does_not_end_in_a_path_of_the_api() {
    let parsed = |endpoint: &str| usual("", &[("HONEYCOMB_API_ENDPOINT", endpoint)]);
    for (end, named) in [
        ("/1/events", "/1/events"),
        ("/1/events/", "/1/events"),
        ("/1/events/my-dataset", "/1/events"),
        ("/1/batch", "/1/batch"),
        ("//1/batch/my%20dataset//", "/1/batch"),
        ("/v1/traces", "/v1/traces"),
        ("/V1/Traces/", "/v1/traces"),
        ("/v1/logs", "/v1/logs"),
        ("/v1/metrics", "/v1/metrics"),
        ("/1/auth", "/1/auth"),
        ("/1/", "/1"),
    ] {
        for prefix in ["", "/team/s3cr3t"] {
            let endpoint = format!("https://gateway.example{prefix}{end}");
            if let ("/1/", "/team/s3cr3t") = (end, prefix) {
                assert!(parsed(&endpoint).is_ok(), "a prefix may end in any number");
                continue;
            }
            let error = parsed(&endpoint).expect_err(&endpoint).to_string();
            assert!(error.contains(&format!("must not end in {named},")), "{endpoint}: {error}");
            assert!(!error.contains("s3cr3t"), "{error}");
        }
    }
    for endpoint in
        ["https://x/v1", "https://x/events", "https://x/v1/traces/honeycomb", "https://x/11/batch"]
    {
        assert!(parsed(endpoint).is_ok(), "{endpoint}");
    }
}

#[test]
fn a_dry_run_needs_no_key_dataset_or_home() {
    let mode = resolve("--dry-run", &[]).expect("a dry run");
    assert!(matches!(mode, Mode::DryRun(DryRunConfig { state_dir: None, .. })), "{mode:?}");
}

#[test]
fn the_state_is_in_the_platforms_state_folder() {
    let dir =
        |line: &str, more: &[(&str, &str)]| sidecar(usual(line, more).expect(line)).send.state_dir;
    assert_eq!(dir("--state-dir /s", &[]), PathBuf::from("/s"));
    let absolute = if cfg!(windows) { r"C:\x" } else { "/x" };
    let expected = Path::new(absolute).join("tilt-honeycomb");
    assert_eq!(dir("", &[("XDG_STATE_HOME", absolute)]), expected);
    #[cfg(target_os = "linux")]
    for more in [&[][..], &[("XDG_STATE_HOME", "relative")]] {
        assert_eq!(dir("", more), PathBuf::from("/home/ann/.local/state/tilt-honeycomb"));
    }
}

#[test]
fn debug_output_hides_the_key() {
    let mode = usual("", &[]).expect("a configuration");
    assert!(!format!("{mode:?}").contains("k3y"));
}

#[test]
fn each_command_line_resolves_to_one_mode() {
    for (line, expected) in [
        ("", "Sidecar("),
        ("--once", "Report("),
        ("--snapshot x", "Snapshot("),
        ("--once --snapshot x", "Snapshot("),
        ("--flush", "Flush("),
        ("--once --flush", "Flush("),
        ("--dry-run", "DryRun("),
        ("--once --dry-run", "DryRun("),
        ("--snapshot x --dry-run", "DryRun("),
        ("check", "Check("),
        ("board", "Board("),
    ] {
        let mode = format!("{:?}", usual(line, &[]).expect(line));
        assert!(mode.starts_with(expected), "{line}: {mode}");
    }
}
