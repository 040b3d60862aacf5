//! Turns BuildKit's name of a stage into Docker's own label for it (`build 3/3 RUN`), without what
//! the stage does: a name holds commands, and build arguments with their values. Pure.

/// The instructions of a Dockerfile: <https://docs.docker.com/reference/dockerfile/>.
const INSTRUCTIONS: [&str; 18] = [
    "ADD",
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "FROM",
    "HEALTHCHECK",
    "LABEL",
    "MAINTAINER",
    "ONBUILD",
    "RUN",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

/// The instructions that change the file system of an image. `BuildKit` runs or caches each of them;
/// it always resolves `FROM` and always exports.
pub const CACHEABLE: [&str; 4] = ["RUN", "COPY", "ADD", "WORKDIR"];

/// How BuildKit and Tilt name the steps that no instruction asks for.
const STEPS: [(&str, &str); 17] = [
    ("exporting", "export"),
    ("writing image", "export"),
    ("naming to", "export"),
    ("pushing", "push"),
    ("docker push", "push"),
    ("kind load", "load"),
    ("loading", "load"),
    ("importing", "import"),
    ("resolve", "resolve"),
    ("resolving", "resolve"),
    ("preparing", "prepare"),
    ("merging", "merge"),
    ("docker-image://", "source"),
    ("local://", "source"),
    ("https://", "source"),
    ("http://", "source"),
    ("git@", "source"),
];

/// How a tool that shows the progress may begin a name.
const PROGRESS: [&str; 3] = ["CACHED ", "ERROR ", "CANCELED "];

const OTHER: &str = "other";

/// Which stage of an image build it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StageLabel {
    /// The build stage, the position and the instruction (`build 3/3 RUN`, `4/4 RUN`), or the kind
    /// of the step (`internal`, `export`). The same for a successful and a failed build.
    pub label: String,
    /// The Dockerfile's instruction, or the kind of the step.
    pub instruction: &'static str,
}

impl StageLabel {
    pub fn of(name: &str) -> Self {
        let name = PROGRESS.iter().fold(name, |name, word| name.strip_prefix(word).unwrap_or(name));
        let (places, action) = split(name);
        if let Some(step) = places.iter().find_map(|place| kind_of_place(place)) {
            return Self::of_step(step);
        }
        let is_placed = places.last().is_some_and(|place| is_position(place));
        if !is_placed {
            return Self::of_step(if places.is_empty() { step_of(action) } else { OTHER });
        }
        let instruction = instruction_of(action);
        let mut label = places.into_iter().filter(|place| may_be_shown(place)).collect::<Vec<_>>();
        label.push(instruction);
        Self { label: label.join(" "), instruction }
    }

    /// True for a step of a Dockerfile that takes time and that a cache can skip.
    pub fn is_cacheable(&self) -> bool {
        CACHEABLE.contains(&self.instruction)
    }

    fn of_step(kind: &'static str) -> Self {
        Self { label: kind.to_owned(), instruction: kind }
    }
}

/// The words in the brackets that a name begins with, and what follows them:
/// `[web] [linux/amd64 build 2/3] COPY a b`.
fn split(name: &str) -> (Vec<&str>, &str) {
    let (mut places, mut rest) = (Vec::new(), name);
    while let Some((inside, after)) = rest.strip_prefix('[').and_then(|rest| rest.split_once("] "))
    {
        places.extend(inside.split_whitespace());
        rest = after;
        // An argument may be in brackets too.
        if places.last().is_some_and(|place| is_position(place)) {
            break;
        }
    }
    (places, rest)
}

fn kind_of_place(place: &str) -> Option<&'static str> {
    ["internal", "auth", "context"].into_iter().find(|kind| *kind == place)
}

/// `3/12`.
fn is_position(place: &str) -> bool {
    let is_number = |text: &str| {
        (1..=4).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
    };
    place.split_once('/').is_some_and(|(position, of)| is_number(position) && is_number(of))
}

/// The name of a build stage, a service or a platform (`linux/amd64->arm64`), of a usual length.
fn may_be_shown(place: &str) -> bool {
    let is_usual = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./>".contains(&byte);
    place.len() <= 64 && place.bytes().all(is_usual)
}

fn instruction_of(action: &str) -> &'static str {
    let first = action.split_whitespace().next().unwrap_or_default();
    let known = INSTRUCTIONS.into_iter().find(|known| first.eq_ignore_ascii_case(known));
    known.unwrap_or(OTHER)
}

