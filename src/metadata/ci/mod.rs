//! Describes the pipeline, run and change that a CI machine works on. The values come from the
//! provider's environment variables. Pure.
//!
//! The field names are those of OpenTelemetry's conventions. Those have no name for `ci.provider` and
//! `ci.attempt`. Each provider's function cites the documentation of its variables.

#[cfg(test)]
mod tests;

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
        Some(CiProvider::Azure) => azure(&get),
        Some(CiProvider::Jenkins) => jenkins(&get),
        Some(CiProvider::Bitbucket) => bitbucket(&get),
        Some(CiProvider::GoogleCloudBuild) => cloud_build(&get),
        _ => Vec::new(),
    };
    fields.insert(0, ("ci.provider", provider.map(|provider| provider.to_string())));
    fields.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}

type CiValues = Vec<(&'static str, Option<String>)>;
type Variable<'a> = &'a dyn Fn(&str) -> Option<String>;

/// GitHub Actions: <https://docs.github.com/en/actions/reference/workflows-and-actions/variables>.
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

/// GitLab CI: <https://docs.gitlab.com/ci/variables/predefined_variables/>.
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

/// Buildkite: <https://buildkite.com/docs/pipelines/configure/environment-variables>.
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

/// CircleCI: <https://circleci.com/docs/reference/variables/>.
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

/// Azure Pipelines: <https://learn.microsoft.com/azure/devops/pipelines/build/variables>.
fn azure(get: Variable) -> CiValues {
    let run = || {
        let server = get("SYSTEM_COLLECTIONURI")
            .or_else(|| get("SYSTEM_TEAMFOUNDATIONCOLLECTIONURI"))
            .map(|url| without_credentials(url.trim_end_matches('/')))?;
        // The project's name may need encoding. Its id does not.
        let (project, run) = (get("SYSTEM_TEAMPROJECTID")?, get("BUILD_BUILDID")?);
        Some(format!("{server}/{project}/_build/results?buildId={run}"))
    };
    // `BUILD_SOURCEBRANCHNAME` is only the last part of `feature/cart`.
    let branch = get("SYSTEM_PULLREQUEST_SOURCEBRANCH").or_else(|| get("BUILD_SOURCEBRANCH"));
    // For a pull request, `BUILD_SOURCEVERSION` is the merge commit.
    let revision = get("SYSTEM_PULLREQUEST_SOURCECOMMITID").or_else(|| get("BUILD_SOURCEVERSION"));
    // Only GitHub's pull requests have a number besides the id.
    let change = get("SYSTEM_PULLREQUEST_PULLREQUESTNUMBER")
        .or_else(|| get("SYSTEM_PULLREQUEST_PULLREQUESTID"));
    vec![
        ("cicd.pipeline.name", get("BUILD_DEFINITIONNAME")),
        ("cicd.pipeline.run.id", get("BUILD_BUILDID")),
        ("cicd.pipeline.run.url.full", run()),
        ("cicd.pipeline.task.name", get("SYSTEM_JOBDISPLAYNAME").or_else(|| get("SYSTEM_JOBNAME"))),
        ("ci.attempt", get("SYSTEM_JOBATTEMPT")),
        ("vcs.repository.name", get("BUILD_REPOSITORY_NAME").and_then(|r| repository(&r))),
        ("vcs.ref.head.name", branch.map(|name| short_ref(&name).to_owned())),
        ("vcs.ref.head.revision", revision),
        ("vcs.change.id", change),
    ]
}

/// Jenkins: <https://www.jenkins.io/doc/book/pipeline/jenkinsfile/#using-environment-variables>, and
/// `/env-vars.html` of each Jenkins. The `GIT_*` variables come from its Git plugin.
fn jenkins(get: Variable) -> CiValues {
    // A multibranch project has a job for each branch: `acme/shop/PR-7` belongs to `acme/shop`.
    let pipeline = || {
        let job = get("JOB_NAME")?;
        let project = job.rsplit_once('/').filter(|_| get("BRANCH_NAME").is_some());
        Some(project.map_or(job.as_str(), |(project, _)| project).to_owned())
    };
    // In a multibranch project, `BRANCH_NAME` of a change is a name such as `PR-7`.
    let branch = || {
        let git_branch = || Some(get("GIT_BRANCH")?.trim_start_matches("origin/").to_owned());
        get("CHANGE_BRANCH").or_else(|| get("BRANCH_NAME")).or_else(git_branch)
    };
    vec![
        ("cicd.pipeline.name", pipeline()),
        // `BUILD_ID` is a number that each job counts for itself. The tag contains the job.
        ("cicd.pipeline.run.id", get("BUILD_TAG").or_else(|| get("BUILD_ID"))),
        ("cicd.pipeline.run.url.full", get("BUILD_URL").map(|u| without_credentials(&u))),
        ("cicd.pipeline.task.name", get("STAGE_NAME")),
        ("vcs.repository.name", get("GIT_URL").and_then(|r| repository(&r))),
        ("vcs.ref.head.name", branch()),
        ("vcs.ref.head.revision", get("GIT_COMMIT")),
        ("vcs.change.id", get("CHANGE_ID")),
    ]
}

/// Bitbucket Pipelines: <https://support.atlassian.com/bitbucket-cloud/docs/variables-and-secrets/>.
fn bitbucket(get: Variable) -> CiValues {
    let run = || {
        let (repository, run) = (get("BITBUCKET_REPO_FULL_NAME")?, get("BITBUCKET_BUILD_NUMBER")?);
        Some(format!("https://bitbucket.org/{repository}/pipelines/results/{run}"))
    };
    vec![
        // A repository has one pipeline, without a name.
        ("cicd.pipeline.name", get("BITBUCKET_REPO_SLUG")),
        ("cicd.pipeline.run.id", get("BITBUCKET_PIPELINE_UUID")),
        ("cicd.pipeline.run.url.full", run()),
        ("ci.attempt", get("BITBUCKET_STEP_RUN_NUMBER")),
        ("vcs.repository.name", get("BITBUCKET_REPO_SLUG")),
        ("vcs.ref.head.name", get("BITBUCKET_BRANCH").or_else(|| get("BITBUCKET_TAG"))),
        ("vcs.ref.head.revision", get("BITBUCKET_COMMIT")),
        ("vcs.change.id", get("BITBUCKET_PR_ID")),
    ]
}

/// Cloud Build: <https://cloud.google.com/build/docs/configuring-builds/substitute-variable-values>.
/// Its substitutions are variables only with `automapSubstitutions: true`, or if `env` lists them.
fn cloud_build(get: Variable) -> CiValues {
    let run = || {
        let (region, run, project) = (get("LOCATION")?, get("BUILD_ID")?, get("PROJECT_ID")?);
        Some(format!(
            "https://console.cloud.google.com/cloud-build/builds;region={region}/{run}?project={project}"
        ))
    };
    let branch = get("_HEAD_BRANCH").or_else(|| get("BRANCH_NAME")).or_else(|| get("TAG_NAME"));
    vec![
        ("cicd.pipeline.name", get("TRIGGER_NAME")),
        ("cicd.pipeline.run.id", get("BUILD_ID")),
        ("cicd.pipeline.run.url.full", run()),
        ("vcs.repository.name", get("REPO_NAME").and_then(|r| repository(&r))),
        ("vcs.ref.head.name", branch),
        ("vcs.ref.head.revision", get("COMMIT_SHA").or_else(|| get("REVISION_ID"))),
        ("vcs.change.id", get("_PR_NUMBER")),
    ]
}

/// `feature/cart` for `refs/heads/feature/cart`. Any other text stays as it is.
fn short_ref(name: &str) -> &str {
    let known = ["refs/heads/", "refs/tags/", "refs/pull/"];
    known.into_iter().find_map(|prefix| name.strip_prefix(prefix)).unwrap_or(name)
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
