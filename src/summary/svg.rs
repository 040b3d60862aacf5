//! The waterfall as an SVG picture. Pure.
//!
//! The picture refers to nothing outside itself: no fonts, no images and no scripts. It has the
//! colours of the reader's light or dark scheme.

use std::fmt::Write;
use std::time::Duration;

use crate::base::text::counted;
use crate::summary::waterfall::{Bar, BarKind, Waterfall, WaterfallRow};
use crate::summary::words;

/// The most rows of a picture.
pub const MAX_ROWS: usize = 200;
/// A narrower picture has the names above the bars, not beside them.
const WIDE: u32 = 600;
/// The average width of a character in pixels. The font is monospaced.
const CHARACTER: u32 = 7;

/// The colours of the light and the dark scheme, and the styles of the picture. Light colours are
/// replaced where the reader prefers a dark scheme.
pub const STYLE: &str = "\
:root{--page:#fff;--ink:#1c1c1a;--muted:#5d5c57;--grid:#e4e3dd;--waiting:#b9b7ae;--update:#2a6fc9;\
--rollout:#82b5ee;--image:#7a4fc0;--stage:#bda6e3;--failed:#c62f2f}\
@media(prefers-color-scheme:dark){:root{--page:#161615;--ink:#efeee9;--muted:#a3a19a;--grid:#33322f;\
--waiting:#5f5d57;--update:#4f94ea;--rollout:#2b527f;--image:#a583e4;--stage:#5c4687;--failed:#ef6a6a}}\
.waterfall{font:12px ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;display:block}\
.waterfall text{fill:var(--ink)}.waterfall .muted{fill:var(--muted)}\
.waterfall .grid{stroke:var(--grid)}.waterfall .waiting{fill:var(--waiting)}\
.waterfall .update{fill:var(--update)}.waterfall .rollout{fill:var(--rollout)}\
.waterfall .image{fill:var(--image)}.waterfall .stage{fill:var(--stage)}\
.waterfall rect.failed,.waterfall text.failed{fill:var(--failed)}";

/// The layout of a picture of one width, in pixels.
struct Geometry {
    /// The left end of the time axis, and its length.
    left: u32,
    length: u32,
    /// The right end of the durations.
    right: u32,
    /// The height of a row, and of the bars in it.
    row: u32,
    bar: u32,
    /// The longest name, in characters.
    name: usize,
    /// The width from which `row` has two lines.
    is_wide: bool,
}

impl Geometry {
    fn new(width: u32) -> Self {
        let is_wide = width >= WIDE;
        let (left, right) = if is_wide { (220, width - 4) } else { (2, width - 2) };
        let length = if is_wide { right - 70 - left } else { right - left };
        let name_space = if is_wide { left - 10 } else { width - 80 };
        let name = usize::try_from(name_space / CHARACTER).unwrap_or_default();
        let (row, bar) = if is_wide { (22, 12) } else { (36, 10) };
        Self { left, length, right, row, bar, name, is_wide }
    }

    /// The position of a time on an axis of this length.
    fn x(&self, time: Duration, axis: Duration) -> f64 {
        let share = time.as_secs_f64() / axis.as_secs_f64().max(0.001);
        f64::from(self.left) + share.clamp(0.0, 1.0) * f64::from(self.length)
    }
}

/// The waterfall as an `svg` element for an HTML page that contains [`STYLE`].
pub fn element(waterfall: &Waterfall, width: u32) -> String {
    let (body, height) = drawing(waterfall, width);
    format!(
        "<svg class=\"waterfall\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} \
         {height}\" role=\"img\" aria-label=\"Waterfall of the start\">\n{body}</svg>\n"
    )
}

