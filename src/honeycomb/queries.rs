//! The queries that `check` links to, `board` shows and `docs/queries.md` lists, each with its query
//! specification (<https://docs.honeycomb.io/api/query-specification>). Pure.
//!
//! Their order is that of the board. The first four are its first screen, and answer whether the
//! environments are healthy and where the time goes. The next four explain a failed start.

use serde_json::{Value, json};

use crate::base::ids;
use crate::events::stage_label;

const DAY: u32 = 24 * 60 * 60;

#[derive(Debug)]
pub struct Query {
    pub name: &'static str,
    pub question: &'static str,
    pub filters: &'static [Filter],
    pub combination: Combination,
    pub calculations: &'static [Calculation],
    pub breakdowns: &'static [&'static str],
    /// The calculation that orders the groups, greatest first.
    pub order: Calculation,
    pub days: u32,
    pub style: Style,
}

#[derive(Debug)]
pub struct Filter {
    pub column: &'static str,
    pub is: FilterValue,
}

#[derive(Debug)]
pub enum FilterValue {
    Text(&'static str),
    OneOf(&'static [&'static str]),
    True,
    False,
    /// Any value, as long as the event has the column.
    Exists,
    /// A number above 0.
    Positive,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Combination {
    All,
    Any,
}

/// An operator of Honeycomb and its column. Only `COUNT` has none.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Calculation {
    pub op: &'static str,
    pub column: Option<&'static str>,
}

/// How a board shows a query.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Style {
    Graph,
    /// A graph with its table below.
    Combo,
    Table,
}

impl Style {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Graph => "graph",
            Self::Combo => "combo",
            Self::Table => "table",
        }
    }
}

const COUNT: Calculation = Calculation { op: "COUNT", column: None };

const fn of(op: &'static str, column: &'static str) -> Calculation {
    Calculation { op, column: Some(column) }
}

const fn kind(kind: &'static str) -> Filter {
    Filter { column: "kind", is: FilterValue::Text(kind) }
}

const fn exists(column: &'static str) -> Filter {
    Filter { column, is: FilterValue::Exists }
}

/// Start-ups that were given up have not met their slowest resource.
const SETTLED: Filter = Filter { column: "ended_by", is: FilterValue::Text("settled") };
/// The time after the start of an environment.
const NOT_INITIAL: Filter = Filter { column: "initial", is: FilterValue::False };
/// Pods in trouble that Tilt shows as pending, not as an error.
const HIDDEN_POD_TROUBLE: &[&str] =
    &["CrashLoopBackOff", "OOMKilled", "Error", "CreateContainerConfigError", "RunContainerError"];
const ENVIRONMENTS: Calculation = of("COUNT_DISTINCT", "session.id");

