//! `board`: makes the board in Honeycomb, or brings the one that is there up to date. It stops at the
//! first trouble and undoes nothing; the next run goes on from there.

use std::io::{self, Write};
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use crate::base::text::one_line;
use crate::config::BoardConfig;
use crate::exit_code::Exit;
use crate::honeycomb::api_key::Shape;
use crate::honeycomb::auth::{self, Auth};
use crate::honeycomb::board::{self, Annotation, ExistingBoard, PinnedQuery};
use crate::honeycomb::client::{Api, NoResponse};
use crate::honeycomb::dataset_link;
use crate::honeycomb::endpoint::Destination;
use crate::honeycomb::queries::{QUERIES, Query};
use crate::honeycomb::response::{self, Response, http};

const FIND_KEYS: &str = "make a configuration key in the environment's settings, with the \
                         permissions \"Manage Queries and Columns\" and \"Manage Public Boards\"";

/// Why there is no board, or no whole one: what to do, in one sentence.
#[derive(Debug, PartialEq)]
struct BoardError {
    exit: Exit,
    says: String,
}

fn trouble<T>(exit: Exit, says: impl Into<String>) -> Result<T, BoardError> {
    Err(BoardError { exit, says: says.into() })
}

pub fn run(config: &BoardConfig) -> Exit {
    let Some(destination) = &config.destination else {
        for request in board::requests(&config.dataset) {
            say(&request.to_string());
        }
        return Exit::Done;
    };
    let maker = BoardBuilder {
        api: Api::new(&destination.endpoint, Some(destination.key.clone())),
        limit: config.timeout,
        slug: dataset_link::slug(&config.dataset),
    };
    match maker.make(destination) {
        Ok(()) => Exit::Done,
        Err(BoardError { exit, says }) => {
            log::error!("{says}");
            exit
        }
    }
}

/// Whoever closed stdout has seen enough.
fn say(line: &str) {
    let _ = writeln!(io::stdout(), "{line}");
}

struct BoardBuilder {
    api: Api,
    limit: Duration,
    slug: String,
}

impl BoardBuilder {
    fn make(&self, destination: &Destination) -> Result<(), BoardError> {
        refuse_by_shape(Shape::of(&destination.key))?;
        self.ask_whose()?;
        let columns = self.columns(&destination.dataset)?;
        let annotations = self.annotations()?;
        let boards = self.boards()?;
        let ours = match board::find_board(&boards, &self.slug) {
            ExistingBoard::Ours(board) => Some(board),
            ExistingBoard::None => None,
            ExistingBoard::Foreign(board) => {
                log::warn!(
                    "a board of the name {:?} is there that was not made by {}: left as it is; \
                     rename it to have one made",
                    board::NAME,
                    board::MAKER
                );
                say_where(board);
                return Ok(());
            }
        };
        let pins = self.pins(&columns, &annotations)?;
        let made = if let Some(ours) = ours {
            self.update(ours, &pins, &annotations)
        } else {
            let name = board::free_name(&boards, &destination.dataset);
            self.post(board::BOARDS_PATH, &board::new_board(&name, &self.slug, &pins), BOARDS)
        };
        say_where(&made.map_err(resumable("the board"))?);
        Ok(())
    }

    /// A gateway may not know; then the calls themselves tell.
    fn ask_whose(&self) -> Result<(), BoardError> {
        let response = self.api.get(auth::PATH, self.limit).map_err(no_response)?;
        if response.status == 401 {
            return trouble(
                Exit::Rejected,
                format!("{} ({})", response::UNKNOWN_KEY, http(&response)),
            );
        }
        let auth = (response.status == 200).then(|| Auth::read(&response.body)).flatten();
        match auth {
            Some(auth) if auth.is_ingest() => refuse_by_shape(Shape::Ingest),
            Some(auth) if !auth.may_manage_queries() => {
                trouble(Exit::Rejected, may_not(QUERIES_AND_COLUMNS))
            }
            Some(auth) if !auth.may_manage_boards() => trouble(Exit::Rejected, may_not(BOARDS)),
            _ => Ok(()),
        }
    }

    fn columns(&self, dataset: &str) -> Result<Vec<String>, BoardError> {
        #[derive(Deserialize)]
        struct Column {
            key_name: String,
        }
        let response = self.api.get(&format!("/1/columns/{}", self.slug), self.limit);
        let response = response.map_err(no_response)?;
        if response.status == 404 {
            return trouble(Exit::Rejected, nothing_sent(dataset));
        }
        let columns: Vec<Column> = parsed(judged(&response, QUERIES_AND_COLUMNS)?)?;
        let columns: Vec<_> = columns.into_iter().map(|column| column.key_name).collect();
        if QUERIES.iter().all(|query| !board::missing(query, &columns).is_empty()) {
            return trouble(Exit::Rejected, nothing_sent(dataset));
        }
        Ok(columns)
    }

    fn annotations(&self) -> Result<Vec<Annotation>, BoardError> {
        let path = board::annotations_path(&self.slug) + "?include_board_annotations=true";
        parsed(self.get(&path, QUERIES_AND_COLUMNS)?)
    }

    fn boards(&self) -> Result<Vec<Value>, BoardError> {
        parsed(self.get(board::BOARDS_PATH, BOARDS)?)
    }

