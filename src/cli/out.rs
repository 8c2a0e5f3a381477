//! Printing. Everything that came from elsewhere is written so that it can't steer the
//! terminal, and a reader that has gone away ends the command quietly.

use std::{
    io::{self, ErrorKind, IsTerminal, Write},
    os::fd::AsFd,
};

use serde_json::Value;
use tidegate_actors::redaction::scrub;
use tokio::{io::Interest, net::unix::pipe};

use crate::telemetry::escape;

/// One line for a person.
pub(super) fn line(text: impl AsRef<str>) {
    write(&format!("{}\n", escape(text.as_ref())));
}

/// Text of several lines, as a model or a person wrote it.
pub(super) fn text(text: &str) {
    let lines: Vec<String> = text.lines().map(|line| escape(&line.replace('\t', "    "))).collect();
    write(&format!("{}\n", lines.join("\n")));
}

/// A line that is not part of the result. Nothing known to be a secret gets into it.
pub(super) fn note(text: impl AsRef<str>) {
    // Where this can't be written nothing can be said about it; the exit code says the rest.
    let _ = io::stderr().lock().write_all(format!("{}\n", escape(&scrub(text.as_ref()))).as_bytes());
}

/// A value for a script.
pub(super) fn json(value: &Value) {
    let text = serde_json::to_string_pretty(value).unwrap_or_default();
    write(&format!("{text}\n"));
}

/// A value for a script that reads line by line.
pub(super) fn json_line(value: &Value) {
    write(&format!("{value}\n"));
}

fn write(text: &str) {
    let mut to = io::stdout().lock();
    match to.write_all(text.as_bytes()).and_then(|()| to.flush()) {
        Ok(()) => {}
        // `tidegate ... | head` has seen enough.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => std::process::exit(0),
        Err(error) => {
            note(format!("error: can't write the output: {error}"));
            std::process::exit(1);
        }
    }
}

/// Comes back when whoever reads the output has gone, and never where that can't be told, as with a file.
pub(super) async fn reader_gone() {
    // Nothing is written here, so it may well block.
    let output = io::stdout().as_fd().try_clone_to_owned().and_then(pipe::Sender::from_owned_fd_unchecked);
    if let Ok(output) = output
        && output.ready(Interest::ERROR).await.is_ok()
    {
        return;
    }
    std::future::pending().await
}

/// How wide a table may be: as the terminal, or as most are.
fn width() -> usize {
    let size = io::stdout().is_terminal().then(|| rustix::termios::tcgetwinsize(io::stdout()).ok()).flatten();
    size.map(|size| usize::from(size.ws_col)).filter(|columns| *columns > 0).unwrap_or(100)
}

/// What a column keeps however little room there is.
const NARROWEST: usize = 16;

/// Rows under a heading, each column as wide as its widest cell.
pub(super) struct Table {
    rows: Vec<Vec<String>>,
    /// Columns that may be cut short, the first of them first.
    flexible: &'static [usize],
}

impl Table {
    pub(super) fn new<const N: usize>(heading: [&str; N]) -> Self {
        Self { rows: vec![heading.map(str::to_owned).to_vec()], flexible: &[] }
    }

    /// Has these columns give way, in this order, where the table would be wider than the terminal.
    pub(super) fn fitting(mut self, columns: &'static [usize]) -> Self {
        self.flexible = columns;
        self
    }

    pub(super) fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows
            .push(cells.map(|cell| if cell.is_empty() { "-".to_owned() } else { escape(&cell) }).to_vec());
    }

    pub(super) fn print(&self) {
        write(&self.render(width()));
    }

    fn render(&self, limit: usize) -> String {
        let width = |column: usize| {
            self.rows
                .iter()
                .filter_map(|row| row.get(column))
                .map(|cell| cell.chars().count())
                .max()
                .unwrap_or(0)
        };
        let columns = self.rows.first().map_or(0, Vec::len);
        let mut widths: Vec<usize> = (0..columns).map(width).collect();
        for &column in self.flexible {
            let excess = (widths.iter().sum::<usize>() + 2 * columns.saturating_sub(1)).saturating_sub(limit);
            if let Some(width) = widths.get_mut(column) {
                *width = width.saturating_sub(excess).max(NARROWEST.min(*width));
            }
        }
        let mut out = String::new();
        for row in &self.rows {
            let cells = row.iter().zip(&widths).map(|(cell, &width)| format!("{:width$}", cut(cell, width)));
            out.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
            out.push('\n');
        }
        out
    }
}

