//! `board`: makes the board of [`crate::queries`] in Honeycomb, or brings the one that is there up
//! to date.
//!
//! Honeycomb pins no query itself, only an annotation of one, and changes no query that it has; so
//! each annotation says in its description which version of which query it is of. By that a second
//! run finds what the first one made, however far that came, and makes only the rest. The board is
//! known by its tags: it may be renamed, its panels moved, others put beside them.

use std::io::{self, Write};
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::answer::{self, Answer};
use crate::auth::{self, Auth};
use crate::config::{BoardConfig, Destination};
use crate::exit::Exit;
use crate::honeycomb::{Api, NoAnswer};
use crate::key::Shape;
use crate::link;
use crate::queries::{QUERIES, Query};

const NAME: &str = "Dev environment health";
const DESCRIPTION: &str = "Are our environments healthy, and where does the time go? Made by \
                           `tilt-honeycomb board`, which also brings it up to date.";
const MAKER: &str = "tilt-honeycomb";
/// In the units of Honeycomb's boards: twelve columns, and four rows for a graph.
const WIDTH: usize = 12;
const HEIGHT: usize = 4;
const FIND_KEYS: &str = "make a configuration key in the environment's settings, with the \
                         permissions \"Manage Queries and Columns\" and \"Manage Public Boards\"";

/// Why there is no board, or no whole one: what to do, in one sentence.
#[derive(Debug, PartialEq)]
struct Trouble {
    exit: Exit,
    says: String,
}

fn trouble<T>(exit: Exit, says: impl Into<String>) -> Result<T, Trouble> {
    Err(Trouble { exit, says: says.into() })
}

pub fn run(config: &BoardConfig) -> Exit {
    let Some(destination) = &config.destination else {
        for request in requests(&config.dataset) {
            say(&request.to_string());
        }
        return Exit::Done;
    };
    let maker = Maker {
        api: Api::new(&destination.endpoint, Some(destination.key.clone())),
        limit: config.timeout,
        slug: link::slug(&config.dataset),
    };
    match maker.make(destination) {
        Ok(()) => Exit::Done,
        Err(Trouble { exit, says }) => {
            log::error!("{says}");
            exit
        }
    }
}

/// Whoever closed stdout has seen enough.
fn say(line: &str) {
    let _ = writeln!(io::stdout(), "{line}");
}

/// All that is sent where nothing is there yet, with names in the place of the ids that Honeycomb
/// would give.
fn requests(dataset: &str) -> Vec<Value> {
    let slug = link::slug(dataset);
    let post = |path: &str, body: Value| json!({"method": "POST", "path": path, "body": body});
    let mut requests = Vec::new();
    let mut pins = Vec::new();
    for query in QUERIES {
        let pin = Pin {
            query,
            query_id: format!("<id of the query {:?}>", query.name),
            annotation_id: format!("<id of the annotation {:?}>", query.name),
        };
        requests.push(post(&format!("/1/queries/{slug}"), query.specification()));
        let body = annotation(query, &pin.query_id);
        requests.push(post(&format!("/1/query_annotations/{slug}"), body));
        pins.push(pin);
    }
    requests.push(post("/1/boards", new_board(NAME, &slug, &pins)));
    requests
}

/// A query with its annotation, as Honeycomb has them.
#[derive(Debug)]
struct Pin<'a> {
    query: &'a Query,
    query_id: String,
    annotation_id: String,
}

/// An annotation that Honeycomb has.
#[derive(Debug, Deserialize)]
struct Annotation {
    id: String,
    query_id: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    description: Option<String>,
}

impl Annotation {
    fn is_of(&self, query: &Query) -> bool {
        self.description.as_deref() == Some(&description(query))
    }

    /// Of this or another version of it.
    fn is_of_some(&self, query: &Query) -> bool {
        let is_ours = self.description.as_deref().is_some_and(|text| text.contains(&marker("")));
        self.is_of(query) || is_ours && self.name == query.name
    }
}

fn marker(version: &str) -> String {
    format!("({MAKER} {version}")
}

