//! The summary as text for a terminal or a log. Pure.

use std::fmt::Write;
use std::time::Duration;

use crate::summary::model::{EnvironmentSummary, Section};
use crate::summary::rankings::Entry;
use crate::summary::waterfall::{Bar, BarKind, Waterfall, WaterfallRow};
use crate::summary::words;

/// The form of the text.
#[derive(Debug, Clone, Copy)]
pub struct TextLayout {
    /// The longest line, in characters.
    pub width: usize,
    /// The largest number of lines. `None` shows everything.
    pub height: Option<usize>,
    /// Whether to use colours.
    pub color: bool,
}

/// The smallest and the largest width, for a terminal that says otherwise.
const MIN_WIDTH: usize = 40;
const MAX_WIDTH: usize = 200;
/// The waterfall has at least this many rows, even on a small screen.
const MIN_ROWS: usize = 4;
/// The entries of a list, unless everything is shown.
const MAX_ENTRIES: usize = 3;
/// The columns of words and of durations.
const WORD_WIDTH: usize = 9;
const TIME_WIDTH: usize = 8;

const RED: &str = "31";
const DIM: &str = "2";
const BOLD: &str = "1";

/// The summary as lines of text.
pub fn text(summary: &EnvironmentSummary, layout: TextLayout) -> String {
    let width = layout.width.clamp(MIN_WIDTH, MAX_WIDTH);
    let layout = TextLayout { width, ..layout };
    let mut head = headings(summary, layout);
    let tail = sections(summary, layout);
    // The waterfall has two more lines, the lists are set apart by one, and the prompt takes one.
    let taken = head.len() + tail.len() + 4;
    let rows = layout.height.map(|height| height.saturating_sub(taken).max(MIN_ROWS));
    head.extend(waterfall(&summary.waterfall, rows, layout));
    if !tail.is_empty() {
        head.push(String::new());
    }
    head.extend(tail);
    head.iter().fold(String::new(), |mut text, line| {
        let _ = writeln!(text, "{}", line.trim_end());
        text
    })
}

fn headings(summary: &EnvironmentSummary, layout: TextLayout) -> Vec<String> {
    let style = if summary.has_failed() { RED } else { BOLD };
    let headline = words::cut(&summary.headline(), layout.width);
    let time = format!("time to healthy: {}", summary.time_to_healthy());
    vec![layout.styled(&headline, style), words::cut(&time, layout.width), String::new()]
}

fn waterfall(waterfall: &Waterfall, limit: Option<usize>, layout: TextLayout) -> Vec<String> {
    let (rows, hidden) = waterfall.fit(limit);
    if rows.is_empty() {
        return vec!["Tilt shows no updates of the start".to_owned()];
    }
    let label = |row: &WaterfallRow| format!("{}{}", "  ".repeat(row.depth), row.name);
    let longest = rows.iter().map(|row| label(row).chars().count()).max().unwrap_or_default();
    let label_width = longest.clamp("start".len(), layout.width / 3);
    let chart_width = layout.width - label_width - TIME_WIDTH - 4;
    let mut lines = vec![axis(waterfall.length, label_width, chart_width)];
    for row in &rows {
        let label = words::cut(&label(row), label_width);
        let took = row.took().map_or_else(|| "-".to_owned(), words::duration);
        let mark = if row.failure.is_some() { '✗' } else { ' ' };
        let chart = chart(row, waterfall.length, chart_width);
        let line = format!("{label:label_width$} {took:>TIME_WIDTH$} {mark} {chart}");
        let style = row.failure.as_ref().map(|_| RED).or((row.depth > 0).then_some(DIM));
        lines.push(style.map_or_else(|| line.clone(), |style| layout.styled(&line, style)));
    }
    let legend = words::cut(&legend(&rows, hidden, waterfall.replaced), layout.width);
    lines.push(layout.styled(&legend, DIM));
    lines
}

