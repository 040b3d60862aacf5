//! `board`, against a fake of Honeycomb's API. The fake stores queries, annotations and boards, and
//! rejects any body that does not match the published API description.

use std::time::Duration;

use fakes::honeycomb::{Reply, Server};
use serde_json::{Value, json};
use tilt_honeycomb::events::fields::FIELDS;
use tilt_honeycomb::honeycomb::queries::QUERIES;

use crate::support::api::{
    Api, CLASSIC_KEY, CONFIGURATION_KEY, INGEST_KEY, auth_of, configuration_auth, problem,
};
use crate::support::schema;
use crate::support::{DATASET, Invocation, Outcome, Sandbox};

fn board(sandbox: &Sandbox, server: &Server) -> Invocation {
    sandbox.run("board").sending_to(server).env("HONEYCOMB_API_KEY", CONFIGURATION_KEY)
}

fn every_column() -> impl Iterator<Item = &'static str> {
    FIELDS.iter().map(|field| field.name)
}

/// A server whose dataset has every column, and whose key has every permission.
fn ready() -> (Sandbox, Server, Api) {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let api = Api::on(&server);
    api.set_key_details(&configuration_auth()).has_columns(every_column());
    (sandbox, server, api)
}

/// The names of the queries on a board, in order.
fn pinned(api: &Api, board: &Value) -> Vec<String> {
    let world = api.world();
    let name = |panel: &Value| {
        let id = &panel["query_panel"]["query_annotation_id"];
        let annotation = world.annotations.iter().find(|a| a["id"] == *id).expect("an annotation");
        assert_eq!(annotation["query_id"], panel["query_panel"]["query_id"]);
        annotation["name"].as_str().expect("a name").to_owned()
    };
    board["panels"].as_array().expect("panels").iter().map(name).collect()
}

fn names() -> Vec<&'static str> {
    QUERIES.iter().map(|query| query.name).collect()
}

/// Returns the only board.
#[track_caller]
fn the_board(api: &Api) -> Value {
    let boards = api.world().boards.clone();
    assert_eq!(boards.len(), 1, "one board: {boards:?}");
    boards[0].clone()
}

fn changes(api: &Api) -> Vec<String> {
    let world = api.world();
    world.changes.iter().map(|(method, path, _)| format!("{method} {path}")).collect()
}

const LINK: &str =
    "view in Honeycomb: https://ui.honeycomb.io/acme/environments/dev-machines/board/id";

#[test]
fn board_creates_the_board_with_every_query() {
    let (sandbox, server, api) = ready();
    let outcome = board(&sandbox, &server).finish().exits_with(0);
    assert_eq!(outcome.stderr, "");
    assert!(outcome.stdout.contains(LINK), "{}", outcome.stdout);
    let board = the_board(&api);
    assert_eq!(board["name"], "Dev environment health");
    assert_eq!(pinned(&api, &board), names());
    assert_eq!(api.world().queries.len(), QUERIES.len());
    for request in server.requests() {
        assert!(!request.path.starts_with("/1/batch"), "no event is sent");
        assert_eq!(request.header("x-honeycomb-team"), Some(CONFIGURATION_KEY));
    }
}

#[test]
fn a_second_run_finds_the_board_and_changes_nothing() {
    let (sandbox, server, api) = ready();
    board(&sandbox, &server).finish().exits_with(0);
    let made = changes(&api).len();
    let again = board(&sandbox, &server).finish().exits_with(0);
    assert!(again.stdout.contains(LINK), "{}", again.stdout);
    assert_eq!(again.stdout.matches("found").count(), QUERIES.len());
    assert_eq!(changes(&api).len(), made, "nothing was created");
}

#[test]
fn a_customized_board_is_completed_and_keeps_its_changes() {
    let (sandbox, server, api) = ready();
    board(&sandbox, &server).finish().exits_with(0);
    let text = json!({"type": "text", "text_panel": {"content": "How to read this"},
        "position": {"x_coordinate": 0, "y_coordinate": 90, "width": 12, "height": 2}});
    let moved = json!({"x_coordinate": 1, "y_coordinate": 50, "width": 11, "height": 9});
    {
        let mut world = api.world();
        let panels = world.boards[0]["panels"].as_array_mut().expect("panels");
        panels.remove(0);
        panels[0]["position"] = moved.clone();
        panels.push(text.clone());
        world.boards[0]["name"] = json!("Ours");
        // Looks as if an older version of the program had created it.
        let words = world.annotations[2]["description"].as_str().expect("words").to_owned();
        let older = format!("{}(tilt-honeycomb 00000000)", &words[..words.len() - 25]);
        world.annotations[2]["description"] = json!(older);
    }
    board(&sandbox, &server).finish().exits_with(0);
    let updated = the_board(&api);
    assert_eq!(updated["name"], "Ours");
    let panels = updated["panels"].as_array().expect("panels");
    assert_eq!(panels.len(), QUERIES.len() + 1);
    assert_eq!(panels[0]["position"], moved);
    assert!(panels.contains(&text), "{panels:?}");
    let last = panels.last().expect("a panel");
    assert_eq!(last["position"]["y_coordinate"], 92, "a removed panel is added at the end");
    let newer = changes(&api).split_off(2 * QUERIES.len() + 1);
    assert_eq!(newer.len(), 3, "one query, its annotation and the board: {newer:?}");
    assert!(newer[2].starts_with("PUT /1/boards/"), "{newer:?}");
}

