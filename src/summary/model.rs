//! The summary of one environment. Pure.

use std::time::{Duration, SystemTime};

use serde_json::Value;

use crate::base::text::counted;
use crate::events::common_fields::Context;
use crate::events::observation::Observation;
use crate::events::tracker::SessionTracker;
use crate::summary::rankings::{self, Entry};
use crate::summary::spans::ObservedSpans;
use crate::summary::time_to_healthy::TimeToHealthy;
use crate::summary::waterfall::Waterfall;
use crate::summary::words;
use crate::tilt::command::TiltMode;
use crate::tilt::health::{Health, count_by_health};
use crate::tilt::model::Resource;

/// The summary of one environment.
#[derive(Debug)]
pub struct EnvironmentSummary {
    /// `tilt up`, `tilt ci`, or `Tilt` if that is unknown.
    title: &'static str,
    /// `healthy`, `unhealthy`, `starting` or `updating`; at the end of a run, its outcome.
    pub state: String,
    /// The number of resources with each health, in words.
    pub counts: String,
    /// The time from Tilt's start until now, or until its end.
    pub age: Option<Duration>,
    is_over: bool,
    pub time_to_healthy: TimeToHealthy,
    /// The resources that are in error or start automatically and are not ready.
    pub unready: Vec<String>,
    pub waterfall: Waterfall,
    pub sections: Vec<Section>,
}

/// A list of entries, the most important first.
#[derive(Debug)]
pub struct Section {
    /// One word, for the margin of the text.
    pub word: &'static str,
    /// The heading on the page.
    pub heading: &'static str,
    pub entries: Vec<Entry>,
}

impl EnvironmentSummary {
    /// Summarizes an observation. `tracker` holds what a collector remembers of the session; it is
    /// empty without one. `now` is the time of the observation.
    pub fn of(
        observation: &Observation,
        tracker: SessionTracker,
        context: &Context,
        now: SystemTime,
    ) -> Self {
        let resources: Vec<_> = observation.counted_resources(&context.collector).collect();
        let recorded = tracker.time_to_healthy_ms.map(Duration::from_millis);
        let observed = ObservedSpans::of(observation, tracker, context, now);
        let started_at = observation.tilt_started_at().map(|started_at| started_at.at);
        let origin = started_at.or_else(|| Some(observed.spans.first()?.start)).unwrap_or(now);
        let waterfall = Waterfall::of(&observed, &resources, origin, now);
        let sections = vec![
            section("failing", "Failing", rankings::failing(&observed, &resources)),
            section("slowest", "Slowest updates", rankings::slow_resources(&observed.spans)),
            section("stages", "Slowest stages", rankings::slow_stages(&observed.spans)),
            section("waited", "Time waited before the first update", rankings::waits(&waterfall)),
        ];
        let is_over = observation.is_over();
        Self {
            title: title(context.tilt_mode),
            state: state(&observed),
            counts: counts(&resources),
            age: started_at.and_then(|started_at| now.duration_since(started_at).ok()),
            is_over,
            time_to_healthy: TimeToHealthy::of(observed.startup.as_ref(), recorded, is_over),
            unready: unready(&resources),
            waterfall,
            sections,
        }
    }

    /// The state of the environment in one line.
    pub fn headline(&self) -> String {
        let age = self.age.map(|age| {
            let age = words::duration(age);
            if self.is_over { format!(" after {age}") } else { format!(", started {age} ago") }
        });
        format!("{}: {}{}; {}", self.title, self.state, age.unwrap_or_default(), self.counts)
    }

    /// The time to healthy in one line.
    pub fn time_to_healthy(&self) -> String {
        self.time_to_healthy.sentence(&self.unready)
    }

    /// True if something has failed or the environment is unhealthy.
    pub fn has_failed(&self) -> bool {
        matches!(self.state.as_str(), "unhealthy" | "failure")
    }
}

fn section(word: &'static str, heading: &'static str, entries: Vec<Entry>) -> Section {
    Section { word, heading, entries }
}

fn title(mode: Option<TiltMode>) -> &'static str {
    match mode {
        Some(TiltMode::Ci) => "tilt ci",
        Some(TiltMode::Up) => "tilt up",
        None => "Tilt",
    }
}

/// The outcome of a run that has ended, or else the state of the session.
fn state(observed: &ObservedSpans) -> String {
    let field = |name| {
        let value = observed.session.as_ref().and_then(|session| session.get(name));
        value.and_then(Value::as_str).map(str::to_owned)
    };
    let state = field("outcome").or_else(|| field("state"));
    state.unwrap_or_else(|| "no resources yet".to_owned())
}

/// The number of resources with each health, in words: `5 ok, 3 in error`, or `8 resources ok`.
fn counts(resources: &[&Resource]) -> String {
    let counts = count_by_health(resources.iter().copied());
    let words = |health| match health {
        Health::Ok => "ok",
        Health::Error => "in error",
        Health::Pending => "pending",
        Health::InProgress => "in progress",
        Health::Idle => "not started",
        Health::Disabled => "disabled",
    };
    let shown = Health::ALL.into_iter().filter(|health| counts.get(*health) > 0);
    match shown.collect::<Vec<_>>()[..] {
        [] => "no resources".to_owned(),
        [all] => format!("{} {}", counted(counts.get(all), "resource"), words(all)),
        ref several => {
            let described = |health: &Health| format!("{} {}", counts.get(*health), words(*health));
            several.iter().map(described).collect::<Vec<_>>().join(", ")
        }
    }
}

fn unready(resources: &[&Resource]) -> Vec<String> {
    let is_unready = |resource: &&&Resource| match Health::of(resource) {
        Health::Error => true,
        Health::Pending | Health::InProgress => resource.starts_automatically(),
        _ => false,
    };
    let mut names: Vec<_> = resources.iter().filter(is_unready).collect();
    // Causes come before what waits for them.
    names.sort_by_key(|resource| {
        let is_error = Health::of(resource) == Health::Error;
        (!is_error, resource.waiting.is_some(), &resource.name)
    });
    names.into_iter().map(|resource| resource.name.clone()).collect()
}
