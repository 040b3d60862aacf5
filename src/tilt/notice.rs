//! A notice in Tilt's web UI: a button without an action, beside a resource.
//!
//! Tilt 0.37 marks warnings only for updates and pods (`web/src/alerts.ts`), and not for the output of a
//! `serve_cmd`. A status of the resource, such as one of a readiness probe, could fail `tilt ci`. A button
//! (`UIButton` in Tilt's API) changes no status.

use std::fs;
use std::path::PathBuf;

use serde_json::json;

use crate::base::shutdown::Shutdown;
use crate::tilt::client::{CALL_TIMEOUT, Calls};
use crate::tilt::command::TiltCommand;
use crate::tilt::error::TiltError;

/// A yellow triangle with an exclamation mark. Tilt's UI downloads the font of its named icons from Google,
/// and shows their names as text without it.
const ICON: &str = "<svg viewBox='0 0 24 24'><path fill='#fcb41e' fill-rule='evenodd' \
                    d='M12 2 1 21h22zm-1 7h2v6h-2zm0 7.5h2v2h-2z'/></svg>";

/// A notice that may be shown.
#[derive(Debug, Clone)]
pub struct Notice {
    pub command: TiltCommand,
    /// The resource that shows it.
    pub resource: String,
    /// The file that is passed to `tilt apply`.
    pub file: PathBuf,
}

impl Notice {
    /// Shows the notice, or replaces its text.
    pub fn show(&self, text: &str, shutdown: &Shutdown) -> Result<(), TiltError> {
        let button = json!({
            "apiVersion": "tilt.dev/v1alpha1",
            "kind": "UIButton",
            "metadata": {"name": self.name()},
            "spec": {
                "location": {"componentID": self.resource, "componentType": "Resource"},
                "text": text,
                "iconSVG": ICON,
            },
        });
        fs::write(&self.file, button.to_string())?;
        let shown = self.run(&["apply", "-f", &self.file.to_string_lossy()], shutdown);
        fs::remove_file(&self.file)?;
        shown
    }

    /// Removes the notice, if it is shown.
    pub fn remove(&self, shutdown: &Shutdown) -> Result<(), TiltError> {
        self.run(&["delete", "uibutton", &self.name(), "--ignore-not-found"], shutdown)
    }

    fn name(&self) -> String {
        format!("{}-notice", self.resource)
    }

    fn run(&self, arguments: &[&str], shutdown: &Shutdown) -> Result<(), TiltError> {
        let calls = Calls::new(&self.command, CALL_TIMEOUT, shutdown);
        calls.run(self.command.arguments(arguments)).map(drop)
    }
}
