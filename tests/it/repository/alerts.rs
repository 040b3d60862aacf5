//! The triggers of `docs/alerts.md` are what Honeycomb's API describes, and ask for fields that exist.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use tilt_honeycomb::events::fields;

use super::tidy::read;
use crate::support::schema::violations;

/// The name of the file and the body of each trigger in the document.
fn triggers() -> Vec<(String, Value)> {
    let document = read("docs/alerts.md");
    let parts = document.split("<!-- trigger: ").skip(1);
    parts
        .map(|part| {
            let (name, rest) = part.split_once(" -->\n\n```json\n").expect("a body after the name");
            let (body, _) = rest.split_once("\n```\n").expect("the end of the body");
            (name.to_owned(), serde_json::from_str(body).expect(name))
        })
        .collect()
}

/// The rules for the query of a trigger that are not in its schema: one calculation, only some
/// members, and a range of at most four times the frequency and at least a quarter of it.
/// Sources: <https://docs.honeycomb.io/api/triggers/> and the provider's
/// `docs/resources/trigger.md` (<https://github.com/honeycombio/terraform-provider-honeycombio>).
fn broken_rules(trigger: &Value) -> Vec<String> {
    let query = &trigger["query"];
    let mut broken = violations("query", query);
    let known = ["calculations", "filters", "filter_combination", "breakdowns", "time_range"]
        .map(str::to_owned);
    let members = query.as_object().expect("a query").keys();
    broken.extend(members.filter(|name| !known.contains(name)).map(|name| format!("has {name}")));
    let calculations = query["calculations"].as_array().expect("calculations");
    if calculations.len() != 1 || calculations[0]["op"] == "HEATMAP" {
        broken.push("must have one calculation that gives a number".to_owned());
    }
    let frequency = trigger["frequency"].as_u64().expect("a frequency");
    let range = query["time_range"].as_u64().expect("a time range");
    if !frequency.is_multiple_of(60) {
        broken.push("the frequency must be whole minutes".to_owned());
    }
    if range > 4 * frequency || frequency > 4 * range || range > 86_400 {
        broken.push(format!("a range of {range} s does not fit a frequency of {frequency} s"));
    }
    broken
}

/// The columns that a query uses.
fn columns(query: &Value) -> BTreeSet<&str> {
    let of = |part: &'static str| query[part].as_array().into_iter().flatten();
    let named = of("calculations").chain(of("filters")).filter_map(|item| item["column"].as_str());
    named.chain(of("breakdowns").filter_map(Value::as_str)).collect()
}

#[test]
fn each_trigger_matches_the_description_of_the_api() {
    let triggers = triggers();
    let names: Vec<_> = triggers.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["unhealthy.json", "slow.json", "silent.json"]);
    for (name, trigger) in &triggers {
        assert_eq!(violations("trigger", trigger), [""; 0], "{name}");
        assert_eq!(broken_rules(trigger), [""; 0], "{name}");
    }
}

#[test]
fn each_trigger_asks_for_fields_that_exist() {
    for (name, trigger) in triggers() {
        for column in columns(&trigger["query"]) {
            assert!(fields::find(column).is_some(), "{name} asks for {column:?}");
        }
    }
}

#[test]
fn the_terraform_configuration_uses_every_trigger_and_member() {
    let document = read("docs/alerts.md");
    let (_, configuration) = document.split_once("```hcl\n").expect("a configuration");
    for (name, trigger) in triggers() {
        let name = name.trim_end_matches(".json");
        assert!(configuration.contains(&format!("\"{name}\"")), "{name} is missing");
        for member in trigger.as_object().expect("a trigger").keys() {
            let use_of_it = format!("each.value.{member}");
            assert!(configuration.contains(&use_of_it), "{use_of_it} is missing");
        }
    }
}

#[test]
fn a_trigger_that_the_api_rejects_is_found() {
    let good = triggers().remove(0).1;
    let with = |pointer: &str, value: Value| {
        let mut trigger = good.clone();
        *trigger.pointer_mut(pointer).expect(pointer) = value;
        [violations("trigger", &trigger), broken_rules(&trigger)].concat()
    };
    assert_eq!(with("/name", json!("x")), [""; 0]);
    for (pointer, value) in [
        ("/name", json!("")),
        ("/name", json!("x".repeat(121))),
        ("/threshold/op", json!("=")),
        ("/threshold/value", json!("14")),
        ("/frequency", json!(30)),
        ("/frequency", json!(90)),
        ("/frequency", json!(180)),
        ("/recipients/0/type", json!("pigeon")),
        ("/alert_type", json!("always")),
        ("/query/calculations", json!([])),
        ("/query/calculations/0/op", json!("HEATMAP")),
        ("/query/time_range", json!(7200)),
        ("/query/filters/0/op", json!("==")),
    ] {
        assert_ne!(with(pointer, value.clone()), [""; 0], "{pointer}: {value}");
    }
}