fn description(query: &Query) -> String {
    format!("{} {})", query.question, marker(&query.version()))
}

fn annotation(query: &Query, query_id: &str) -> Value {
    json!({"name": query.name, "description": description(query), "query_id": query_id})
}

fn tags(slug: &str) -> Value {
    json!([
        {"key": "source", "value": MAKER},
        {"key": "dataset", "value": tag_value(slug)},
    ])
}

/// Begins with a letter, and goes on in letters, digits and dashes.
fn tag_value(slug: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let value: String = slug.chars().map(plain).collect();
    let prefix = if value.starts_with(|c: char| c.is_ascii_lowercase()) { "" } else { "d-" };
    format!("{prefix}{value}").chars().take(128).collect()
}

fn new_board(name: &str, slug: &str, pins: &[Pin]) -> Value {
    json!({
        "type": "flexible",
        "name": name,
        "description": DESCRIPTION,
        "layout_generation": "manual",
        "tags": tags(slug),
        "panels": pins.iter().map(|pin| panel(pin, &place(pin.query))).collect::<Vec<_>>(),
    })
}

/// Two beside each other, in the order of the queries; the last one may have a row of its own.
fn place(query: &Query) -> Value {
    let number = QUERIES.iter().position(|known| known.name == query.name).unwrap_or_default();
    let is_alone = number + 1 == QUERIES.len() && number % 2 == 0;
    json!({
        "x_coordinate": (number % 2) * WIDTH / 2,
        "y_coordinate": (number / 2) * HEIGHT,
        "width": if is_alone { WIDTH } else { WIDTH / 2 },
        "height": HEIGHT,
    })
}

fn panel(pin: &Pin, position: &Value) -> Value {
    json!({
        "type": "query",
        "query_panel": {
            "query_id": pin.query_id,
            "query_annotation_id": pin.annotation_id,
            "query_style": pin.query.style.as_str(),
        },
        "position": position,
    })
}

/// The panels of a board that is there, with the pins put in; nothing else of it changes. A panel
/// of another version of a query stays where it is, and a new one comes below all others.
fn updated_panels(panels: &[Value], pins: &[Pin], annotations: &[Annotation]) -> Vec<Value> {
    let mut panels = panels.to_vec();
    let bottom = panels.iter().map(lower_edge).max().unwrap_or_default();
    for pin in pins {
        let of_query = |panel: &&mut Value| {
            let id = panel["query_panel"]["query_annotation_id"].as_str();
            let known = annotations.iter().find(|annotation| Some(annotation.id.as_str()) == id);
            id == Some(&pin.annotation_id) || known.is_some_and(|known| known.is_of_some(pin.query))
        };
        if let Some(panel) = panels.iter_mut().find(of_query) {
            panel["query_panel"]["query_id"] = json!(pin.query_id);
            panel["query_panel"]["query_annotation_id"] = json!(pin.annotation_id);
        } else {
            let mut position = place(pin.query);
            let y = position["y_coordinate"].as_u64().unwrap_or_default();
            position["y_coordinate"] = json!(bottom + y);
            panels.push(panel(pin, &position));
        }
    }
    panels
}

fn lower_edge(panel: &Value) -> u64 {
    let position = |name| panel["position"][name].as_u64();
    position("y_coordinate").unwrap_or_default()
        + position("height").filter(|height| *height > 0).unwrap_or(HEIGHT as u64)
}

struct Maker {
    api: Api,
    limit: Duration,
    slug: String,
}

impl Maker {
    fn make(&self, destination: &Destination) -> Result<(), Trouble> {
        refuse_by_shape(Shape::of(&destination.key))?;
        self.ask_whose()?;
        let columns = self.columns(&destination.dataset)?;
        let annotations = self.annotations()?;
        let boards = self.boards()?;
        let board = find_board(&boards, &self.slug);
        if let Found::Foreign(board) = board {
            log::warn!(
                "a board of the name {NAME:?} is there that was not made by {MAKER}: left as it \
                 is; rename it to have one made"
            );
            say_where(board);
            return Ok(());
        }
        let pins = self.pins(&columns, &annotations)?;
        let board = match board {
            Found::Ours(board) => self.update(board, &pins, &annotations),
            Found::None | Found::Foreign(_) => {
                let name = free_name(&boards, &destination.dataset);
                self.post("/1/boards", &new_board(&name, &self.slug, &pins), BOARDS)
            }
        };
        say_where(&board.map_err(resumable("the board"))?);
        Ok(())
    }

