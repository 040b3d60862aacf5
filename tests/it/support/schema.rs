//! Checks a body against the JSON Schemas in `tests/schemas`. It supports the keywords that they use and
//! panics on others. The usual validator crates would add some 45 dependencies.

use std::fs;
use std::path::Path;

use serde_json::{Map, Value, json};

/// Returns the place and reason of every violation in a body.
pub fn violations(schema: &str, body: &Value) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/schemas/{schema}.json"));
    let schema = fs::read_to_string(path).expect("a schema");
    let schema = serde_json::from_str(&schema).expect("a schema in JSON");
    let mut found = Vec::new();
    judge(&schema, body, "", &mut found);
    found
}

fn judge(schema: &Value, value: &Value, at: &str, found: &mut Vec<String>) {
    let length = value.as_str().map(|text| text.chars().count() as u64);
    let items = value.as_array().map(|items| items.len() as u64);
    for (word, rule) in schema.as_object().expect("a schema is an object") {
        let is_kept = match word.as_str() {
            "$schema" | "description" => true,
            "type" => types(rule).any(|name| is_a(name, value)),
            "enum" => rule.as_array().expect("values").contains(value),
            "const" => rule == value,
            "minLength" => length.is_none_or(|length| length >= number(rule)),
            "maxLength" => length.is_none_or(|length| length <= number(rule)),
            "minimum" => value.as_i64().is_none_or(|n| n >= number(rule).cast_signed()),
            "maximum" => value.as_i64().is_none_or(|n| n <= number(rule).cast_signed()),
            "maxItems" => items.is_none_or(|items| items <= number(rule)),
            "pattern" => value.as_str().is_none_or(|text| matches(text, rule)),
            "required" => value.as_object().is_none_or(|members| has_all(members, rule)),
            "additionalProperties" => {
                assert_eq!(rule, &json!(false));
                let is_known = |name: &String| schema["properties"].get(name).is_some();
                value.as_object().is_none_or(|members| members.keys().all(is_known))
            }
            "properties" => {
                for (name, rule) in rule.as_object().expect("properties") {
                    if let Some(value) = value.get(name) {
                        judge(rule, value, &format!("{at}/{name}"), found);
                    }
                }
                true
            }
            "items" => {
                for (number, value) in value.as_array().into_iter().flatten().enumerate() {
                    judge(rule, value, &format!("{at}/{number}"), found);
                }
                true
            }
            "oneOf" => {
                let fits = |rule: &&Value| {
                    let mut found = Vec::new();
                    judge(rule, value, at, &mut found);
                    found.is_empty()
                };
                rule.as_array().expect("schemas").iter().filter(fits).count() == 1
            }
            word => panic!("the keyword {word:?} is not supported"),
        };
        if !is_kept {
            found.push(format!("{at}: violates {word}: {value}"));
        }
    }
}

fn types(rule: &Value) -> impl Iterator<Item = &str> {
    let one = rule.as_str().into_iter();
    one.chain(rule.as_array().into_iter().flatten().filter_map(Value::as_str))
}

fn is_a(name: &str, value: &Value) -> bool {
    match name {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        name => panic!("the type {name:?} is not supported"),
    }
}

fn number(rule: &Value) -> u64 {
    rule.as_u64().expect("a number")
}

fn has_all(members: &Map<String, Value>, names: &Value) -> bool {
    let mut names = names.as_array().expect("names").iter().filter_map(Value::as_str);
    names.all(|name| members.contains_key(name))
}

/// Matches the two patterns that the schemas use.
fn matches(text: &str, pattern: &Value) -> bool {
    let is_letter = |c: char| c.is_ascii_lowercase();
    match pattern.as_str() {
        Some("^[a-z]+$") => !text.is_empty() && text.chars().all(is_letter),
        Some("^[a-z][a-z0-9/-]*$") => {
            text.starts_with(is_letter)
                && text.chars().all(|c| is_letter(c) || c.is_ascii_digit() || "/-".contains(c))
        }
        pattern => panic!("the pattern {pattern:?} is not supported"),
    }
}

#[test]
fn violations_of_the_schema_are_found() {
    let panel = |panel: Value| json!({"type": "flexible", "name": "x", "panels": [panel]});
    let query = json!({"query_id": "q", "query_annotation_id": "a"});
    for (schema, body) in [
        ("query", json!({})),
        ("query", json!({"filters": [{"column": "a", "op": "in", "value": ["b"]}]})),
        ("query_annotation", json!({"name": "x", "query_id": "q"})),
        ("board", json!({"type": "flexible", "name": "x"})),
        ("board", panel(json!({"type": "query", "query_panel": query}))),
        ("board", panel(json!({"type": "text", "text_panel": {"content": "x"}}))),
    ] {
        assert_eq!(violations(schema, &body), [""; 0], "{body}");
    }
    for (schema, body) in [
        ("query", json!([])),
        ("query", json!({"calculations": [{"op": "P91", "column": "a"}]})),
        ("query", json!({"calculations": [{"column": "a"}]})),
        ("query", json!({"filters": [{"column": "a", "op": "==", "value": 1}]})),
        ("query", json!({"filters": [{"column": "a", "op": "=", "value": {}}]})),
        ("query", json!({"breakdowns": [1]})),
        ("query", json!({"breakdowns": vec!["x"; 101]})),
        ("query", json!({"time_range": 0})),
        ("query", json!({"time_range": "1d"})),
        ("query", json!({"limit": 1001})),
        ("query", json!({"time_rnge": 1})),
        ("query_annotation", json!({"name": "x"})),
        ("query_annotation", json!({"name": "", "query_id": "q"})),
        ("query_annotation", json!({"name": "x".repeat(321), "query_id": "q"})),
        ("board", json!({"type": "classic", "name": "x"})),
        ("board", json!({"name": "x"})),
        ("board", json!({"type": "flexible", "name": "x", "tags": [{"key": "A", "value": "a"}]})),
        ("board", json!({"type": "flexible", "name": "x", "tags": [{"key": "a", "value": "1"}]})),
        ("board", panel(json!({"type": "query"}))),
        ("board", panel(json!({"type": "text", "query_panel": query}))),
        ("board", panel(json!({"type": "query", "query_panel": {"query_id": "q"}}))),
        (
            "board",
            panel(json!({"type": "query", "query_panel": query,
            "position": {"x_coordinate": -1}})),
        ),
    ] {
        assert_ne!(violations(schema, &body), [""; 0], "{body}");
    }
}
