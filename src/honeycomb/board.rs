//! The board of [`crate::honeycomb::queries`]: the requests that create it, and how to find and update
//! an existing one. Pure.
//!
//! A panel of a board shows a query annotation, and Honeycomb never changes a saved query. So the
//! description of each annotation names the version of its query, and a later run finds what an
//! earlier one created, even if that one stopped halfway. The board is recognized by its tags:
//! people may rename it, move its panels and add others.

use serde::Deserialize;
use serde_json::{Value, json};

use crate::base::ids;
use crate::honeycomb::queries::{QUERIES, Query};
use crate::honeycomb::urls;

/// The name of a new board.
pub const NAME: &str = "Dev environment health";
const DESCRIPTION: &str = "Are our environments healthy, and where does the time go? Created by \
                           `tilt-honeycomb board`, which also updates it.";
/// The value of the tag `source`, which marks boards of this program.
pub const MAKER: &str = "tilt-honeycomb";
/// The size of a board in Honeycomb's units: twelve columns, and four rows for a panel.
const WIDTH: usize = 12;
const HEIGHT: usize = 4;

/// The path that lists and creates boards.
pub const BOARDS_PATH: &str = "/1/boards";

/// The path that saves queries. `slug` is the dataset's.
pub fn queries_path(slug: &str) -> String {
    format!("/1/queries/{slug}")
}

/// The path that lists and creates annotations. `slug` is the dataset's.
pub fn annotations_path(slug: &str) -> String {
    format!("/1/query_annotations/{slug}")
}

/// The requests that create a new board. Placeholders stand for the ids that Honeycomb assigns.
pub fn requests(dataset: &str) -> Vec<Value> {
    let slug = urls::slug(dataset);
    let post = |path: &str, body: Value| json!({"method": "POST", "path": path, "body": body});
    let mut requests = Vec::new();
    let mut pins = Vec::new();
    for query in QUERIES {
        let pin = PinnedQuery {
            query,
            query_id: format!("<id of the query {:?}>", query.name),
            annotation_id: format!("<id of the annotation {:?}>", query.name),
        };
        requests.push(post(&queries_path(&slug), query.specification()));
        let body = annotation(query, &pin.query_id);
        requests.push(post(&annotations_path(&slug), body));
        pins.push(pin);
    }
    requests.push(post(BOARDS_PATH, new_board(NAME, dataset, &pins)));
    requests
}

/// A saved query and its annotation.
#[derive(Debug)]
pub struct PinnedQuery<'a> {
    pub query: &'a Query,
    pub query_id: String,
    pub annotation_id: String,
}

/// An existing annotation.
#[derive(Debug, Deserialize)]
pub struct Annotation {
    pub id: String,
    pub query_id: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    description: Option<String>,
}

impl Annotation {
    /// True for an annotation of this version of the query.
    pub fn is_of(&self, query: &Query) -> bool {
        self.description.as_deref() == Some(&description(query))
    }

    /// True for an annotation of any version of the query.
    fn is_of_any_version(&self, query: &Query) -> bool {
        let is_ours = self.description.as_deref().is_some_and(|text| text.contains(&marker("")));
        self.is_of(query) || is_ours && self.name == query.name
    }
}

/// The mark of this program in the description of an annotation.
fn marker(version: &str) -> String {
    format!("({MAKER} {version}")
}

fn description(query: &Query) -> String {
    format!("{} {})", query.question, marker(&query.version()))
}

/// The request body that creates an annotation of a saved query.
pub fn annotation(query: &Query, query_id: &str) -> Value {
    json!({"name": query.name, "description": description(query), "query_id": query_id})
}

fn tags(dataset: &str) -> Value {
    json!([
        {"key": "source", "value": MAKER},
        {"key": "dataset", "value": tag_value(dataset)},
    ])
}

/// The most bytes of a tag value.
const TAG_LIMIT: usize = 128;
/// The hex digits of the hash in the tag of a name that is not a tag itself.
const TAG_HASH: usize = 16;

