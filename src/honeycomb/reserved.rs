//! Names that Honeycomb or Refinery give a meaning of their own. Pure.
//!
//! The sources are Honeycomb's description of its API, the defaults of Refinery's configuration
//! (`TraceNames`, `ParentNames`) and the names that Honeycomb's UI reads from spans and logs.

/// The fields, and what a value of a user would break.
const FIELDS: [(&[&str], &str); 6] = [
    (&["traceId", "parentId", "id"], "Refinery and Honeycomb place an event in its trace by it"),
    (&["durationMs", "duration_ms"], "Honeycomb reads the length of a span from it"),
    (&["serviceName", "service_name"], "Honeycomb reads the service of an event from it"),
    (&["SampleRate", "samplerate", "sampleRate"], "it says how many events an event stands for"),
    (&["time", "timestamp", "Timestamp"], "it is the time of an event"),
    (&["name", "error", "body", "severity"], "Honeycomb shows spans and logs by it"),
];
/// The first parts of fields, with the reason.
const PREFIXES: [(&str, &str); 2] = [
    (
        "trace.",
        "Refinery and Honeycomb place an event in its trace by names that start with trace.",
    ),
    ("meta.", "Refinery and Honeycomb set names that start with meta. themselves"),
];

/// Why a user's field must not have this name; `None` if it may.
pub fn field_reason(name: &str) -> Option<&'static str> {
    let by_prefix = PREFIXES.iter().find(|(prefix, _)| name.starts_with(prefix));
    let by_name = FIELDS.iter().find(|(names, _)| names.contains(&name)).map(|(_, why)| *why);
    by_prefix.map(|(_, why)| *why).or(by_name)
}

/// Why a dataset must not have this name; `None` if it may. Honeycomb ignores case in names.
pub fn dataset_reason(name: &str) -> Option<&'static str> {
    name.eq_ignore_ascii_case("__all__")
        .then_some("Honeycomb uses this name for all datasets of an environment together")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reserved_name_has_a_reason_and_similar_names_have_none() {
        for name in [
            "trace.trace_id",
            "trace.x",
            "meta.refinery.reason",
            "meta.",
            "id",
            "traceId",
            "parentId",
            "durationMs",
            "duration_ms",
            "service_name",
            "serviceName",
            "name",
            "error",
            "SampleRate",
            "samplerate",
            "time",
            "timestamp",
            "body",
            "severity",
        ] {
            assert!(field_reason(name).is_some(), "{name}");
        }
        for name in ["team", "tracing", "trace", "metadata", "team_id", "error_budget", "name2"] {
            assert_eq!(field_reason(name), None, "{name}");
        }
        assert!(dataset_reason("__all__").is_some() && dataset_reason("__ALL__").is_some());
        assert_eq!(dataset_reason("all"), None);
    }
}
