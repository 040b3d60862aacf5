//! The summary as one HTML page. Pure.
//!
//! The page is complete in itself: it needs no script and requests nothing. Its policy forbids both.

use std::fmt::Write;

use crate::base::text::counted;
use crate::summary::model::{EnvironmentSummary, Section};
use crate::summary::rankings::Entry;
use crate::summary::svg::{self, escaped};
use crate::summary::time_to_healthy::TimeToHealthy;
use crate::summary::words;

/// The widths of the pictures in pixels, with their classes. The page shows the widest that fits.
const PICTURES: [(&str, u32); 3] = [("wide", 1000), ("medium", 640), ("narrow", 340)];
/// The most entries of a list.
const MAX_ENTRIES: usize = 20;

const STYLE: &str = "\
body{margin:0 auto;padding:24px 16px;max-width:1000px;background:var(--page);color:var(--ink);\
font:15px/1.5 system-ui,sans-serif}\
h1{font-size:20px;line-height:1.3;margin:0}h2{font-size:16px;margin:32px 0 8px}\
h1.failed{color:var(--failed)}p{margin:4px 0}.time{font-size:18px;font-weight:600;line-height:1.3}.time.known{font-size:28px}\
.muted{color:var(--muted)}svg.waterfall{max-width:100%;height:auto}\
.medium,.narrow{display:none}\
@media(max-width:1031px){.wide{display:none}.medium{display:block}}\
@media(max-width:671px){.medium{display:none}.narrow{display:block}}\
table{border-collapse:collapse;width:100%}\
td{padding:4px 12px 4px 0;border-top:1px solid var(--grid);vertical-align:top;\
overflow-wrap:anywhere}td.number{text-align:right;white-space:nowrap;\
font-variant-numeric:tabular-nums}td.name{width:28%}\
td.number{width:64px}";

/// The page.
pub fn page(summary: &EnvironmentSummary) -> String {
    let mut html = head(summary);
    if summary.waterfall.rows.is_empty() {
        html.push_str("<p>Tilt shows no updates of the start.</p>\n");
    } else {
        for (class, width) in PICTURES {
            let picture = svg::element(&summary.waterfall, width);
            let _ = writeln!(html, "<div class=\"{class}\">\n{picture}</div>");
        }
    }
    if summary.waterfall.replaced > 0 {
        let replaced = counted(summary.waterfall.replaced, "resource");
        let _ = writeln!(
            html,
            "<p class=\"muted\">Not shown: {replaced} updated again since the start.</p>"
        );
    }
    let shown = summary.sections.iter().filter(|section| !section.entries.is_empty());
    shown.for_each(|shown| html.push_str(&section(shown)));
    html.push_str("</main>\n</body>\n</html>\n");
    html
}

fn head(summary: &EnvironmentSummary) -> String {
    let headline = escaped(&summary.headline());
    let class = if summary.has_failed() { " class=\"failed\"" } else { "" };
    let time = escaped(&summary.time_to_healthy());
    let is_known = matches!(summary.time_to_healthy, TimeToHealthy::Reached { .. });
    let time_class = if is_known { "time known" } else { "time" };
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; \
         style-src 'unsafe-inline'\">\n\
         <title>{headline}</title>\n<style>{svg}{STYLE}</style>\n</head>\n<body>\n<main>\n\
         <h1{class}>{headline}</h1>\n\
         <p class=\"muted\">Time to healthy</p>\n<p class=\"{time_class}\">{time}</p>\n<h2>Start</h2>\n",
        svg = svg::STYLE,
    )
}

fn section(section: &Section) -> String {
    let mut html = format!("<h2>{}</h2>\n<table>\n", section.heading);
    for entry in section.entries.iter().take(MAX_ENTRIES) {
        let Entry { name, took, details } = entry;
        let (name, details) = (escaped(name), escaped(details));
        let _ = write!(html, "<tr><td class=\"name\">{name}</td>");
        if let Some(took) = took {
            let _ = write!(html, "<td class=\"number\">{}</td>", words::duration(*took));
        }
        let _ = writeln!(html, "<td>{details}</td></tr>");
    }
    html.push_str("</table>\n");
    if let Some(hidden @ 1..) = section.entries.len().checked_sub(MAX_ENTRIES) {
        let _ = writeln!(html, "<p class=\"muted\">and {hidden} more</p>");
    }
    html
}
