//! What the program says about failures: every case is shown by the fake Tilt in the object in
//! which Tilt shows such a text, and looked up in the events of the built program.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Instant;

use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};
use tilt_honeycomb::events::failure::classes::TABLE;
use tilt_honeycomb::events::failure::{Failure, HASH_RULE, Place, Target, cut, pod_status};
use tilt_honeycomb::events::stage_label::StageLabel;

use crate::sandbox::{Sandbox, in_some_tries};

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

fn go_quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// Texts with the user's words where each tool puts them, and the class and exit code they have.
fn with_own_words(own: &str) -> Vec<(Place, String, &'static str, Option<i64>)> {
    let quoted = go_quoted(own);
    let name = own.replace(|c: char| !c.is_ascii_alphanumeric(), "-");
    let (failed, local) = ("command_failed", Place::Update(Target::Local));
    let (image, compose) = (Place::DockerImage, Place::Update(Target::DockerCompose));
    let (deploy, live) = (Place::Update(Target::Kubernetes), Place::Update(Target::LiveUpdate));
    vec![
        (local, format!("Command {quoted} failed: exit status 4"), failed, Some(4)),
        (Place::CmdImage, format!("Custom build {quoted} failed: exit status 4"), failed, Some(4)),
        (
            live,
            format!("executing on container 12ab: command {quoted} failed with exit code: 4"),
            failed,
            Some(4),
        ),
        (
            Place::Tiltfile,
            format!(
                "Error in local: command {quoted} failed.\nerror: exit status 4\nstdout: {quoted}\nstderr: {quoted}"
            ),
            "tiltfile",
            Some(4),
        ),
        (Place::Tiltfile, format!("Error in fail: {own}"), "tiltfile", None),
        (
            compose,
            format!(
                "command [\"docker-compose\" \"-f\" {quoted} \"up\" {quoted}] failed.\nerror: exit status 4\nstderr: {own}"
            ),
            failed,
            Some(4),
        ),
        (
            image,
            format!(
                "ImageBuild: process {} did not complete successfully: exit code: 4",
                go_quoted(&format!("/bin/sh -c {own}"))
            ),
            failed,
            Some(4),
        ),
        (
            image,
            format!(
                "ImageBuild: process \"/bin/sh -c {own}\" did not complete successfully: exit code: 4"
            ),
            failed,
            Some(4),
        ),
        (
            image,
            format!("ImageBuild: executor failed running [/bin/sh -c {own}]: exit code: 4"),
            failed,
            Some(4),
        ),
        (
            image,
            format!(
                "ImageBuild: executor failed running [/bin/sh -c {own}]: runc did not terminate sucessfully"
            ),
            failed,
            None,
        ),
        (
            image,
            format!("ImageBuild: The command '/bin/sh -c {own}' returned a non-zero code: 4"),
            failed,
            Some(4),
        ),
        (
            image,
            format!("ImageBuild: The command [/bin/sh -c {own}] returned a non-zero code: 4"),
            failed,
            Some(4),
        ),
        (
            image,
            format!("error creating container for [/bin/sh -c {own}]: : exit status 4"),
            failed,
            Some(4),
        ),
        (
            compose,
            format!(
                "unable to get image '{name}': Cannot connect to the Docker daemon at unix:///{name}/docker.sock. Is the docker daemon running?"
            ),
            "docker_unavailable",
            None,
        ),
        (
            Place::Tiltfile,
            format!(
                "Traceback (most recent call last):\n  /home/dev/{name}/Tiltfile:1:6: in <toplevel>\nError in read_file: open /home/dev/{name}: no such file or directory"
            ),
            "tiltfile",
            None,
        ),
        (
            image,
            format!(
                "ImageBuild: building at STEP \"RUN {own}\": while running runtime: exit status 4"
            ),
            failed,
            Some(4),
        ),
        (
            image,
            format!(
                "ImageBuild: error building at STEP \"RUN {own}\": error while running runtime: exit status 4"
            ),
            failed,
            Some(4),
        ),
        (
            image,
            format!("ImageBuild: failed to compute cache key: \"/{name}\": not found"),
            "missing_file",
            None,
        ),
        (image, format!("ImageBuild: \"/{name}\" not found"), "missing_file", None),
        (
            image,
            format!(
                "ImageBuild: COPY failed: file not found in build context or excluded by .dockerignore: stat {name}.ts: file does not exist"
            ),
            "missing_file",
            None,
        ),
        (
            image,
            format!(
                "ImageBuild: team/{name}:1: failed to resolve source metadata for docker.io/team/{name}:1: docker.io/team/{name}:1: not found"
            ),
            "image_not_found",
            None,
        ),
        (
            image,
            format!(
                "ImageBuild: pull access denied for team/{name}, repository does not exist or may require authorization"
            ),
            "registry_denied",
            None,
        ),
        (
            image,
            format!(
                "pushing image {}: denied: requested access to the resource is denied",
                go_quoted(&format!("r.example/{name}"))
            ),
            "registry_denied",
            None,
        ),
        (
            image,
            format!(
                "ImageBuild: x:1: failed to do request: Head {}: dial tcp: lookup {name}.example: no such host",
                go_quoted(&format!("https://{name}.example/v2/"))
            ),
            "network",
            None,
        ),
        (
            deploy,
            format!("apply command exited with status 4\nstdout:\n{own}\nstderr:\n{own}\n"),
            failed,
            Some(4),
        ),
        (
            deploy,
            format!("deployments.apps {quoted} is forbidden: exceeded quota"),
            "kubernetes",
            None,
        ),
        (
            deploy,
            format!("admission webhook {quoted} denied the request: {own}"),
            "kubernetes",
            None,
        ),
        (
            deploy,
            format!(
                "kubernetes apply: Get {}: dial tcp 192.0.2.1:6443: connect: connection refused",
                go_quoted(&format!("https://{name}.example/api"))
            ),
            "network",
            None,
        ),
        (
            live,
            format!(
                "Updating pod {name}-7bcc7d5c5d-hfwkg: copying changed files: command terminated with exit code 4"
            ),
            failed,
            Some(4),
        ),
        (
            live,
            format!(
                "Updating container x: Error deleting files from container: rm: cannot remove '/app/{name}': Permission denied"
            ),
            "_OTHER",
            None,
        ),
        (
            compose,
            format!(
                "Cannot start service {name}: OCI runtime create failed: starting container process caused {}: unknown",
                go_quoted(&format!("exec: {}: permission denied", go_quoted(&format!("/{name}"))))
            ),
            "permission_denied",
            None,
        ),
    ]
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
        let hashes = |ids: &Ids| texts_with(ids).map(|(place, text)| Failure::classify(&text, place).hash);
        for (index, (one_hash, other_hash)) in hashes(&one).into_iter().zip(hashes(&other)).enumerate() {
            let texts = (&texts_with(&one)[index].1, &texts_with(&other)[index].1);
            prop_assert_eq!(one_hash, other_hash, "{:?}", texts);
        }
    }

    #[test]
    fn any_text_has_a_class_of_the_table(text in "\\PC*") {
        let failure = Failure::classify(&text, Place::DockerImage);
        prop_assert!(TABLE.iter().any(|class| class.name == failure.class));
    }
}