/// The legend, the axis and the rows, and their height.
fn drawing(waterfall: &Waterfall, width: u32) -> (String, u32) {
    let geometry = Geometry::new(width);
    let (rows, hidden) = waterfall.fit(Some(MAX_ROWS));
    let (legend, legend_height) = legend(&rows, width);
    let top = legend_height + 22;
    let count = u32::try_from(rows.len()).unwrap_or_default();
    let bottom = top + count * geometry.row;
    let mut svg = legend;
    svg.push_str(&axis(waterfall.length, &geometry, top, bottom));
    for (y, row) in (top..).step_by(geometry.row as usize).zip(&rows) {
        svg.push_str(&row_group(row, waterfall.length, &geometry, y));
    }
    if hidden == 0 {
        return (svg, bottom + 4);
    }
    let more = format!("and {}", counted(hidden, "shorter row"));
    let _ = writeln!(svg, "<text class=\"muted\" x=\"0\" y=\"{}\">{more}</text>", bottom + 18);
    (svg, bottom + 26)
}

/// The legend of the bars that occur, and its height. It breaks into lines like text.
fn legend(rows: &[&WaterfallRow], width: u32) -> (String, u32) {
    const LINE: u32 = 20;
    let (mut svg, mut x, mut y) = (String::new(), 0, 0);
    for (kind, word) in BarKind::ALL {
        if !rows.iter().any(|row| row.has(kind)) {
            continue;
        }
        let length = 18 + CHARACTER * u32::try_from(word.len()).unwrap_or_default() + 18;
        if x + length > width && x > 0 {
            (x, y) = (0, y + LINE);
        }
        let (class, height) = (class(kind), height(kind, 12));
        let _ = writeln!(
            svg,
            "<rect class=\"{class}\" x=\"{x}\" y=\"{}\" width=\"12\" height=\"{height}\"/>\
             <text class=\"muted\" x=\"{}\" y=\"{}\">{word}</text>",
            y + (12 - height) / 2,
            x + 18,
            y + 10,
        );
        x += length;
    }
    (svg, y + LINE)
}

/// The grid with the times above it. `top` and `bottom` are the ends of its lines.
fn axis(length: Duration, geometry: &Geometry, top: u32, bottom: u32) -> String {
    let most = if geometry.is_wide { 8 } else { 4 };
    let step = step(length, most);
    let mut svg = String::new();
    for tick in 0..=most {
        let time = step * tick;
        if time > length {
            break;
        }
        let x = geometry.x(time, length);
        let anchor = if tick == 0 { "start" } else { "middle" };
        let time = words::duration(time).replace(".0s", "s").replace("m 0s", "m");
        let _ = writeln!(
            svg,
            "<line class=\"grid\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{top}\" y2=\"{bottom}\"/>\
             <text class=\"muted\" x=\"{x:.1}\" y=\"{}\" text-anchor=\"{anchor}\">{time}</text>",
            top - 6,
        );
    }
    svg
}

/// The distance between two marks of an axis, so that it has at most `most` of them.
fn step(length: Duration, most: u32) -> Duration {
    const STEPS: [u64; 13] = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600, 7200];
    let fits = |step: &Duration| *step * most >= length;
    let steps = STEPS.into_iter().map(Duration::from_secs);
    steps.into_iter().find(fits).unwrap_or(length)
}

