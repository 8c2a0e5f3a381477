//! Frames: requests, responses and events, one JSON object for each WebSocket message.

use crate::error::ErrorShape;
use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;
use std::fmt;

/// A request as it came in: the params stay raw until the method is known.
#[derive(Debug, Clone)]
pub struct Request {
    /// The caller's correlation id, never empty.
    pub id: String,
    /// The method's name, never empty.
    pub method: String,
    /// Whatever JSON the method takes.
    pub params: Option<Box<RawValue>>,
}

/// Why a text is not a request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Not JSON at all.
    #[error("not JSON")]
    NotJson,
    /// JSON, but not a request frame. `id` is what the sender put there, if anything usable.
    #[error("invalid request frame: {problem}")]
    NotRequest {
        /// The `id` to answer with, as JSON text.
        id: Option<String>,
        /// What is wrong, in the validator's words.
        problem: String,
    },
}

impl Request {
    /// Reads one frame.
    pub fn parse(text: &str) -> Result<Self, FrameError> {
        let Loose { kind, id, method, params, unexpected } = match serde_json::from_str(text) {
            Ok(loose) => loose,
            // A wrong beginning is found before a missing end.
            Err(error) if error.is_data() && serde_json::from_str::<IgnoredAny>(text).is_ok() => {
                return Err(FrameError::NotRequest {
                    id: None,
                    problem: "at root: must be object".to_owned(),
                });
            }
            Err(_) => return Err(FrameError::NotJson),
        };
        let mut problems = Vec::new();
        let id_text = id.as_ref().map(ToString::to_string);
        let id = required_text("id", id, &mut problems);
        let method = required_text("method", method, &mut problems);
        if let Some(name) = unexpected {
            problems.push(format!("at root: unexpected property '{name}'"));
        }
        match kind {
            None => problems.insert(0, "must have required property 'type'".to_owned()),
            Some(kind) if kind != "req" => problems.push("at /type: must be equal to constant".to_owned()),
            Some(_) => (),
        }
        match (id, method) {
            (Some(id), Some(method)) if problems.is_empty() => Ok(Self { id, method, params }),
            _ => Err(FrameError::NotRequest { id: id_text, problem: problems.join("; ") }),
        }
    }
}

fn required_text(name: &str, value: Option<Value>, problems: &mut Vec<String>) -> Option<String> {
    let problem = match value {
        Some(Value::String(text)) if !text.is_empty() => return Some(text),
        Some(Value::String(_)) => format!("at /{name}: must not have fewer than 1 characters"),
        Some(_) => format!("at /{name}: must be string"),
        None => format!("must have required property '{name}'"),
    };
    problems.push(problem);
    None
}

/// A frame read without judging it, so that the judgement can name every problem.
#[derive(Default)]
struct Loose {
    kind: Option<Value>,
    id: Option<Value>,
    method: Option<Value>,
    params: Option<Box<RawValue>>,
    unexpected: Option<String>,
}

impl<'de> Deserialize<'de> for Loose {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = Loose;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Loose, A::Error> {
                let mut loose = Loose::default();
                while let Some(key) = map.next_key::<String>()? {
                    match key.as_str() {
                        "type" => loose.kind = Some(map.next_value()?),
                        "id" => loose.id = Some(map.next_value()?),
                        "method" => loose.method = Some(map.next_value()?),
                        "params" => loose.params = Some(map.next_value()?),
                        "traceparent" | "expectedProfileId" => {
                            map.next_value::<IgnoredAny>()?;
                        }
                        _ => {
                            map.next_value::<IgnoredAny>()?;
                            loose.unexpected.get_or_insert(key);
                        }
                    }
                }
                Ok(loose)
            }
        }
        deserializer.deserialize_map(Fields)
    }
}

