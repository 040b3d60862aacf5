//! The fields that every event carries besides what Tilt shows: the user's choices, the machine and
//! the versions. Pure.

use std::sync::Arc;

use serde_json::Value;

use crate::events::event::{EVENT_VERSION, Fields};
use crate::events::trace::{RemoteParent, Span};
use crate::tilt::command::TiltMode;
use crate::tilt::model::Session;

/// The user's choices and the machine.
#[derive(Debug, Clone, Default)]
pub struct Context {
    /// `--user`, which is used if Tilt shows no user.
    pub user: Option<String>,
    /// `--field`: names that [`crate::events::fields::FIELDS`] does not hold.
    pub own_fields: Vec<(String, Value)>,
    /// Adds `error.message`.
    pub send_error_text: bool,
    /// Adds `stage_text`.
    pub send_stage_text: bool,
    pub tilt_mode: Option<TiltMode>,
    /// The name of the collector's own resource. It does not count in any statistic.
    pub collector: String,
    /// The random id of this machine. `None` in a dry run on a machine that has none yet.
    pub installation_id: Option<String>,
    /// The number of processors that this process can use.
    pub cpu_count: usize,
    /// The pipeline, run and change that a CI machine works on.
    pub ci_fields: Vec<(&'static str, String)>,
    /// True if git is asked what is checked out.
    pub vcs: bool,
    /// The repository, branch and commit, as git shows them.
    pub checkout: Vec<(&'static str, String)>,
    /// The span of a CI pipeline that `tilt ci` is part of.
    pub remote_parent: Option<RemoteParent>,
}

/// The fields of every event of one observation, and what its spans derive from.
#[derive(Debug)]
pub struct CommonFields {
    /// They precede the event's own fields: Tilt's version and the user.
    pub leading: Fields,
    /// They follow the event's own fields: versions, machine, CI, checkout and the user's fields.
    pub trailing: Arc<Fields>,
    /// The id of the session.
    pub session: String,
    /// The span of the startup.
    pub startup: Span,
    /// The command that started Tilt, as the name of the startup.
    pub startup_name: &'static str,
}

impl CommonFields {
    /// Collects the fields. `session` is `None` if Tilt shows none.
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
        trailing.set("service.name", "tilt");
        trailing.set("event.version", EVENT_VERSION);
        trailing.set("collector.version", env!("CARGO_PKG_VERSION"));
        trailing.set_some("session.id", Some(session_id.as_str()));
        trailing.set_some("tilt_mode", context.tilt_mode.map(TiltMode::as_str));
        trailing.set("os.type", os_type());
        trailing.set("host.arch", host_arch());
        trailing.set("host.cpu_count", context.cpu_count);
        trailing.set_some("installation.id", context.installation_id.clone());
        // The CI provider's fields win: git may show a temporary merge commit.
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
        let trailing = Arc::new(trailing);
        Self { leading, trailing, session: session_id, startup, startup_name }
    }
}

/// The value of `os.type` in OpenTelemetry's semantic conventions.
fn os_type() -> &'static str {
    match std::env::consts::OS {
        "macos" => "darwin",
        os => os,
    }
}

/// The value of `host.arch` in OpenTelemetry's semantic conventions.
fn host_arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "arm" => "arm32",
        arch => arch,
    }
}
