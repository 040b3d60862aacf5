//! A fake of Honeycomb's API for keys, datasets, columns, queries, annotations, boards and events. It
//! stores what it receives, and rejects bodies that do not match the published schemas
//! (`tests/schemas`).

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fakes::honeycomb::{Answer, Reply, Request, Server};
use serde_json::{Value, json};

use crate::support::schema;

/// Keys in the formats that Honeycomb uses.
pub const INGEST_KEY: &str = "hcaik_01j1824es7n4evcmv81cn392jbk9e1q8z1x4c7v0b3n6m9a2s5d8f1g4h7";
pub const CONFIGURATION_KEY: &str = "qwErTy1234567890asDfGh";
pub const CLASSIC_KEY: &str = "0123456789abcdef0123456789abcdef";

#[derive(Clone)]
pub struct Api(Arc<Mutex<World>>);

pub struct World {
    /// The answer to `GET /1/auth`.
    pub auth: Reply,
    /// The answer to a batch without events. `None` for Honeycomb's own.
    pub empty_batch: Option<Reply>,
    /// The columns of the dataset. `None` if the dataset does not exist.
    pub columns: Option<Vec<String>>,
    pub queries: Vec<Value>,
    pub annotations: Vec<Value>,
    pub boards: Vec<Value>,
    /// Method, path and body of each call that changes something.
    pub changes: Vec<(String, String, Value)>,
    /// Every change after this many fails with this reply.
    pub fails: Option<(usize, Reply)>,
}

pub fn json_reply(status: u16, body: &Value) -> Reply {
    Reply::new(status, body.to_string()).header("content-type", "application/json")
}

/// An error in the format of RFC 7807, which the API description uses.
pub fn problem(status: u16, detail: &str) -> Reply {
    let kind = "https://api.honeycomb.io/problems/not-found";
    let body = json!({"status": status, "type": kind, "title": "It did not work.",
        "error": detail, "detail": detail});
    Reply::new(status, body.to_string()).header("content-type", "application/problem+json")
}

/// The body of `GET /1/auth`, like the example in the API description.
pub fn auth_of(kind: &str, access: &Value) -> Value {
    json!({
        "id": "hcaik_01j1824es7n4evcmv81cn392jb",
        "type": kind,
        "api_key_access": access,
        "environment": {"name": "Dev Machines", "slug": "dev-machines"},
        "team": {"name": "Acme", "slug": "acme"},
    })
}

pub fn configuration_auth() -> Value {
    let access = json!({"events": true, "markers": false, "triggers": false, "boards": true,
        "queries": true, "columns": true, "createDatasets": true, "slos": false,
        "recipients": false, "privateBoards": false});
    auth_of("configuration", &access)
}

impl Api {
    /// Starts with an ingest key that may create datasets, and without a dataset.
    pub fn on(server: &Server) -> Self {
        let auth = auth_of("ingest", &json!({"createDatasets": true}));
        let api = Self(Arc::new(Mutex::new(World {
            auth: json_reply(200, &auth),
            empty_batch: None,
            columns: None,
            queries: Vec::new(),
            annotations: Vec::new(),
            boards: Vec::new(),
            changes: Vec::new(),
            fails: None,
        })));
        let shared = api.clone();
        server.usually(Answer::By(Arc::new(move |request| shared.answer(request))));
        api
    }

    pub fn world(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn set_key_details(&self, auth: &Value) -> &Self {
        self.answers_auth(json_reply(200, auth))
    }

    pub fn answers_auth(&self, reply: Reply) -> &Self {
        self.world().auth = reply;
        self
    }

    pub fn has_columns<'a>(&self, columns: impl IntoIterator<Item = &'a str>) -> &Self {
        self.world().columns = Some(columns.into_iter().map(str::to_owned).collect());
        self
    }

    fn answer(&self, request: &Request) -> Answer {
        if request.path.starts_with("/1/batch/") {
            let is_empty = request.body == b"[]";
            return if is_empty { self.world().empty_batch().into() } else { Answer::Accept };
        }
        let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
        self.world().call(&request.method, &request.path, &body).into()
    }
}