pub const QUERIES: &[Query] = &[
    Query {
        name: "Healthy environments",
        question: "How many environments were healthy, and how many starting, updating or unhealthy? One that changed its state is in both.",
        filters: &[kind("session")],
        combination: Combination::All,
        calculations: &[ENVIRONMENTS],
        breakdowns: &["state"],
        order: ENVIRONMENTS,
        days: 1,
        style: Style::Graph,
    },
    Query {
        name: "Unhealthy resources",
        question: "Which resources are in error, and in how many environments?",
        filters: &[
            Filter { column: "update_status", is: FilterValue::Text("error") },
            Filter { column: "runtime_status", is: FilterValue::Text("error") },
            Filter { column: "pod_status", is: FilterValue::OneOf(HIDDEN_POD_TROUBLE) },
        ],
        combination: Combination::Any,
        calculations: &[ENVIRONMENTS],
        breakdowns: &["name"],
        order: ENVIRONMENTS,
        days: 1,
        style: Style::Graph,
    },
    Query {
        name: "Time until healthy",
        question: "How long from the start of Tilt until everything works, including failures that were fixed on the way?",
        filters: &[kind("session"), exists("time_to_healthy_ms")],
        combination: Combination::All,
        calculations: &[
            of("HEATMAP", "time_to_healthy_ms"),
            of("P50", "time_to_healthy_ms"),
            of("P90", "time_to_healthy_ms"),
        ],
        breakdowns: &["tilt_mode"],
        order: of("P90", "time_to_healthy_ms"),
        days: 7,
        style: Style::Graph,
    },
    Query {
        name: "Time waited",
        question: "How long do people wait after a change, and for which resource: for its update, and then until it is ready?",
        filters: &[
            Filter { column: "kind", is: FilterValue::OneOf(&["update", "rollout"]) },
            NOT_INITIAL,
        ],
        combination: Combination::All,
        calculations: &[of("SUM", "duration_ms"), of("P90", "duration_ms")],
        breakdowns: &["name", "kind"],
        order: of("SUM", "duration_ms"),
        days: 7,
        style: Style::Combo,
    },
    Query {
        name: "Failed starts",
        question: "Which starts failed or timed out, and which resources were not ready at the end?",
        filters: &[kind("startup"), Filter { column: "error", is: FilterValue::True }],
        combination: Combination::All,
        calculations: &[COUNT],
        breakdowns: &["name", "error.type", "unready"],
        order: COUNT,
        days: 7,
        style: Style::Combo,
    },
    Query {
        name: "Failures by resource and class",
        question: "Which updates fail, and why?",
        filters: &[kind("update"), Filter { column: "error", is: FilterValue::True }],
        combination: Combination::All,
        calculations: &[COUNT],
        breakdowns: &["name", "error.type", "exit_code"],
        order: COUNT,
        days: 7,
        style: Style::Combo,
    },
    Query {
        name: "Runtime failures by class",
        question: "Which resources fail after their update, and why?",
        filters: &[kind("uiresource"), exists("error.type")],
        combination: Combination::All,
        calculations: &[ENVIRONMENTS],
        breakdowns: &["name", "error.type", "exit_code"],
        order: ENVIRONMENTS,
        days: 7,
        style: Style::Combo,
    },
    Query {
        name: "Unready resources",
        question: "Which resources do unhealthy environments lack?",
        filters: &[
            kind("session"),
            Filter { column: "state", is: FilterValue::Text("unhealthy") },
            exists("unready"),
        ],
        combination: Combination::All,
        calculations: &[ENVIRONMENTS],
        breakdowns: &["unready"],
        order: ENVIRONMENTS,
        days: 1,
        style: Style::Combo,
    },
    Query {
        name: "How long resources stay broken",
        question: "How long were resources in error until that changed?",
        filters: &[
            Filter { column: "previous_update_status", is: FilterValue::Text("error") },
            Filter { column: "previous_runtime_status", is: FilterValue::Text("error") },
        ],
        combination: Combination::Any,
        calculations: &[of("SUM", "previous_state_ms"), of("P50", "previous_state_ms")],
        breakdowns: &["name"],
        order: of("SUM", "previous_state_ms"),
        days: 7,
        style: Style::Combo,
    },
    Query {
        name: "Restarts",
        question: "Which pods restart, and how often?",
        filters: &[
            kind("uiresource"),
            Filter { column: "pod_restarts", is: FilterValue::Positive },
        ],
        combination: Combination::All,
        calculations: &[of("MAX", "pod_restarts")],
        breakdowns: &["name"],
        order: of("MAX", "pod_restarts"),
        days: 7,
        style: Style::Graph,
    },
    Query {
        name: "Slowest resource at startup",
        question: "Which resource became ready last?",
        filters: &[kind("startup"), SETTLED],
        combination: Combination::All,
        calculations: &[COUNT, of("P50", "time_to_ready_ms")],
        breakdowns: &["slowest_resource"],
        order: COUNT,
        days: 7,
        style: Style::Combo,
    },
    Query {
        name: "CI against laptops",
        question: "How long do starts take, and how many fail, under tilt ci and under tilt up?",
        filters: &[kind("startup")],
        combination: Combination::All,
        calculations: &[COUNT, of("P50", "time_to_ready_ms"), of("P90", "time_to_ready_ms")],
        breakdowns: &["name", "error.type"],
        order: COUNT,
        days: 7,
        style: Style::Combo,
    },
    Query {
        name: "Tilt versions",
        question: "Which versions of Tilt are in use, and on how many machines?",
        filters: &[kind("session")],
        combination: Combination::All,
        calculations: &[of("COUNT_DISTINCT", "installation.id")],
        breakdowns: &["tilt_version"],
        order: of("COUNT_DISTINCT", "installation.id"),
        days: 7,
        style: Style::Combo,
    },
    Query {
        name: "Collector versions",
        question: "On how many machines does each version of tilt-honeycomb report?",
        filters: &[kind("session")],
        combination: Combination::All,
        calculations: &[of("COUNT_DISTINCT", "installation.id")],
        breakdowns: &["collector.version"],
        order: of("COUNT_DISTINCT", "installation.id"),
        days: 7,
        style: Style::Combo,
    },
    Query {
        name: "Live updates against full builds",
        question: "How often is a change a live update instead of an image build, and how long do both take?",
        filters: &[
            kind("update"),
            NOT_INITIAL,
            Filter { column: "update_type", is: FilterValue::OneOf(&["live-update", "image"]) },
        ],
        combination: Combination::All,
        calculations: &[COUNT, of("P50", "duration_ms"), of("P90", "duration_ms")],
        breakdowns: &["update_type"],
        order: COUNT,
        days: 7,
        style: Style::Combo,
    },
    Query {
        name: "Image builds",
        question: "How long does each image take to build?",
        filters: &[Filter { column: "kind", is: FilterValue::OneOf(&["dockerimage", "cmdimage"]) }],
        combination: Combination::All,
        calculations: &[
            of("HEATMAP", "duration_ms"),
            of("P50", "duration_ms"),
            of("P90", "duration_ms"),
        ],
        breakdowns: &["image_name"],
        order: of("P90", "duration_ms"),
        days: 7,
        style: Style::Graph,
    },
    Query {
        name: "Slowest build stages",
        question: "Which stage of which image takes the time?",
        filters: &[kind("dockerimage_stage")],
        combination: Combination::All,
        calculations: &[of("SUM", "duration_ms"), of("P90", "duration_ms")],
        breakdowns: &["image", "name"],
        order: of("SUM", "duration_ms"),
        days: 7,
        style: Style::Table,
    },
    Query {
        name: "Cache misses",
        question: "Which steps were built again, although a cache could have had them?",
        filters: &[
            kind("dockerimage_stage"),
            Filter { column: "cached", is: FilterValue::False },
            Filter { column: "instruction", is: FilterValue::OneOf(&stage_label::CACHEABLE) },
        ],
        combination: Combination::All,
        calculations: &[COUNT, of("SUM", "duration_ms")],
        breakdowns: &["image", "name"],
        order: COUNT,
        days: 7,
        style: Style::Combo,
    },
];

