//! The classes, exit codes and hashes of failures. The fake Tilt shows each case in the object in
//! which Tilt shows such a text, and the test reads the events of the built program.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::time::Instant;

use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};
use tilt_honeycomb::base::text::cut;
use tilt_honeycomb::events::failure::classes::TABLE;
use tilt_honeycomb::events::failure::{Failure, HASH_RULE, Place, Target, pod_status};
use tilt_honeycomb::events::stage_label::StageLabel;

use crate::support::{Sandbox, retry};

const STARTED: &str = "2026-11-22T15:30:00Z";
const FINISHED: &str = "2026-11-22T15:30:01Z";

fn cases(name: &str) -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases").join(name);
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{name}: {error}"));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn text<'a>(case: &'a Value, field: &str) -> &'a str {
    case[field].as_str().unwrap_or_else(|| panic!("no {field}: {case}"))
}

/// The object of Tilt that shows `error`, under a name of its own.
fn object(name: &str, case: &Value, error: &str) -> (&'static str, Value) {
    match text(case, "at") {
        "dockerimage" | "stage" => ("dockerimages", image(name, "DockerImage", case, error)),
        "cmdimage" => ("cmdimages", image(name, "CmdImage", case, error)),
        at => ("uiresources", resource(name, at, case, error)),
    }
}

fn image(name: &str, kind: &str, case: &Value, error: &str) -> Value {
    let mut completed = json!({"startedAt": STARTED, "finishedAt": FINISHED});
    let mut status = json!({});
    if text(case, "at") == "stage" {
        let stage = json!({"name": "[1/1] RUN x", "error": error, "startedAt": STARTED,
            "finishedAt": FINISHED});
        status["stageStatuses"] = json!([stage]);
    } else {
        completed["error"] = json!(error);
    }
    status["completed"] = completed;
    json!({
        "kind": kind,
        "metadata": {"name": format!("{name}:image"), "annotations": {"tilt.dev/resource": name}},
        "spec": {"ref": name},
        "status": status,
    })
}

fn resource(name: &str, at: &str, case: &Value, error: &str) -> Value {
    let span = match at {
        "tiltfile" => format!("tiltfile:{name}"),
        "live" => format!("liveupdate:{name}:image"),
        _ => "build:1".to_owned(),
    };
    let update =
        json!({"spanID": span, "startTime": STARTED, "finishTime": FINISHED, "error": error});
    json!({
        "kind": "UIResource",
        "metadata": {"name": name},
        "status": {"updateStatus": "error", "buildHistory": [update], "specs": case["specs"]},
    })
}

/// The events of the program about these texts, by the name that [`object`] was given.
fn reported(shown: &[(String, &Value, &str)]) -> BTreeMap<String, Value> {
    let sandbox = Sandbox::new();
    let mut objects = BTreeMap::<_, Vec<_>>::new();
    for (name, case, error) in shown {
        let (kind, object) = object(name, case, error);
        objects.entry(kind).or_default().push(object);
    }
    for kind in ["uiresources", "dockerimages", "cmdimages"] {
        let objects = objects.remove(kind).unwrap_or_default();
        sandbox.tilt().change(kind, |items| *items = objects);
    }
    let events = sandbox.run("--once --dry-run").finish().exits_with(0).events();
    let of_failures = events.into_iter().map(|event| event["data"].clone());
    of_failures
        .filter(|data| data["error"] == true)
        .filter_map(|data| {
            let names = ["resource", "name"].map(|field| data[field].as_str().map(str::to_owned));
            names.into_iter().flatten().next().map(|name| (name, data))
        })
        .collect()
}

/// The objects that the program reads. It is not shown sessions and clusters yet.
fn is_read(case: &Value) -> bool {
    !matches!(text(case, "at"), "session" | "cluster")
}

fn place(case: &Value) -> Place {
    match (text(case, "at"), case["specs"][0]["type"].as_str()) {
        ("dockerimage", _) => Place::DockerImage,
        ("cmdimage", _) => Place::CmdImage,
        ("stage", _) => Place::Stage,
        ("tiltfile", _) => Place::Tiltfile,
        ("session", _) => Place::Session,
        ("cluster", _) => Place::Cluster,
        ("live", _) => Place::Update(Target::LiveUpdate),
        (_, Some("k8s")) => Place::Update(Target::Kubernetes),
        (_, Some("docker-compose")) => Place::Update(Target::DockerCompose),
        (_, Some("local")) => Place::Update(Target::Local),
        _ => Place::Update(Target::Unknown),
    }
}

