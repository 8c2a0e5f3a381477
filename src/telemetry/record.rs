//! One event, and how it looks on the console and in the file.

use std::{
    fmt::{self, Write},
    time::SystemTime,
};

use serde_json::{Map, Value, json};
use tidegate_actors::clock;
use tracing::{
    Event, Level,
    field::{Field, Visit},
};
use tracing_log::NormalizeEvent;

use super::clean::clean;

/// An event with every text cleaned.
pub(super) struct Record {
    time: String,
    pub(super) level: Level,
    target: String,
    message: String,
    fields: Vec<(&'static str, Value)>,
}

impl Record {
    pub(super) fn of(event: &Event<'_>) -> Self {
        // Lines of the `log` crate carry their true origin inside.
        let normal = event.normalized_metadata();
        let meta = normal.as_ref().unwrap_or_else(|| event.metadata());
        let mut record = Self {
            time: clock::utc(SystemTime::now()),
            level: *meta.level(),
            target: clean(meta.target()),
            message: String::new(),
            fields: Vec::new(),
        };
        event.record(&mut record);
        record
    }

    /// `2026-11-24T07:19:12.345Z WARN  poll failed account=main error="..."`
    pub(super) fn console(&self, colour: bool) -> String {
        let mut line = String::with_capacity(128);
        let level = self.level.as_str();
        let _ = match (colour, paint(self.level)) {
            (true, Some(code)) => write!(line, "\x1b[2m{}\x1b[0m \x1b[{code}m{level:5}\x1b[0m ", self.time),
            (true, None) => write!(line, "\x1b[2m{}\x1b[0m {level:5} ", self.time),
            (false, _) => write!(line, "{} {level:5} ", self.time),
        };
        if !self.target.starts_with("tidegate") {
            let _ = write!(line, "{}: ", self.target);
        }
        line.push_str(&self.message);
        for (name, value) in &self.fields {
            let _ = match value {
                Value::String(text) if is_bare(text) => write!(line, " {name}={text}"),
                value => write!(line, " {name}={value}"),
            };
        }
        line.push('\n');
        line
    }

    /// One JSON object. `_meta` is where OpenClaw's log viewers look for the severity.
    pub(super) fn json(&self) -> String {
        let mut object = Map::new();
        object.insert("time".into(), self.time.clone().into());
        object.insert("level".into(), self.level.as_str().to_ascii_lowercase().into());
        object.insert("message".into(), self.message.clone().into());
        for (name, value) in &self.fields {
            if !matches!(*name, "time" | "level" | "message" | "_meta") {
                object.insert((*name).into(), value.clone());
            }
        }
        object.insert("_meta".into(), json!({"logLevelName": self.level.as_str(), "name": self.target}));
        let mut line = Value::Object(object).to_string();
        line.push('\n');
        line
    }

    fn put(&mut self, field: &Field, value: Value) {
        match (field.name(), value) {
            ("message", Value::String(text)) => self.message = text,
            (name, _) if name.starts_with("log.") => {}
            (name, value) => self.fields.push((name.trim_start_matches("r#"), value)),
        }
    }
}

impl Visit for Record {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, clean(value).into());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, clean(&format!("{value:?}")).into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value.into());
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.put(field, clean(&chain(value)).into());
    }
}

/// An error with its causes, in one line; what one of them has said already isn't said again.
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let part = cause.to_string();
        if !text.contains(&part) {
            let _ = write!(text, ": {part}");
        }
        next = cause.source();
    }
    text
}

fn is_bare(text: &str) -> bool {
    !text.is_empty() && !text.contains([' ', '"', '=', '\\'])
}

fn paint(level: Level) -> Option<u8> {
    match level {
        Level::ERROR => Some(31),
        Level::WARN => Some(33),
        Level::DEBUG | Level::TRACE => Some(2),
        Level::INFO => None,
    }
}