fn step_of(action: &str) -> &'static str {
    let step = STEPS.iter().find(|(start, _)| action.starts_with(start)).map(|(_, kind)| *kind);
    step.unwrap_or_else(|| instruction_of(action))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names that BuildKit showed, with secrets where users put them.
    const NAMES: &[(&str, &str)] = &[
        ("[internal] load build definition from Dockerfile", "internal"),
        ("[ui internal] load metadata for docker.io/library/nginx:1.27", "internal"),
        ("[auth] library/nginx:pull token for registry-1.docker.io", "auth"),
        ("resolve image config for docker-image://docker.io/docker/dockerfile:1", "resolve"),
        ("docker-image://docker.io/docker/dockerfile:1@sha256:abcd", "source"),
        (
            "https://x-access-token:ghp_abcdefghijklmnopqrstuvwxyz0123456789@github.com/acme/secret.git#main",
            "source",
        ),
        ("git@github.com:acme/secret.git", "source"),
        ("[linux/amd64 2/3] RUN npm ci", "linux/amd64 2/3 RUN"),
        ("[stage-1 2/9] RUN --mount=type=secret,id=npm TOKEN=hunter2 npm ci", "stage-1 2/9 RUN"),
        ("[build 3/9] WORKDIR /home/ann", "build 3/9 WORKDIR"),
        ("[4/9] ADD https://ann:hunter2@host.example/x /", "4/9 ADD"),
        ("[5/9] RUN <<EOF (apt-get update...)", "5/9 RUN"),
        ("[context base] load metadata for docker.io/acme/base", "context"),
        ("importing cache manifest from r.example/acme/secret-project", "import"),
        ("exporting to image", "export"),
        ("exporting to docker image format", "export"),
        ("writing image sha256:abc", "export"),
        ("naming to r.example/acme/secret:1", "export"),
        ("pushing r.example/acme/secret:1 with docker", "push"),
        ("merging", "merge"),
        ("[6/9] copy /src /dst", "6/9 COPY"),
        ("[7/9] ENV TOKEN=hunter2", "7/9 ENV"),
        ("[8/9] LABEL a=b", "8/9 LABEL"),
        ("local://context", "source"),
        ("[helper] install", "other"),
        ("rm -rf /home/ann", "other"),
        ("/bin/sh -c hunter2", "other"),
        ("[9/9] COPY --from=builder /a /b", "9/9 COPY"),
        ("[prod-10 1/2] FROM docker.io/library/node:20", "prod-10 1/2 FROM"),
        ("CACHED [2/2] RUN x", "2/2 RUN"),
        ("[runtime stage-3  4/12] RUN echo hi", "runtime stage-3 4/12 RUN"),
        ("[ 2/10] RUN echo", "2/10 RUN"),
        ("[web] [builder 2/3] RUN x", "web builder 2/3 RUN"),
        ("heredoc", "other"),
        ("mount / from exec /bin/sh -c secret", "other"),
        ("[3/3] RUN boom", "3/3 RUN"),
        // BuildKit never shows these, but a label must be safe for any name.
        ("[TOKEN=hunter2 1/2] RUN x", "1/2 RUN"),
        ("[1/2] hunter2", "1/2 other"),
        ("[1/2] [hunter2] RUN x", "1/2 other"),
        ("[2/2] RUN [ -f a ] b", "2/2 RUN"),
        ("[1/2", "other"),
        ("[", "other"),
        ("", "other"),
    ];

    #[test]
    fn a_stage_is_labelled_as_docker_labels_it() {
        for (name, label) in NAMES {
            assert_eq!(StageLabel::of(name).label, *label, "{name}");
        }
    }

    #[test]
    fn only_steps_that_change_the_image_are_cacheable() {
        let is_cacheable = |name: &&(&str, &str)| StageLabel::of(name.0).is_cacheable();
        let labels: Vec<_> = NAMES.iter().filter(is_cacheable).map(|(_, label)| *label).collect();
        for label in &labels {
            assert!(CACHEABLE.iter().any(|word| label.ends_with(word)), "{label}");
        }
        for label in ["internal", "export", "prod-10 1/2 FROM", "7/9 ENV", "other"] {
            assert!(!labels.contains(&label), "{label}");
        }
        assert_eq!(labels.len(), 14, "{labels:?}");
    }

    #[test]
    fn a_label_holds_nothing_that_a_stage_does() {
        for (name, _) in NAMES {
            let StageLabel { label, instruction } = StageLabel::of(name);
            assert!(label.ends_with(instruction), "{name}");
            for secret in ["hunter2", "ghp_", "ann", "secret", "acme", "boom", "npm"] {
                assert!(!label.contains(secret), "{name}: {label}");
            }
        }
    }
}
