//! `board`: creates the board in Honeycomb, or updates the existing one. Stops at the first error and
//! keeps what it has created. The next run finds that and completes the board.

use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::base::backoff;
use crate::base::shutdown::Shutdown;
use crate::base::text::one_line;
use crate::base::time;
use crate::commands::print_line;
use crate::commands::stop;
use crate::config::BoardConfig;
use crate::exit_code::Exit;
use crate::honeycomb::api_key::Shape;
use crate::honeycomb::auth::{self, Auth};
use crate::honeycomb::board::{self, Annotation, ExistingBoard, PinnedQuery};
use crate::honeycomb::client::{Api, NoResponse};
use crate::honeycomb::endpoint::Destination;
use crate::honeycomb::problem::TEXT_LIMIT;
use crate::honeycomb::queries::{QUERIES, Query};
use crate::honeycomb::response::{self, Response, http};
use crate::honeycomb::status::StatusClass;
use crate::honeycomb::urls;

const CREATE_KEY: &str = "create a configuration key in the environment's settings, with the \
                          permissions \"Manage Queries and Columns\" and \"Manage Public Boards\"";

/// Why the board is missing or incomplete. The message is one line that says what to do.
#[derive(Debug, PartialEq)]
struct BoardError {
    exit: Exit,
    message: String,
}

type BoardResult<T> = Result<T, BoardError>;

fn fail<T>(exit: Exit, message: impl Into<String>) -> BoardResult<T> {
    Err(BoardError { exit, message: message.into() })
}

/// Creates or updates the board. With `--dry-run`, prints the requests that would create it. `stuck`
/// is the exit code of a run that a signal cannot end.
pub fn run(config: &BoardConfig, stuck: Exit) -> Exit {
    let Some(destination) = &config.destination else {
        stop::on_signals(|| (), Exit::Done);
        for request in board::requests(&config.dataset) {
            print_line(&request.to_string());
        }
        return Exit::Done;
    };
    let builder = BoardBuilder {
        api: Api::new(&destination.endpoint, Some(destination.key.clone())),
        timeout: config.timeout,
        slug: urls::slug(&config.dataset),
    };
    let shutdown = stop::on_signals(builder.api.interrupter(), stuck);
    match builder.build(destination) {
        Ok(()) => Exit::Done,
        Err(_) if shutdown.requested() => {
            log::error!("stopped by a signal; run this again to complete the board");
            Exit::NotDelivered
        }
        Err(BoardError { exit, message }) => {
            log::error!("{message}");
            exit
        }
    }
}

struct BoardBuilder {
    api: Api,
    /// The longest time for one request.
    timeout: Duration,
    /// The dataset's name in URLs.
    slug: String,
}

impl BoardBuilder {
    fn build(&self, destination: &Destination) -> BoardResult<()> {
        check_format(Shape::of(&destination.key))?;
        self.check_permissions()?;
        let columns = self.columns(&destination.dataset)?;
        let annotations = self.annotations()?;
        let boards = self.boards()?;
        let existing = match board::find_board(&boards, &destination.dataset) {
            ExistingBoard::Ours(board) => Some(board),
            ExistingBoard::None => None,
            ExistingBoard::Foreign(board) => {
                log::warn!(
                    "a board named {:?} exists that was not created by {}, and is not changed; \
                     rename it and run this again",
                    board::NAME,
                    board::MAKER
                );
                print_link(board);
                return Ok(());
            }
        };
        let pins = self.pinned_queries(&columns, &annotations)?;
        let board = if let Some(existing) = existing {
            self.update(existing, &pins, &annotations)
        } else {
            let name = board::free_name(&boards, &destination.dataset);
            self.post(
                board::BOARDS_PATH,
                &board::new_board(&name, &destination.dataset, &pins),
                BOARDS,
            )
        };
        print_link(&board.map_err(resumable("the board"))?);
        Ok(())
    }