#[test]
fn a_board_of_the_same_name_by_someone_else_is_not_changed() {
    let (sandbox, server, api) = ready();
    let theirs = json!({"id": "theirs", "type": "flexible", "name": "Dev environment health",
        "links": {"board_url": "https://ui.honeycomb.io/acme/board/theirs"}});
    api.world().boards.push(theirs.clone());
    let outcome = board(&sandbox, &server).finish().exits_with(0).says("not created by");
    assert!(outcome.stdout.ends_with("/board/theirs\n"), "{}", outcome.stdout);
    assert_eq!((the_board(&api), changes(&api).len()), (theirs, 0));
}

#[test]
fn the_board_is_found_among_hundreds_of_others() {
    let (sandbox, server, api) = ready();
    board(&sandbox, &server).finish().exits_with(0);
    {
        let mut world = api.world();
        let theirs: Vec<_> = (0..500)
            .map(|number| {
                let content = format!("{number} {}", "x".repeat(5000));
                json!({"id": format!("their{number}"), "type": "flexible", "name": "Theirs",
                    "panels": [{"type": "text", "text_panel": {"content": content}}]})
            })
            .collect();
        world.boards.splice(0..0, theirs);
        let others = (0..2000).map(|number| format!("{number}-{}", "x".repeat(200)));
        world.columns.as_mut().expect("columns").splice(0..0, others);
    }
    let made = changes(&api).len();
    board(&sandbox, &server).finish().exits_with(0);
    assert_eq!(changes(&api).len(), made, "the board was found");
}

#[test]
fn each_dataset_has_its_own_board() {
    let (sandbox, server, api) = ready();
    board(&sandbox, &server).finish().exits_with(0);
    board(&sandbox, &server).args(&["--dataset", "other"]).finish().exits_with(0);
    board(&sandbox, &server).args(&["--dataset", "other"]).finish().exits_with(0);
    let names: Vec<_> = api.world().boards.iter().map(|board| board["name"].clone()).collect();
    assert_eq!(names, ["Dev environment health", "Dev environment health: other"]);
}

#[test]
fn a_run_that_failed_at_any_request_is_completed_by_the_next() {
    for made_before in 0..=2 * QUERIES.len() {
        let (sandbox, server, api) = ready();
        api.world().fails = Some((made_before, Reply::new(503, "")));
        let failed = board(&sandbox, &server).finish().exits_with(4);
        failed.says("HTTP 503; run this again to continue").says_one_line();
        assert_eq!(changes(&api).len(), made_before);
        api.world().fails = None;
        board(&sandbox, &server).finish().exits_with(0);
        assert_eq!(pinned(&api, &the_board(&api)), names());
        // Only a query that had no annotation yet can be created twice.
        let queries = api.world().queries.len();
        assert_eq!(queries, QUERIES.len() + made_before % 2, "failed after {made_before}");
    }
}

#[test]
fn a_query_without_data_is_added_once_its_columns_exist() {
    let (sandbox, server, api) = ready();
    api.has_columns(
        every_column().filter(|name| !["cached", "image", "image_name"].contains(name)),
    );
    let outcome = board(&sandbox, &server).finish().exits_with(0);
    for line in [
        "skipped   Image builds: no event with image_name yet; run this again later",
        "skipped   Cache misses: no event with cached, image yet",
    ] {
        assert!(outcome.stdout.contains(line), "{}", outcome.stdout);
    }
    assert_eq!(pinned(&api, &the_board(&api)).len(), QUERIES.len() - 3);
    api.has_columns(every_column());
    board(&sandbox, &server).finish().exits_with(0);
    let mut all = pinned(&api, &the_board(&api));
    all.sort_unstable();
    let mut expected = names();
    expected.sort_unstable();
    assert_eq!(all, expected);
}

/// Asserts that the command printed one error line and changed nothing.
#[track_caller]
fn refused(outcome: Outcome, api: &Api, code: i32, says: &str) {
    let outcome = outcome.exits_with(code).says(says).says_one_line();
    assert_eq!(outcome.stdout, "");
    assert!(api.world().changes.is_empty());
}