/// The text of a successful response.
pub fn response_ok(id: &str, payload: &RawValue) -> String {
    let mut text = String::with_capacity(payload.get().len() + id.len() + 48);
    text.push_str(r#"{"type":"res","id":"#);
    push_string(&mut text, id);
    text.push_str(r#","ok":true,"payload":"#);
    text.push_str(payload.get());
    text.push('}');
    text
}

/// The text of a refusal.
pub fn response_error(id: &str, error: &ErrorShape) -> String {
    let mut text = String::from(r#"{"type":"res","id":"#);
    push_string(&mut text, id);
    push_error(text, error)
}

/// As [`response_error`], for an `id` that is JSON already (it may not even be a string).
pub fn response_error_raw_id(id: Option<&str>, error: &ErrorShape) -> String {
    let mut text = String::from(r#"{"type":"res","id":"#);
    text.push_str(id.unwrap_or("\"invalid\""));
    push_error(text, error)
}

fn push_error(mut text: String, error: &ErrorShape) -> String {
    text.push_str(r#","ok":false,"error":"#);
    // A struct of strings, numbers and JSON always serialises.
    text.push_str(&serde_json::to_string(error).unwrap_or_default());
    text.push('}');
    text
}

fn push_string(text: &mut String, value: &str) {
    text.push_str(&serde_json::to_string(value).unwrap_or_default());
}

/// Versions that `health` and `presence` events carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateVersion {
    pub presence: u64,
    pub health: u64,
}

/// An event up to, not including, its `seq`: serialised once, finished for each connection by [`EventText::finish`].
#[derive(Debug, Clone)]
pub struct EventText(String);

impl EventText {
    /// Serialises everything that is the same for all connections.
    pub fn new(event: &str, payload: &RawValue, version: Option<StateVersion>) -> Self {
        let mut text = String::with_capacity(payload.get().len() + event.len() + 64);
        text.push_str(r#"{"type":"event","event":"#);
        push_string(&mut text, event);
        text.push_str(r#","payload":"#);
        text.push_str(payload.get());
        if let Some(version) = version {
            text.push_str(&format!(
                r#","stateVersion":{{"presence":{},"health":{}}}"#,
                version.presence, version.health
            ));
        }
        Self(text)
    }

    /// The whole frame; targeted events have no `seq`.
    pub fn finish(&self, seq: Option<u64>) -> String {
        match seq {
            Some(seq) => format!("{},\"seq\":{seq}}}", self.0),
            None => format!("{}}}", self.0),
        }
    }

    /// Bytes of the frame, about.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Never: an event has at least a name.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A frame that a client reads: a response or an event.
#[derive(Debug, Clone, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum Incoming {
    /// The answer to a request; there may be two for one id.
    Res(Response),
    /// Something happened.
    Event(Event),
}

/// A response as a client reads it.
#[derive(Debug, Clone, Deserialize)]
pub struct Response {
    pub id: String,
    pub ok: bool,
    #[serde(default)]
    pub payload: Option<Value>,
    #[serde(default)]
    pub error: Option<ErrorShape>,
}

/// An event as a client reads it.
#[derive(Debug, Clone, Deserialize)]
pub struct Event {
    pub event: String,
    #[serde(default)]
    pub payload: Option<Value>,
    #[serde(default)]
    pub seq: Option<u64>,
}

/// The text of a request, as a client sends it.
pub fn request(id: &str, method: &str, params: Option<&RawValue>) -> String {
    let mut text = String::from(r#"{"type":"req","id":"#);
    push_string(&mut text, id);
    text.push_str(r#","method":"#);
    push_string(&mut text, method);
    if let Some(params) = params {
        text.push_str(r#","params":"#);
        text.push_str(params.get());
    }
    text.push('}');
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn problem(text: &str) -> String {
        Request::parse(text).unwrap_err().to_string()
    }

    #[test]
    fn problems_are_named_as_the_official_gateway_names_them() {
        assert_eq!(problem("hello"), "not JSON");
        assert_eq!(problem("[1,"), "not JSON");
        assert_eq!(problem("[1]"), "invalid request frame: at root: must be object");
        assert_eq!(
            problem(r#"{"type":"req","method":"x"}"#),
            "invalid request frame: must have required property 'id'"
        );
        assert_eq!(
            problem(r#"{"type":"req","id":7,"method":"x"}"#),
            "invalid request frame: at /id: must be string"
        );
        assert_eq!(
            problem(r#"{"type":"req","id":"a","method":""}"#),
            "invalid request frame: at /method: must not have fewer than 1 characters"
        );
        assert_eq!(
            problem(r#"{"type":"req","id":"a","method":"x","zzz":1}"#),
            "invalid request frame: at root: unexpected property 'zzz'"
        );
    }

    #[test]
    fn a_number_id_is_given_back_as_it_came() {
        let Err(FrameError::NotRequest { id, .. }) = Request::parse(r#"{"type":"req","id":7,"method":"x"}"#)
        else {
            panic!("accepted");
        };
        assert_eq!(id.as_deref(), Some("7"));
    }

    #[test]
    fn deep_nesting_is_refused_not_followed() {
        let deep = format!(
            r#"{{"type":"req","id":"a","method":"x","zzz":{}1{}}}"#,
            "[".repeat(30_000),
            "]".repeat(30_000)
        );
        assert!(Request::parse(&deep).is_err());
    }

    proptest! {
        #[test]
        fn any_request_survives_the_wire(id in ".{1,20}", method in "[a-z.]{1,20}", n in any::<i64>()) {
            let params = RawValue::from_string(format!(r#"{{"n":{n}}}"#)).unwrap();
            let back = Request::parse(&request(&id, &method, Some(&params))).unwrap();
            prop_assert_eq!(back.id, id);
            prop_assert_eq!(back.method, method);
            let sent_back = back.params.unwrap();
            prop_assert_eq!(sent_back.get(), params.get());
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in ".{0,200}") {
            let _ = Request::parse(&text);
        }
    }
}
