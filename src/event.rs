//! An event as Honeycomb takes it: a kind, a time and flat named values. The one list of every
//! field this program can send is here; the README's tables are checked against it. Pure.

use std::borrow::Cow;
use std::time::{Duration, SystemTime};

use serde::ser::SerializeMap;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;

use crate::failure;

/// The version of the events' shape, in `event.version`: raised when a field changes its meaning.
pub const EVENT_VERSION: u32 = 1;

/// Honeycomb's longest string value, in bytes; what is longer is not stored whole.
const VALUE_LIMIT: usize = 65_535;

/// The field `kind`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A heartbeat: one resource's status at the time of a report.
    UiResource,
    /// A completed `docker_build`.
    DockerImage,
    /// A completed `custom_build`.
    CmdImage,
}

impl Kind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::UiResource => "uiresource",
            Self::DockerImage => "dockerimage",
            Self::CmdImage => "cmdimage",
        }
    }

    /// A heartbeat says what the next one says again; when room runs out it goes first.
    pub fn is_heartbeat(self) -> bool {
        self == Self::UiResource
    }
}

/// One event, not yet encoded.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    pub kind: Kind,
    /// For a build its start, for a heartbeat the time of the report.
    pub time: SystemTime,
    pub fields: Fields,
}

/// Named values in the order in which they were set.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Fields(Vec<(Cow<'static, str>, Value)>);

impl Fields {
    /// Sets a field. An empty text is set as it is; see [`Fields::say`] for what Tilt may not say.
    pub fn set(&mut self, name: impl Into<Cow<'static, str>>, value: impl Into<Value>) {
        let value = match value.into() {
            Value::String(text) => Value::String(failure::cut(&text, VALUE_LIMIT).to_owned()),
            value => value,
        };
        self.0.push((name.into(), value));
    }

    /// Sets a field if there is something to say: never null, never empty.
    pub fn say<V: Into<Value>>(&mut self, name: &'static str, value: Option<V>) {
        match value.map(Into::into) {
            None | Some(Value::Null) => {}
            Some(Value::String(text)) if text.is_empty() => {}
            Some(value) => self.set(name, value),
        }
    }

    /// Sets a duration in milliseconds, to the microsecond.
    pub fn say_ms(&mut self, name: &'static str, duration: Option<Duration>) {
        self.say(name, duration.map(milliseconds));
    }

    pub fn extend(&mut self, other: &Self) {
        self.0.extend(other.0.iter().cloned());
    }

    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value)
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| name.as_ref())
    }
}

impl Serialize for Fields {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

/// Milliseconds with three decimals: Tilt's times are in microseconds, and a binary fraction
/// would show more digits than were measured.
fn milliseconds(duration: Duration) -> f64 {
    let micros = u32::try_from(duration.as_micros())
        .map_or_else(|_| duration.as_secs_f64() * 1_000_000.0, f64::from);
    micros.round() / 1_000.0
}

/// The time as it goes over the wire: RFC 3339, UTC, microseconds.
pub fn wire_time(time: SystemTime) -> String {
    humantime::format_rfc3339_micros(time).to_string()
}

/// Every field that this program sets, and what it means.
pub const FIELDS: &[(&str, &str)] = &[
    ("tilt_version", "the running Tilt's version"),
    ("user", "Tilt Cloud's user name, else `--user`, else empty"),
    ("kind", "the event's kind"),
    ("name", "the resource"),
    ("runtime_status", "Tilt's word: ok, pending, error, none, unknown, not_applicable"),
    ("update_status", "Tilt's word: ok, pending, in_progress, error, none, not_applicable"),
    ("resource_type", "local, docker-compose, k8s, image-only or tiltfile"),
    ("labels", "the resource's labels, sorted, joined by commas"),
    ("ready", "whether Tilt holds the resource ready"),
    ("ready_reason", "why it is not ready"),
    ("up_to_date", "whether the last update took in every change"),
    ("in_state_ms", "time since `ready` last flipped"),
    ("disabled", "whether the resource is disabled"),
    ("trigger_mode", "auto, auto_with_manual_init, manual or manual_with_auto_init"),
    ("waiting_reason", "why a pending update has not begun"),
    ("waiting_on", "the resources it waits for, sorted, joined by commas"),
    ("pod_status", "the pod's status"),
    ("pod_restarts", "restarts of the pod's containers"),
    ("health_status", "the compose container's health"),
    ("image_name", "the image, as the Tiltfile names it"),
    ("image_tag", "the tag that Tilt gave the build"),
    ("duration_ms", "how long it took, in milliseconds"),
    ("resource", "the resource that the image is built for"),
    ("stages", "how many stages the build went through"),
    ("stages_cached", "how many of them came from the cache"),
    ("error", "true on a failure, absent otherwise"),
    ("error.type", "the failure's class"),
    ("error.hash", "equal for failures whose text differs only in numbers, ids and folders"),
    ("error.message", "the failure's text; only with `--send-error-text`"),
    ("exit_code", "the exit code that the failure names"),
    ("event.version", "version of these fields"),
    ("collector.version", "version of tilt-honeycomb"),
    ("session.id", "one run of Tilt"),
    ("tilt_mode", "up or ci, where known"),
    ("os.type", "linux, darwin or windows"),
    ("host.arch", "amd64, arm64 ..."),
    ("host.cpu_count", "processors at hand"),
    ("installation.id", "a random id, made once per machine"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_said_where_there_is_nothing_to_say() {
        let mut fields = Fields::default();
        fields.say("a", None::<String>);
        fields.say("b", Some(""));
        fields.say("c", Some(Value::Null));
        fields.say("d", Some("text"));
        fields.say("e", Some(false));
        fields.set("user", "");
        assert_eq!(
            serde_json::to_string(&fields).expect("JSON"),
            r#"{"d":"text","e":false,"user":""}"#
        );
    }

    #[test]
    fn a_duration_keeps_the_microseconds_that_tilt_wrote_and_no_more() {
        for (micros, expected) in
            [(1_745_612, "1745.612"), (59, "0.059"), (0, "0.0"), (86_400_000_000, "86400000.0")]
        {
            let mut fields = Fields::default();
            fields.say_ms("ms", Some(Duration::from_micros(micros)));
            let text = serde_json::to_string(&fields).expect("JSON");
            assert_eq!(text, format!(r#"{{"ms":{expected}}}"#));
        }
    }

    #[test]
    fn a_value_too_long_for_honeycomb_is_cut() {
        let mut fields = Fields::default();
        fields.set("labels", "é".repeat(40_000));
        let Some(Value::String(text)) = fields.get("labels") else { panic!("no text") };
        assert_eq!(text.len(), VALUE_LIMIT - 1);
    }

    #[test]
    fn times_go_out_in_utc_with_microseconds() {
        let time = humantime::parse_rfc3339("2026-11-22T15:22:07.934675Z").expect("a time");
        assert_eq!(wire_time(time), "2026-11-22T15:22:07.934675Z");
        assert_eq!(wire_time(SystemTime::UNIX_EPOCH), "1970-01-01T00:00:00.000000Z");
    }

    #[test]
    fn every_field_is_listed_once() {
        let mut names: Vec<_> = FIELDS.iter().map(|(name, _)| *name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), FIELDS.len());
    }
}
