//! Output of `tilt get` for an environment of any size, made from copies of recorded objects.

use std::fs;
use std::io::{self, Write};

use serde::Serialize;
use serde_json::{Value, json};

const CAPTURE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/captures/0.37.6/compose/combined.json");

/// Writes what `tilt get` would print for this many resources and images. Each is a copy of a
/// recorded object with its own name and its own builds.
pub fn show(resources: usize, images: usize, mut out: impl Write) -> io::Result<()> {
    let recorded = fs::read(CAPTURE)?;
    let recorded: Value = serde_json::from_slice(&recorded)?;
    let recorded_object = |kind: &str, name: &str| {
        let items = recorded["items"].as_array().expect("a list");
        let found = items.iter().find(|i| i["kind"] == kind && i["metadata"]["name"] == name);
        found.unwrap_or_else(|| panic!("no {kind} {name} was recorded")).clone()
    };
    let templates = ["web", "worker", "lint", "codegen", "crasher", "api"];
    let mut templates = templates.map(|name| recorded_object("UIResource", name));
    let mut image = recorded_object("DockerImage", "web:web");

    writeln!(out, "{{\n    \"apiVersion\": \"v1\",\n    \"items\": [")?;
    print(&recorded_object("UISession", "Tiltfile"), &mut out)?;
    writeln!(out, ",")?;
    print(&recorded_object("UIResource", "(Tiltfile)"), &mut out)?;
    for number in 0..resources {
        let resource = &mut templates[number % 6];
        resource["metadata"]["name"] = json!(format!("resource-{number}"));
        resource["metadata"]["uid"] = json!(format!("00000000-0000-4000-8000-{number:012}"));
        for (index, build) in
            (1..).zip(resource["status"]["buildHistory"].as_array_mut().into_iter().flatten())
        {
            build["spanID"] = json!(format!("build:{}", 2 * number + index));
        }
        writeln!(out, ",")?;
        print(resource, &mut out)?;
    }
    for number in 0..images {
        let resource = format!("resource-{number}");
        image["metadata"]["name"] = json!(format!("{resource}:image-{number}"));
        image["metadata"]["annotations"]["tilt.dev/resource"] = json!(resource);
        image["spec"]["ref"] = json!(format!("image-{number}"));
        writeln!(out, ",")?;
        print(&image, &mut out)?;
    }
    writeln!(out, "\n    ],\n    \"kind\": \"List\"\n}}")?;
    out.flush()
}

/// Prints an object with the indentation of an item in Tilt's list.
fn print(object: &Value, out: &mut impl Write) -> io::Result<()> {
    let mut text = Vec::new();
    let pretty = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    object.serialize(&mut serde_json::Serializer::with_formatter(&mut text, pretty))?;
    for (index, line) in text.split(|byte| *byte == b'\n').enumerate() {
        out.write_all(if index == 0 { b"        " } else { b"\n        " })?;
        out.write_all(line)?;
    }
    Ok(())
}
