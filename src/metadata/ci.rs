//! Which pipeline, run and change a CI machine works on: its variables, as fields under the names
//! of OpenTelemetry's conventions. Pure; which provider's machine it is, is given.
//!
//! `ci.provider` and `ci.attempt` have no counterpart there.

use ci_env::CiProvider;

use crate::base::text::without_credentials;

/// Whose machine it is, and what that provider's variables say.
pub fn fields(
    provider: Option<CiProvider>,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Vec<(&'static str, String)> {
    let says = |name: &str| variable(name).filter(|value| !value.trim().is_empty());
    let mut found = match provider {
        Some(CiProvider::GithubActions) => github(&says),
        Some(CiProvider::Gitlab) => gitlab(&says),
        Some(CiProvider::Buildkite) => buildkite(&says),
        Some(CiProvider::CircleCI) => circleci(&says),
        _ => Vec::new(),
    };
    found.insert(0, ("ci.provider", provider.map(|provider| provider.to_string())));
    found.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}

type CiValues = Vec<(&'static str, Option<String>)>;
type Variable<'a> = &'a dyn Fn(&str) -> Option<String>;

fn github(says: Variable) -> CiValues {
    let run = || {
        let (server, run) = (says("GITHUB_SERVER_URL")?, says("GITHUB_RUN_ID")?);
        let attempt = says("GITHUB_RUN_ATTEMPT").map(|n| format!("/attempts/{n}"));
        let repository = says("GITHUB_REPOSITORY")?;
        let attempt = attempt.unwrap_or_default();
        Some(without_credentials(&format!("{server}/{repository}/actions/runs/{run}{attempt}")))
    };
    // Of a pull request it is `refs/pull/7/merge`.
    let change = || Some(says("GITHUB_REF")?.strip_prefix("refs/pull/")?.split('/').next()?.into());
    vec![
        ("cicd.pipeline.name", says("GITHUB_WORKFLOW")),
        ("cicd.pipeline.run.id", says("GITHUB_RUN_ID")),
        ("cicd.pipeline.run.url.full", run()),
        ("cicd.pipeline.task.name", says("GITHUB_JOB")),
        ("ci.attempt", says("GITHUB_RUN_ATTEMPT")),
        ("vcs.repository.name", says("GITHUB_REPOSITORY").and_then(|r| repository(&r))),
        ("vcs.ref.head.name", says("GITHUB_HEAD_REF").or_else(|| says("GITHUB_REF_NAME"))),
        ("vcs.ref.head.revision", says("GITHUB_SHA")),
        ("vcs.change.id", change()),
    ]
}

fn gitlab(says: Variable) -> CiValues {
    let branch = says("CI_MERGE_REQUEST_SOURCE_BRANCH_NAME").or_else(|| says("CI_COMMIT_REF_NAME"));
    // Only where GitLab tries the merged result, of which CI_COMMIT_SHA is the merge.
    let revision = says("CI_MERGE_REQUEST_SOURCE_BRANCH_SHA").or_else(|| says("CI_COMMIT_SHA"));
    vec![
        // A project's one pipeline need not have a name.
        ("cicd.pipeline.name", says("CI_PIPELINE_NAME").or_else(|| says("CI_PROJECT_NAME"))),
        ("cicd.pipeline.run.id", says("CI_PIPELINE_ID")),
        ("cicd.pipeline.run.url.full", says("CI_PIPELINE_URL").map(|u| without_credentials(&u))),
        ("cicd.pipeline.task.name", says("CI_JOB_NAME")),
        ("vcs.repository.name", says("CI_PROJECT_NAME")),
        ("vcs.ref.head.name", branch),
        ("vcs.ref.head.revision", revision),
        ("vcs.change.id", says("CI_MERGE_REQUEST_IID")),
    ]
}

fn buildkite(says: Variable) -> CiValues {
    // It counts retries; others count attempts.
    let retries = says("BUILDKITE_RETRY_COUNT").and_then(|count| count.parse::<u64>().ok());
    let is_commit = |text: &String| text.bytes().all(|byte| byte.is_ascii_hexdigit());
    vec![
        ("cicd.pipeline.name", says("BUILDKITE_PIPELINE_SLUG")),
        ("cicd.pipeline.run.id", says("BUILDKITE_BUILD_ID")),
        (
            "cicd.pipeline.run.url.full",
            says("BUILDKITE_BUILD_URL").map(|u| without_credentials(&u)),
        ),
        ("cicd.pipeline.task.name", says("BUILDKITE_LABEL").or_else(|| says("BUILDKITE_STEP_KEY"))),
        ("ci.attempt", retries.and_then(|count| count.checked_add(1)).map(|n| n.to_string())),
        ("vcs.repository.name", says("BUILDKITE_REPO").and_then(|r| repository(&r))),
        ("vcs.ref.head.name", says("BUILDKITE_BRANCH")),
        // It may read `HEAD`.
        ("vcs.ref.head.revision", says("BUILDKITE_COMMIT").filter(is_commit)),
        ("vcs.change.id", says("BUILDKITE_PULL_REQUEST").filter(|number| number != "false")),
    ]
}

fn circleci(says: Variable) -> CiValues {
    // The number itself is set for forks alone.
    let change = says("CIRCLE_PR_NUMBER").or_else(|| {
        let url = says("CIRCLE_PULL_REQUEST")?;
        url.rsplit('/')
            .next()
            .filter(|id| id.bytes().all(|b| b.is_ascii_digit()))
            .map(str::to_owned)
    });
    vec![
        // It has one pipeline a project, and no name for it.
        ("cicd.pipeline.name", says("CIRCLE_PROJECT_REPONAME")),
        ("cicd.pipeline.run.id", says("CIRCLE_WORKFLOW_ID")),
        // Of the job: the only address that it tells.
        ("cicd.pipeline.run.url.full", says("CIRCLE_BUILD_URL").map(|u| without_credentials(&u))),
        ("cicd.pipeline.task.name", says("CIRCLE_JOB")),
        ("vcs.repository.name", says("CIRCLE_PROJECT_REPONAME")),
        ("vcs.ref.head.name", says("CIRCLE_BRANCH").or_else(|| says("CIRCLE_TAG"))),
        ("vcs.ref.head.revision", says("CIRCLE_SHA1")),
        ("vcs.change.id", change.filter(|id| !id.is_empty())),
    ]
}

/// The last part of `acme/shop`, `git@host:acme/shop.git` or `https://user:token@host/acme/shop`.
pub fn repository(remote: &str) -> Option<String> {
    let path = match remote.split_once("://") {
        Some((_, rest)) => rest.split_once('/')?.1,
        None => remote,
    };
    let path = path.split(['?', '#']).next()?.trim_end_matches('/');
    // A folder of Windows's has the user's name in it.
    let name = path.rsplit(['/', '\\', ':']).next()?;
    let name = name.strip_suffix(".git").unwrap_or(name);
    (!name.is_empty() && !name.contains('@')).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(provider: CiProvider, variables: &[(&str, &str)]) -> Vec<(&'static str, String)> {
        let variable = |name: &str| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        fields(Some(provider), &variable)
    }

    #[track_caller]
    fn assert_told(provider: CiProvider, variables: &[(&str, &str)], expected: &[(&str, &str)]) {
        let told = told(provider, variables);
        let told: Vec<_> = told.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let provider = provider.to_string();
        assert_eq!(told, [&[("ci.provider", provider.as_str())], expected].concat());
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
        assert_told(
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
        let told = told(CiProvider::GithubActions, &[&pull[..], &GITHUB].concat());
        assert!(told.contains(&("vcs.ref.head.name", "fix-cart".into())), "{told:?}");
        assert!(told.contains(&("vcs.change.id", "7".into())), "{told:?}");
    }

    #[test]
    fn gitlab_ci_on_a_merge_request() {
        assert_told(
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
    fn buildkite_counts_from_one_and_keeps_the_remotes_token() {
        assert_told(
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
    fn circleci_names_the_change_by_its_url() {
        assert_told(
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
    fn any_other_provider_is_named_and_no_provider_is_nothing() {
        assert_told(CiProvider::Drone, &[("GITHUB_SHA", "beef")], &[]);
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