/// The tag of a dataset. Two datasets never have the same one, and Honeycomb ignores case in their
/// names.
///
/// A tag starts with a letter and has only lower-case letters, digits, dashes and slashes. If a name
/// is not a valid tag, or looks like a tag with a hash, a hash of the name is added.
fn tag_value(dataset: &str) -> String {
    let name = dataset.to_lowercase();
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let starts_well = name.starts_with(|c: char| c.is_ascii_lowercase());
    let has_hash = name.rsplit_once('-').is_some_and(|(_, end)| {
        end.len() == TAG_HASH && end.chars().all(|c| c.is_ascii_hexdigit())
    });
    let is_tag = starts_well && (2..=TAG_LIMIT).contains(&name.len()) && name.chars().all(is_plain);
    if is_tag && !has_hash {
        return name;
    }
    let readable = name.chars().map(|c| if is_plain(c) { c } else { '-' });
    let prefix = if starts_well { "" } else { "d-" };
    let readable: String = prefix.chars().chain(readable).take(TAG_LIMIT - TAG_HASH - 1).collect();
    format!("{readable}-{}", ids::id(&[&name], TAG_HASH))
}

/// The request body that creates a board.
pub fn new_board(name: &str, dataset: &str, pins: &[PinnedQuery]) -> Value {
    json!({
        "type": "flexible",
        "name": name,
        "description": DESCRIPTION,
        "layout_generation": "manual",
        "tags": tags(dataset),
        "panels": pins.iter().map(|pin| panel(pin, &position(pin.query))).collect::<Vec<_>>(),
    })
}

/// The position of the panel of a query: two panels in a row, in the order of the queries. A last
/// single panel fills its row.
fn position(query: &Query) -> Value {
    let number = QUERIES.iter().position(|known| known.name == query.name).unwrap_or_default();
    let is_alone = number + 1 == QUERIES.len() && number % 2 == 0;
    json!({
        "x_coordinate": (number % 2) * WIDTH / 2,
        "y_coordinate": (number / 2) * HEIGHT,
        "width": if is_alone { WIDTH } else { WIDTH / 2 },
        "height": HEIGHT,
    })
}

