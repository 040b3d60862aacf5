//! Tilt versions older than the recorded one. The fake Tilt answers without the fields that each
//! version did not have, according to Tilt's history.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use crate::support::Sandbox;

/// The first Tilt version whose output is enough for these kinds of events and fields.
const FIRST_WITH: [(&str, &[&str]); 5] = [
    ("0.20.2", &["uiresource", "update", "session"]),
    ("0.22.15", &["waiting_reason", "waiting_on"]),
    ("0.23.1", &["dockerimage", "dockerimage_stage"]),
    ("0.23.2", &["ready", "up_to_date", "time_to_ready_ms", "startup"]),
    ("0.23.5", &["cmdimage"]),
];

/// A Tilt that started a minute ago. Nothing was rebuilt, and one resource is waiting.
fn up_for_a_minute() -> Sandbox {
    let sandbox = Sandbox::new();
    let ago = |seconds| {
        let time = SystemTime::now() - Duration::from_secs(seconds);
        json!(humantime::format_rfc3339_micros(time).to_string())
    };
    sandbox.tilt().change("uisession", |session| session[0]["status"]["tiltStartTime"] = ago(60));
    sandbox.tilt().change("uiresources", |resources| {
        for resource in resources.iter_mut() {
            if resource["metadata"]["name"] == "(Tiltfile)" {
                resource["status"]["buildHistory"][0]["spanID"] = json!("tiltfile:(Tiltfile):1");
            }
            if let Some(updates) = resource["status"]["buildHistory"].as_array_mut() {
                updates.truncate(1);
            }
            for condition in resource["status"]["conditions"].as_array_mut().expect("conditions") {
                condition["lastTransitionTime"] = ago(30);
                condition["status"] = json!("True");
            }
        }
        resources[1]["status"]["waiting"] =
            json!({"reason": "waiting-for-dep", "on": [{"kind": "UIResource", "name": "web"}]});
    });
    sandbox
}

/// Removes what this version added.
fn downgrade_below(version: &str, sandbox: &Sandbox) {
    let without = |field: &str| {
        sandbox.tilt().change("uiresources", |resources| {
            for resource in resources {
                resource["status"].as_object_mut().expect("a status").remove(field);
            }
        });
    };
    match version {
        "0.22.15" => without("waiting"),
        "0.23.1" => drop(sandbox.tilt().unset("dockerimages.json")),
        "0.23.2" => without("conditions"),
        "0.23.5" => drop(sandbox.tilt().unset("cmdimages.json")),
        other => panic!("no changes are known for {other}"),
    }
}

/// The kinds of the reported events and the names of their fields.
fn reported(sandbox: &Sandbox) -> BTreeSet<String> {
    let events = sandbox.run("--once --dry-run").finish().exits_with(0).events();
    let data = events.iter().map(|event| event["data"].as_object().expect("fields"));
    let kind = |fields: &serde_json::Map<String, Value>| {
        fields["kind"].as_str().expect("a kind").to_owned()
    };
    data.flat_map(|fields| fields.keys().cloned().chain([kind(fields)]).collect::<Vec<_>>())
        .collect()
}

#[test]
fn each_tilt_version_yields_the_kinds_and_fields_it_supports() {
    let sandbox = up_for_a_minute();
    for (index, (version, _)) in FIRST_WITH.iter().enumerate().rev() {
        let reported = reported(&sandbox);
        for (since, names) in FIRST_WITH {
            for name in names {
                let is_known = FIRST_WITH[..=index].iter().any(|(known, _)| *known == since);
                assert_eq!(reported.contains(*name), is_known, "{name}, with Tilt {version}");
            }
        }
        if index > 0 {
            downgrade_below(version, &sandbox);
        }
    }
}

#[test]
fn docs_list_the_first_tilt_version_of_each_field() {
    let readme = include_str!("../../../docs/operations.md");
    for (version, names) in FIRST_WITH {
        let names: Vec<_> = names.iter().map(|name| format!("`{name}`")).collect();
        let row = format!("| {version} | {} |", names.join(", "));
        assert!(readme.contains(&row), "no row {row}");
    }
}