    /// A gateway may not know; then the calls themselves tell.
    fn ask_whose(&self) -> Result<(), Trouble> {
        let answer = self.api.get(auth::PATH, self.limit).map_err(no_answer)?;
        if answer.status == 401 {
            return judged(&answer, QUERIES_AND_COLUMNS).map(drop);
        }
        let auth = (answer.status == 200).then(|| Auth::read(&answer.body)).flatten();
        match auth {
            Some(auth) if auth.is_ingest() => refuse_by_shape(Shape::Ingest),
            Some(auth) if !auth.may_manage_queries() => {
                trouble(Exit::Refused, may_not(QUERIES_AND_COLUMNS))
            }
            Some(auth) if !auth.may_manage_boards() => trouble(Exit::Refused, may_not(BOARDS)),
            _ => Ok(()),
        }
    }

    fn columns(&self, dataset: &str) -> Result<Vec<String>, Trouble> {
        #[derive(Deserialize)]
        struct Column {
            key_name: String,
        }
        let answer = self.api.get(&format!("/1/columns/{}", self.slug), self.limit);
        let answer = answer.map_err(no_answer)?;
        if answer.status == 404 {
            return trouble(Exit::Refused, nothing_sent(dataset));
        }
        let columns: Vec<Column> = parsed(judged(&answer, QUERIES_AND_COLUMNS)?)?;
        let columns: Vec<_> = columns.into_iter().map(|column| column.key_name).collect();
        if QUERIES.iter().all(|query| !missing(query, &columns).is_empty()) {
            return trouble(Exit::Refused, nothing_sent(dataset));
        }
        Ok(columns)
    }

    fn annotations(&self) -> Result<Vec<Annotation>, Trouble> {
        let path = format!("/1/query_annotations/{}?include_board_annotations=true", self.slug);
        parsed(self.get(&path, QUERIES_AND_COLUMNS)?)
    }

    fn boards(&self) -> Result<Vec<Value>, Trouble> {
        parsed(self.get("/1/boards", BOARDS)?)
    }

