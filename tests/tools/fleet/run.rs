//! Runs the fleet and prints what it cost and delivered.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use fakes::honeycomb::Server;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::delivered::Delivered;
use crate::member::{Member, Usage};

/// The number of intervals in which events are counted.
pub const INTERVALS: u32 = 10;
/// Tilt's name for the update during the run.
pub const REBUILD: &str = "build:90000";

pub struct Options {
    sidecars: u32,
    pub resources: usize,
    pub interval: Duration,
}

pub fn run(arguments: impl Iterator<Item = String>) -> ExitCode {
    let Some(options) = options(arguments) else {
        eprintln!("usage: fleet [--sidecars N] [--resources N] [--interval SECONDS]");
        return ExitCode::from(2);
    };
    let scratch = tempfile::tempdir().expect("a temporary folder");
    let server = Server::start();
    let began = Instant::now();
    let mut fleet: Vec<_> = (0..options.sidecars)
        .map(|number| {
            thread::sleep(Duration::from_millis(150));
            Member::start(number, scratch.path(), &server, &options)
        })
        .collect();
    wait_for_first_reports(&server, options.sidecars);
    let all_started = Instant::now();
    rebuild_one_by_one(&fleet, all_started, &options);
    // Half an interval more, so that the last report of the last sidecar has arrived.
    sleep_until(all_started + options.interval * INTERVALS + options.interval * 3 / 4);
    let usages: Vec<_> = fleet.iter().map(|member| Usage::of(member.process.id())).collect();
    let ran = began.elapsed();
    let slowest_stop = stop(&mut fleet);
    let flushed = fleet.iter().filter(|member| member.flush(&server)).count();

    println!("{} sidecars with {} resources each", options.sidecars, options.resources);
    println!("interval                     {:?}", options.interval);
    println!("time from first to last      {ran:.0?}");
    println!("slowest stop                 {slowest_stop:.2?}");
    println!("sidecars with a queue left   {flushed}");
    print_usages(&usages);
    let is_complete = report(&server, &fleet, &options);
    if is_complete { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn options(mut arguments: impl Iterator<Item = String>) -> Option<Options> {
    let mut options = Options { sidecars: 80, resources: 30, interval: Duration::from_mins(1) };
    while let Some(argument) = arguments.next() {
        let value = arguments.next()?;
        match argument.as_str() {
            "--sidecars" => options.sidecars = value.parse().ok().filter(|count| *count > 0)?,
            "--resources" => options.resources = value.parse().ok().filter(|count| *count > 0)?,
            "--interval" => options.interval = Duration::from_secs(value.parse().ok()?),
            _ => return None,
        }
    }
    Some(options)
}

fn sleep_until(deadline: Instant) {
    thread::sleep(deadline.saturating_duration_since(Instant::now()));
}

fn wait_for_first_reports(server: &Server, sidecars: u32) {
    let deadline = Instant::now() + Duration::from_mins(2);
    loop {
        let accepted = server.accepted();
        let reported: BTreeSet<_> =
            accepted.iter().map(|event| event["data"]["member"].to_string()).collect();
        if reported.len() == sidecars as usize {
            return;
        }
        assert!(Instant::now() < deadline, "only {} sidecars report", reported.len());
        thread::sleep(Duration::from_millis(500));
    }
}

/// Rebuilds one resource of each environment, spread over the middle of the run.
fn rebuild_one_by_one(fleet: &[Member], began: Instant, options: &Options) {
    let pause = options.interval * (INTERVALS - 4) / options.sidecars;
    let duration = pause / 2;
    for member in fleet {
        sleep_until(began + options.interval * 2 + pause * member.number);
        let started = now();
        let shown = fs::read(member.tilt.join("uiresources.json")).expect("a file");
        let shown: Value = serde_json::from_slice(&shown).expect("JSON");
        let mut items = shown["items"].as_array().expect("a list").iter();
        let resource = items.find(|item| item["metadata"]["name"] == "resource-0");
        let mut resource = resource.expect("a resource").clone();
        resource["status"]["updateStatus"] = json!("in_progress");
        resource["status"]["currentBuild"] = json!({"spanID": REBUILD, "startTime": started});
        member.show("uiresources", &resource);

        thread::sleep(duration);
        let finished = now();
        member.show(
            "dockerimages",
            &json!({
                "kind": "DockerImage",
                "metadata": {
                    "name": "resource-0:image-0",
                    "annotations": {"tilt.dev/resource": "resource-0"},
                },
                "spec": {"ref": "image-0"},
                "status": {"completed": {"startedAt": started, "finishedAt": finished}},
            }),
        );
        resource["status"]["updateStatus"] = json!("ok");
        resource["status"]["currentBuild"] = Value::Null;
        let last = resource["status"]["buildHistory"][0].clone();
        let update = json!({"spanID": REBUILD, "startTime": started, "finishTime": now()});
        resource["status"]["buildHistory"] = json!([update, last]);
        member.show("uiresources", &resource);
    }
}

fn now() -> String {
    humantime::format_rfc3339_micros(SystemTime::now()).to_string()
}

/// Sends SIGTERM to all sidecars at once. Returns the longest time until one had exited.
fn stop(fleet: &mut [Member]) -> Duration {
    let began = Instant::now();
    for member in &*fleet {
        kill_process(Pid::from_child(&member.process), Signal::TERM).expect("our process");
    }
    for member in fleet {
        let status = member.process.wait().expect("our child");
        assert!(status.success(), "sidecar {} failed: {status}", member.number);
    }
    began.elapsed()
}

fn print_usages(usages: &[Usage]) {
    let print = |what: &str, unit: &str, mut values: Vec<u128>| {
        values.sort_unstable();
        let (least, median) = (values[0], values[values.len() / 2]);
        let most = values[values.len() - 1];
        println!("{what:<28} {least} to {most} {unit}, median {median}");
    };
    print("CPU of a sidecar", "ms", usages.iter().map(|usage| usage.cpu.as_millis()).collect());
    print("resident memory", "KiB", usages.iter().map(|u| u128::from(u.resident_kib)).collect());
    print("peak of memory", "KiB", usages.iter().map(|u| u128::from(u.peak_kib)).collect());
}

/// Prints what arrived. Returns false if something is missing or was repeated.
fn report(server: &Server, fleet: &[Member], options: &Options) -> bool {
    let requests = server.requests().len();
    let mut by_member = BTreeMap::<u32, Delivered>::new();
    for event in server.accepted() {
        let member = event["data"]["member"].as_str().expect("a member");
        let member = by_member.entry(member.parse().expect("a number")).or_default();
        member.add(&event);
    }
    let mut problems = Vec::new();
    let (mut sessions, mut statuses, mut builds) = (0, 0, 0);
    for (number, delivered) in &mut by_member {
        problems.extend(delivered.problems(options).map(|problem| format!("{number}: {problem}")));
        let first = *delivered.sessions.iter().min().expect("a report");
        let from = first + options.interval / 2;
        let window = from..from + options.interval * INTERVALS;
        let count =
            |times: &[SystemTime]| times.iter().filter(|time| window.contains(time)).count();
        sessions += count(&delivered.sessions);
        statuses += count(&delivered.statuses);
        builds += count(&delivered.builds);
    }
    let intervals = f64::from(options.sidecars * INTERVALS);
    let per_interval =
        |count: usize| f64::from(u32::try_from(count).unwrap_or(u32::MAX)) / intervals;
    println!("requests                     {requests}");
    println!("events in {INTERVALS} intervals       {}", sessions + statuses + builds);
    println!("per sidecar and interval     {:.2}", per_interval(sessions + statuses + builds));
    println!("  session                    {:.2}", per_interval(sessions));
    println!("  uiresource                 {:.2}", per_interval(statuses));
    println!("  builds                     {:.2}", per_interval(builds));
    let reports: u64 = by_member.values().flat_map(|member| member.reports.values()).sum();
    println!("reports of resources         {reports}");
    println!("rebuilds                     {}", by_member.len());
    problems.extend(fleet.iter().flat_map(Member::warnings));
    println!("lost or repeated             {}", problems.len());
    problems.iter().take(20).for_each(|problem| println!("  {problem}"));
    problems.is_empty()
}
