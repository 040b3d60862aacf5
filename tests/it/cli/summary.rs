//! `summary`: what a developer sees without an account, and the page for CI.

use std::fs;
use std::time::{Duration, SystemTime};

use fakes::honeycomb::Server;

use serde_json::json;

use crate::support::{BRING_UP, BRING_UP_KINDS, DATASET, Outcome, Sandbox, read_capture};

/// A machine whose Tilt shows the recorded start on Kubernetes.
fn bring_up() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.tilt().show_recorded(BRING_UP, &BRING_UP_KINDS);
    sandbox
}

/// The output without its first line, which shows the time since the start.
fn body(outcome: &Outcome) -> String {
    let text = outcome.stdout.clone();
    text.split_once('\n').expect("lines").1.to_owned()
}

const START_ON_KUBERNETES: &str = "\
time to healthy: 55.6s (last: seed)

start                          0s                                          55.6s
codegen                 2.6s    ██
lint                    3.4s    ··███
docs                    4.0s    ·····░░░░
db                     12.5s    ·····█░░░░░░░░░░
cache                   4.6s    ·····█░░░
web                    22.1s    ·····██████████████░░░░░░
  image shop-web       15.5s         ▓▓▓▓▓▓▓▓▓▓▓▓▓▓
    3/5 RUN             9.2s          ▒▒▒▒▒▒▒▒
    5/5 RUN             5.1s                  ▒▒▒▒▒
worker                 18.1s    ·········█████████░░░░░░░
  image shop-worker     9.6s             ▓▓▓▓▓▓▓▓▓
    3/5 RUN             3.1s              ▒▒
    5/5 RUN             4.4s                ▒▒▒▒
    export              1.1s                    ▒
migrate                 7.3s    ················█░░░░░░
api                    26.3s    ·······················██████████████░░░░░░░░░
  image shop-api       15.7s                           ▓▓▓▓▓▓▓▓▓▓▓▓▓▓
    3/5 RUN             4.7s                           ▒▒▒▒▒
    5/5 RUN             8.8s                                ▒▒▒▒▒▒▒
seed                    1.7s    ··············································██
and 27 more (--all)  · waiting  █ update  ░ until ready  ▓ image build  ▒ stage

slowest  api       26.3s  update 15.7s, image 15.7s, until ready 10.5s
         web       22.1s  update 15.6s, image 15.5s, until ready 6.5s
         worker    18.1s  update 9.6s, image 9.6s, until ready 8.5s; and 7 more
stages   web     9.2s  3/5 RUN
         api     8.8s  5/5 RUN
         web     5.1s  5/5 RUN; and 13 more
waited   seed       52.2s  until api was ready
         api        26.0s  until migrate was ready
         migrate    18.6s  until db was ready; and 7 more
";

/// The numbers were computed by hand from the times in the capture. `api`, for example: its update took
/// from 21:46:52.625 to 21:47:08.369, it was ready at 21:47:18.896, and Tilt had loaded its Tiltfile at
/// 21:46:26.660.
#[test]
fn a_start_on_kubernetes_is_summarized_on_one_screen() {
    let outcome = bring_up().run("summary").env("LINES", "36").finish().exits_with(0);
    assert!(outcome.stdout.starts_with("Tilt: healthy, started "), "{}", outcome.stdout);
    assert!(outcome.stdout.lines().next().is_some_and(|line| line.ends_with("; 11 resources ok")));
    assert_eq!(outcome.stderr, "");
    assert_eq!(body(&outcome), START_ON_KUBERNETES);
}

#[test]
fn a_summary_fits_the_screen_and_all_shows_every_row() {
    let sandbox = bring_up();
    for (columns, lines) in [("80", "24"), ("60", "40"), ("120", "50"), ("1", "1")] {
        let run = sandbox.run("summary").env("COLUMNS", columns).env("LINES", lines);
        let text = run.finish().exits_with(0).stdout;
        let (columns, lines): (usize, usize) =
            (columns.parse().expect("a number"), lines.parse().expect("a number"));
        let longest = text.lines().map(|line| line.chars().count()).max().expect("lines");
        assert!(longest <= columns.max(40), "{longest} columns\n{text}");
        assert!(text.lines().count() < lines.max(24), "{} lines\n{text}", text.lines().count());
        assert!(text.contains(" more (--all)  "), "{text}");
    }
    let all = sandbox.run("summary --all").finish().exits_with(0).stdout;
    assert!(all.contains("2/5 COPY") && !all.contains("more"), "{all}");
}

#[test]
fn a_summary_needs_no_key_and_changes_nothing() {
    let sandbox = bring_up();
    let outcome = sandbox.run("summary").env("DO_NOT_TRACK", "1").finish().exits_with(0);
    assert!(!outcome.stdout.contains('\u{1b}'), "no colours in a pipe");
    assert!(outcome.stdout.contains("time to healthy: 55.6s"), "{}", outcome.stdout);
    assert_eq!(sandbox.state_files().len(), 0);
}

