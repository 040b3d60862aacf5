//! The variables of each provider, as its documentation describes them.

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
fn azure_pipelines_on_a_branch_with_a_slash() {
    assert_fields(
        CiProvider::Azure,
        &[
            ("SYSTEM_COLLECTIONURI", "https://dev.azure.com/acme/"),
            ("SYSTEM_TEAMPROJECTID", "6f1c"),
            ("BUILD_DEFINITIONNAME", "Check the shop"),
            ("BUILD_BUILDID", "239"),
            ("SYSTEM_JOBDISPLAYNAME", "tilt ci"),
            ("SYSTEM_JOBNAME", "tilt"),
            ("SYSTEM_JOBATTEMPT", "2"),
            ("BUILD_REPOSITORY_NAME", "acme/shop"),
            ("BUILD_SOURCEBRANCH", "refs/heads/feature/cart"),
            ("BUILD_SOURCEBRANCHNAME", "cart"),
            ("BUILD_SOURCEVERSION", "beef"),
        ],
        &[
            ("cicd.pipeline.name", "Check the shop"),
            ("cicd.pipeline.run.id", "239"),
            (
                "cicd.pipeline.run.url.full",
                "https://dev.azure.com/acme/6f1c/_build/results?buildId=239",
            ),
            ("cicd.pipeline.task.name", "tilt ci"),
            ("ci.attempt", "2"),
            ("vcs.repository.name", "shop"),
            ("vcs.ref.head.name", "feature/cart"),
            ("vcs.ref.head.revision", "beef"),
        ],
    );
}

#[test]
fn azure_pipelines_on_a_pull_request_gives_the_source() {
    let mut variables = vec![
        ("SYSTEM_PULLREQUEST_PULLREQUESTID", "17"),
        ("SYSTEM_PULLREQUEST_SOURCEBRANCH", "refs/heads/fix-cart"),
        ("SYSTEM_PULLREQUEST_SOURCECOMMITID", "beef"),
        ("BUILD_SOURCEBRANCH", "refs/pull/17/merge"),
        ("BUILD_SOURCEVERSION", "0c0ffee"),
    ];
    let source = [("vcs.ref.head.name", "fix-cart"), ("vcs.ref.head.revision", "beef")];
    let change = |id| [&source[..], &[("vcs.change.id", id)]].concat();
    assert_fields(CiProvider::Azure, &variables, &change("17"));
    variables.push(("SYSTEM_PULLREQUEST_PULLREQUESTNUMBER", "7"));
    assert_fields(CiProvider::Azure, &variables, &change("7"));
}

#[test]
fn jenkins_on_a_change_of_a_multibranch_project() {
    assert_fields(
        CiProvider::Jenkins,
        &[
            ("JOB_NAME", "acme/shop/PR-7"),
            ("BUILD_ID", "15"),
            ("BUILD_TAG", "jenkins-acme-shop-PR-7-15"),
            ("BUILD_URL", "https://ci:t0ken@jenkins.example/job/acme/job/shop/job/PR-7/15/"),
            ("STAGE_NAME", "Tilt"),
            ("GIT_URL", "https://ci:t0ken@git.example/acme/shop.git"),
            ("GIT_BRANCH", "PR-7"),
            ("GIT_COMMIT", "beef"),
            ("BRANCH_NAME", "PR-7"),
            ("CHANGE_BRANCH", "fix-cart"),
            ("CHANGE_ID", "7"),
        ],
        &[
            ("cicd.pipeline.name", "acme/shop"),
            ("cicd.pipeline.run.id", "jenkins-acme-shop-PR-7-15"),
            (
                "cicd.pipeline.run.url.full",
                "https://jenkins.example/job/acme/job/shop/job/PR-7/15/",
            ),
            ("cicd.pipeline.task.name", "Tilt"),
            ("vcs.repository.name", "shop"),
            ("vcs.ref.head.name", "fix-cart"),
            ("vcs.ref.head.revision", "beef"),
            ("vcs.change.id", "7"),
        ],
    );
}

#[test]
fn jenkins_on_a_branch_of_an_ordinary_job() {
    assert_fields(
        CiProvider::Jenkins,
        &[("JOB_NAME", "acme/shop"), ("BUILD_ID", "15"), ("GIT_BRANCH", "origin/feature/cart")],
        &[
            ("cicd.pipeline.name", "acme/shop"),
            ("cicd.pipeline.run.id", "15"),
            ("vcs.ref.head.name", "feature/cart"),
        ],
    );
}

#[test]
fn bitbucket_pipelines_on_a_pull_request() {
    assert_fields(
        CiProvider::Bitbucket,
        &[
            ("BITBUCKET_REPO_SLUG", "shop"),
            ("BITBUCKET_REPO_FULL_NAME", "acme/shop"),
            ("BITBUCKET_BUILD_NUMBER", "42"),
            ("BITBUCKET_PIPELINE_UUID", "{5a50}"),
            ("BITBUCKET_STEP_RUN_NUMBER", "1"),
            ("BITBUCKET_BRANCH", "fix-cart"),
            ("BITBUCKET_COMMIT", "beef"),
            ("BITBUCKET_PR_ID", "7"),
        ],
        &[
            ("cicd.pipeline.name", "shop"),
            ("cicd.pipeline.run.id", "{5a50}"),
            ("cicd.pipeline.run.url.full", "https://bitbucket.org/acme/shop/pipelines/results/42"),
            ("ci.attempt", "1"),
            ("vcs.repository.name", "shop"),
            ("vcs.ref.head.name", "fix-cart"),
            ("vcs.ref.head.revision", "beef"),
            ("vcs.change.id", "7"),
        ],
    );
    let tag = [("BITBUCKET_TAG", "v1.2")];
    assert_fields(CiProvider::Bitbucket, &tag, &[("vcs.ref.head.name", "v1.2")]);
}

#[test]
fn cloud_build_with_its_substitutions_as_variables() {
    assert_fields(
        CiProvider::GoogleCloudBuild,
        &[
            ("PROJECT_ID", "acme-ci"),
            ("LOCATION", "global"),
            ("BUILD_ID", "7f3a"),
            ("TRIGGER_NAME", "check"),
            ("REPO_NAME", "shop"),
            ("BRANCH_NAME", "fix-cart"),
            ("COMMIT_SHA", "beef"),
            ("_HEAD_BRANCH", "fix-cart"),
            ("_PR_NUMBER", "7"),
        ],
        &[
            ("cicd.pipeline.name", "check"),
            ("cicd.pipeline.run.id", "7f3a"),
            (
                "cicd.pipeline.run.url.full",
                "https://console.cloud.google.com/cloud-build/builds;region=global/7f3a?project=acme-ci",
            ),
            ("vcs.repository.name", "shop"),
            ("vcs.ref.head.name", "fix-cart"),
            ("vcs.ref.head.revision", "beef"),
            ("vcs.change.id", "7"),
        ],
    );
    assert_fields(CiProvider::GoogleCloudBuild, &[("BUILDER_OUTPUT", "/builder/outputs")], &[]);
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
