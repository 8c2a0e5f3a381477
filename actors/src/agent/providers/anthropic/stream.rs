//! Events of a Messages stream. What is unknown is passed over: new kinds of blocks and deltas appear often.

use crate::agent::providers::error::{ModelError, ModelErrorKind};
use crate::agent::providers::http::Flow;
use crate::agent::providers::model::{ModelEvent, StopReason, Usage};
use crate::agent::providers::sse::SseEvent;
use serde::Deserialize;
use serde_json::Value;
use std::collections::HashMap;

/// Follows one stream.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    open: HashMap<usize, Open>,
    usage: Usage,
    stop: Option<StopReason>,
}

#[derive(Debug)]
enum Open {
    Text,
    Thinking {
        signature: String,
    },
    Tool {
        any: bool,
        whole: Option<String>,
    },
    /// Citations, server tools and whatever comes next.
    Other,
}

#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Wire {
    MessageStart {
        message: Start,
    },
    ContentBlockStart {
        index: usize,
        content_block: Value,
    },
    ContentBlockDelta {
        index: usize,
        delta: Value,
    },
    ContentBlockStop {
        index: usize,
    },
    MessageDelta {
        #[serde(default)]
        delta: Value,
        #[serde(default)]
        usage: Option<WireUsage>,
    },
    MessageStop,
    Error {
        #[serde(default)]
        error: Value,
    },
    #[serde(other)]
    Other,
}

#[derive(Debug, Deserialize)]
struct Start {
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    usage: Option<WireUsage>,
}

/// Absent counts keep what was told before.
#[derive(Debug, Default, Deserialize)]
struct WireUsage {
    input_tokens: Option<u64>,
    output_tokens: Option<u64>,
    cache_read_input_tokens: Option<u64>,
    cache_creation_input_tokens: Option<u64>,
}

impl Decoder {
    pub(super) fn take(
        &mut self,
        event: &SseEvent,
        out: &mut dyn FnMut(ModelEvent),
    ) -> Result<Flow, ModelError> {
        let wire: Wire = serde_json::from_str(&event.data).map_err(|error| {
            ModelError::new(ModelErrorKind::Protocol, format!("unreadable event: {error}"))
        })?;
        match wire {
            Wire::MessageStart { message } => {
                if let Some(id) = message.id {
                    out(ModelEvent::ResponseId(id));
                }
                self.count(message.usage, out);
            }
            Wire::ContentBlockStart { index, content_block } => {
                self.block_started(index, &content_block, out)
            }
            Wire::ContentBlockDelta { index, delta } => self.delta(index, &delta, out),
            Wire::ContentBlockStop { index } => self.block_ended(index, out),
            Wire::MessageDelta { delta, usage } => {
                if let Some(reason) = delta.get("stop_reason").and_then(Value::as_str) {
                    self.stop = Some(stop_reason(reason));
                }
                self.count(usage, out);
            }
            Wire::MessageStop => {
                out(ModelEvent::Stop(self.stop.unwrap_or_default()));
                return Ok(Flow::Done);
            }
            Wire::Error { error } => return Err(stream_error(&error)),
            Wire::Other => {}
        }
        Ok(Flow::More)
    }

    fn count(&mut self, told: Option<WireUsage>, out: &mut dyn FnMut(ModelEvent)) {
        let Some(told) = told else { return };
        let usage = &mut self.usage;
        usage.input = told.input_tokens.unwrap_or(usage.input);
        usage.output = told.output_tokens.unwrap_or(usage.output);
        usage.cache_read = told.cache_read_input_tokens.unwrap_or(usage.cache_read);
        usage.cache_write = told.cache_creation_input_tokens.unwrap_or(usage.cache_write);
        usage.total_tokens = usage.prompt().saturating_add(usage.output);
        out(ModelEvent::Usage(*usage));
    }

    fn block_started(&mut self, index: usize, block: &Value, out: &mut dyn FnMut(ModelEvent)) {
        let text = |name: &str| block.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let open = match block.get("type").and_then(Value::as_str) {
            Some("text") => {
                if !text("text").is_empty() {
                    out(ModelEvent::TextDelta(text("text")));
                }
                Open::Text
            }
            Some("thinking") => {
                out(ModelEvent::ThinkingDelta(text("thinking")));
                Open::Thinking { signature: text("signature") }
            }
            Some("redacted_thinking") => {
                out(ModelEvent::RedactedThinking(text("data")));
                Open::Other
            }
            Some("tool_use") => {
                out(ModelEvent::ToolCallStart { index, id: text("id"), name: text("name") });
                let whole =
                    block.get("input").filter(|input| input.as_object().is_some_and(|map| !map.is_empty()));
                Open::Tool { any: false, whole: whole.map(Value::to_string) }
            }
            _ => Open::Other,
        };
        self.open.insert(index, open);
    }

    fn delta(&mut self, index: usize, delta: &Value, out: &mut dyn FnMut(ModelEvent)) {
        let text = |name: &str| delta.get(name).and_then(Value::as_str).unwrap_or_default();
        match (self.open.get_mut(&index), delta.get("type").and_then(Value::as_str)) {
            (Some(Open::Text), Some("text_delta")) => out(ModelEvent::TextDelta(text("text").to_owned())),
            (Some(Open::Thinking { .. }), Some("thinking_delta")) => {
                out(ModelEvent::ThinkingDelta(text("thinking").to_owned()));
            }
            (Some(Open::Thinking { signature }), Some("signature_delta")) => {
                signature.push_str(text("signature"))
            }
            (Some(Open::Tool { any, .. }), Some("input_json_delta")) => {
                let delta = text("partial_json");
                *any |= !delta.is_empty();
                out(ModelEvent::ToolCallArgs { index, delta: delta.to_owned() });
            }
            _ => {}
        }
    }

