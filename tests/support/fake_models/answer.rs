//! What the fake answers, said without either API's spelling.

use super::Api;
use serde_json::{Value, json};
use std::time::Duration;

/// A piece of an answer.
#[derive(Debug, Clone)]
pub enum Step {
    Text(String),
    Thinking(String),
    Call {
        id: String,
        name: String,
        arguments: Value,
    },
    /// Wait before going on.
    Pause(Duration),
    /// Drop the connection.
    Cut,
    /// Never send anything again.
    Silence,
    /// A raw event, as it is.
    Raw(String),
}

/// One answer of the script.
#[derive(Debug, Clone, Default)]
pub struct Answer {
    pub steps: Vec<Step>,
    /// Refuse instead, with a status and a message.
    pub error: Option<(u16, String)>,
    pub headers: Vec<(String, String)>,
    /// Leave the token counts out.
    pub no_usage: bool,
    /// Bytes of each write; 0 writes event by event.
    pub drip: usize,
    /// Send arguments in one piece and calls without ids, as some local servers do.
    pub sloppy: bool,
    /// Token counts; input and output.
    pub usage: Option<(u64, u64)>,
}

impl Answer {
    pub fn text(text: &str) -> Self {
        Self::default().and(Step::Text(text.to_owned()))
    }

    /// Text in pieces, with a pause between them.
    pub fn slowly(pieces: &[&str], pause: Duration) -> Self {
        let mut answer = Self::default();
        for piece in pieces {
            answer = answer.and(Step::Text((*piece).to_owned())).and(Step::Pause(pause));
        }
        answer
    }

    pub fn call(id: &str, name: &str, arguments: Value) -> Self {
        Self::default().then_call(id, name, arguments)
    }

    pub fn then_call(self, id: &str, name: &str, arguments: Value) -> Self {
        self.and(Step::Call { id: id.to_owned(), name: name.to_owned(), arguments })
    }

    pub fn error(status: u16, message: &str) -> Self {
        Self { error: Some((status, message.to_owned())), ..Self::default() }
    }

    pub fn silent() -> Self {
        Self::default().and(Step::Silence)
    }

    pub fn cut_after(text: &str) -> Self {
        Self::text(text).and(Step::Pause(Duration::from_millis(30))).and(Step::Cut)
    }

    pub fn and(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn drip(mut self, bytes: usize) -> Self {
        self.drip = bytes;
        self
    }

    pub fn sloppy(mut self) -> Self {
        self.sloppy = true;
        self.no_usage = true;
        self
    }

    pub fn calls(&self) -> bool {
        self.steps.iter().any(|step| matches!(step, Step::Call { .. }))
    }
}

/// The answer that a message asks for by its own words.
pub(super) fn from_message(api: Api, body: &Value) -> Answer {
    let last = body["messages"].as_array().and_then(|messages| messages.last()).cloned().unwrap_or_default();
    if let Some(results) = tool_results(api, &last, body) {
        return Answer::text(&format!("REPLY: done.\nTool said: {results}"));
    }
    let text = text_of(&last["content"]);
    // Whatever the gateway puts before a person's words stands in brackets.
    let words = text.rsplit("] ").next().unwrap_or_default().trim().to_owned();
    let (verb, rest) = words.split_once(' ').unwrap_or((words.as_str(), ""));
    match verb {
        "SAY" => Answer::text(rest),
        "BRIEFLY" => Answer::text("noted"),
        "CALL" => {
            let (tool, arguments) = rest.split_once(' ').unwrap_or((rest, "{}"));
            let id = format!("call_{}", body["messages"].as_array().map_or(0, Vec::len));
            Answer::call(&id, tool, serde_json::from_str(arguments).unwrap_or_else(|_| json!({})))
        }
        "FAIL" => Answer::error(rest.parse().unwrap_or(500), "scripted failure"),
        "SILENT" => Answer::silent(),
        "CUT" => Answer::cut_after(rest),
        "LONG" => {
            let count = rest.trim().parse().unwrap_or(50);
            let words: Vec<String> = (0..count).map(|n| format!("word{n} ")).collect();
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            Answer::slowly(&words, Duration::from_millis(100))
        }
        _ => Answer::text(&format!("REPLY: {words}")),
    }
}

fn tool_results(api: Api, last: &Value, body: &Value) -> Option<String> {
    match api {
        Api::Anthropic => {
            let results = last["content"].as_array()?.iter().filter(|block| block["type"] == "tool_result");
            let texts: Vec<String> = results.map(|block| text_of(&block["content"])).collect();
            (!texts.is_empty()).then(|| texts.join("\n"))
        }
        Api::OpenAi => {
            // A file follows its result as a message of its own.
            let messages = body["messages"].as_array()?;
            let last_tool = messages.iter().rposition(|message| message["role"] == "tool")?;
            let files_only = messages[last_tool + 1..].iter().all(|message| {
                message["content"].as_array().is_some_and(|p| p.iter().any(|p| p["type"] != "text"))
            });
            let from = messages[..=last_tool]
                .iter()
                .rposition(|message| message["role"] != "tool")
                .map_or(0, |at| at + 1);
            let texts: Vec<String> =
                messages[from..=last_tool].iter().map(|m| text_of(&m["content"])).collect();
            files_only.then(|| texts.join("\n"))
        }
    }
}

pub(super) fn text_of(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(parts) => {
            let texts: Vec<&str> = parts.iter().filter_map(|part| part["text"].as_str()).collect();
            texts.join("\n")
        }
        _ => String::new(),
    }
}
