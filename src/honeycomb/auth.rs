//! The team, the environment and the permissions of a key: the response to `GET /1/auth`
//! (<https://docs.honeycomb.io/api/tag/Auth>). Pure.
//!
//! Every member may be missing. An ingest key has a single permission, the environment of a Classic
//! key has empty names, and a gateway may send less. The permission to create datasets has two
//! spellings, and both are read.

use serde::Deserialize;

/// The path of the request, after the endpoint's URL.
pub const PATH: &str = "/1/auth";

/// The response to the request.
#[derive(Debug, Default, Deserialize)]
pub struct Auth {
    #[serde(rename = "type")]
    kind: Option<String>,
    #[serde(default)]
    api_key_access: Access,
    #[serde(default)]
    team: Named,
    #[serde(default)]
    environment: Option<Named>,
}

#[derive(Debug, Default, Deserialize)]
struct Access {
    events: Option<bool>,
    queries: Option<bool>,
    columns: Option<bool>,
    boards: Option<bool>,
    #[serde(rename = "createDatasets")]
    create_datasets_as_documented: Option<bool>,
    /// The spelling that Honeycomb's Terraform provider reads.
    create_datasets: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
struct Named {
    name: Option<String>,
    slug: Option<String>,
}

impl Named {
    fn slug(&self) -> Option<&str> {
        self.slug.as_deref().filter(|slug| !slug.is_empty())
    }

    /// The name to show to a person, or the slug.
    fn display_name(&self) -> Option<&str> {
        self.name.as_deref().filter(|name| !name.is_empty()).or_else(|| self.slug())
    }
}

impl Auth {
    /// `None` if the response does not describe a key, for example because it is a login page.
    pub fn read(body: &[u8]) -> Option<Self> {
        let auth: Self = serde_json::from_slice(body).ok()?;
        (auth.team.slug().is_some() || auth.kind.is_some()).then_some(auth)
    }

    /// The name of the team, or its slug.
    pub fn team(&self) -> Option<&str> {
        self.team.display_name()
    }

    /// The team in URLs.
    pub fn team_slug(&self) -> Option<&str> {
        self.team.slug()
    }

    /// The name of the environment, or its slug. `None` for Honeycomb Classic.
    pub fn environment(&self) -> Option<&str> {
        self.environment.as_ref().and_then(Named::display_name)
    }

    /// The environment in URLs. `None` for Honeycomb Classic.
    pub fn environment_slug(&self) -> Option<&str> {
        self.environment.as_ref().and_then(Named::slug)
    }

    /// True for a key of Honeycomb Classic, which has no environments.
    pub fn is_classic(&self) -> bool {
        self.environment.as_ref().is_some_and(|named| named.slug.as_deref() == Some(""))
    }

    /// True for a key that can send events and nothing else.
    pub fn is_ingest(&self) -> bool {
        self.kind.as_deref() == Some("ingest")
    }

    /// An ingest key may send events although it has no permission of that name.
    pub fn may_send_events(&self) -> bool {
        self.is_ingest() || self.api_key_access.events != Some(false)
    }

    /// `None` if the response does not say.
    pub fn may_create_datasets(&self) -> Option<bool> {
        let access = &self.api_key_access;
        access.create_datasets_as_documented.or(access.create_datasets)
    }

    /// True unless the response denies the permission "Manage Queries and Columns".
    pub fn may_manage_queries(&self) -> bool {
        let Access { queries, columns, .. } = self.api_key_access;
        !self.is_ingest() && queries != Some(false) && columns != Some(false)
    }

    /// True unless the response denies the permission "Manage Public Boards".
    pub fn may_manage_boards(&self) -> bool {
        !self.is_ingest() && self.api_key_access.boards != Some(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str) -> Option<Auth> {
        Auth::read(body.as_bytes())
    }

    #[test]
    fn a_key_belongs_to_a_team_and_an_environment() {
        let auth = read(
            r#"{"id":"x","type":"configuration","api_key_access":{"events":true,"boards":false,
                "createDatasets":true},"environment":{"name":"Dev Envs","slug":"dev-envs"},
                "team":{"name":"Acme","slug":"acme"}}"#,
        )
        .expect("permissions");
        assert_eq!((auth.team(), auth.team_slug()), (Some("Acme"), Some("acme")));
        assert_eq!(auth.environment(), Some("Dev Envs"));
        assert_eq!(auth.environment_slug(), Some("dev-envs"));
        assert!(!auth.is_classic() && !auth.is_ingest() && auth.may_send_events());
        assert!(!auth.may_manage_boards() && auth.may_manage_queries());
    }

    #[test]
    fn both_spellings_of_create_datasets_are_read() {
        for (access, expected) in [
            (r#"{"createDatasets":true}"#, Some(true)),
            (r#"{"create_datasets":true}"#, Some(true)),
            (r#"{"createDatasets":false}"#, Some(false)),
            ("{}", None),
        ] {
            let auth = read(&format!(r#"{{"type":"ingest","api_key_access":{access}}}"#));
            assert_eq!(auth.expect(access).may_create_datasets(), expected, "{access}");
        }
    }

    #[test]
    fn an_ingest_key_may_send_and_manage_nothing() {
        let auth = read(r#"{"type":"ingest","api_key_access":{"createDatasets":true}}"#);
        let auth = auth.expect("permissions");
        assert!(auth.may_send_events() && !auth.may_manage_boards() && !auth.may_manage_queries());
    }

    #[test]
    fn classic_has_an_environment_without_a_name() {
        let classic = r#"{"team":{"slug":"acme"},"environment":{"name":"","slug":""}}"#;
        assert!(read(classic).expect("permissions").is_classic());
        assert_eq!(read(classic).expect("permissions").environment_slug(), None);
        assert!(!read(r#"{"team":{"slug":"acme"}}"#).expect("permissions").is_classic());
    }

    #[test]
    fn other_responses_do_not_describe_a_key() {
        for body in ["", "[]", "{}", r#"{"team":{}}"#, r#"{"team":{"slug":""}}"#, "<html>", "17"] {
            assert!(read(body).is_none(), "{body}");
        }
    }
}
