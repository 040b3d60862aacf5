//! Describes the pipeline, run and change that a CI machine works on. The values come from the
//! provider's environment variables. Pure.
//!
//! The field names are those of OpenTelemetry's conventions. Those have no name for `ci.provider` and
//! `ci.attempt`.

use ci_env::CiProvider;

use crate::base::text::without_credentials;

/// Returns the CI fields for this provider. `variable` reads an environment variable. Fields without a
/// value are absent. A provider that is not supported gives only `ci.provider`.
pub fn fields(
    provider: Option<CiProvider>,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Vec<(&'static str, String)> {
    let get = |name: &str| variable(name).filter(|value| !value.trim().is_empty());
    let mut fields = match provider {
        Some(CiProvider::GithubActions) => github(&get),
        Some(CiProvider::Gitlab) => gitlab(&get),
        Some(CiProvider::Buildkite) => buildkite(&get),
        Some(CiProvider::CircleCI) => circleci(&get),
        _ => Vec::new(),
    };
    fields.insert(0, ("ci.provider", provider.map(|provider| provider.to_string())));
    fields.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}

type CiValues = Vec<(&'static str, Option<String>)>;
type Variable<'a> = &'a dyn Fn(&str) -> Option<String>;

fn github(get: Variable) -> CiValues {
    let run = || {
        let (server, run) = (get("GITHUB_SERVER_URL")?, get("GITHUB_RUN_ID")?);
        let attempt = get("GITHUB_RUN_ATTEMPT").map(|n| format!("/attempts/{n}"));
        let repository = get("GITHUB_REPOSITORY")?;
        let attempt = attempt.unwrap_or_default();
        Some(without_credentials(&format!("{server}/{repository}/actions/runs/{run}{attempt}")))
    };
    // For a pull request, the ref is `refs/pull/7/merge`.
    let change = || Some(get("GITHUB_REF")?.strip_prefix("refs/pull/")?.split('/').next()?.into());
    vec![
        ("cicd.pipeline.name", get("GITHUB_WORKFLOW")),
        ("cicd.pipeline.run.id", get("GITHUB_RUN_ID")),
        ("cicd.pipeline.run.url.full", run()),
        ("cicd.pipeline.task.name", get("GITHUB_JOB")),
        ("ci.attempt", get("GITHUB_RUN_ATTEMPT")),
        ("vcs.repository.name", get("GITHUB_REPOSITORY").and_then(|r| repository(&r))),
        ("vcs.ref.head.name", get("GITHUB_HEAD_REF").or_else(|| get("GITHUB_REF_NAME"))),
        ("vcs.ref.head.revision", get("GITHUB_SHA")),
        ("vcs.change.id", change()),
    ]
}

fn gitlab(get: Variable) -> CiValues {
    let branch = get("CI_MERGE_REQUEST_SOURCE_BRANCH_NAME").or_else(|| get("CI_COMMIT_REF_NAME"));
    // Set only in a pipeline for merged results, where `CI_COMMIT_SHA` is the merge commit.
    let revision = get("CI_MERGE_REQUEST_SOURCE_BRANCH_SHA").or_else(|| get("CI_COMMIT_SHA"));
    vec![
        // A pipeline has a name only if the project gives it one.
        ("cicd.pipeline.name", get("CI_PIPELINE_NAME").or_else(|| get("CI_PROJECT_NAME"))),
        ("cicd.pipeline.run.id", get("CI_PIPELINE_ID")),
        ("cicd.pipeline.run.url.full", get("CI_PIPELINE_URL").map(|u| without_credentials(&u))),
        ("cicd.pipeline.task.name", get("CI_JOB_NAME")),
        ("vcs.repository.name", get("CI_PROJECT_NAME")),
        ("vcs.ref.head.name", branch),
        ("vcs.ref.head.revision", revision),
        ("vcs.change.id", get("CI_MERGE_REQUEST_IID")),
    ]
}

fn buildkite(get: Variable) -> CiValues {
    // Buildkite counts retries. The other providers count attempts.
    let retries = get("BUILDKITE_RETRY_COUNT").and_then(|count| count.parse::<u64>().ok());
    let is_commit = |text: &String| text.bytes().all(|byte| byte.is_ascii_hexdigit());
    vec![
        ("cicd.pipeline.name", get("BUILDKITE_PIPELINE_SLUG")),
        ("cicd.pipeline.run.id", get("BUILDKITE_BUILD_ID")),
        ("cicd.pipeline.run.url.full", get("BUILDKITE_BUILD_URL").map(|u| without_credentials(&u))),
        ("cicd.pipeline.task.name", get("BUILDKITE_LABEL").or_else(|| get("BUILDKITE_STEP_KEY"))),
        ("ci.attempt", retries.and_then(|count| count.checked_add(1)).map(|n| n.to_string())),
        ("vcs.repository.name", get("BUILDKITE_REPO").and_then(|r| repository(&r))),
        ("vcs.ref.head.name", get("BUILDKITE_BRANCH")),
        // Buildkite may set `HEAD` instead of a commit.
        ("vcs.ref.head.revision", get("BUILDKITE_COMMIT").filter(is_commit)),
        ("vcs.change.id", get("BUILDKITE_PULL_REQUEST").filter(|number| number != "false")),
    ]
}

fn circleci(get: Variable) -> CiValues {
    // CircleCI sets the number only for pull requests from a fork.
    let change = get("CIRCLE_PR_NUMBER").or_else(|| {
        let url = get("CIRCLE_PULL_REQUEST")?;
        url.rsplit('/')
            .next()
            .filter(|id| id.bytes().all(|b| b.is_ascii_digit()))
            .map(str::to_owned)
    });
    vec![
        // CircleCI has one pipeline for each project, without a name.
        ("cicd.pipeline.name", get("CIRCLE_PROJECT_REPONAME")),
        ("cicd.pipeline.run.id", get("CIRCLE_WORKFLOW_ID")),
        // The URL of the job. CircleCI has no variable for the URL of the run.
        ("cicd.pipeline.run.url.full", get("CIRCLE_BUILD_URL").map(|u| without_credentials(&u))),
        ("cicd.pipeline.task.name", get("CIRCLE_JOB")),
        ("vcs.repository.name", get("CIRCLE_PROJECT_REPONAME")),
        ("vcs.ref.head.name", get("CIRCLE_BRANCH").or_else(|| get("CIRCLE_TAG"))),
        ("vcs.ref.head.revision", get("CIRCLE_SHA1")),
        ("vcs.change.id", change.filter(|id| !id.is_empty())),
    ]
}

/// Returns the repository name: the last part of `acme/shop`, `git@host:acme/shop.git` or
/// `https://user:token@host/acme/shop`. Returns `None` rather than a text that may be a credential.
pub fn repository(remote: &str) -> Option<String> {
    let path = match remote.split_once("://") {
        Some((_, rest)) => rest.split_once('/')?.1,
        None => remote,
    };
    let path = path.split(['?', '#']).next()?.trim_end_matches('/');
    // A Windows path may contain the user's name in its folders.
    let name = path.rsplit(['/', '\\', ':']).next()?;
    let name = name.strip_suffix(".git").unwrap_or(name);
    (!name.is_empty() && !name.contains('@')).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(provider: CiProvider, variables: &[(&str, &str)]) -> Vec<(&'static str, String)> {
        let variable = |name: &str| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        fields(Some(provider), &variable)
    }

    #[track_caller]
    fn assert_fields(provider: CiProvider, variables: &[(&str, &str)], expected: &[(&str, &str)]) {
        let read = read(provider, variables);
        let read: Vec<_> = read.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let provider = provider.to_string();
        assert_eq!(read, [&[("ci.provider", provider.as_str())], expected].concat());
    }

    const GITHUB: [(&str, &str); 9] = [
        ("GITHUB_WORKFLOW", "Check"),
        ("GITHUB_RUN_ID", "9127"),
        ("GITHUB_RUN_ATTEMPT", "2"),
        ("GITHUB_SERVER_URL", "https://github.com"),
        ("GITHUB_REPOSITORY", "acme/shop"),
        ("GITHUB_JOB", "tilt"),
        ("GITHUB_REF_NAME", "main"),
        ("GITHUB_REF", "refs/heads/main"),
        ("GITHUB_SHA", "0c0ffee0c0ffee0c0ffee0c0ffee0c0ffee0c0ff"),
    ];

    #[test]
    fn github_actions_on_a_branch() {
        let head_ref = [("GITHUB_HEAD_REF", "")];
        assert_fields(
            CiProvider::GithubActions,
            &[&head_ref[..], &GITHUB].concat(),
            &[
                ("cicd.pipeline.name", "Check"),
                ("cicd.pipeline.run.id", "9127"),
                (
                    "cicd.pipeline.run.url.full",
                    "https://github.com/acme/shop/actions/runs/9127/attempts/2",
                ),
                ("cicd.pipeline.task.name", "tilt"),
                ("ci.attempt", "2"),
                ("vcs.repository.name", "shop"),
                ("vcs.ref.head.name", "main"),
                ("vcs.ref.head.revision", "0c0ffee0c0ffee0c0ffee0c0ffee0c0ffee0c0ff"),
            ],
        );
    }

    #[test]
    fn github_actions_on_a_pull_request() {
        let pull = [("GITHUB_REF", "refs/pull/7/merge"), ("GITHUB_HEAD_REF", "fix-cart")];
        let fields = read(CiProvider::GithubActions, &[&pull[..], &GITHUB].concat());
        assert!(fields.contains(&("vcs.ref.head.name", "fix-cart".into())), "{fields:?}");
        assert!(fields.contains(&("vcs.change.id", "7".into())), "{fields:?}");
    }

    #[test]
    fn gitlab_ci_on_a_merge_request() {
        assert_fields(
            CiProvider::Gitlab,
            &[
                ("CI_PIPELINE_ID", "551"),
                ("CI_PIPELINE_URL", "https://gitlab.example/acme/shop/-/pipelines/551"),
                ("CI_JOB_NAME", "tilt"),
                ("CI_PROJECT_NAME", "shop"),
                ("CI_COMMIT_REF_NAME", "refs/merge-requests/3/head"),
                ("CI_COMMIT_SHA", "beef"),
                ("CI_MERGE_REQUEST_IID", "3"),
                ("CI_MERGE_REQUEST_SOURCE_BRANCH_NAME", "fix-cart"),
            ],
            &[
                ("cicd.pipeline.name", "shop"),
                ("cicd.pipeline.run.id", "551"),
                ("cicd.pipeline.run.url.full", "https://gitlab.example/acme/shop/-/pipelines/551"),
                ("cicd.pipeline.task.name", "tilt"),
                ("vcs.repository.name", "shop"),
                ("vcs.ref.head.name", "fix-cart"),
                ("vcs.ref.head.revision", "beef"),
                ("vcs.change.id", "3"),
            ],
        );
    }

    #[test]
    fn buildkite_attempts_start_at_one_and_tokens_are_removed() {
        assert_fields(
            CiProvider::Buildkite,
            &[
                ("BUILDKITE_PIPELINE_SLUG", "shop"),
                ("BUILDKITE_BUILD_ID", "f62a1b4d"),
                ("BUILDKITE_BUILD_URL", "https://buildkite.com/acme/shop/builds/1514"),
                ("BUILDKITE_LABEL", "tilt ci"),
                ("BUILDKITE_RETRY_COUNT", "0"),
                ("BUILDKITE_REPO", "https://bot:t0ken@git.example/acme/shop.git"),
                ("BUILDKITE_BRANCH", "main"),
                ("BUILDKITE_COMMIT", "HEAD"),
                ("BUILDKITE_PULL_REQUEST", "false"),
            ],
            &[
                ("cicd.pipeline.name", "shop"),
                ("cicd.pipeline.run.id", "f62a1b4d"),
                ("cicd.pipeline.run.url.full", "https://buildkite.com/acme/shop/builds/1514"),
                ("cicd.pipeline.task.name", "tilt ci"),
                ("ci.attempt", "1"),
                ("vcs.repository.name", "shop"),
                ("vcs.ref.head.name", "main"),
            ],
        );
    }

    #[test]
    fn circleci_gives_the_change_by_its_url() {
        assert_fields(
            CiProvider::CircleCI,
            &[
                ("CIRCLE_PROJECT_REPONAME", "shop"),
                ("CIRCLE_WORKFLOW_ID", "5c1f"),
                ("CIRCLE_BUILD_URL", "https://circleci.com/gh/acme/shop/42"),
                ("CIRCLE_JOB", "tilt"),
                ("CIRCLE_BRANCH", "fix-cart"),
                ("CIRCLE_SHA1", "beef"),
                ("CIRCLE_PULL_REQUEST", "https://github.com/acme/shop/pull/7"),
            ],
            &[
                ("cicd.pipeline.name", "shop"),
                ("cicd.pipeline.run.id", "5c1f"),
                ("cicd.pipeline.run.url.full", "https://circleci.com/gh/acme/shop/42"),
                ("cicd.pipeline.task.name", "tilt"),
                ("vcs.repository.name", "shop"),
                ("vcs.ref.head.name", "fix-cart"),
                ("vcs.ref.head.revision", "beef"),
                ("vcs.change.id", "7"),
            ],
        );
    }

    #[test]
    fn other_providers_give_only_their_name() {
        assert_fields(CiProvider::Drone, &[("GITHUB_SHA", "beef")], &[]);
        assert_eq!(fields(None, &|_| Some("x".into())), []);
    }

    #[test]
    fn a_repository_name_never_contains_credentials() {
        for (remote, expected) in [
            ("git@github.com:acme/shop.git", Some("shop")),
            ("ssh://git@host:22/acme/shop", Some("shop")),
            ("https://u:t0ken@host/acme/shop.git?t=1", Some("shop")),
            (r"C:\Users\ann\shop", Some("shop")),
            ("https://t0ken@host", None),
            ("t0ken@host", None),
            ("", None),
        ] {
            assert_eq!(repository(remote).as_deref(), expected, "{remote}");
        }
    }
}