/// What of a cell fits: the first entries of a list and how many more there are, or the beginning of a text.
fn cut(cell: &str, width: usize) -> String {
    if cell.chars().count() <= width {
        return cell.to_owned();
    }
    let entries: Vec<&str> = cell.split(", ").collect();
    let first = |count: usize| format!("{} +{}", entries[..count].join(", "), entries.len() - count);
    let mut lists = (1..entries.len()).rev().map(first);
    lists.find(|list| list.chars().count() <= width).unwrap_or_else(|| {
        let start: String = cell.chars().take(width.saturating_sub(1)).collect();
        format!("{start}…")
    })
}

/// `name: value` lines with the values under each other.
#[derive(Default)]
pub(super) struct Facts {
    facts: Vec<(String, String)>,
}

impl Facts {
    /// Left out when there is nothing to say.
    pub(super) fn add(&mut self, name: &str, value: impl Into<String>) {
        let value = value.into();
        if !value.is_empty() {
            self.facts.push((name.to_owned(), value));
        }
    }

    pub(super) fn print(&self) {
        let width = self.facts.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0) + 1;
        for (name, value) in &self.facts {
            line(format!("{:width$} {value}", format!("{name}:")));
        }
    }
}

/// A text field of an answer; empty when it isn't there.
pub(super) fn string(value: &Value, key: &str) -> String {
    match &value[key] {
        Value::String(text) => text.clone(),
        Value::Null | Value::Object(_) | Value::Array(_) => String::new(),
        other => other.to_string(),
    }
}

/// The entries of a list in an answer.
pub(super) fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().map_or(&[], Vec::as_slice)
}

/// The texts of a list in an answer, joined.
pub(super) fn joined(value: &Value, key: &str) -> String {
    list(value, key).iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", ")
}

/// How long ago a point in time was, in one unit.
pub(super) fn ago(value: &Value, key: &str) -> String {
    let Some(then) = value[key].as_i64().filter(|then| *then > 0) else { return String::new() };
    let passed = (tidegate_actors::clock::now_ms() - then).max(0) / 1000;
    if passed < 5 { "just now".to_owned() } else { format!("{} ago", span(passed)) }
}

/// Seconds in one unit.
pub(super) fn span(seconds: i64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m", seconds / 60),
        3_600..86_400 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// The first characters of an id, enough to tell it from others.
pub(super) fn short(id: &str) -> String {
    id.chars().take(12).collect()
}

/// `1 node`, `2 nodes`.
pub(super) fn count(number: usize, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn columns_stand_under_each_other() {
        let mut table = Table::new(["NAME", "STATE"]);
        table.row(["kitchen".to_owned(), "connected".to_owned()]);
        table.row(["a\u{1b}[2J\nb".to_owned(), String::new()]);
        let expected = "NAME           STATE\nkitchen        connected\na\\u{1b}[2J\\nb  -\n";
        assert_eq!(table.render(100), expected);
    }

    #[test]
    fn a_wide_table_gives_way_where_it_may() {
        let mut table = Table::new(["REQUEST", "NODE", "COMMANDS"]).fitting(&[2, 1]);
        let commands = ["system.run", "system.which", "canvas.present", "camera.snap"].join(", ");
        table.row(["0123456789abcdef".to_owned(), "kitchen".to_owned(), commands.clone()]);
        table.row(["r2".to_owned(), "hall".to_owned(), "system.run".to_owned()]);
        assert!(table.render(100).contains(&commands));
        let expected = "REQUEST           NODE     COMMANDS\n\
                        0123456789abcdef  kitchen  system.run, system.which +2\n\
                        r2                hall     system.run\n";
        assert_eq!(table.render(60), expected);
        // What is left of it is never less than a word, and a request is never cut.
        let narrow = table.render(10);
        assert!(narrow.contains("0123456789abcdef  kitchen  system.run +3\n"), "{narrow}");
    }

    #[test]
    fn a_cell_is_cut_to_what_fits() {
        assert_eq!(cut("a, b, c", 7), "a, b, c");
        assert_eq!(cut("aa, bb, cc", 9), "aa, bb +1");
        assert_eq!(cut("aa, bb, cc", 6), "aa +2");
        assert_eq!(cut("kitchen-of-mine", 8), "kitchen…");
    }

    #[test]
    fn answers_are_read_with_patience() {
        let value = json!({"a": "x", "n": 3, "l": ["p", "q"], "o": {}});
        assert_eq!((string(&value, "a").as_str(), string(&value, "n").as_str()), ("x", "3"));
        assert_eq!((string(&value, "o").as_str(), string(&value, "none").as_str()), ("", ""));
        assert_eq!(joined(&value, "l"), "p, q");
        assert_eq!(ago(&value, "none"), "");
        assert_eq!((span(59), span(3599), span(90_000)), ("59s".into(), "59m".into(), "1d".into()));
    }
}
