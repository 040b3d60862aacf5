//! The queries that `check` links to, `board` pins and `docs/queries.md` lists. Pure.
//!
//! They have the order of their panels on the board. The first four fit on its first screen: they
//! show whether the environments are healthy and where the time goes.
//!
//! Honeycomb documents the format of a query at <https://docs.honeycomb.io/api/tag/Queries>.

use serde_json::{Value, json};

use crate::base::ids;

/// One day, in seconds.
const DAY: u32 = 24 * 60 * 60;

/// A query with its name and the question that it answers.
#[derive(Debug)]
pub struct Query {
    pub name: &'static str,
    pub question: &'static str,
    /// `WHERE` in Honeycomb's UI.
    pub filters: &'static [Filter],
    pub combination: Combination,
    /// `VISUALIZE` in Honeycomb's UI.
    pub calculations: &'static [Calculation],
    /// The columns of `GROUP BY` in Honeycomb's UI.
    pub breakdowns: &'static [&'static str],
    /// The calculation that orders the groups, greatest first. It is one of `calculations`.
    pub order: Calculation,
    /// The time range, in days until now.
    pub days: u32,
    pub style: Style,
}

/// A condition on a column.
#[derive(Debug)]
pub struct Filter {
    pub column: &'static str,
    pub is: FilterValue,
}

/// The value that a column must have.
#[derive(Debug)]
pub enum FilterValue {
    Text(&'static str),
    OneOf(&'static [&'static str]),
    True,
    False,
    Zero,
}

/// Which filters an event must match.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Combination {
    All,
    Any,
}

/// An operator of Honeycomb and its column. `COUNT` has no column.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Calculation {
    pub op: &'static str,
    pub column: Option<&'static str>,
}

/// How a board shows a query.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Style {
    Graph,
    /// A graph above a table.
    Combo,
    Table,
}

impl Style {
    /// The style as Honeycomb's API names it.
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

/// Startups that ended when every resource had settled. One that ended early did not wait for its
/// slowest resource.
const SETTLED: Filter = Filter { column: "ended_by", is: FilterValue::Text("settled") };

pub const QUERIES: &[Query] = &[
    Query {
        name: "Healthy environments",
        question: "How many environments were healthy, and how many had errors? An environment that was both counts twice.",
        filters: &[kind("session")],
        combination: Combination::All,
        calculations: &[of("COUNT_DISTINCT", "session.id")],
        breakdowns: &["healthy"],
        order: of("COUNT_DISTINCT", "session.id"),
        days: 1,
        style: Style::Graph,
    },
    Query {
        name: "Unhealthy resources",
        question: "Which resources are in error, and in how many environments?",
        filters: &[
            Filter { column: "update_status", is: FilterValue::Text("error") },
            Filter { column: "runtime_status", is: FilterValue::Text("error") },
        ],
        combination: Combination::Any,
        calculations: &[of("COUNT_DISTINCT", "session.id")],
        breakdowns: &["name"],
        order: of("COUNT_DISTINCT", "session.id"),
        days: 1,
        style: Style::Graph,
    },
    Query {
        name: "Time until ready",
        question: "How long does it take from the start of Tilt until every resource is ready? Only startups without failed resources count.",
        filters: &[
            kind("startup"),
            SETTLED,
            Filter { column: "resources_failed", is: FilterValue::Zero },
        ],
        combination: Combination::All,
        calculations: &[
            of("HEATMAP", "time_to_ready_ms"),
            of("P50", "time_to_ready_ms"),
            of("P90", "time_to_ready_ms"),
        ],
        breakdowns: &["name"],
        order: of("P90", "time_to_ready_ms"),
        days: 7,
        style: Style::Graph,
    },
    Query {
        name: "Rebuild time",
        question: "How long do rebuilds take, and which resource takes the most time?",
        filters: &[kind("update"), Filter { column: "initial", is: FilterValue::False }],
        combination: Combination::All,
        calculations: &[of("SUM", "duration_ms"), of("P90", "duration_ms")],
        breakdowns: &["name"],
        order: of("SUM", "duration_ms"),
        days: 7,
        style: Style::Combo,
    },
    Query {
        name: "Failures by resource and class",
        question: "What fails, and why?",
        filters: &[kind("update"), Filter { column: "error", is: FilterValue::True }],
        combination: Combination::All,
        calculations: &[COUNT],
        breakdowns: &["name", "error.type"],
        order: COUNT,
        days: 7,
        style: Style::Combo,
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
        question: "Which build stages take the most time?",
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
        question: "Which RUN, COPY and ADD stages were not in the cache?",
        filters: &[
            kind("dockerimage_stage"),
            Filter { column: "cached", is: FilterValue::False },
            Filter { column: "instruction", is: FilterValue::OneOf(&["RUN", "COPY", "ADD"]) },
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
    /// The query in Honeycomb's format: the body of `POST /1/queries`, and a part of a link.
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

    /// An id that differs for each version of the query. Honeycomb cannot change a saved query, so a
    /// new version is a new query.
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
        FilterValue::Zero => ("=", json!(0)),
    };
    json!({"column": filter.column, "op": op, "value": value})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::fields;

    #[test]
    fn every_column_is_a_field_of_an_event() {
        for query in QUERIES {
            for column in query.columns() {
                assert!(fields::find(column).is_some(), "{}: {column}", query.name);
            }
        }
    }

    #[test]
    fn groups_are_ordered_by_one_of_the_calculations() {
        for query in QUERIES {
            assert!(query.calculations.contains(&query.order), "{}", query.name);
            assert_ne!(query.order.op, "HEATMAP", "{} is ordered by a heatmap", query.name);
        }
    }

    #[test]
    fn names_and_versions_are_unique() {
        for (number, query) in QUERIES.iter().enumerate() {
            for other in &QUERIES[..number] {
                assert_ne!(query.name, other.name);
                assert_ne!(query.version(), other.version());
            }
        }
    }

    #[test]
    fn a_specification_has_honeycombs_format() {
        let misses = QUERIES.last().expect("a query");
        assert_eq!(
            misses.specification(),
            json!({
                "breakdowns": ["image", "name"],
                "calculations": [{"op": "COUNT"}, {"op": "SUM", "column": "duration_ms"}],
                "filters": [
                    {"column": "kind", "op": "=", "value": "dockerimage_stage"},
                    {"column": "cached", "op": "=", "value": false},
                    {"column": "instruction", "op": "in", "value": ["RUN", "COPY", "ADD"]},
                ],
                "filter_combination": "AND",
                "orders": [{"op": "COUNT", "order": "descending"}],
                "time_range": 604_800,
            })
        );
    }
}