    /// Each query that can be made, made or found.
    fn pins(
        &self,
        columns: &[String],
        annotations: &[Annotation],
    ) -> Result<Vec<Pin<'static>>, Trouble> {
        let mut pins = Vec::new();
        for query in QUERIES {
            let missing = missing(query, columns);
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
                Some(known) => {
                    Pin { query, query_id: known.query_id.clone(), annotation_id: known.id.clone() }
                }
                None => self.pin(query).map_err(resumable(query.name))?,
            };
            say(&format!("{word:8}  {}", query.name));
            pins.push(pin);
        }
        Ok(pins)
    }

    fn pin(&self, query: &'static Query) -> Result<Pin<'static>, Trouble> {
        let path = format!("/1/queries/{}", self.slug);
        let query_id = id(&self.post(&path, &query.specification(), QUERIES_AND_COLUMNS)?)?;
        let path = format!("/1/query_annotations/{}", self.slug);
        let made = self.post(&path, &annotation(query, &query_id), QUERIES_AND_COLUMNS)?;
        Ok(Pin { query, query_id, annotation_id: id(&made)? })
    }

    fn update(
        &self,
        board: &Value,
        pins: &[Pin],
        annotations: &[Annotation],
    ) -> Result<Value, Trouble> {
        let known = board["panels"].as_array().cloned().unwrap_or_default();
        let panels = updated_panels(&known, pins, annotations);
        if panels == known {
            return Ok(board.clone());
        }
        let mut body = json!({"type": "flexible", "layout_generation": "manual"});
        for part in ["name", "description", "tags"] {
            if !board[part].is_null() {
                body[part] = board[part].clone();
            }
        }
        body["panels"] = panels.into();
        let answer = self.api.put(&format!("/1/boards/{}", id(board)?), &body, self.limit);
        parsed(judged(&answer.map_err(no_answer)?, BOARDS)?)
    }

    fn get(&self, path: &str, permission: Permission) -> Result<Value, Trouble> {
        judged(&self.api.get(path, self.limit).map_err(no_answer)?, permission)
    }

    fn post(&self, path: &str, body: &Value, permission: Permission) -> Result<Value, Trouble> {
        judged(&self.api.post(path, body, self.limit).map_err(no_answer)?, permission)
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

fn refuse_by_shape(shape: Shape) -> Result<(), Trouble> {
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

/// The columns that the query names and the dataset has not.
fn missing(query: &Query, columns: &[String]) -> Vec<&'static str> {
    let is_missing = |column: &&str| !columns.iter().any(|known| known == column);
    query.columns().into_iter().filter(is_missing).collect()
}

enum Found<'a> {
    Ours(&'a Value),
    /// Of the name, and made by someone else.
    Foreign(&'a Value),
    None,
}

fn find_board<'a>(boards: &'a [Value], slug: &str) -> Found<'a> {
    let wanted = tags(slug);
    let wanted = wanted.as_array().expect("tags are a list");
    let has = |board: &Value, tag: &Value| {
        let tags = board["tags"].as_array();
        tags.is_some_and(|tags| tags.iter().any(|known| known == tag))
    };
    if let Some(ours) = boards.iter().find(|board| wanted.iter().all(|tag| has(board, tag))) {
        return Found::Ours(ours);
    }
    let is_foreign = |board: &&Value| board["name"] == NAME && !has(board, &wanted[0]);
    boards.iter().find(is_foreign).map_or(Found::None, Found::Foreign)
}

/// Another dataset of the same environment may have its own board.
fn free_name(boards: &[Value], dataset: &str) -> String {
    let is_taken = boards.iter().any(|board| board["name"] == NAME);
    let name = if is_taken { format!("{NAME}: {dataset}") } else { NAME.to_owned() };
    name.chars().take(255).collect()
}

fn say_where(board: &Value) {
    match board["links"]["board_url"].as_str() {
        Some(url) => say(&format!("board: {url}")),
        None => say("the board is there; Honeycomb gave no link to it"),
    }
}

fn no_answer(NoAnswer(why): NoAnswer) -> Trouble {
    Trouble { exit: Exit::NotDelivered, says: why }
}

/// Nothing is undone: what is there is found again.
fn resumable(what: &str) -> impl FnOnce(Trouble) -> Trouble {
    move |Trouble { exit, says }| {
        let says = format!("{what}: {says}; run this again, it goes on from here");
        Trouble { exit, says }
    }
}

fn judged(answer: &Answer, permission: Permission) -> Result<Value, Trouble> {
    let said = answer::said(&answer.body);
    let http = format!("HTTP {}{}", answer.status, answer::prefixed(": ", &said));
    match answer.status {
        200..=299 => serde_json::from_slice(&answer.body).or_else(|_| strange()),
        300..=399 => trouble(Exit::Refused, answer::redirected(answer)),
        401 => trouble(Exit::Refused, format!("{} ({http})", answer::UNKNOWN_KEY)),
        403 => trouble(Exit::Refused, format!("{} ({http})", may_not(permission))),
        408 | 425 | 429 | 500..=599 => trouble(Exit::NotDelivered, http),
        _ => trouble(Exit::Refused, format!("Honeycomb does not take the request ({http})")),
    }
}

fn parsed<T: serde::de::DeserializeOwned>(value: Value) -> Result<T, Trouble> {
    serde_json::from_value(value).or_else(|_| strange())
}

fn id(made: &Value) -> Result<String, Trouble> {
    made["id"].as_str().map_or_else(strange, |id| Ok(id.to_owned()))
}

fn strange<T>() -> Result<T, Trouble> {
    trouble(
        Exit::NotDelivered,
        "the answer is not Honeycomb's: is something else answering in its place?",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pin(number: usize, id: &str) -> Pin<'static> {
        let (query_id, annotation_id) = (format!("q-{id}"), format!("a-{id}"));
        Pin { query: &QUERIES[number], query_id, annotation_id }
    }

    fn known(query: &Query, id: &str, description: String) -> Annotation {
        Annotation {
            id: format!("a-{id}"),
            query_id: format!("q-{id}"),
            name: query.name.into(),
            description: Some(description),
        }
    }

    #[test]
    fn no_panel_lies_over_another_and_the_first_four_are_the_first_screen() {
        let board = new_board(NAME, "dev", &[]);
        assert_eq!(board["panels"], json!([]));
        let places: Vec<_> = QUERIES.iter().map(place).collect();
        for (number, position) in places.iter().enumerate() {
            let of = |name: &str, position: &Value| position[name].as_u64().expect("a number");
            assert!(of("x_coordinate", position) + of("width", position) <= 12, "{position}");
            assert_eq!(of("y_coordinate", position) < 8, number < 4, "{position}");
            for other in &places[..number] {
                let apart = |at: &str, size: &str| {
                    of(at, other) + of(size, other) <= of(at, position)
                        || of(at, position) + of(size, position) <= of(at, other)
                };
                assert!(apart("x_coordinate", "width") || apart("y_coordinate", "height"));
            }
        }
    }

    #[test]
    fn a_board_keeps_what_a_person_has_made_of_it() {
        let text = json!({"type": "text", "text_panel": {"content": "ours"},
            "position": {"x_coordinate": 0, "y_coordinate": 40, "width": 12, "height": 2}});
        let moved = json!({"x_coordinate": 3, "y_coordinate": 30, "width": 9, "height": 7});
        let mut old = panel(&pin(0, "old"), &moved);
        old["query_panel"]["query_style"] = json!("table");
        let stranger = panel(&pin(0, "stranger"), &json!({}));
        let annotations = [
            known(&QUERIES[0], "old", format!("Older words. {}0123abcd)", marker(""))),
            known(&QUERIES[0], "stranger", "of the same name".into()),
        ];
        let panels = [text.clone(), old, stranger.clone()];
        let updated = updated_panels(&panels, &[pin(0, "new"), pin(1, "one")], &annotations);
        assert_eq!((&updated[0], &updated[2]), (&text, &stranger));
        assert_eq!(updated[1]["position"], moved);
        assert_eq!(
            updated[1]["query_panel"],
            json!({"query_id": "q-new", "query_annotation_id": "a-new", "query_style": "table"})
        );
        assert_eq!(updated[3]["position"]["y_coordinate"], 42, "below all others");
        assert_eq!(updated.len(), 4);
    }

    #[test]
    fn a_tag_is_one_that_honeycomb_takes() {
        for (slug, tag) in [
            ("dev-environments", "dev-environments"),
            ("dev_envs.1~x", "dev-envs-1-x"),
            ("1st", "d-1st"),
            ("-", "d--"),
        ] {
            assert_eq!(tag_value(slug), tag);
        }
        assert_eq!(tag_value(&"x".repeat(255)).len(), 128);
    }

    #[test]
    fn the_board_is_known_by_its_tags_and_no_other_is_taken_for_it() {
        let ours = json!({"name": "Renamed", "tags": tags("dev")});
        let elsewhere = [json!({"name": NAME, "tags": tags("other")})];
        let foreign = json!({"name": NAME, "tags": [{"key": "team", "value": "x"}]});
        let both = [foreign.clone(), ours.clone()];
        assert!(matches!(find_board(&both, "dev"), Found::Ours(found) if *found == ours));
        assert!(matches!(find_board(&both, "other"), Found::Foreign(found) if *found == foreign));
        assert!(matches!(find_board(&elsewhere, "dev"), Found::None));
        assert_eq!(free_name(&elsewhere, "dev"), "Dev environment health: dev");
        assert_eq!(free_name(&[ours], "other"), NAME);
    }
}
