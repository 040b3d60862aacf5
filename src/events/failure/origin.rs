//! Finds out what Tilt was doing when it failed. Tilt puts a wrapper in front of most errors; if
//! there is none, the object that shows the error decides.

/// The object that shows an error, which is all that is known before the text is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// `DockerImage`, `status.completed.error`.
    DockerImage,
    /// `CmdImage`, `status.completed.error`.
    CmdImage,
    /// `DockerImage`, `status.stageStatuses[].error`.
    Stage,
    /// `UIResource`, `status.buildHistory[].error`.
    Update(Target),
    /// The same, of a Tiltfile.
    Tiltfile,
    /// `Session`, `status.error` and `status.targets[].state.terminated.error`.
    Session,
    /// `Cluster`, `status.error`.
    Cluster,
}

/// The type of thing that an update works on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    Kubernetes,
    DockerCompose,
    /// The command of a `local_resource`.
    Local,
    /// A resource that is only an image.
    Image,
    /// A running container.
    LiveUpdate,
    Unknown,
}

/// The task in which Tilt failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    ImageBuild,
    Push,
    /// Sending objects to the Kubernetes API, or running the command of a `k8s_custom_deploy`.
    Apply,
    LiveUpdate,
    Command,
    Compose,
    Tiltfile,
    /// Connecting to Docker.
    Docker,
    /// Connecting to the Kubernetes cluster.
    Cluster,
    /// Waiting for pods and servers, until `tilt ci` gave up.
    Session,
    Unknown,
}

/// How Tilt begins an error, in lower case, and what it was doing then.
const WRAPPERS: &[(&str, Origin)] = &[
    ("tilt encountered an error connecting to your kubernetes cluster", Origin::Cluster),
    ("traceback (most recent call last)", Origin::Tiltfile),
    ("pushing image", Origin::Push),
    ("updating pod ", Origin::LiveUpdate),
    ("updating container ", Origin::LiveUpdate),
    ("executing on container ", Origin::LiveUpdate),
    ("kubernetes apply", Origin::Apply),
    ("kubernetes delete", Origin::Apply),
    ("apply command ", Origin::Apply),
    ("command \"", Origin::Command),
    ("custom build \"", Origin::Command),
    ("command [", Origin::Compose),
    ("error during connect", Origin::Docker),
    ("failed to connect to docker", Origin::Docker),
    ("could not find image in docker", Origin::ImageBuild),
];

impl Origin {
    pub(super) fn of(text: &str, place: Place) -> Self {
        match place {
            Place::Tiltfile => return Self::Tiltfile,
            Place::Cluster => return Self::Cluster,
            _ => {}
        }
        let (start, by_place) = match without_image_build(text) {
            Some(rest) => (rest, Self::ImageBuild),
            None => (text.trim_start(), Self::of_place(place)),
        };
        let starts_with = |wrapper: &str| {
            start.get(..wrapper.len()).is_some_and(|start| start.eq_ignore_ascii_case(wrapper))
        };
        WRAPPERS
            .iter()
            .find(|(wrapper, _)| starts_with(wrapper))
            .map_or(by_place, |(_, origin)| *origin)
    }

    fn of_place(place: Place) -> Self {
        match place {
            Place::DockerImage | Place::CmdImage | Place::Stage | Place::Update(Target::Image) => {
                Self::ImageBuild
            }
            Place::Update(Target::Kubernetes) => Self::Apply,
            Place::Update(Target::DockerCompose) => Self::Compose,
            Place::Update(Target::Local) => Self::Command,
            Place::Update(Target::LiveUpdate) => Self::LiveUpdate,
            Place::Update(Target::Unknown) => Self::Unknown,
            Place::Tiltfile => Self::Tiltfile,
            Place::Session => Self::Session,
            Place::Cluster => Self::Cluster,
        }
    }
}

/// The rest of the text after Tilt's name for a failed `docker_build`.
fn without_image_build(text: &str) -> Option<&str> {
    text.trim_start().strip_prefix("ImageBuild:").map(str::trim_start)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrapper_decides_before_the_place() {
        let deploy = Place::Update(Target::Kubernetes);
        for (text, place, origin) in [
            ("ImageBuild: x", deploy, Origin::ImageBuild),
            ("ImageBuild: error during connect: x", deploy, Origin::Docker),
            ("pushing image \"x\": x", Place::DockerImage, Origin::Push),
            ("Updating pod web-1: x", deploy, Origin::LiveUpdate),
            ("kubernetes apply retry: x", Place::Update(Target::Unknown), Origin::Apply),
            ("Command \"x\" failed: x", deploy, Origin::Command),
            ("command [\"docker-compose\" \"up\"] failed.", deploy, Origin::Compose),
            ("x", deploy, Origin::Apply),
            ("x", Place::Stage, Origin::ImageBuild),
            ("", Place::Session, Origin::Session),
            ("ImageBuild: x", Place::Tiltfile, Origin::Tiltfile),
        ] {
            assert_eq!(Origin::of(text, place), origin, "{text}");
        }
    }
}