    fn block_ended(&mut self, index: usize, out: &mut dyn FnMut(ModelEvent)) {
        match self.open.remove(&index) {
            Some(Open::Text) => out(ModelEvent::BlockEnd { signature: None }),
            Some(Open::Thinking { signature }) => {
                out(ModelEvent::BlockEnd { signature: (!signature.is_empty()).then_some(signature) });
            }
            Some(Open::Tool { any, whole }) => {
                if let (false, Some(delta)) = (any, whole) {
                    out(ModelEvent::ToolCallArgs { index, delta });
                }
                out(ModelEvent::ToolCallEnd { index });
            }
            Some(Open::Other) | None => {}
        }
    }
}

fn stop_reason(word: &str) -> StopReason {
    match word {
        "max_tokens" | "model_context_window_exceeded" => StopReason::Length,
        "tool_use" => StopReason::ToolUse,
        "refusal" => StopReason::Refusal,
        _ => StopReason::Stop,
    }
}

/// An error in the middle of a stream has no status, only a type.
fn stream_error(error: &Value) -> ModelError {
    let text = |name: &str| error.get(name).and_then(Value::as_str).unwrap_or_default();
    let kind = match text("type") {
        "overloaded_error" => ModelErrorKind::Overloaded,
        "rate_limit_error" => ModelErrorKind::RateLimited,
        "authentication_error" | "permission_error" => ModelErrorKind::Auth,
        "not_found_error" => ModelErrorKind::ModelMissing,
        "billing_error" => ModelErrorKind::Billing,
        "invalid_request_error" => ModelErrorKind::BadRequest,
        _ => ModelErrorKind::Server,
    };
    ModelError::new(kind, text("message"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::providers::assemble::Assembler;
    use crate::agent::providers::model::Block;
    use serde_json::json;

    fn run(events: &[Value]) -> (Assembler, Result<Flow, ModelError>) {
        let (mut decoder, mut assembler) = (Decoder::default(), Assembler::default());
        let mut last = Ok(Flow::More);
        for event in events {
            let event = SseEvent { event: String::new(), data: event.to_string() };
            last = decoder.take(&event, &mut |event| assembler.take(event));
        }
        (assembler, last)
    }

    #[test]
    fn a_whole_answer_with_thinking_a_tool_and_unknown_blocks() {
        let (assembler, last) = run(&[
            json!({"type":"message_start","message":{"id":"msg_1","usage":{"input_tokens":18,"cache_read_input_tokens":5,"output_tokens":1}}}),
            json!({"type":"ping"}),
            json!({"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":"","signature":""}}),
            json!({"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"hm"}}),
            json!({"type":"content_block_delta","index":0,"delta":{"type":"signature_delta","signature":"sig"}}),
            json!({"type":"content_block_stop","index":0}),
            json!({"type":"content_block_start","index":1,"content_block":{"type":"server_tool_use","id":"s","name":"web_search"}}),
            json!({"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":"{}"}}),
            json!({"type":"content_block_stop","index":1}),
            json!({"type":"content_block_start","index":2,"content_block":{"type":"text","text":""}}),
            json!({"type":"content_block_delta","index":2,"delta":{"type":"citations_delta","citation":{}}}),
            json!({"type":"content_block_delta","index":2,"delta":{"type":"text_delta","text":"Hi"}}),
            json!({"type":"content_block_stop","index":2}),
            json!({"type":"content_block_start","index":3,"content_block":{"type":"tool_use","id":"toolu_1","name":"nodes","input":{}}}),
            json!({"type":"content_block_delta","index":3,"delta":{"type":"input_json_delta","partial_json":"{\"action\":"}}),
            json!({"type":"content_block_delta","index":3,"delta":{"type":"input_json_delta","partial_json":"\"status\"}"}}),
            json!({"type":"content_block_stop","index":3}),
            json!({"type":"brand_new_event"}),
            json!({"type":"message_delta","delta":{"stop_reason":"tool_use"},"usage":{"output_tokens":42}}),
            json!({"type":"message_stop"}),
        ]);
        assert_eq!(last.unwrap(), Flow::Done);
        let message = assembler.finish();
        assert_eq!(message.content.len(), 3);
        assert_eq!(message.content[1], Block::text("Hi"));
        assert!(
            matches!(&message.content[2], Block::ToolCall { arguments, .. } if arguments["action"] == "status")
        );
        assert_eq!((message.usage.input, message.usage.output, message.usage.cache_read), (18, 42, 5));
        assert_eq!(message.stop_reason, StopReason::ToolUse);
    }

    #[test]
    fn arguments_sent_whole_are_taken() {
        let (assembler, _) = run(&[
            json!({"type":"content_block_start","index":0,"content_block":{"type":"tool_use","id":"t","name":"x","input":{"a":1}}}),
            json!({"type":"content_block_stop","index":0}),
        ]);
        assert!(
            matches!(&assembler.finish().content[0], Block::ToolCall { arguments, .. } if arguments["a"] == 1)
        );
    }

    #[test]
    fn an_error_event_ends_the_stream_with_its_kind() {
        let (_, last) =
            run(&[json!({"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}})]);
        assert_eq!(last.unwrap_err().kind, ModelErrorKind::Overloaded);
    }
}
