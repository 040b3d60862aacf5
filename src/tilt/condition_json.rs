//! Reads what the objects of Tilt have in common: conditions, times and empty values. Pure.

use serde::Deserialize;

use crate::tilt::model::{Condition, Timestamp};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RawCondition {
    #[serde(rename = "type")]
    condition_type: Option<String>,
    status: Option<String>,
    reason: Option<String>,
    last_transition_time: Option<String>,
}

/// Tilt writes a missing value as an absent field, as `null` or as an empty text.
pub(super) fn non_empty(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.is_empty())
}

/// Reads a time. `None` if it is absent or unreadable.
pub(super) fn time(text: Option<&str>) -> Option<Timestamp> {
    text.and_then(Timestamp::parse)
}

/// Finds a condition. `None` if it is absent or unknown.
pub(super) fn condition(conditions: &[RawCondition], condition_type: &str) -> Option<Condition> {
    let condition =
        conditions.iter().find(|c| c.condition_type.as_deref() == Some(condition_type))?;
    let holds = match condition.status.as_deref() {
        Some("True") => true,
        Some("False") => false,
        _ => return None,
    };
    Some(Condition {
        holds,
        reason: non_empty(condition.reason.clone()),
        since: time(condition.last_transition_time.as_deref()),
    })
}