fn row_group(row: &WaterfallRow, length: Duration, geometry: &Geometry, y: u32) -> String {
    let Geometry { left, right, row: row_height, bar, name: name_length, is_wide, .. } = *geometry;
    let failed = row.failure.is_some();
    let text_class = match (failed, row.depth) {
        (true, _) => " class=\"failed\"",
        (false, 0) => "",
        (false, _) => " class=\"muted\"",
    };
    let mark = if failed { "✗ " } else { "" };
    let indent = u32::try_from(row.depth).unwrap_or_default() * 2 * CHARACTER;
    let name_length = name_length.saturating_sub(row.depth * 2);
    let name = escaped(&words::cut(&format!("{mark}{}", row.name), name_length));
    let took = row.took().map_or_else(|| "-".to_owned(), words::duration);
    let baseline = if is_wide { y + row_height / 2 + 4 } else { y + 14 };
    let bar_y = if is_wide { y + (row_height - bar) / 2 } else { y + row_height - bar - 6 };
    // A nested picture cuts off what does not fit, such as a name of wide characters.
    let name_space = if is_wide { left - 8 } else { right - 70 };
    let mut svg = format!(
        "<g><title>{}</title><svg x=\"0\" y=\"{y}\" width=\"{name_space}\" height=\"{row_height}\">\
         <text{text_class} x=\"{indent}\" y=\"{}\">{name}</text></svg>",
        escaped(&description(row)),
        baseline - y,
    );
    let mut bars: Vec<_> = row.bars.iter().collect();
    // An update stays visible on its rollout, and everything does on waiting.
    bars.sort_by_key(|bar| (bar.kind != BarKind::Waiting, bar.kind != BarKind::Rollout));
    for shown in bars {
        let is_failed = failed && shown.kind != BarKind::Waiting;
        let class = if is_failed { "failed" } else { class(shown.kind) };
        svg.push_str(&rect(shown, class, geometry, (bar_y, length)));
    }
    let _ = writeln!(
        svg,
        "<text{text_class} x=\"{right}\" y=\"{baseline}\" text-anchor=\"end\">{took}</text></g>"
    );
    svg
}

/// A bar in a row whose bars begin at `y`, on an axis of this length.
fn rect(bar: &Bar, class: &str, geometry: &Geometry, (y, length): (u32, Duration)) -> String {
    let from = geometry.x(bar.from, length);
    let width = (geometry.x(bar.to, length) - from).max(1.5);
    let height = height(bar.kind, geometry.bar);
    let y = y + (geometry.bar - height) / 2;
    format!(
        "<rect class=\"{class}\" x=\"{from:.1}\" y=\"{y}\" width=\"{width:.1}\" \
         height=\"{height}\"/>"
    )
}

/// Waiting is a thin line, so that the work stands out.
fn height(kind: BarKind, full: u32) -> u32 {
    if kind == BarKind::Waiting { 2 } else { full }
}

fn class(kind: BarKind) -> &'static str {
    match kind {
        BarKind::Waiting => "waiting",
        BarKind::Update => "update",
        BarKind::Rollout => "rollout",
        BarKind::Image => "image",
        BarKind::Stage => "stage",
    }
}

/// Describes a row in words, for a pointer on it and for a screen reader.
fn description(row: &WaterfallRow) -> String {
    let word = |kind| BarKind::ALL.iter().find(|(known, _)| *known == kind).map(|(_, word)| *word);
    let bar = |bar: &Bar| {
        let time = words::duration(bar.to.saturating_sub(bar.from));
        format!("{} {time}", word(bar.kind).unwrap_or_default())
    };
    let mut parts: Vec<_> = row.bars.iter().map(bar).collect();
    parts.extend(row.waited.as_ref().map(|waited| format!("waited {waited}")));
    parts.extend(row.failure.clone());
    format!("{}: {}", row.name, parts.join(", "))
}

/// A text as content or quoted attribute value.
pub fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '&' => escaped.push_str("&amp;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            letter => escaped.push(letter),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_axis_has_few_round_marks() {
        for (millis, most, expected) in [
            (0, 8, 1),
            (5_900, 8, 1),
            (55_564, 8, 10),
            (55_564, 4, 15),
            (190_000, 4, 60),
            (86_400_000, 8, 86_400),
        ] {
            let step = step(Duration::from_millis(millis), most);
            assert_eq!(step, Duration::from_secs(expected), "{millis} ms");
        }
    }

    #[test]
    fn markup_is_escaped() {
        assert_eq!(escaped("<a b=\"c\">&'"), "&lt;a b=&quot;c&quot;&gt;&amp;&#39;");
    }
}