impl Query {
    /// The query specification: the body of `POST /1/queries`, and part of a link.
    pub fn specification(&self) -> Value {
        json!({
            "breakdowns": self.breakdowns,
            "calculations": self.calculations.iter().map(calculation).collect::<Vec<_>>(),
            "filters": self.filters.iter().map(filter).collect::<Vec<_>>(),
            "filter_combination": match self.combination {
                Combination::All => "AND",
                Combination::Any => "OR",
            },
            "orders": [ordered(calculation(&self.order))],
            "time_range": self.days * DAY,
        })
    }

    /// The columns that the query uses, each once.
    pub fn columns(&self) -> Vec<&'static str> {
        let filtered = self.filters.iter().map(|filter| filter.column);
        let calculated = self.calculations.iter().filter_map(|calculation| calculation.column);
        let mut columns: Vec<_> =
            filtered.chain(calculated).chain(self.breakdowns.iter().copied()).collect();
        columns.sort_unstable();
        columns.dedup();
        columns
    }

    /// Identifies this version of the query. Honeycomb never changes a saved query, so another
    /// version is another query.
    pub fn version(&self) -> String {
        let specification = self.specification().to_string();
        ids::id(&[self.name, self.question, &specification], 8)
    }
}

fn calculation(calculation: &Calculation) -> Value {
    match calculation.column {
        Some(column) => json!({"op": calculation.op, "column": column}),
        None => json!({"op": calculation.op}),
    }
}

fn ordered(mut calculation: Value) -> Value {
    calculation["order"] = "descending".into();
    calculation
}

fn filter(filter: &Filter) -> Value {
    let (op, value) = match filter.is {
        FilterValue::Text(text) => ("=", json!(text)),
        FilterValue::OneOf(texts) => ("in", json!(texts)),
        FilterValue::True => ("=", json!(true)),
        FilterValue::False => ("=", json!(false)),
        FilterValue::Exists => return json!({"column": filter.column, "op": "exists"}),
        FilterValue::Positive => (">", json!(0)),
    };
    json!({"column": filter.column, "op": op, "value": value})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::fields;

    #[test]
    fn every_column_is_one_that_is_sent() {
        for query in QUERIES {
            for column in query.columns() {
                assert!(fields::find(column).is_some(), "{}: {column}", query.name);
            }
        }
    }

    #[test]
    fn the_groups_are_ordered_by_what_is_calculated() {
        for query in QUERIES {
            assert!(query.calculations.contains(&query.order), "{}", query.name);
            assert_ne!(query.order.op, "HEATMAP", "no order is known of {}", query.name);
        }
    }

    #[test]
    fn names_and_versions_tell_queries_apart() {
        for (place, query) in QUERIES.iter().enumerate() {
            for other in &QUERIES[..place] {
                assert_ne!(query.name, other.name);
                assert_ne!(query.version(), other.version());
            }
        }
    }

    #[test]
    fn a_filter_on_presence_has_no_value() {
        let healthy = QUERIES.iter().find(|query| query.name == "Time until healthy");
        assert_eq!(
            healthy.expect("a query").specification()["filters"],
            json!([
                {"column": "kind", "op": "=", "value": "session"},
                {"column": "time_to_healthy_ms", "op": "exists"},
            ])
        );
    }

    #[test]
    fn a_specification_is_honeycombs() {
        let misses = QUERIES.last().expect("a query");
        assert_eq!(
            misses.specification(),
            json!({
                "breakdowns": ["image", "name"],
                "calculations": [{"op": "COUNT"}, {"op": "SUM", "column": "duration_ms"}],
                "filters": [
                    {"column": "kind", "op": "=", "value": "dockerimage_stage"},
                    {"column": "cached", "op": "=", "value": false},
                    {"column": "instruction", "op": "in", "value": ["RUN", "COPY", "ADD", "WORKDIR"]},
                ],
                "filter_combination": "AND",
                "orders": [{"op": "COUNT", "order": "descending"}],
                "time_range": 604_800,
            })
        );
    }
}
