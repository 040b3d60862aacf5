//! The time from Tilt's start until the environment was healthy. Pure.

use std::time::Duration;

use serde_json::Value;

use crate::events::event::Fields;
use crate::summary::spans::millis;
use crate::summary::words;

/// The names that a reason gives.
const MAX_NAMES: usize = 3;

/// How long the start took, or why that is not known.
#[derive(Debug, Clone, PartialEq)]
pub enum TimeToHealthy {
    Reached {
        after: Duration,
        /// The resource that became ready last.
        last: Option<String>,
    },
    /// The start goes on, for this long.
    NotYet { since: Duration },
    /// The start ended without it.
    NotReached,
    /// Resources have changed since the start, so Tilt no longer shows it.
    Unknown,
}

impl TimeToHealthy {
    /// Reads the fields of a `startup` event. `recorded` is the time that a collector recorded. It
    /// counts if the start itself shows none: a failure was fixed later, or Tilt no longer shows the
    /// start. `is_over` tells whether the session has ended.
    pub fn of(startup: Option<&Fields>, recorded: Option<Duration>, is_over: bool) -> Self {
        match (Self::of_startup(startup, is_over), recorded) {
            (Self::NotReached | Self::Unknown, Some(after)) => Self::Reached { after, last: None },
            (time, _) => time,
        }
    }

    fn of_startup(startup: Option<&Fields>, is_over: bool) -> Self {
        let Some(startup) = startup else { return Self::Unknown };
        let text = |name| startup.get(name).and_then(Value::as_str).map(str::to_owned);
        let after = millis(startup, "duration_ms").unwrap_or_default();
        let has_failed = startup.get("error").is_some();
        match text("ended_by").as_deref() {
            Some("settled") if !has_failed => {
                Self::Reached { after, last: text("slowest_resource") }
            }
            // A failure may still be fixed while other resources start.
            Some("session_end") if !is_over => Self::NotYet { since: after },
            _ => Self::NotReached,
        }
    }

    /// One line for people. `unready` names the resources that are in error or not ready.
    pub fn sentence(&self, unready: &[String]) -> String {
        let unready = match unready {
            [] => String::new(),
            names => format!("; not ready: {}", words::names(names, MAX_NAMES)),
        };
        match self {
            Self::Reached { after, last } => {
                let last = last.as_ref().map(|name| format!(" (last: {})", words::name(name)));
                format!("{}{}", words::duration(*after), last.unwrap_or_default())
            }
            Self::NotYet { since } => {
                format!("not yet after {}{unready}", words::duration(*since))
            }
            Self::NotReached => format!("not reached{unready}"),
            Self::Unknown => "unknown, because resources have changed since the start".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn startup(ended_by: &str, error: bool) -> Fields {
        let mut fields = Fields::default();
        fields.set("duration_ms", 1500.0);
        fields.set("slowest_resource", "api");
        fields.set("ended_by", ended_by);
        if error {
            fields.set("error", true);
        }
        fields
    }

    #[test]
    fn the_time_is_known_only_if_the_start_ended_well() {
        let unready = ["web".to_owned()];
        for (ended_by, error, is_over, expected) in [
            ("settled", false, false, "1.5s (last: api)"),
            ("settled", true, false, "not reached; not ready: web"),
            ("session_end", false, false, "not yet after 1.5s; not ready: web"),
            ("session_end", true, false, "not yet after 1.5s; not ready: web"),
            ("session_end", false, true, "not reached; not ready: web"),
            ("timeout", true, false, "not reached; not ready: web"),
        ] {
            let time = TimeToHealthy::of(Some(&startup(ended_by, error)), None, is_over);
            assert_eq!(time.sentence(&unready), expected, "{ended_by} {error} {is_over}");
        }
        assert_eq!(TimeToHealthy::of(None, None, false), TimeToHealthy::Unknown);
    }

    #[test]
    fn a_recorded_time_counts_if_the_start_shows_none() {
        let recorded = Some(Duration::from_secs(9));
        for (startup, expected) in [
            (None, "9.0s"),
            (Some(startup("settled", true)), "9.0s"),
            (Some(startup("settled", false)), "1.5s (last: api)"),
        ] {
            let time = TimeToHealthy::of(startup.as_ref(), recorded, false);
            assert_eq!(time.sentence(&[]), expected);
        }
    }
}
