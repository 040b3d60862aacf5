//! The sidecar folds unchanged reports. Each report has one `session` event, so the sum of the sample
//! rates of a resource is the number of `session` events.

use std::collections::{BTreeMap, BTreeSet};

use fakes::honeycomb::{Answer, Reply, Server};
use serde_json::Value;

use crate::support::{Sandbox, Signal, eventually, of_kind};

fn sample_rate(event: &Value) -> u64 {
    event["samplerate"].as_u64().unwrap_or(1)
}

/// The sum of the sample rates for each resource and update status. A kill may repeat an event.
fn totals(events: &[Value]) -> BTreeMap<(String, String), u64> {
    let (mut totals, mut known) = (BTreeMap::new(), BTreeSet::new());
    for event in of_kind(events, "uiresource") {
        let [name, status] = ["name", "update_status"].map(|name| event["data"][name].to_string());
        if known.insert((event["time"].to_string(), name.clone())) {
            *totals.entry((name, status)).or_default() += sample_rate(&event);
        }
    }
    totals
}

fn sessions(events: &[Value]) -> u64 {
    let times = of_kind(events, "session").into_iter().map(|event| event["time"].to_string());
    times.collect::<BTreeSet<_>>().len() as u64
}

#[test]
#[cfg_attr(windows, ignore = "a killed sidecar takes no last look")]
fn totals_survive_a_kill_an_outage_and_a_change() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let reports = || sessions(&server.accepted());
    let first = sandbox.polling_sidecar_to(&server).start();
    eventually("three reports", || reports() >= 3);
    first.ends_after(Signal::KILL);

    let second = sandbox.polling_sidecar_to(&server).args(&["--timeout", "2s"]).start();
    eventually("two more reports", || reports() >= 5);
    server.usually(Reply::new(503, ""));
    second.says("queued; retrying in ");
    sandbox.tilt().change("uiresources", |resources| {
        let lint = resources.iter_mut().find(|resource| resource["metadata"]["name"] == "lint");
        lint.expect("lint")["status"]["updateStatus"] = "error".into();
    });
    let polls = || sandbox.tilt().calls().len();
    let before = polls();
    eventually("reports during the outage", || polls() >= before + 3);
    server.usually(Answer::Accept);
    second.stop();
    sandbox.run("--flush").sending_to(&server).finish().exits_with(0);

    let events = server.accepted();
    let mut of_resources = BTreeMap::<_, u64>::new();
    for ((name, _), total) in totals(&events) {
        *of_resources.entry(name).or_default() += total;
    }
    assert_eq!(of_resources.len(), 9);
    for (name, total) in of_resources {
        // A change is also sent without a `session` event if a poll between two reports shows it.
        let extra = total - sessions(&events);
        assert!(extra <= u64::from(name.contains("lint")), "{name}: {total}");
    }
    let mut lint = of_kind(&events, "uiresource");
    lint.retain(|event| event["data"]["name"] == "lint");
    let change = lint.iter().find(|event| event["data"]["previous_update_status"] == "ok");
    assert_eq!(sample_rate(change.expect("the change")), 1);
    let most = lint.iter().map(sample_rate).max();
    assert!(most > Some(1), "nothing was folded: {lint:?}");
}

#[test]
#[cfg_attr(windows, ignore = "a killed sidecar takes no last look")]
fn a_stopped_sidecar_leaves_no_pending_report() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let sidecar = sandbox.run("--interval 1s").sending_to(&server).start();
    eventually("four reports", || sessions(&server.accepted()) >= 4);
    sidecar.stop();
    sandbox.run("--flush").sending_to(&server).finish().exits_with(0);
    let events = server.accepted();
    let reports = sessions(&events);
    assert!(totals(&events).values().all(|total| *total == reports), "{:?}", totals(&events));
    assert!(of_kind(&events, "uiresource").len() < 9 * 4, "nothing was folded");
}

#[test]
fn single_reports_fold_only_if_asked() {
    for (options, expected) in
        [("--once", [9, 9, 9, 9]), ("--once --heartbeat-fold 3", [9, 0, 0, 9])]
    {
        let (sandbox, server) = (Sandbox::new(), Server::start());
        let counts = [(); 4].map(|()| {
            let before = server.accepted().len();
            sandbox.run(options).sending_to(&server).finish().exits_with(0);
            of_kind(&server.accepted()[before..], "uiresource").len()
        });
        assert_eq!(counts, expected, "{options}");
        let events = server.accepted();
        assert!(totals(&events).values().all(|total| *total == 4), "{:?}", totals(&events));
    }
}

#[test]
fn an_invalid_number_of_reports_is_a_usage_error() {
    for number in ["0", "61", "-1", "five", ""] {
        let outcome = Sandbox::new().run("--heartbeat-fold").args(&[number]).with_key().finish();
        outcome.exits_with(2).says("--heartbeat-fold").says("must be a number from 1 to 60");
    }
}
