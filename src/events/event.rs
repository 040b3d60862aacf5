//! An event as Honeycomb takes it: a kind, a time and flat named values.
//! [`crate::events::fields`] lists every field that an event can carry. Pure.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use crate::base::text;

/// The field `event.version`. It is raised when a field changes its meaning.
pub const EVENT_VERSION: u32 = 1;

/// The longest string value that Honeycomb stores, in bytes.
/// See <https://docs.honeycomb.io/reference/honeycomb-limits/>.
const VALUE_LIMIT: usize = 65_535;

/// The kind of an event, and its field `kind`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum EventKind {
    /// A heartbeat: the status of one resource, at each report and when it changes.
    #[serde(rename = "uiresource")]
    UiResource,
    /// A heartbeat: the state of the whole environment.
    #[serde(rename = "session")]
    Session,
    /// The startup of an environment.
    #[serde(rename = "startup")]
    Startup,
    /// A finished update of a resource.
    #[serde(rename = "update")]
    Update,
    /// The time from the end of an update until its resource was ready.
    #[serde(rename = "rollout")]
    Rollout,
    /// A completed `docker_build`.
    #[serde(rename = "dockerimage")]
    DockerImage,
    /// A completed `custom_build`.
    #[serde(rename = "cmdimage")]
    CmdImage,
    /// A stage of a `docker_build`.
    #[serde(rename = "dockerimage_stage")]
    DockerImageStage,
}

impl EventKind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::UiResource => "uiresource",
            Self::Session => "session",
            Self::Startup => "startup",
            Self::Update => "update",
            Self::Rollout => "rollout",
            Self::DockerImage => "dockerimage",
            Self::CmdImage => "cmdimage",
            Self::DockerImageStage => "dockerimage_stage",
        }
    }

    /// True for a status, which the next report repeats. A full queue drops these first.
    pub fn is_heartbeat(self) -> bool {
        matches!(self, Self::UiResource | Self::Session)
    }
}

/// One event, not yet encoded.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    pub kind: EventKind,
    /// The start of a build, or the time of a heartbeat.
    #[serde(with = "rfc3339")]
    pub time: SystemTime,
    /// How many equal reports this event represents: 1, or more for a folded heartbeat.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub sample_rate: u32,
    pub fields: Fields,
}

impl Event {
    /// An event that represents only itself.
    pub fn new(kind: EventKind, time: SystemTime, mut fields: Fields) -> Self {
        // A report holds thousands of events, and half of a growing list is unused.
        fields.own.shrink_to_fit();
        Self { kind, time, sample_rate: 1, fields }
    }
}

fn one() -> u32 {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
fn is_one(number: &u32) -> bool {
    *number == 1
}

/// The most names in a list of resources.
const MAX_NAMES: usize = 20;

/// Named values, in the order in which they were set. They serialise as a JSON object.
#[derive(Debug, Clone, Default)]
pub struct Fields {
    own: Vec<(Cow<'static, str>, Value)>,
    /// The last fields. Thousands of events have them in common, so they are stored once.
    shared: Option<Arc<Fields>>,
}

impl Fields {
    /// Sets a field, even to an empty text. A text is cut to the length that Honeycomb stores.
    pub fn set(&mut self, name: impl Into<Cow<'static, str>>, value: impl Into<Value>) {
        let value = match value.into() {
            Value::String(text) => Value::String(text::cut(&text, VALUE_LIMIT).to_owned()),
            value => value,
        };
        self.own.push((name.into(), value));
    }

    /// Sets a field unless the value is absent, null or an empty text.
    pub fn set_some<V: Into<Value>>(&mut self, name: &'static str, value: Option<V>) {
        match value.map(Into::into) {
            None | Some(Value::Null) => {}
            Some(Value::String(text)) if text.is_empty() => {}
            Some(value) => self.set(name, value),
        }
    }

    /// Sets a duration in milliseconds with three decimals, unless it is absent.
    pub fn set_ms(&mut self, name: &'static str, duration: Option<Duration>) {
        self.set_some(name, duration.map(milliseconds));
    }

    /// Sets a list, sorted and joined by commas, because Honeycomb has no list type. An empty list
    /// is left out.
    pub fn set_list(&mut self, name: &'static str, values: &[String]) {
        let mut values = values.to_vec();
        values.sort_unstable();
        self.set_some(name, Some(values.join(",")));
    }

    /// Sets a list of the first 20 of these names.
    pub fn set_names(&mut self, name: &'static str, mut names: Vec<String>) {
        names.sort_unstable();
        names.truncate(MAX_NAMES);
        self.set_list(name, &names);
    }

    /// Adds copies of fields.
    pub fn extend(&mut self, other: &Self) {
        self.own.extend(other.own.iter().cloned());
    }

    /// Ends the fields with those of `shared`.
    pub fn end_with(&mut self, shared: &Arc<Self>) {
        self.shared = Some(Arc::clone(shared));
    }

    /// The value of a field.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.iter().find(|(known, _)| *known == name).map(|(_, value)| value)
    }

    /// The fields, in their order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        let shared = self.shared.iter().flat_map(|shared| &shared.own);
        self.own.iter().chain(shared).map(|(name, value)| (name.as_ref(), value))
    }

    /// The names of the fields, in their order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.iter().map(|(name, _)| name)
    }
}

