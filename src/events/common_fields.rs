//! What events say beside what Tilt shows: the person's choices, the machine, the versions. Pure.

use crate::events::event::{EVENT_VERSION, Fields};
use crate::events::trace::{RemoteParent, Span};
use crate::tilt::command::TiltMode;
use crate::tilt::model::Session;

/// The person's choices and the machine.
#[derive(Debug, Clone, Default)]
pub struct Context {
    /// Used where Tilt knows no user.
    pub user: Option<String>,
    /// `--field`: names that [`crate::events::fields::FIELDS`] does not hold.
    pub own_fields: Vec<(String, String)>,
    pub send_error_text: bool,
    pub send_stage_text: bool,
    pub tilt_mode: Option<TiltMode>,
    /// None in a dry run on a machine that has none yet.
    pub installation_id: Option<String>,
    pub cpu_count: usize,
    /// Which pipeline, run and change a CI machine works on.
    pub ci_fields: Vec<(&'static str, String)>,
    /// Whether git is to be asked what is checked out.
    pub vcs: bool,
    /// What git said.
    pub checkout: Vec<(&'static str, String)>,
    /// The span of a pipeline's that `tilt ci` is part of.
    pub remote_parent: Option<RemoteParent>,
}

/// What every event of a report carries.
#[derive(Debug)]
pub struct CommonFields {
    /// Before the event's own fields: whose environment it is.
    pub leading: Fields,
    /// After them: versions, machine, the person's own fields.
    pub trailing: Fields,
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
        let mut leading = Fields::default();
        leading.set_some("tilt_version", session.and_then(|s| s.tilt_version.clone()));
        let user = session.and_then(|s| s.tilt_cloud_user.clone()).or_else(|| context.user.clone());
        leading.set("user", user.unwrap_or_default());

        let mut trailing = Fields::default();
        trailing.set("event.version", EVENT_VERSION);
        trailing.set("collector.version", env!("CARGO_PKG_VERSION"));
        trailing.set_some("session.id", Some(session_id.as_str()));
        trailing.set_some("tilt_mode", context.tilt_mode.map(TiltMode::as_str));
        trailing.set("os.type", os_type());
        trailing.set("host.arch", host_arch());
        trailing.set("host.cpu_count", context.cpu_count);
        trailing.set_some("installation.id", context.installation_id.clone());
        // A CI machine knows better: it may have checked out a merge of two branches.
        let is_known = |name| context.ci_fields.iter().any(|(known, _)| *known == name);
        let checkout = context.checkout.iter().filter(|(name, _)| !is_known(*name));
        for (name, value) in context.ci_fields.iter().chain(checkout) {
            trailing.set(*name, value.clone());
        }
        for (name, value) in &context.own_fields {
            trailing.set(name.clone(), value.clone());
        }
        let startup_name = match context.tilt_mode {
            Some(TiltMode::Ci) => "tilt ci",
            Some(TiltMode::Up) | None => "tilt up",
        };
        Self { leading, trailing, session: session_id, startup, startup_name }
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