#[test]
fn failures_come_first_and_have_a_class() {
    // The recorded compose environment: `api` failed, then worked, then failed again.
    let outcome = Sandbox::new().run("summary").finish().exits_with(0);
    for row in [
        "time to healthy: unknown, because resources have changed since the start",
        "failing  api     command_failed, exit code 9, 1 of 2 updates failed",
        "         codegen command_failed, exit code 3",
        "         crasher command_failed",
    ] {
        assert!(outcome.stdout.contains(row), "no {row:?} in\n{}", outcome.stdout);
    }
    assert!(outcome.stdout.starts_with("Tilt: unhealthy, started "), "{}", outcome.stdout);
}

#[test]
fn a_failed_ci_run_is_summarized_from_its_snapshot() {
    let sandbox = Sandbox::new();
    sandbox.write_snapshot(read_capture("k8s/ci-notready/snapshot.json"));
    let run = sandbox.run("summary --snapshot tilt.json --outcome 1 --html page.html");
    let outcome = run.finish().exits_with(0);
    assert!(outcome.stdout.starts_with("tilt ci: failure after "), "{}", outcome.stdout);
    assert!(outcome.stdout.contains("not reached; not ready: notready"), "{}", outcome.stdout);
    assert_eq!(sandbox.tilt().calls().len(), 0, "Tilt is not asked");
    let page = fs::read_to_string(sandbox.path("work/page.html")).expect("a page");
    assert!(page.contains("tilt ci: failure after "), "{page}");
}

#[test]
fn the_exit_code_says_why_there_is_no_summary() {
    let sandbox = Sandbox::new();
    sandbox.run("summary --snapshot none.json").finish().exits_with(1).says("none.json");
    sandbox.run("summary --html /no/such/folder/x").finish().exits_with(1).says("--html");
    sandbox.run("summary --once").finish().exits_with(2).says("--once cannot be combined");
    sandbox.run("--html x").finish().exits_with(2).says("--html needs summary");
    sandbox.tilt().set("no-tilt", "");
    let outcome = sandbox.run("summary").finish().exits_with(3).says_one_line();
    assert_eq!(outcome.stdout, "");
}

#[test]
fn a_start_in_progress_shows_what_is_missing() {
    let sandbox = bring_up();
    let now = humantime::format_rfc3339_micros(std::time::SystemTime::now()).to_string();
    sandbox.tilt().change("uisession", |sessions| {
        sessions[0]["status"]["tiltStartTime"] = json!(now);
    });
    sandbox.tilt().change("uiresources", |resources| {
        for resource in resources {
            let is_tiltfile = resource["metadata"]["name"] == "(Tiltfile)";
            let status = &mut resource["status"];
            if is_tiltfile {
                let load = &mut status["buildHistory"][0];
                (load["startTime"], load["finishTime"]) = (json!(now), json!(now));
                continue;
            }
            *status = json!({
                "updateStatus": "pending",
                "runtimeStatus": "pending",
                "disableStatus": {"state": "Enabled"},
                "waiting": {"reason": "waiting-for-dep", "on": [{"kind": "UIResource", "name": "db"}]},
            });
        }
    });
    for kind in ["dockerimages", "kubernetesdiscoveries"] {
        sandbox.tilt().change(kind, Vec::clear);
    }
    let text = sandbox.run("summary").finish().exits_with(0).stdout;
    assert!(text.starts_with("Tilt: starting, started 0."), "{text}");
    assert!(text.contains("not ready: api, cache, codegen and 7 more\n"), "{text}");
}

/// A Tilt that started five seconds ago. `web` was updated at these seconds after the start, newest first.
fn show_recent_start(sandbox: &Sandbox, started_at: SystemTime, updates: &[u64]) {
    let at = |seconds: u64| {
        let time = started_at + Duration::from_secs(seconds);
        json!(humantime::format_rfc3339_micros(time).to_string())
    };
    let resource = |name: &str, span: &str, updates: &[u64]| {
        let update = |number: &u64| json!({"spanID": format!("{span}{number}"), "startTime": at(*number), "finishTime": at(*number)});
        let conditions = ["UpToDate", "Ready"].map(|condition| {
            json!({"type": condition, "status": "True", "lastTransitionTime": at(updates[0])})
        });
        json!({"kind": "UIResource", "metadata": {"name": name}, "status": {
            "updateStatus": "ok",
            "runtimeStatus": "not_applicable",
            "buildHistory": updates.iter().map(update).collect::<Vec<_>>(),
            "conditions": conditions,
            "specs": [{"id": name, "type": if name == "web" { "local" } else { "tiltfile" }}],
        }})
    };
    sandbox.tilt().change("uisession", |sessions| {
        sessions[0]["status"]["tiltStartTime"] = at(0);
    });
    let resources =
        [resource("(Tiltfile)", "tiltfile:(Tiltfile):", &[1]), resource("web", "build:", updates)];
    sandbox.tilt().change("uiresources", |list| *list = resources.to_vec());
    for kind in ["dockerimages", "cmdimages"] {
        sandbox.tilt().change(kind, Vec::clear);
    }
}