#[track_caller]
fn all_have_their_class(cases: &[Value]) {
    let read: Vec<_> = cases.iter().filter(|case| is_read(case)).collect();
    let shown: Vec<_> =
        read.iter().map(|case| (text(case, "id").to_owned(), *case, text(case, "text"))).collect();
    let reported = reported(&shown);
    let wrong: Vec<_> = read
        .iter()
        .filter_map(|case| {
            let data = reported.get(text(case, "id")).unwrap_or(&Value::Null);
            let failure = Failure::classify(text(case, "text"), place(case));
            let is_right = data["error.type"] == case["error.type"]
                && data["exit_code"] == case["exit_code"]
                && data["error.hash"] == failure.hash;
            (!is_right).then(|| format!("{} {}: {case}", data["error.type"], data["exit_code"]))
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn texts_from_public_threads_get_their_class() {
    all_have_their_class(&cases("failures.json"));
}

#[test]
fn wordings_of_all_tools_and_systems_get_their_class() {
    all_have_their_class(&cases("wordings.json"));
}

#[test]
fn texts_recorded_on_kubernetes_get_their_class() {
    let cases = cases("recorded-kubernetes.json");
    all_have_their_class(&cases);
    for case in cases.iter().filter(|case| !is_read(case)) {
        let failure = Failure::classify(text(case, "text"), place(case));
        let exit_code = case["exit_code"].as_i64();
        assert_eq!(
            (failure.class, failure.exit_code),
            (text(case, "error.type"), exit_code),
            "{case}"
        );
    }
}

#[test]
fn equal_failures_share_a_hash() {
    let cases = cases("same-failure.json");
    let names = |case: &Value| [0, 1].map(|index| format!("{}-{index}", text(case, "id")));
    let shown: Vec<_> = cases
        .iter()
        .flat_map(|case| {
            let texts = case["texts"].as_array().expect("texts");
            let texts = texts.iter().map(|text| text.as_str().expect("a text"));
            names(case).into_iter().zip(texts).map(move |(name, text)| (name, case, text))
        })
        .collect();
    let reported = reported(&shown);
    for case in &cases {
        let [one, other] = names(case).map(|name| reported[&name]["error.hash"].clone());
        assert_eq!(json!(one == other), case["same_hash"], "{case}");
        assert!(one.is_string(), "{case}");
    }
}

#[test]
fn an_instruction_never_shows_what_a_stage_does() {
    for name in cases("stage-names.json") {
        let label = StageLabel::of(name.as_str().expect("a name")).label;
        for secret in ["hunter2", "ghp_", "ann", "secret", "acme", "boom", "token"] {
            assert!(!label.to_lowercase().contains(secret), "{name}: {label}");
        }
    }
}

/// Words of the user that hold a phrase of some class, as bare words and as parts of a longer name.
fn own_words() -> impl Strategy<Value = String> {
    let phrases = TABLE.iter().flat_map(|class| class.causes).flat_map(|cause| cause.phrases);
    let phrases: Vec<_> = phrases
        .map(|phrase| {
            let phrase =
                phrase.replace("<quoted>", "x").replace("<name>", "y").replace("5xx", "503");
            phrase
                .replace("<docker>", "docker.sock")
                .replace(" :", ":")
                .trim_start_matches(": ")
                .to_owned()
        })
        .chain(
            ["exit code: 7", "exit status 9", "returned a non-zero code: 3", "killed"]
                .map(str::to_owned),
        )
        .collect();
    let before =
        select(vec!["", "echo ", "curl --max-time 5 http://x/", "case x in [a) ", "a [b] "]);
    let after = select(vec!["", " && exit 1", " | tee out.txt", "; [ -f a ]", " (b)", ": c"]);
    (before, select(phrases), after)
        .prop_map(|(before, phrase, after)| format!("{before}{phrase}{after}"))
}

const IMAGE: Place = Place::DockerImage;
const DEPLOY: Place = Place::Update(Target::Kubernetes);
const COMPOSE: Place = Place::Update(Target::DockerCompose);
const LIVE: Place = Place::Update(Target::LiveUpdate);
const LOCAL: Place = Place::Update(Target::Local);
const FAILED: &str = "command_failed";

/// Texts with placeholders where each tool puts the user's words, and their class and exit code.
/// `{own}` are the words as they are, `{go}` as Go quotes them, `{name}` as a part of a name.
#[rustfmt::skip]
const WITH_OWN_WORDS: &[(Place, &str, &str, Option<i64>)] = &[
    (LOCAL, "Command {go} failed: exit status 4", FAILED, Some(4)),
    (Place::CmdImage, "Custom build {go} failed: exit status 4", FAILED, Some(4)),
    (LIVE, "executing on container 12ab: command {go} failed with exit code: 4", FAILED, Some(4)),
    (LIVE, "Updating pod {name}-7bcc7d5c5d-hfwkg: copying changed files: command terminated with exit code 4", FAILED, Some(4)),
    (LIVE, "Updating container x: Error deleting files from container: rm: cannot remove '/app/{name}': Permission denied", "_OTHER", None),
    (Place::Tiltfile, "Error in local: command {go} failed.\nerror: exit status 4\nstdout: {go}\nstderr: {go}", "tiltfile", Some(4)),
    (Place::Tiltfile, "Error in fail: {own}", "tiltfile", None),
    (Place::Tiltfile, "Traceback (most recent call last):\n  /home/dev/{name}/Tiltfile:1:6: in <toplevel>\nError in read_file: open /home/dev/{name}: no such file or directory", "tiltfile", None),
    (COMPOSE, "command [\"docker-compose\" \"-f\" {go} \"up\" {go}] failed.\nerror: exit status 4\nstderr: {own}", FAILED, Some(4)),
    (COMPOSE, "Cannot start service {name}: OCI runtime create failed: starting container process caused \"exec: \\\"/{name}\\\": permission denied\": unknown", "permission_denied", None),
    (COMPOSE, "unable to get image '{name}': Cannot connect to the Docker daemon at unix:///{name}/docker.sock. Is the docker daemon running?", "docker_unavailable", None),
    (IMAGE, "ImageBuild: process {go} did not complete successfully: exit code: 4", FAILED, Some(4)),
    (IMAGE, "ImageBuild: process \"/bin/sh -c {own}\" did not complete successfully: exit code: 4", FAILED, Some(4)),
    (IMAGE, "ImageBuild: executor failed running [/bin/sh -c {own}]: exit code: 4", FAILED, Some(4)),
    (IMAGE, "ImageBuild: executor failed running [/bin/sh -c {own}]: runc did not terminate sucessfully", FAILED, None),
    (IMAGE, "ImageBuild: The command '/bin/sh -c {own}' returned a non-zero code: 4", FAILED, Some(4)),
    (IMAGE, "ImageBuild: The command [/bin/sh -c {own}] returned a non-zero code: 4", FAILED, Some(4)),
    (IMAGE, "ImageBuild: building at STEP \"RUN {own}\": while running runtime: exit status 4", FAILED, Some(4)),
    (IMAGE, "ImageBuild: error building at STEP \"RUN {own}\": error while running runtime: exit status 4", FAILED, Some(4)),
    (IMAGE, "error creating container for [/bin/sh -c {own}]: : exit status 4", FAILED, Some(4)),
    (IMAGE, "ImageBuild: failed to compute cache key: \"/{name}\": not found", "missing_file", None),
    (IMAGE, "ImageBuild: \"/{name}\" not found", "missing_file", None),
    (IMAGE, "ImageBuild: COPY failed: file not found in build context or excluded by .dockerignore: stat {name}.ts: file does not exist", "missing_file", None),
    (IMAGE, "ImageBuild: team/{name}:1: failed to resolve source metadata for docker.io/team/{name}:1: docker.io/team/{name}:1: not found", "image_not_found", None),
    (IMAGE, "ImageBuild: pull access denied for team/{name}, repository does not exist or may require authorization", "registry_denied", None),
    (IMAGE, "pushing image \"r.example/{name}\": denied: requested access to the resource is denied", "registry_denied", None),
    (IMAGE, "ImageBuild: x:1: failed to do request: Head \"https://{name}.example/v2/\": dial tcp: lookup {name}.example: no such host", "network", None),
    (DEPLOY, "apply command exited with status 4\nstdout:\n{own}\nstderr:\n{own}\n", FAILED, Some(4)),
    (DEPLOY, "deployments.apps {go} is forbidden: exceeded quota", "kubernetes", None),
    (DEPLOY, "admission webhook {go} denied the request: {own}", "kubernetes", None),
    (DEPLOY, "kubernetes apply: Get \"https://{name}.example/api\": dial tcp 192.0.2.1:6443: connect: connection refused", "network", None),
];

/// Each text of [`WITH_OWN_WORDS`] with these words.
fn with_own_words(own: &str) -> impl Iterator<Item = (Place, String, &'static str, Option<i64>)> {
    let go = format!("\"{}\"", own.replace('\\', "\\\\").replace('"', "\\\""));
    let name = own.replace(|c: char| !c.is_ascii_alphanumeric(), "-");
    WITH_OWN_WORDS.iter().map(move |(place, template, class, exit_code)| {
        let text = template.replace("{go}", &go).replace("{name}", &name).replace("{own}", own);
        (*place, text, *class, *exit_code)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_users_own_words_never_decide_the_class(own in own_words()) {
        for (place, text, class, exit_code) in with_own_words(&own) {
            let failure = Failure::classify(&text, place);
            prop_assert_eq!((failure.class, failure.exit_code), (class, exit_code), "{}", text);
        }
    }

    #[test]
    fn ids_paths_and_ports_do_not_change_the_hash(one in ids(), other in ids()) {
        for ((place, one), (_, other)) in with_ids(&one).into_iter().zip(with_ids(&other)) {
            let hash = |text| Failure::classify(text, place).hash;
            prop_assert_eq!(hash(&one), hash(&other), "{}\n{}", one, other);
        }
    }

    #[test]
    fn any_text_has_a_class_of_the_table(text in "\\PC*") {
        let failure = Failure::classify(&text, Place::DockerImage);
        prop_assert!(TABLE.iter().any(|class| class.name == failure.class));
    }
}

/// The parts of a text that differ although the failure is the same.
#[derive(Debug, Clone)]
struct Ids {
    /// One of BuildKit's references.
    reference: String,
    replica_set: String,
    pod: String,
    container: String,
    home: String,
    temporary: u32,
    port: u16,
    uuid: String,
}

fn ids() -> impl Strategy<Value = Ids> {
    let homes = vec![
        "/home/ann/src",
        "/Users/bob/w",
        "/home/user-3",
        "/root/x",
        "/Users/Ann Lee/Library/Application Support",
        "C:\\Users\\ann\\src",
        "C:\\Users\\Bob Ray\\Documents\\My work",
        "/tmp/checkout",
        "/mnt/c/Users/ann",
    ];
    let first = (
        "[a-z0-9]{25}",
        "[bcdfghjklmnpqrstvwxz2456789]{8,10}",
        "[bcdfghjklmnpqrstvwxz2456789]{5}",
        "[0-9a-f]{10,64}",
    );
    let second = (
        select(homes),
        any::<u32>(),
        any::<u16>(),
        "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
    );
    (first, second).prop_map(
        |((reference, replica_set, pod, container), (home, temporary, port, uuid))| Ids {
            reference,
            replica_set,
            pod,
            container,
            home: home.to_owned(),
            temporary,
            port,
            uuid,
        },
    )
}

/// Texts with placeholders for [`Ids`].
#[rustfmt::skip]
const WITH_IDS: &[(Place, &str)] = &[
    (IMAGE, "ImageBuild: failed to calculate checksum of ref {reference}::{reference}: \"/a.sh\": not found"),
    (LIVE, "Updating pod web-{replica_set}-{pod}: Exec command exited with status code: 2"),
    (Place::Session, "Pod \"job-{pod}\" failed"),
    (Place::Session, "Pod web-{replica_set}-{pod} in error state due to container main: ImagePullBackOff"),
    (LIVE, "executing on container {container}: command \"x\" failed with exit code: 5"),
    (LOCAL, "open {file}: no such file or directory"),
    (Place::Tiltfile, "Error in read_file: open \"{file}\": no such file"),
    (IMAGE, "ImageBuild: COPY failed: stat /var/lib/docker/tmp/docker-builder{number}/a.json: no such file or directory"),
    (COMPOSE, "endpoint shop_db_1 ({container}): Bind for 0.0.0.0:{port} failed: port is already allocated"),
    (DEPLOY, "kubernetes apply: Get \"https://127.0.0.1:{port}/api\": dial tcp 127.0.0.1:{port}: connect: connection refused, id {uuid}"),
];

/// Each text of [`WITH_IDS`] with these ids.
fn with_ids(ids: &Ids) -> Vec<(Place, String)> {
    let separator = if ids.home.contains('\\') { '\\' } else { '/' };
    let values = [
        ("{reference}", ids.reference.clone()),
        ("{replica_set}", ids.replica_set.clone()),
        ("{pod}", ids.pod.clone()),
        ("{container}", ids.container.clone()),
        ("{file}", format!("{}{separator}shop{separator}app.json", ids.home)),
        ("{number}", ids.temporary.to_string()),
        ("{port}", ids.port.to_string()),
        ("{uuid}", ids.uuid.clone()),
    ];
    let filled = |template: &str| {
        values.iter().fold(template.to_owned(), |text, (name, value)| text.replace(name, value))
    };
    WITH_IDS.iter().map(|(place, template)| (*place, filled(template))).collect()
}

#[test]
fn another_cause_has_another_hash() {
    let hash = |text: &str| Failure::classify(text, Place::DockerImage).hash;
    for (one, other) in [
        ("ImageBuild: \"/a.json\" not found", "ImageBuild: \"/b.json\" not found"),
        ("ImageBuild: \"/a/x.json\" not found", "ImageBuild: \"/b/x.json\" not found"),
        (
            "process \"make a\" did not complete: exit code: 1",
            "process \"make b\" did not complete: exit code: 1",
        ),
        (
            "process \"make\" did not complete: exit code: 1",
            "process \"make\" did not complete: exit code: 2",
        ),
        ("unexpected status: 500 x", "unexpected status: 503 x"),
        ("lookup a.example: no such host", "lookup b.example: no such host"),
        ("Updating pod web-https: x", "Updating pod web-mysql: x"),
    ] {
        assert_ne!(hash(one), hash(other), "{one}");
    }
}

/// Texts in which a search that is repeated would take a time that grows with the square.
const PARTS: &[&str] = &[
    "\"",
    "'a ",
    "\\\"",
    "\\",
    "[",
    "[\"a\" ",
    "`",
    "executor failed running [",
    "STEP \"",
    "caused \"",
    "The command '",
    "Command \"a\" ",
    "exit ",
    "open a ",
    "/home/",
    "C:\\Users\\",
    "service ",
    "timed out ",
    "stdout",
    "/tmp/a b/c ",
];

#[test]
fn the_time_grows_linearly_with_the_text() {
    let time = |part: &str, length: usize| {
        let text = part.repeat(length / part.len());
        let started = Instant::now();
        Failure::classify(&text, Place::Update(Target::Unknown));
        started.elapsed()
    };
    for part in PARTS {
        retry(&format!("{part:?} in linear time"), || {
            // Ten times the text: ten times as long, where the square would be a hundred times.
            (time(part, 200_000) < time(part, 20_000) * 40).then_some(())
        });
    }
}

/// The page for people, made from the table.
fn page() -> String {
    let mut page = String::from(
        "# Failure classes\n\n\
         <!-- Generated from src/events/failure/classes.rs. To update: UPDATE_DOCS=1 cargo test --test it failures -->\n\n\
         A failed update, image build or stage has an `error.type`, an `error.hash` and, if its text names one, \
         an `exit_code`. They are read from the words that Tilt, Docker, BuildKit and Kubernetes wrote. Commands, \
         program output and names of files and images are removed first. So a command with `--connect-timeout` \
         is not a `timeout`.\n\n\
         If several classes fit, the first in this list counts.\n\n\
         | `error.type` | the failure is of this class if | example |\n|---|---|---|\n",
    );
    for class in TABLE {
        let example = class.examples.first().map(|example| example.text);
        let example = example.or(class.pod_statuses.first().copied()).unwrap_or_default();
        let example = shortened(example).replace('|', "\\|");
        let _ = writeln!(page, "| `{}` | {} | `` {example} `` |", class.name, class.meaning);
    }
    page += "\n## Pods\n\nKubernetes has a status word for a pod in trouble, with or without the prefix `Init:`.\n\n\
        | `error.type` | status |\n|---|---|\n";
    for class in TABLE.iter().filter(|class| !class.pod_statuses.is_empty()) {
        let statuses: Vec<_> =
            class.pod_statuses.iter().map(|status| format!("`{status}`")).collect();
        let _ = writeln!(page, "| `{}` | {} |", class.name, statuses.join(", "));
    }
    page + "\n## Equal failures\n\n" + HASH_RULE + "\n"
}

/// One line, cut where a person has read enough.
fn shortened(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let kept = cut(&line, 160);
    if kept.len() < line.len() { format!("{kept}…") } else { line }
}

#[test]
fn the_page_of_failure_classes_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/failures.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::create_dir_all(path.parent().expect("docs")).expect("a folder");
        fs::write(&path, page()).expect("the page");
    }
    let found = fs::read_to_string(&path).unwrap_or_default();
    let advice = "docs/failures.md is stale: run `UPDATE_DOCS=1 cargo test --test it failures`";
    assert!(found == page(), "{advice}");
}

#[test]
fn every_pod_status_in_the_table_has_its_class() {
    for class in TABLE {
        for status in class.pod_statuses {
            assert_eq!(pod_status::class_of(status), Some(class.name), "{status}");
            assert_eq!(
                pod_status::class_of(&format!("Init:{status}")),
                Some(class.name),
                "{status}"
            );
        }
    }
}
