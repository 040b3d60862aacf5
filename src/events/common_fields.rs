//! What events say beside what Tilt shows: the person's choices, the machine, the versions. Pure.

use crate::config::{Config, TiltMode};
use crate::events::event::{EVENT_VERSION, Fields};
use crate::events::trace::{RemoteParent, Span};
use crate::tilt::model::Session;

/// The person's choices and the machine.
#[derive(Debug, Clone, Default)]
pub struct Context {
    /// Used where Tilt knows no user.
    pub user: Option<String>,
    /// `--field`: names that [`crate::events::event::FIELDS`] does not hold.
    pub own_fields: Vec<(String, String)>,
    pub send_error_text: bool,
    pub send_stage_text: bool,
    pub tilt_mode: Option<TiltMode>,
    /// None in a dry run on a machine that has none yet.
    pub installation_id: Option<String>,
    pub cpu_count: usize,
    /// Which pipeline, run and change a CI machine works on.
    pub whereabouts: Vec<(&'static str, String)>,
    /// Whether git is to be asked what is checked out.
    pub vcs: bool,
    /// What git said.
    pub checkout: Vec<(&'static str, String)>,
    /// The span of a pipeline's that `tilt ci` is part of.
    pub outside: Option<RemoteParent>,
}

impl Context {
    pub fn new(config: &Config, installation_id: Option<String>, cpu_count: usize) -> Self {
        Self {
            user: config.user.clone(),
            own_fields: config.own_fields.clone(),
            send_error_text: config.send_error_text,
            send_stage_text: config.send_stage_text,
            tilt_mode: config.tilt_mode,
            installation_id,
            cpu_count,
            whereabouts: config.whereabouts.clone(),
            vcs: config.vcs,
            checkout: Vec::new(),
            outside: config.outside.clone(),
        }
    }
}

/// What every event of a report carries.
#[derive(Debug)]
pub struct CommonFields {
    /// Before the event's own fields: whose environment it is.
    pub first: Fields,
    /// After them: versions, machine, the person's own fields.
    pub last: Fields,
    /// The run of Tilt.
    pub session: String,
    pub startup: Span,
    pub startup_name: &'static str,
}

impl CommonFields {
    pub fn new(
        session: Option<&Session>,
        session_id: String,
        startup: Span,
        context: &Context,
    ) -> Self {
        let mut first = Fields::default();
        first.say("tilt_version", session.and_then(|s| s.tilt_version.clone()));
        let user = session.and_then(|s| s.tilt_cloud_user.clone()).or_else(|| context.user.clone());
        first.set("user", user.unwrap_or_default());

        let mut last = Fields::default();
        last.set("event.version", EVENT_VERSION);
        last.set("collector.version", env!("CARGO_PKG_VERSION"));
        last.say("session.id", Some(session_id.as_str()));
        last.say("tilt_mode", context.tilt_mode.map(TiltMode::as_str));
        last.set("os.type", os_type());
        last.set("host.arch", host_arch());
        last.set("host.cpu_count", context.cpu_count);
        last.say("installation.id", context.installation_id.clone());
        // A CI machine knows better: it may have checked out a merge of two branches.
        let is_known = |name| context.whereabouts.iter().any(|(known, _)| *known == name);
        let checkout = context.checkout.iter().filter(|(name, _)| !is_known(*name));
        for (name, value) in context.whereabouts.iter().chain(checkout) {
            last.set(*name, value.clone());
        }
        for (name, value) in &context.own_fields {
            last.set(name.clone(), value.clone());
        }
        let startup_name = match context.tilt_mode {
            Some(TiltMode::Ci) => "tilt ci",
            Some(TiltMode::Up) | None => "tilt up",
        };
        Self { first, last, session: session_id, startup, startup_name }
    }
}

/// OpenTelemetry's `os.type`.
fn os_type() -> &'static str {
    match std::env::consts::OS {
        "macos" => "darwin",
        os => os,
    }
}

/// OpenTelemetry's `host.arch`.
fn host_arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "arm" => "arm32",
        arch => arch,
    }
}