impl World {
    /// Honeycomb rejects an empty batch with 400 if it knows the key, and otherwise like `GET /1/auth`. A
    /// Collector without that path takes it.
    fn empty_batch(&self) -> Reply {
        let is_json = serde_json::from_slice::<Value>(&self.auth.body).is_ok();
        let own = match self.auth.status {
            200 if is_json => {
                json_reply(400, &json!({"error": "request body should not be empty"}))
            }
            404 => json_reply(200, &json!([{"status": 202}])),
            _ => self.auth.clone(),
        };
        self.empty_batch.clone().unwrap_or(own)
    }

    fn call(&mut self, method: &str, path: &str, body: &Value) -> Reply {
        let (path, _) = path.split_once('?').unwrap_or((path, ""));
        let segments: Vec<_> = path.trim_start_matches("/1/").split('/').collect();
        match (method, &segments[..]) {
            ("GET", ["auth"]) => self.auth.clone(),
            ("GET", ["datasets", slug]) if self.columns.is_some() => {
                json_reply(200, &json!({"name": slug, "slug": slug}))
            }
            ("GET", ["columns", _]) if self.columns.is_some() => {
                let columns = self.columns.iter().flatten();
                let columns = columns.map(|name| json!({"id": "c", "key_name": name}));
                json_reply(200, &columns.collect())
            }
            ("GET", ["query_annotations", _]) if self.columns.is_some() => {
                json_reply(200, &json!(self.annotations))
            }
            ("GET", ["boards"]) => json_reply(200, &json!(self.boards)),
            ("GET", _) => problem(404, "Dataset not found"),
            _ => self.change(method, &segments, body),
        }
    }

    fn change(&mut self, method: &str, segments: &[&str], body: &Value) -> Reply {
        if let Some((after, reply)) = &self.fails
            && self.changes.len() >= *after
        {
            return reply.clone();
        }
        let path = format!("/1/{}", segments.join("/"));
        self.changes.push((method.to_owned(), path, body.clone()));
        let kind = match segments[0] {
            "queries" => "query",
            "query_annotations" => "query_annotation",
            _ => "board",
        };
        let violations = schema::violations(kind, body);
        if !violations.is_empty() {
            return problem(422, &violations.join("; "));
        }
        let mut made = body.clone();
        made["id"] = json!(format!("id{}", self.changes.len()));
        match (method, segments) {
            ("POST", ["queries", _]) => {
                if let Some(column) = self.unknown_column(body) {
                    return problem(422, &format!("unknown column: {column}"));
                }
                self.queries.push(made.clone());
                json_reply(200, &made)
            }
            ("POST", ["query_annotations", _]) => {
                if !self.queries.iter().any(|query| query["id"] == body["query_id"]) {
                    let body = json!({"error": "Query ID included in body is invalid"});
                    return json_reply(400, &body);
                }
                self.annotations.push(made.clone());
                json_reply(201, &made)
            }
            ("POST", ["boards"]) => {
                let id = made["id"].as_str().expect("an id");
                let url = "https://ui.honeycomb.io/acme/environments/dev-machines/board";
                made["links"] = json!({"board_url": format!("{url}/{id}")});
                self.boards.push(made.clone());
                json_reply(201, &made)
            }
            ("PUT", ["boards", id]) => {
                let Some(board) = self.boards.iter_mut().find(|board| board["id"] == **id) else {
                    return problem(404, "Board not found");
                };
                made["id"] = board["id"].clone();
                made["links"] = board["links"].clone();
                board.clone_from(&made);
                json_reply(200, &made)
            }
            _ => problem(404, "Not found"),
        }
    }

    /// Honeycomb rejects a query with a column that it has never received.
    fn unknown_column(&self, query: &Value) -> Option<String> {
        let columns = self.columns.as_ref()?;
        let parts = ["filters", "calculations"].map(|part| query[part].as_array());
        let named = parts.into_iter().flatten().flatten().map(|part| &part["column"]);
        let grouped = query["breakdowns"].as_array().into_iter().flatten();
        let mut named = named.chain(grouped).filter_map(Value::as_str);
        named.find(|name| !columns.iter().any(|known| known == name)).map(str::to_owned)
    }
}