#[test]
fn board_fails_while_the_dataset_has_no_data() {
    let (sandbox, server, api) = ready();
    let says = "the dataset dev-environments has no data for a board; start Tilt";
    api.world().columns = None;
    refused(board(&sandbox, &server).finish(), &api, 5, says);
    api.has_columns(["something", "else"]);
    refused(board(&sandbox, &server).finish(), &api, 5, says);
}

#[test]
fn an_unsuitable_key_is_refused_with_the_missing_permission() {
    let (sandbox, server, api) = ready();
    let with_key = |key: &str| board(&sandbox, &server).env("HONEYCOMB_API_KEY", key).finish();
    let needs = "an ingest key cannot create a board; create a configuration key";
    refused(with_key(INGEST_KEY), &api, 2, needs);
    assert_eq!(server.requests().len(), 0, "the key's format is enough");
    refused(with_key("hcamk_01j1824es7n4evcmv81cn392jb"), &api, 2, "a management key");

    api.set_key_details(&auth_of("ingest", &json!({"createDatasets": true})));
    refused(with_key("behind-a-refinery"), &api, 2, needs);
    for (missing, permission) in [
        ("boards", "Manage Public Boards"),
        ("queries", "Manage Queries and Columns"),
        ("columns", "Manage Queries and Columns"),
    ] {
        let mut auth = configuration_auth();
        auth["api_key_access"][missing] = json!(false);
        api.set_key_details(&auth);
        let says = format!("give it the permission {permission:?}");
        refused(with_key(CONFIGURATION_KEY), &api, 5, &says);
    }
    api.answers_auth(Reply::new(401, r#"{"error":"unknown API key - check your credentials"}"#));
    refused(with_key(CONFIGURATION_KEY), &api, 5, "is the key's region (HTTP 401: unknown API");
}

#[test]
fn without_key_details_the_requests_decide_about_permission() {
    let (sandbox, server, api) = ready();
    api.answers_auth(Reply::new(404, ""));
    board(&sandbox, &server).finish().exits_with(0);
    assert_eq!(pinned(&api, &the_board(&api)), names());
    let (sandbox, server, api) = ready();
    api.answers_auth(Reply::new(404, ""));
    // Honeycomb answers 401 also when the key lacks a permission.
    api.world().fails = Some((0, Reply::new(401, "")));
    board(&sandbox, &server).finish().exits_with(5).says("\"Manage Queries and Columns\"");
    let denied = "Your team has been denied access to Management APIs";
    api.world().fails = Some((0, Reply::new(403, json!({"error": denied}).to_string())));
    let says = format!("HTTP 403: {denied}");
    let outcome = board(&sandbox, &server).finish().exits_with(5);
    outcome.says("\"Manage Queries and Columns\"").says(&says).says_one_line();
}

#[test]
fn a_classic_key_creates_the_board_for_the_whole_team() {
    let (sandbox, server, api) = ready();
    let mut auth = configuration_auth();
    auth["environment"] = json!({"name": "", "slug": ""});
    api.set_key_details(&auth);
    let with_key = |key: &str| board(&sandbox, &server).env("HONEYCOMB_API_KEY", key).finish();
    with_key(CLASSIC_KEY).exits_with(0);
    assert_eq!(pinned(&api, &the_board(&api)), names());

    let classic_ingest = INGEST_KEY.replace("hcaik_", "hcaic_");
    with_key(&classic_ingest)
        .exits_with(2)
        .says("an ingest key of Honeycomb Classic cannot create");
}

#[test]
fn a_rejected_request_is_reported_with_honeycombs_message() {
    let (sandbox, server, api) = ready();
    for (reply, code, says) in [
        (problem(422, "too many boards"), 5, "(HTTP 422: too many boards)"),
        (Reply::new(400, r#"{"error":"invalid Query data"}"#), 5, "(HTTP 400: invalid Query data)"),
        (problem(429, "Please try again later"), 4, "HTTP 429: Please try again later"),
        (Reply::new(200, "<html>log in</html>"), 4, "a proxy or a login page answers instead"),
        (
            Reply::new(307, "").header("location", "https://x.example/y"),
            5,
            "redirects to https://x",
        ),
    ] {
        api.world().fails = Some((0, reply));
        let outcome = board(&sandbox, &server).finish().exits_with(code);
        outcome.says("Healthy environments: ").says(says).says_one_line();
    }
    let nowhere = board(&sandbox, &server).env("HONEYCOMB_API_ENDPOINT", "http://127.0.0.1:1");
    nowhere.finish().exits_with(4).says("no response from 127.0.0.1:1").says_one_line();
}

#[test]
fn board_waits_after_a_429_as_long_as_the_server_asks() {
    let (sandbox, server, api) = ready();
    let limited = || problem(429, "Please try again later");
    // The server limits the first request, and then some that create something.
    server.then([limited().header("retry-after", 1).into(), limited().into()]);
    board(&sandbox, &server).args(&["--timeout", "1m"]).finish().exits_with(0);
    let requests = server.requests();
    assert_eq!(requests[0].path, requests[2].path);
    let pause = requests[1].came - requests[0].came;
    assert!(pause > Duration::from_millis(900), "{pause:?}");
    assert_eq!(pinned(&api, &the_board(&api)), names());
}

#[test]
fn a_429_that_outlasts_the_timeout_of_board_is_reported() {
    let (sandbox, server, api) = ready();
    let body = json!({"error": "You have exceeded your rate limit.",
        "detail": "Please try again after 2026-12-01T15:23:12Z."});
    api.world().fails = Some((0, Reply::new(429, body.to_string()).header("retry-after", 30)));
    let outcome = board(&sandbox, &server).finish().exits_with(4);
    outcome.says("exceeded your rate limit. Please try again after 2026-12-01").says_one_line();
    assert_eq!(changes(&api).len(), 0);
}

#[test]
fn boards_of_datasets_with_similar_names_are_separate() {
    let (sandbox, server, api) = ready();
    for dataset in ["dev envs", "dev_envs", "dev.envs", "dev-envs"] {
        board(&sandbox, &server).env("HONEYCOMB_DATASET", dataset).finish().exits_with(0);
    }
    let boards = api.world().boards.clone();
    assert_eq!(boards.len(), 4, "{boards:?}");
    board(&sandbox, &server).env("HONEYCOMB_DATASET", "DEV_envs").finish().exits_with(0);
    assert_eq!(api.world().boards, boards, "the case of a name does not matter");
}

/// The requests that a dry run prints, one JSON object each.
fn dry_run(sandbox: &Sandbox, options: &str) -> Vec<Value> {
    let run = sandbox.run(&format!("board --dry-run {options}"));
    let outcome = run.env("HONEYCOMB_DATASET", DATASET).finish().exits_with(0);
    outcome.stdout.lines().map(|line| serde_json::from_str(line).expect("a request")).collect()
}

#[test]
fn a_dry_run_prints_the_requests_without_key_or_network() {
    let sandbox = Sandbox::new();
    let requests = dry_run(&sandbox, "");
    assert_eq!(requests.len(), 2 * QUERIES.len() + 1);
    for (request, query) in requests.iter().step_by(2).zip(QUERIES) {
        assert_eq!(request["path"], "/1/queries/dev-environments");
        assert_eq!(request["body"], query.specification());
    }
    let last = requests.last().expect("a board");
    assert_eq!((&last["method"], &last["path"]), (&json!("POST"), &json!("/1/boards")));
    assert_eq!(dry_run(&sandbox, "--dataset Dev!")[0]["path"], "/1/queries/dev-");
    sandbox.run("board --dry-run").finish().exits_with(2).says("set HONEYCOMB_DATASET");
    assert_eq!((sandbox.tilt().calls().len(), sandbox.state_files().len()), (0, 0));
}

#[test]
fn bodies_match_the_api_schema_and_use_only_known_columns() {
    for request in dry_run(&Sandbox::new(), "--dataset 1_odd~Name.") {
        let path = request["path"].as_str().expect("a path");
        let kind = match path.split('/').nth(2) {
            Some("queries") => "query",
            Some("query_annotations") => "query_annotation",
            _ => "board",
        };
        let body = &request["body"];
        assert_eq!(schema::violations(kind, body), [""; 0], "{body}");
        let named = ["filters", "calculations", "orders"].map(|part| body[part].as_array());
        let named = named.into_iter().flatten().flatten().map(|part| &part["column"]);
        let grouped = body["breakdowns"].as_array().into_iter().flatten();
        for column in named.chain(grouped).filter_map(Value::as_str) {
            assert!(every_column().any(|name| name == column), "{column} is never sent");
        }
    }
}

#[test]
fn board_never_prints_or_sends_the_key_outside_its_header() {
    let (sandbox, server, api) = ready();
    let body = json!({"error": format!("no board for {CONFIGURATION_KEY}")});
    api.world().fails = Some((3, Reply::new(422, body.to_string())));
    let outcome = board(&sandbox, &server).args(&["--verbose"]).finish().exits_with(5);
    let output = format!("{}{}{:?}", outcome.stdout, outcome.stderr, api.world().changes);
    assert!(!output.contains(CONFIGURATION_KEY), "{output}");
}