/// Whether fields are shared makes no difference.
impl PartialEq for Fields {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Serialize for Fields {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Fields;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of fields")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
                let mut fields = Fields::default();
                while let Some((name, value)) = map.next_entry::<String, Value>()? {
                    fields.own.push((name.into(), value));
                }
                Ok(fields)
            }
        }
        deserializer.deserialize_map(InOrder)
    }
}

/// Milliseconds with three decimals. Tilt's times have microseconds, and unrounded binary fractions
/// would show more digits than were measured.
fn milliseconds(duration: Duration) -> f64 {
    let micros = u32::try_from(duration.as_micros())
        .map_or_else(|_| duration.as_secs_f64() * 1_000_000.0, f64::from);
    micros.round() / 1_000.0
}

/// Formats a time as Honeycomb gets it: RFC 3339, UTC, with microseconds.
pub fn wire_time(time: SystemTime) -> String {
    humantime::format_rfc3339_micros(time).to_string()
}

/// Stores a time as text, so that no number in a damaged state can exceed what can be formatted.
mod rfc3339 {
    use std::time::SystemTime;

    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    #[cfg_attr(
        windows,
        expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")
    )]
    pub(super) fn serialize<S: Serializer>(
        time: &SystemTime,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&super::wire_time(*time))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<SystemTime, D::Error> {
        let text = String::deserialize(from)?;
        humantime::parse_rfc3339(&text).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absent_and_empty_values_are_left_out() {
        let mut fields = Fields::default();
        fields.set_some("a", None::<String>);
        fields.set_some("b", Some(""));
        fields.set_some("c", Some(Value::Null));
        fields.set_some("d", Some("text"));
        fields.set_some("e", Some(false));
        fields.set("user", "");
        assert_eq!(
            serde_json::to_string(&fields).expect("JSON"),
            r#"{"d":"text","e":false,"user":""}"#
        );
    }

    #[test]
    fn a_duration_has_exactly_tilts_microseconds() {
        for (micros, expected) in
            [(1_745_612, "1745.612"), (59, "0.059"), (0, "0.0"), (86_400_000_000, "86400000.0")]
        {
            let mut fields = Fields::default();
            fields.set_ms("ms", Some(Duration::from_micros(micros)));
            let text = serde_json::to_string(&fields).expect("JSON");
            assert_eq!(text, format!(r#"{{"ms":{expected}}}"#));
        }
    }

    #[test]
    fn a_value_that_is_too_long_for_honeycomb_is_cut() {
        let mut fields = Fields::default();
        fields.set("labels", "é".repeat(40_000));
        let Some(Value::String(text)) = fields.get("labels") else { panic!("no text") };
        assert_eq!(text.len(), VALUE_LIMIT - 1);
    }

    #[test]
    fn times_are_sent_in_utc_with_microseconds() {
        let time = humantime::parse_rfc3339("2026-11-22T15:22:07.934675Z").expect("a time");
        assert_eq!(wire_time(time), "2026-11-22T15:22:07.934675Z");
        assert_eq!(wire_time(SystemTime::UNIX_EPOCH), "1970-01-01T00:00:00.000000Z");
    }
}