#[test]
fn the_state_keeps_the_time_to_healthy() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let started_at = SystemTime::now() - Duration::from_secs(5);
    show_recent_start(&sandbox, started_at, &[2]);
    sandbox.report_to(&server).finish().exits_with(0);
    show_recent_start(&sandbox, started_at, &[4, 2]);
    let unknown = sandbox.run("summary").finish().exits_with(0);
    assert!(unknown.stdout.contains("time to healthy: unknown"), "{}", unknown.stdout);
    let known = sandbox.run("summary").sending_to(&server).finish().exits_with(0);
    let line = known.stdout.lines().nth(1).expect("a line");
    let seconds = line.strip_prefix("time to healthy: ").and_then(|time| time.strip_suffix('s'));
    let seconds: f64 = seconds.expect(line).parse().expect(line);
    assert!(seconds >= 5.0, "{line}");
    assert_eq!(server.requests().len(), 1, "the summary sends nothing");
}

#[test]
fn the_state_is_found_by_the_settings_of_the_collector() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let started_at = SystemTime::now() - Duration::from_secs(5);
    show_recent_start(&sandbox, started_at, &[2]);
    sandbox.report_to(&server).finish().exits_with(0);
    show_recent_start(&sandbox, started_at, &[4, 2]);
    let arguments = json!(["sh", "run", "--dataset", DATASET, "--api-endpoint", server.url()]);
    sandbox.tilt().set("serve-args", json!({"web": arguments}).to_string());
    let summary = sandbox.run("summary").env("TILT_HONEYCOMB_RESOURCE", "web");
    let shown = summary.finish().exits_with(0).stdout;
    assert!(!shown.contains("time to healthy: unknown"), "{shown}");
}

/// The elements of a page, to check that it is well-formed: each is closed in its order.
fn assert_is_well_formed(page: &str) {
    let mut open = Vec::new();
    for tag in page.split('<').skip(1) {
        let (tag, _) = tag.split_once('>').unwrap_or_else(|| panic!("no end of <{tag}"));
        let name = tag.split([' ', '\n', '/']).find(|word| !word.is_empty()).expect("a name");
        if tag.starts_with('!') || ["meta"].contains(&name) || tag.ends_with('/') {
            continue;
        }
        if tag.starts_with('/') {
            assert_eq!(open.pop(), Some(name), "in {tag:?}");
        } else {
            open.push(name);
        }
        assert_eq!(tag.matches('"').count() % 2, 0, "quotes in {tag:?}");
    }
    assert_eq!(open, [""; 0]);
}

#[test]
fn the_page_is_complete_in_itself() {
    let sandbox = bring_up();
    sandbox.run("summary --html page.html").finish().exits_with(0);
    let page = fs::read_to_string(sandbox.path("work/page.html")).expect("a page");
    assert_is_well_formed(&page);
    for reference in ["http:", "https:", "src=", "href", "url(", "@import", "<script", "<link"] {
        assert!(!page.contains(reference), "{reference}");
    }
    for part in ["55.6s (last: seed)", "prefers-color-scheme:dark", "<svg", "image shop-api"] {
        assert!(page.contains(part), "{part}");
    }
}

#[test]
fn hostile_names_are_shown_as_text() {
    let sandbox = bring_up();
    let name = "\"><script>alert('1')</script>&amp;\u{1b}[31m\u{202e}";
    sandbox.tilt().change("uiresources", |resources| {
        for resource in resources.iter_mut().filter(|r| r["metadata"]["name"] == "api") {
            resource["metadata"]["name"] = json!(name);
        }
    });
    sandbox.tilt().change("dockerimages", |images| {
        for image in images {
            image["spec"]["ref"] = json!("</title></style><img/src=x>");
            image["metadata"]["annotations"]["tilt.dev/resource"] = json!(name);
        }
    });
    let outcome = sandbox.run("summary --html page.html --all").finish().exits_with(0);
    let page = fs::read_to_string(sandbox.path("work/page.html")).expect("a page");
    assert_is_well_formed(&page);
    for text in [&page, &outcome.stdout] {
        assert!(!text.contains('\u{1b}') && !text.contains('\u{202e}'), "{text}");
    }
    assert!(!page.contains("<script") && !page.contains("<img"), "{page}");
    let escaped = "&quot;&gt;&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;&amp;amp;[31m";
    assert!(page.contains(escaped), "{page}");
}

#[test]
fn a_thousand_resources_stay_a_short_text_and_a_small_page() {
    let sandbox = Sandbox::new();
    sandbox.tilt().add_resources(1000);
    let outcome = sandbox.run("summary --html page.html").finish().exits_with(0);
    assert!(outcome.stdout.lines().count() < 41, "{}", outcome.stdout);
    let page = fs::metadata(sandbox.path("work/page.html")).expect("a page");
    assert!(page.len() < 500_000, "{} bytes", page.len());
}
