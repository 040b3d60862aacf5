//! A test with a real Tilt, if there is one on PATH. It uses local resources only, and needs neither
//! containers nor a cluster.

use std::env;
use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;

use crate::support::{Invocation, Process, Sandbox, Signal, eventually, of_kind, skipped};

const TILTFILE: &str = r"
local_resource('passes', 'true', labels=['quick'])
local_resource('fails', 'exit 7')
local_resource('serves', serve_cmd='sleep 120', resource_deps=['passes'])
local_resource('by hand', 'true', trigger_mode=TRIGGER_MODE_MANUAL, auto_init=False)
";

fn real_tilt() -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|folder| folder.join("tilt")).find(|tilt| tilt.is_file())
}

/// Gives Tilt its own folder and port, and no cluster.
fn isolated(invocation: Invocation, sandbox: &Sandbox, port: u16) -> Invocation {
    invocation
        .env("TILT_DEV_DIR", sandbox.path("work/dev"))
        .env("TILT_PORT", port.to_string())
        .env("TILT_DISABLE_ANALYTICS", "1")
        .env("KUBECONFIG", "/dev/null")
        .env("PATH", env::var_os("PATH").expect("a PATH with tilt"))
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("a port number").port()
}

fn tilt_up(sandbox: &Sandbox, tilt: &str, port: u16) -> Process {
    fs::write(sandbox.path("work/Tiltfile"), TILTFILE).expect("a Tiltfile");
    isolated(sandbox.command(&[tilt, "up", "--stream"]), sandbox, port).start()
}

#[test]
fn resources_of_a_real_tilt_are_reported() {
    let Some(tilt) = real_tilt() else {
        skipped("no tilt on PATH");
        return;
    };
    let (sandbox, port) = (Sandbox::new(), free_port());
    fs::create_dir(sandbox.path("work/dev")).expect("a folder");
    let poll = || isolated(sandbox.run("--once --dry-run"), &sandbox, port).finish();
    poll().exits_with(3).says("cannot reach Tilt");

    let up = tilt_up(&sandbox, tilt.to_str().expect("text"), port);
    let mut events = Vec::new();
    eventually("the environment is up", || {
        events = of_kind(&poll().events(), "uiresource");
        let has = |name: &str, field: &str, value: &str| {
            events.iter().any(|e| e["data"]["name"] == name && e["data"][field] == value)
        };
        has("serves", "runtime_status", "ok") && has("fails", "update_status", "error")
    });
    let of = |name: &str| {
        let event = events.iter().find(|event| event["data"]["name"] == name).expect(name);
        event["data"].clone()
    };
    assert_eq!(events.len(), 5);
    for (name, runtime, update, kind, ready) in [
        ("(Tiltfile)", "not_applicable", "ok", "tiltfile", true),
        ("passes", "not_applicable", "ok", "local", true),
        ("fails", "not_applicable", "error", "local", false),
        ("serves", "ok", "not_applicable", "local", true),
    ] {
        let data = of(name);
        assert_eq!(data["runtime_status"], runtime, "{data}");
        assert_eq!(data["update_status"], update, "{data}");
        assert_eq!(data["resource_type"], kind, "{data}");
        assert_eq!(data["ready"], ready, "{data}");
        assert!(data["tilt_version"].is_string(), "{data}");
        assert_eq!(data["session.id"].as_str().map(str::len), Some(36), "{data}");
    }
    assert_eq!(of("passes")["labels"], "quick");
    assert_eq!(of("by hand")["trigger_mode"], "manual");

    let check = sandbox.run("check --api-endpoint http://127.0.0.1:1");
    let check = isolated(check, &sandbox, port).finish().exits_with(2);
    let check = check.finds("tilt", "ok", ", built ").finds("key", "bad", "no API key");
    let session = format!("port {port}: 5 resources; kinds: uisession, uiresources, dockerimages");
    check.finds("session", "ok", &session);

    // Like Ctrl-C. A killed Tilt would leave its `serve_cmd` running.
    up.ends_after(Signal::INT);
    poll().exits_with(3);
}