    /// Each query that can be made, made or found.
    fn pins(
        &self,
        columns: &[String],
        annotations: &[Annotation],
    ) -> Result<Vec<PinnedQuery<'static>>, BoardError> {
        let mut pins = Vec::new();
        for query in QUERIES {
            let missing = board::missing(query, columns);
            if !missing.is_empty() {
                let missing = missing.join(", ");
                say(&format!(
                    "left out  {}: nothing with {missing} was sent yet; run this again once it was",
                    query.name
                ));
                continue;
            }
            let known = annotations.iter().find(|annotation| annotation.is_of(query));
            let word = if known.is_some() { "found" } else { "made" };
            let pin = match known {
                Some(known) => PinnedQuery {
                    query,
                    query_id: known.query_id.clone(),
                    annotation_id: known.id.clone(),
                },
                None => self.pin(query).map_err(resumable(query.name))?,
            };
            say(&format!("{word:8}  {}", query.name));
            pins.push(pin);
        }
        Ok(pins)
    }

    fn pin(&self, query: &'static Query) -> Result<PinnedQuery<'static>, BoardError> {
        let path = board::queries_path(&self.slug);
        let query_id = id(&self.post(&path, &query.specification(), QUERIES_AND_COLUMNS)?)?;
        let path = board::annotations_path(&self.slug);
        let made = self.post(&path, &board::annotation(query, &query_id), QUERIES_AND_COLUMNS)?;
        Ok(PinnedQuery { query, query_id, annotation_id: id(&made)? })
    }

    fn update(
        &self,
        ours: &Value,
        pins: &[PinnedQuery],
        annotations: &[Annotation],
    ) -> Result<Value, BoardError> {
        let Some(body) = board::updated_board(ours, pins, annotations) else {
            return Ok(ours.clone());
        };
        let path = format!("{}/{}", board::BOARDS_PATH, id(ours)?);
        judged(&self.api.put(&path, &body, self.limit).map_err(no_response)?, BOARDS)
    }

    fn get(&self, path: &str, permission: Permission) -> Result<Value, BoardError> {
        judged(&self.api.get(path, self.limit).map_err(no_response)?, permission)
    }

    fn post(&self, path: &str, body: &Value, permission: Permission) -> Result<Value, BoardError> {
        judged(&self.api.post(path, body, self.limit).map_err(no_response)?, permission)
    }
}

/// What the key must be allowed: in words, and in Honeycomb's.
#[derive(Debug, Clone, Copy)]
struct Permission {
    deed: &'static str,
    name: &'static str,
}

const QUERIES_AND_COLUMNS: Permission =
    Permission { deed: "manage queries", name: "Manage Queries and Columns" };
const BOARDS: Permission = Permission { deed: "manage boards", name: "Manage Public Boards" };

fn may_not(permission: Permission) -> String {
    let Permission { deed, name } = permission;
    format!("the API key may not {deed}; give it the permission {name:?}, or {FIND_KEYS}")
}

fn refuse_by_shape(shape: Shape) -> Result<(), BoardError> {
    if shape.only_sends() {
        let kind = shape.as_str();
        return trouble(Exit::Usage, format!("{kind} can make no board: {FIND_KEYS}"));
    }
    match shape.advice() {
        Some(advice) => {
            trouble(Exit::Usage, format!("the API key is {}: {advice}", shape.as_str()))
        }
        None => Ok(()),
    }
}

fn nothing_sent(dataset: &str) -> String {
    format!(
        "there is nothing in the dataset {dataset} that a board could show; run tilt-honeycomb \
         --once beside a running Tilt, then this again"
    )
}

fn say_where(board: &Value) {
    match board["links"]["board_url"].as_str() {
        Some(url) => say(&format!("board: {}", one_line(url, response::TEXT_LIMIT))),
        None => say("the board is there; Honeycomb gave no link to it"),
    }
}

fn no_response(NoResponse(why): NoResponse) -> BoardError {
    BoardError { exit: Exit::NotDelivered, says: why }
}

/// Nothing is undone: what is there is found again.
fn resumable(what: &str) -> impl FnOnce(BoardError) -> BoardError {
    move |BoardError { exit, says }| {
        let says = format!("{what}: {says}; run this again, it goes on from here");
        BoardError { exit, says }
    }
}

/// Whose key it is has been asked before: here a 401 too is about what it may do.
fn judged(response: &Response, permission: Permission) -> Result<Value, BoardError> {
    let http = http(response);
    match response.status {
        200..=299 => serde_json::from_slice(&response.body).or_else(|_| strange()),
        300..=399 => trouble(Exit::Rejected, response::redirected(response)),
        401 | 403 => trouble(Exit::Rejected, format!("{} ({http})", may_not(permission))),
        408 | 425 | 429 | 500..=599 => trouble(Exit::NotDelivered, http),
        _ => trouble(Exit::Rejected, format!("Honeycomb does not take the request ({http})")),
    }
}

fn parsed<T: serde::de::DeserializeOwned>(value: Value) -> Result<T, BoardError> {
    serde_json::from_value(value).or_else(|_| strange())
}

fn id(made: &Value) -> Result<String, BoardError> {
    made["id"].as_str().map_or_else(strange, |id| Ok(id.to_owned()))
}

fn strange<T>() -> Result<T, BoardError> {
    trouble(
        Exit::NotDelivered,
        "the answer is not Honeycomb's: is something else answering in its place?",
    )
}