    /// Fails if Honeycomb says that the key may not create the board. A gateway in between may not
    /// support the request; then the later requests fail if a permission is missing.
    fn check_permissions(&self) -> BoardResult<()> {
        let response = self.respond(|limit| self.api.get(auth::PATH, limit))?;
        if response.status == 401 {
            return fail(
                Exit::Rejected,
                format!("{} ({})", response::UNKNOWN_KEY, http(&response)),
            );
        }
        let auth = (response.status == 200).then(|| Auth::read(&response.body)).flatten();
        match auth {
            Some(auth) if auth.is_ingest() => check_format(Shape::Ingest),
            Some(auth) if !auth.may_manage_queries() => {
                fail(Exit::Rejected, missing_permission(QUERIES_AND_COLUMNS))
            }
            Some(auth) if !auth.may_manage_boards() => {
                fail(Exit::Rejected, missing_permission(BOARDS))
            }
            _ => Ok(()),
        }
    }

    /// The dataset's columns. Fails if no query has all of its columns.
    fn columns(&self, dataset: &str) -> BoardResult<Vec<String>> {
        #[derive(Deserialize)]
        struct Column {
            key_name: String,
        }
        let path = format!("/1/columns/{}", self.slug);
        let response = self.respond(|limit| self.api.get(&path, limit))?;
        if response.status == 404 {
            return fail(Exit::Rejected, no_data(dataset));
        }
        let columns: Vec<Column> = decode(success_body(&response, QUERIES_AND_COLUMNS)?)?;
        let columns: Vec<_> = columns.into_iter().map(|column| column.key_name).collect();
        if QUERIES.iter().all(|query| !board::missing(query, &columns).is_empty()) {
            return fail(Exit::Rejected, no_data(dataset));
        }
        Ok(columns)
    }

    fn annotations(&self) -> BoardResult<Vec<Annotation>> {
        let path = board::annotations_path(&self.slug) + "?include_board_annotations=true";
        decode(self.get(&path, QUERIES_AND_COLUMNS)?)
    }

    fn boards(&self) -> BoardResult<Vec<Value>> {
        decode(self.get(board::BOARDS_PATH, BOARDS)?)
    }

    /// Finds or creates every query whose columns exist.
    fn pinned_queries(
        &self,
        columns: &[String],
        annotations: &[Annotation],
    ) -> BoardResult<Vec<PinnedQuery<'static>>> {
        let mut pins = Vec::new();
        for query in QUERIES {
            let missing = board::missing(query, columns);
            if !missing.is_empty() {
                let (name, missing) = (query.name, missing.join(", "));
                print_line(&format!(
                    "skipped   {name}: no event with {missing} yet; run this again later"
                ));
                continue;
            }
            let existing = annotations.iter().find(|annotation| annotation.is_of(query));
            let action = if existing.is_some() { "found" } else { "created" };
            let pin = match existing {
                Some(existing) => PinnedQuery {
                    query,
                    query_id: existing.query_id.clone(),
                    annotation_id: existing.id.clone(),
                },
                None => self.create_query(query).map_err(resumable(query.name))?,
            };
            print_line(&format!("{action:8}  {}", query.name));
            pins.push(pin);
        }
        Ok(pins)
    }

    fn create_query(&self, query: &'static Query) -> BoardResult<PinnedQuery<'static>> {
        let path = board::queries_path(&self.slug);
        let query_id = id(&self.post(&path, &query.specification(), QUERIES_AND_COLUMNS)?)?;
        let path = board::annotations_path(&self.slug);
        let created =
            self.post(&path, &board::annotation(query, &query_id), QUERIES_AND_COLUMNS)?;
        Ok(PinnedQuery { query, query_id, annotation_id: id(&created)? })
    }

    fn update(
        &self,
        existing: &Value,
        pins: &[PinnedQuery],
        annotations: &[Annotation],
    ) -> BoardResult<Value> {
        let Some(body) = board::updated_board(existing, pins, annotations) else {
            return Ok(existing.clone());
        };
        let path = format!("{}/{}", board::BOARDS_PATH, id(existing)?);
        success_body(&self.respond(|limit| self.api.put(&path, &body, limit))?, BOARDS)
    }

    fn get(&self, path: &str, permission: Permission) -> BoardResult<Value> {
        success_body(&self.respond(|limit| self.api.get(path, limit))?, permission)
    }

    fn post(&self, path: &str, body: &Value, permission: Permission) -> BoardResult<Value> {
        success_body(&self.respond(|limit| self.api.post(path, body, limit))?, permission)
    }

    /// Sends a request. After a 429 it waits as long as the server asks and sends it again, while the
    /// time for one request lasts.
    fn respond(
        &self,
        send: impl Fn(Duration) -> Result<Response, NoResponse>,
    ) -> BoardResult<Response> {
        let deadline = time::now() + self.timeout;
        let mut attempt = 0;
        loop {
            let left = deadline.saturating_duration_since(time::now());
            let response = send(left).map_err(no_response)?;
            attempt += 1;
            let asked = response::retry_after(&response, time::wall());
            let retry_at = time::now() + backoff::pause(attempt, asked, backoff::jitter());
            if response.status != 429 || retry_at >= deadline {
                return Ok(response);
            }
            log::debug!("{}; retrying", http(&response));
            // A signal ends this command at once.
            Shutdown::default().wait_until(retry_at);
        }
    }
}

