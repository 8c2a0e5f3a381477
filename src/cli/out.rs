//! Printing. Everything that came from elsewhere is written so that it can't steer the
//! terminal, and a reader that has gone away ends the command quietly.

use std::io::{self, ErrorKind, Write};

use serde_json::Value;
use tidegate_actors::redaction::scrub;

use crate::telemetry::escape;

/// One line for a person.
pub(super) fn line(text: impl AsRef<str>) {
    write(&mut io::stdout().lock(), &format!("{}\n", escape(text.as_ref())));
}

/// Text of several lines, as a model or a person wrote it.
pub(super) fn text(text: &str) {
    let lines: Vec<String> = text.lines().map(|line| escape(&line.replace('\t', "    "))).collect();
    write(&mut io::stdout().lock(), &format!("{}\n", lines.join("\n")));
}

/// A line that is not part of the result. Nothing known to be a secret gets into it.
pub(super) fn note(text: impl AsRef<str>) {
    write(&mut io::stderr().lock(), &format!("{}\n", escape(&scrub(text.as_ref()))));
}

/// A value for a script.
pub(super) fn json(value: &Value) {
    let text = serde_json::to_string_pretty(value).unwrap_or_default();
    write(&mut io::stdout().lock(), &format!("{text}\n"));
}

/// A value for a script that reads line by line.
pub(super) fn json_line(value: &Value) {
    write(&mut io::stdout().lock(), &format!("{value}\n"));
}

fn write(to: &mut impl Write, text: &str) {
    let result = to.write_all(text.as_bytes()).and_then(|()| to.flush());
    if result.is_err_and(|error| error.kind() == ErrorKind::BrokenPipe) {
        // `tidegate ... | head` has seen enough.
        std::process::exit(0);
    }
}

/// Rows under a heading, each column as wide as its widest cell.
pub(super) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(super) fn new<const N: usize>(heading: [&str; N]) -> Self {
        Self { rows: vec![heading.map(str::to_owned).to_vec()] }
    }

    pub(super) fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows
            .push(cells.map(|cell| if cell.is_empty() { "-".to_owned() } else { escape(&cell) }).to_vec());
    }

    pub(super) fn print(&self) {
        write(&mut io::stdout().lock(), &self.render());
    }

    fn render(&self) -> String {
        let width = |column: usize| {
            self.rows
                .iter()
                .filter_map(|row| row.get(column))
                .map(|cell| cell.chars().count())
                .max()
                .unwrap_or(0)
        };
        let columns = self.rows.first().map_or(0, Vec::len);
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut out = String::new();
        for row in &self.rows {
            let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
            out.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
            out.push('\n');
        }
        out
    }
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
        assert_eq!(table.render(), expected);
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