/// What differs between two meetings of the same failure.
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

fn texts_with(ids: &Ids) -> [(Place, String); 10] {
    let Ids { reference, replica_set, pod, container, home, temporary, port, uuid } = ids;
    let (image, live) = (Place::DockerImage, Place::Update(Target::LiveUpdate));
    let (compose, deploy) =
        (Place::Update(Target::DockerCompose), Place::Update(Target::Kubernetes));
    let separator = if home.contains('\\') { '\\' } else { '/' };
    let file = format!("{home}{separator}shop{separator}app.json");
    [
        (
            image,
            format!(
                "ImageBuild: failed to calculate checksum of ref {reference}::{reference}: \"/a.sh\": not found"
            ),
        ),
        (
            live,
            format!(
                "Updating pod web-{replica_set}-{pod}: Exec command exited with status code: 2"
            ),
        ),
        (Place::Session, format!("Pod \"job-{pod}\" failed")),
        (
            Place::Session,
            format!(
                "Pod web-{replica_set}-{pod} in error state due to container main: ImagePullBackOff"
            ),
        ),
        (
            live,
            format!("executing on container {container}: command \"x\" failed with exit code: 5"),
        ),
        (Place::Update(Target::Local), format!("open {file}: no such file or directory")),
        (Place::Tiltfile, format!("Error in read_file: open \"{file}\": no such file")),
        (
            image,
            format!(
                "ImageBuild: COPY failed: stat /var/lib/docker/tmp/docker-builder{temporary}/a.json: no such file or directory"
            ),
        ),
        (
            compose,
            format!(
                "endpoint shop_db_1 ({container}): Bind for 0.0.0.0:{port} failed: port is already allocated"
            ),
        ),
        (
            deploy,
            format!(
                "kubernetes apply: Get \"https://127.0.0.1:{port}/api\": dial tcp 127.0.0.1:{port}: connect: connection refused, id {uuid}"
            ),
        ),
    ]
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
        in_some_tries(&format!("{part:?} in linear time"), || {
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
        page += &format!("| `{}` | {} | `` {example} `` |\n", class.name, class.meaning);
    }
    page += "\n## Pods\n\nKubernetes has a status word for a pod in trouble, with or without the prefix `Init:`.\n\n\
        | `error.type` | status |\n|---|---|\n";
    for class in TABLE.iter().filter(|class| !class.pod_statuses.is_empty()) {
        let statuses: Vec<_> =
            class.pod_statuses.iter().map(|status| format!("`{status}`")).collect();
        page += &format!("| `{}` | {} |\n", class.name, statuses.join(", "));
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