/// The heading of the waterfall with both ends of its time axis.
fn axis(length: Duration, label_width: usize, chart_width: usize) -> String {
    let end = words::duration(length);
    let space = chart_width.saturating_sub("0s".len() + end.len());
    let before_chart = label_width + TIME_WIDTH + 4;
    format!("{:before_chart$}0s{:space$}{end}", "start", "")
}

fn glyph(kind: BarKind) -> char {
    match kind {
        BarKind::Waiting => '·',
        BarKind::Update => '█',
        BarKind::Rollout => '░',
        BarKind::Image => '▓',
        BarKind::Stage => '▒',
    }
}

/// The bars of a row. Each is at least one character long. An update covers its short rollout, and
/// everything covers waiting.
fn chart(row: &WaterfallRow, length: Duration, width: usize) -> String {
    let column = |time: Duration| {
        let share = time.as_nanos() * width as u128 / length.as_nanos().max(1);
        usize::try_from(share).unwrap_or(width).min(width)
    };
    let mut cells = vec![' '; width];
    let layer = |bar: &&Bar| match bar.kind {
        BarKind::Waiting => 0,
        BarKind::Rollout => 1,
        _ => 2,
    };
    let mut bars: Vec<_> = row.bars.iter().collect();
    bars.sort_by_key(layer);
    for bar in bars {
        let from = column(bar.from).min(width - 1);
        let to = column(bar.to).max(from + 1);
        cells[from..to].fill(glyph(bar.kind));
    }
    cells.iter().collect()
}

fn legend(rows: &[&WaterfallRow], hidden: usize, replaced: usize) -> String {
    let is_used = |kind| rows.iter().any(|row| row.has(kind));
    let used = BarKind::ALL.into_iter().filter(|(kind, _)| is_used(*kind));
    let used: Vec<_> = used.map(|(kind, word)| format!("{} {word}", glyph(kind))).collect();
    let hidden = (hidden > 0).then(|| format!("and {hidden} more (--all)"));
    let replaced = (replaced > 0).then(|| format!("{replaced} updated again since"));
    // A narrow screen cuts off the end.
    hidden.into_iter().chain(replaced).chain(used).collect::<Vec<_>>().join("  ")
}

fn sections(summary: &EnvironmentSummary, layout: TextLayout) -> Vec<String> {
    let shown = summary.sections.iter().filter(|section| !section.entries.is_empty());
    shown.flat_map(|section| section_lines(section, layout)).collect()
}

fn section_lines(section: &Section, layout: TextLayout) -> Vec<String> {
    let limit = layout.height.map_or(usize::MAX, |_| MAX_ENTRIES);
    let entries = &section.entries[..section.entries.len().min(limit)];
    let hidden = section.entries.len() - entries.len();
    let longest = entries.iter().map(|entry| entry.name.chars().count()).max();
    let name_width = longest.unwrap_or_default().min(layout.width / 3);
    let has_times = entries.iter().any(|entry| entry.took.is_some());
    let line = |(index, entry): (usize, &Entry)| {
        let word = if index == 0 { section.word } else { "" };
        let name = words::cut(&entry.name, name_width);
        let took = entry.took.map(words::duration).unwrap_or_default();
        let took = if has_times { format!("{took:>TIME_WIDTH$}  ") } else { String::new() };
        let is_last = hidden > 0 && index + 1 == entries.len();
        let more = if is_last { format!("and {hidden} more") } else { String::new() };
        let between = if is_last && !entry.details.is_empty() { "; " } else { "" };
        let details = format!("{}{between}{more}", entry.details);
        let line = format!("{word:WORD_WIDTH$}{name:name_width$} {took}{details}");
        words::cut(&line, layout.width)
    };
    entries.iter().enumerate().map(line).collect()
}

impl TextLayout {
    fn styled(self, text: &str, style: &str) -> String {
        if self.color && !text.is_empty() {
            format!("\u{1b}[{style}m{text}\u{1b}[0m")
        } else {
            text.to_owned()
        }
    }
}
