//! The kinds of Tilt objects that this program asks for.

use crate::tilt::command::TiltMode;

/// A kind of Tilt object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ObjectKind {
    UiSession,
    UiResources,
    DockerImages,
    CmdImages,
    /// The `Session` of the process, unlike the `UISession` of its UI. It shows if and how `tilt ci`
    /// is about to end.
    Sessions,
}

/// The kind that shows the cluster. Only an environment with Kubernetes resources is asked for it,
/// in a call of its own, so that an older Tilt without this kind loses nothing else.
pub(super) const CLUSTERS: &str = "clusters";
/// The kind that shows the pods of each resource. A call of its own asks for it, so that an older
/// Tilt without this kind loses nothing else.
pub(super) const PODS: &str = "kubernetesdiscoveries";

impl ObjectKind {
    const ALL: [Self; 5] =
        [Self::UiSession, Self::UiResources, Self::DockerImages, Self::CmdImages, Self::Sessions];

    /// The kinds to ask for. `Session` objects are of use only in `tilt ci`.
    pub(super) fn for_mode(mode: Option<TiltMode>) -> Vec<Self> {
        let is_wanted = |kind: &Self| *kind != Self::Sessions || mode == Some(TiltMode::Ci);
        Self::ALL.into_iter().filter(is_wanted).collect()
    }

    /// The name in a call for this kind alone.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::UiSession => "uisession",
            Self::UiResources => "uiresources",
            Self::DockerImages => "dockerimages",
            Self::CmdImages => "cmdimages",
            Self::Sessions => "sessions",
        }
    }

    /// The name in a call for several kinds, such as `tilt get uisessions,uiresources`.
    pub(super) fn name_in_list(self) -> &'static str {
        match self {
            Self::UiSession => "uisessions",
            kind => kind.name(),
        }
    }
}
