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
    /// The clusters that Tilt is connected to.
    Clusters,
    /// The pods of each Kubernetes resource.
    KubernetesDiscoveries,
}

/// The kinds that only matter if Tilt deploys to Kubernetes.
pub(super) const KUBERNETES: [ObjectKind; 2] =
    [ObjectKind::Clusters, ObjectKind::KubernetesDiscoveries];

impl ObjectKind {
    const ALWAYS: [Self; 4] =
        [Self::UiSession, Self::UiResources, Self::DockerImages, Self::CmdImages];

    /// The kinds to ask for. `Session` objects are of use only in `tilt ci`.
    pub(super) fn wanted(mode: Option<TiltMode>, uses_kubernetes: bool) -> Vec<Self> {
        let mut wanted = Self::ALWAYS.to_vec();
        wanted.extend((mode == Some(TiltMode::Ci)).then_some(Self::Sessions));
        wanted.extend(KUBERNETES.into_iter().filter(|_| uses_kubernetes));
        wanted
    }

    /// The name in a call for this kind alone.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::UiSession => "uisession",
            Self::UiResources => "uiresources",
            Self::DockerImages => "dockerimages",
            Self::CmdImages => "cmdimages",
            Self::Sessions => "sessions",
            Self::Clusters => "clusters",
            Self::KubernetesDiscoveries => "kubernetesdiscoveries",
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