/// A permission of a key.
#[derive(Debug, Clone, Copy)]
struct Permission {
    /// The action that it allows.
    action: &'static str,
    /// Its name in Honeycomb's UI.
    name: &'static str,
}

const QUERIES_AND_COLUMNS: Permission =
    Permission { action: "manage queries", name: "Manage Queries and Columns" };
const BOARDS: Permission = Permission { action: "manage boards", name: "Manage Public Boards" };

fn missing_permission(permission: Permission) -> String {
    let Permission { action, name } = permission;
    format!("the API key may not {action}; give it the permission {name:?}, or {CREATE_KEY}")
}

/// Fails if a key of this format cannot create boards.
fn check_format(shape: Shape) -> BoardResult<()> {
    let kind = shape.as_str();
    if shape.only_sends() {
        return fail(Exit::Usage, format!("{kind} cannot create a board; {CREATE_KEY}"));
    }
    match shape.advice() {
        Some(advice) => fail(Exit::Usage, format!("the API key is {kind}: {advice}")),
        None => Ok(()),
    }
}

fn no_data(dataset: &str) -> String {
    format!(
        "the dataset {dataset} has no data for a board; start Tilt, run tilt-honeycomb --once, then \
         run this again"
    )
}

fn print_link(board: &Value) {
    match board["links"]["board_url"].as_str() {
        Some(url) => {
            let url = one_line(url, TEXT_LIMIT);
            print_line(&format!("view in Honeycomb: {url}"));
        }
        None => print_line("the board exists; Honeycomb returned no link to it"),
    }
}

fn no_response(NoResponse(why): NoResponse) -> BoardError {
    BoardError { exit: Exit::NotDelivered, message: why }
}

/// Adds to an error what could not be created, and that a second run is safe.
fn resumable(what: &str) -> impl FnOnce(BoardError) -> BoardError {
    move |BoardError { exit, message }| {
        let message = format!("{what}: {message}; run this again to continue");
        BoardError { exit, message }
    }
}

/// The body of a successful response. The key is known to be valid, so that a 401 means a missing
/// permission here.
fn success_body(response: &Response, permission: Permission) -> BoardResult<Value> {
    let http = http(response);
    match StatusClass::of(response.status) {
        StatusClass::Success => {
            serde_json::from_slice(&response.body).or_else(|_| unexpected_response())
        }
        StatusClass::Redirect => fail(Exit::Rejected, response::redirected(response)),
        StatusClass::UnknownKey | StatusClass::Forbidden => {
            fail(Exit::Rejected, format!("{} ({http})", missing_permission(permission)))
        }
        StatusClass::Temporary => fail(Exit::NotDelivered, http),
        _ => fail(Exit::Rejected, format!("Honeycomb rejected the request ({http})")),
    }
}

fn decode<T: DeserializeOwned>(value: Value) -> BoardResult<T> {
    serde_json::from_value(value).or_else(|_| unexpected_response())
}

/// The id of something that Honeycomb has created.
fn id(created: &Value) -> BoardResult<String> {
    created["id"].as_str().map_or_else(unexpected_response, |id| Ok(id.to_owned()))
}

fn unexpected_response<T>() -> BoardResult<T> {
    fail(
        Exit::NotDelivered,
        "the response is not Honeycomb's; check whether a proxy or a login page answers instead",
    )
}