fn panel(pin: &PinnedQuery, position: &Value) -> Value {
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

/// The request body that adds the panels to an existing board. `None` if it has them already.
pub fn updated_board(
    board: &Value,
    pins: &[PinnedQuery],
    annotations: &[Annotation],
) -> Option<Value> {
    let known = board["panels"].as_array().cloned().unwrap_or_default();
    let panels = updated_panels(&known, pins, annotations);
    if panels == known {
        return None;
    }
    let mut body = json!({"type": "flexible", "layout_generation": "manual", "panels": panels});
    for part in ["name", "description", "tags"] {
        if !board[part].is_null() {
            body[part] = board[part].clone();
        }
    }
    Some(body)
}

/// Adds the panels. The panel of another version of a query is updated in its position, and a new
/// panel goes below all others.
fn updated_panels(
    panels: &[Value],
    pins: &[PinnedQuery],
    annotations: &[Annotation],
) -> Vec<Value> {
    let mut panels = panels.to_vec();
    let bottom = panels.iter().map(lower_edge).max().unwrap_or_default();
    for pin in pins {
        let of_query = |panel: &&mut Value| {
            let id = panel["query_panel"]["query_annotation_id"].as_str();
            let known = annotations.iter().find(|annotation| Some(annotation.id.as_str()) == id);
            id == Some(&pin.annotation_id)
                || known.is_some_and(|known| known.is_of_any_version(pin.query))
        };
        if let Some(panel) = panels.iter_mut().find(of_query) {
            panel["query_panel"]["query_id"] = json!(pin.query_id);
            panel["query_panel"]["query_annotation_id"] = json!(pin.annotation_id);
        } else {
            let mut position = position(pin.query);
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

/// The columns of the query that do not exist in the dataset.
pub fn missing(query: &Query, columns: &[String]) -> Vec<&'static str> {
    let is_missing = |column: &&str| !columns.iter().any(|known| known == column);
    query.columns().into_iter().filter(is_missing).collect()
}

/// The board of a dataset among those of the environment.
#[derive(Debug)]
pub enum ExistingBoard<'a> {
    /// This program created it for the dataset.
    Ours(&'a Value),
    /// It has the same name, but someone else created it.
    Foreign(&'a Value),
    None,
}

/// Finds the board of a dataset by its tags, or one by another author with the same name.
pub fn find_board<'a>(boards: &'a [Value], dataset: &str) -> ExistingBoard<'a> {
    let wanted = tags(dataset);
    let wanted = wanted.as_array().expect("tags are a list");
    let has = |board: &Value, tag: &Value| {
        let tags = board["tags"].as_array();
        let is_it = |known: &Value| ["key", "value"].iter().all(|part| known[part] == tag[part]);
        tags.is_some_and(|tags| tags.iter().any(is_it))
    };
    if let Some(ours) = boards.iter().find(|board| wanted.iter().all(|tag| has(board, tag))) {
        return ExistingBoard::Ours(ours);
    }
    let is_foreign = |board: &&Value| board["name"] == NAME && !has(board, &wanted[0]);
    boards.iter().find(is_foreign).map_or(ExistingBoard::None, ExistingBoard::Foreign)
}

/// A name that no board has. Another dataset of the environment may have a board already.
pub fn free_name(boards: &[Value], dataset: &str) -> String {
    let is_taken = boards.iter().any(|board| board["name"] == NAME);
    let name = if is_taken { format!("{NAME}: {dataset}") } else { NAME.to_owned() };
    name.chars().take(255).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pin(number: usize, id: &str) -> PinnedQuery<'static> {
        let (query_id, annotation_id) = (format!("q-{id}"), format!("a-{id}"));
        PinnedQuery { query: &QUERIES[number], query_id, annotation_id }
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
    fn panels_do_not_overlap_and_four_fit_on_a_screen() {
        let board = new_board(NAME, "dev", &[]);
        assert_eq!(board["panels"], json!([]));
        let positions: Vec<_> = QUERIES.iter().map(position).collect();
        for (number, position) in positions.iter().enumerate() {
            let of = |name: &str, position: &Value| position[name].as_u64().expect("a number");
            assert!(of("x_coordinate", position) + of("width", position) <= 12, "{position}");
            assert_eq!(of("y_coordinate", position) < 8, number < 4, "{position}");
            for other in &positions[..number] {
                let apart = |at: &str, size: &str| {
                    of(at, other) + of(size, other) <= of(at, position)
                        || of(at, position) + of(size, position) <= of(at, other)
                };
                assert!(apart("x_coordinate", "width") || apart("y_coordinate", "height"));
            }
        }
    }

    #[test]
    fn an_update_keeps_the_changes_of_people() {
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
    fn a_tag_value_follows_honeycombs_rules() {
        for (dataset, tag) in [
            ("dev-environments", "dev-environments"),
            ("Dev-Environments", "dev-environments"),
            ("dev_envs.1~x", "dev-envs-1-x-"),
            ("1st", "d-1st-"),
            ("-", "d---"),
            ("x", "x-"),
            ("größe", "gr--e-"),
            ("dev-0123456789abcdef", "dev-0123456789abcdef-"),
        ] {
            let value = tag_value(dataset);
            assert!(value.starts_with(tag), "{value}");
            let hash = if tag.ends_with('-') { TAG_HASH } else { 0 };
            assert_eq!(value.len(), tag.len() + hash, "{value}");
        }
        assert_eq!(tag_value(&"x".repeat(128)), "x".repeat(128));
        assert_eq!(tag_value(&"x".repeat(255)).len(), 128);
    }

    /// A name out of few letters, so that many pairs look alike, or a tag of another name.
    fn dataset() -> impl Strategy<Value = String> {
        prop_oneof![
            "[a-cA-C0-1_. ~é-]{1,6}",
            "[a-cA-C0-1_. ~é-]{1,6}".prop_map(|name| tag_value(&name)),
            "x{100,255}[é-]?",
            any::<String>(),
        ]
    }

    proptest! {
        #[test]
        fn two_datasets_never_share_a_tag(one in dataset(), other in dataset()) {
            let tags = [tag_value(&one), tag_value(&other)];
            let is_same = one.to_lowercase() == other.to_lowercase();
            prop_assert_eq!(tags[0] == tags[1], is_same, "{:?} {:?}", one, other);
            for tag in &tags {
                let mut letters = tag.chars();
                prop_assert!(letters.next().is_some_and(|c| c.is_ascii_lowercase()), "{}", tag);
                let is_allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
                prop_assert!(letters.all(is_allowed) && (2..=128).contains(&tag.len()), "{}", tag);
            }
        }
    }

    #[test]
    fn a_board_is_recognized_by_its_tags_only() {
        let ours = json!({"name": "Renamed", "tags": tags("dev")});
        let elsewhere = [json!({"name": NAME, "tags": tags("other")})];
        let foreign = json!({"name": NAME, "tags": [{"key": "team", "value": "x"}]});
        let both = [foreign.clone(), ours.clone()];
        assert!(matches!(find_board(&both, "dev"), ExistingBoard::Ours(found) if *found == ours));
        assert!(
            matches!(find_board(&both, "other"), ExistingBoard::Foreign(found) if *found == foreign)
        );
        assert!(matches!(find_board(&elsewhere, "dev"), ExistingBoard::None));
        assert_eq!(free_name(&elsewhere, "dev"), "Dev environment health: dev");
        assert_eq!(free_name(&[ours], "other"), NAME);
    }
}
