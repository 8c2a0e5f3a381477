//! Chunks of a Chat Completions stream, with the liberties that the various servers take.

use super::think::ThinkTag;
use crate::agent::providers::error::{ModelError, ModelErrorKind, message_in};
use crate::agent::providers::http::Flow;
use crate::agent::providers::model::{ModelEvent, StopReason, Usage};
use crate::agent::providers::sse::SseEvent;
use serde::Deserialize;
use serde_json::Value;

/// Follows one stream.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    calls: Vec<Call>,
    stop: Option<StopReason>,
    told_id: bool,
    tag: ThinkTag,
    finished: bool,
}

#[derive(Debug)]
struct Call {
    /// The server's index, if it gave one.
    index: Option<u64>,
    id: String,
}

#[derive(Debug, Deserialize)]
struct Chunk {
    id: Option<String>,
    #[serde(default)]
    choices: Vec<Choice>,
    usage: Option<WireUsage>,
    error: Option<Value>,
}

#[derive(Debug, Deserialize)]
struct Choice {
    /// `message` is what a server sends that does not stream.
    #[serde(alias = "message")]
    delta: Option<Delta>,
    finish_reason: Option<String>,
    usage: Option<WireUsage>,
}

#[derive(Debug, Deserialize)]
struct Delta {
    content: Option<Value>,
    #[serde(alias = "reasoning")]
    reasoning_content: Option<String>,
    refusal: Option<String>,
    tool_calls: Option<Vec<WireCall>>,
}

#[derive(Debug, Deserialize)]
struct WireCall {
    index: Option<u64>,
    id: Option<String>,
    function: Option<WireFunction>,
}

#[derive(Debug, Deserialize)]
struct WireFunction {
    name: Option<String>,
    /// A string by the book; an object from some servers.
    arguments: Option<Value>,
}

#[derive(Debug, Deserialize)]
struct WireUsage {
    #[serde(default)]
    prompt_tokens: u64,
    #[serde(default)]
    completion_tokens: u64,
    prompt_tokens_details: Option<WireDetails>,
}

#[derive(Debug, Deserialize)]
struct WireDetails {
    cached_tokens: Option<u64>,
}

impl Decoder {
    pub(super) fn take(
        &mut self,
        event: &SseEvent,
        out: &mut dyn FnMut(ModelEvent),
    ) -> Result<Flow, ModelError> {
        let data = event.data.trim();
        if data == "[DONE]" {
            return if self.end_of_stream(out) { Ok(Flow::Done) } else { Ok(Flow::More) };
        }
        if data.is_empty() {
            return Ok(Flow::More);
        }
        let chunk: Chunk = serde_json::from_str(data).map_err(|error| {
            ModelError::new(ModelErrorKind::Protocol, format!("unreadable chunk: {error}"))
        })?;
        if let Some(error) = chunk.error {
            return Err(stream_error(&error));
        }
        if let (Some(id), false) = (chunk.id, self.told_id) {
            self.told_id = true;
            out(ModelEvent::ResponseId(id));
        }
        for choice in chunk.choices.into_iter().take(1) {
            if let Some(delta) = choice.delta {
                self.delta(delta, out);
            }
            if let Some(reason) = choice.finish_reason.filter(|reason| !reason.is_empty()) {
                self.stop = Some(self.stop_reason(&reason)?);
            }
            if let Some(usage) = choice.usage {
                out(ModelEvent::Usage(counts(&usage)));
            }
        }
        if let Some(usage) = chunk.usage {
            out(ModelEvent::Usage(counts(&usage)));
        }
        Ok(Flow::More)
    }

    /// Closes the answer if a reason for its end was seen. Without one the stream was cut.
    pub(super) fn end_of_stream(&mut self, out: &mut dyn FnMut(ModelEvent)) -> bool {
        let Some(stop) = self.stop else { return false };
        if !std::mem::replace(&mut self.finished, true) {
            self.tag.finish(out);
            for index in 0..self.calls.len() {
                out(ModelEvent::ToolCallEnd { index });
            }
            out(ModelEvent::Stop(stop));
        }
        true
    }

    fn delta(&mut self, delta: Delta, out: &mut dyn FnMut(ModelEvent)) {
        if let Some(thinking) = delta.reasoning_content.filter(|text| !text.is_empty()) {
            out(ModelEvent::ThinkingDelta(thinking));
        }
        let content = delta.content.as_ref().map(content_text).unwrap_or_default();
        for text in [content, delta.refusal.unwrap_or_default()] {
            if !text.is_empty() {
                self.tag.push(text, out);
            }
        }
        for call in delta.tool_calls.into_iter().flatten() {
            self.call(call, out);
        }
    }

    fn call(&mut self, call: WireCall, out: &mut dyn FnMut(ModelEvent)) {
        let id = call.id.filter(|id| !id.is_empty());
        let (name, arguments) = call.function.map(|f| (f.name, f.arguments)).unwrap_or_default();
        let name = name.filter(|name| !name.is_empty());
        let index = match self.known_call(call.index, id.as_deref(), name.is_some()) {
            Some(index) => index,
            None => {
                self.tag.finish(out);
                let index = self.calls.len();
                let id = id.unwrap_or_else(|| format!("call_{}", uuid::Uuid::new_v4().simple()));
                self.calls.push(Call { index: call.index, id: id.clone() });
                out(ModelEvent::ToolCallStart { index, id, name: name.unwrap_or_default() });
                index
            }
        };
        let delta = match arguments {
            Some(Value::String(text)) => text,
            Some(Value::Null) | None => return,
            Some(other) => other.to_string(),
        };
        if !delta.is_empty() {
            out(ModelEvent::ToolCallArgs { index, delta });
        }
    }

    /// Which call a piece belongs to: by index by the book; some servers give every call the same index or
    /// none at all, and a piece with another id, or with a name where an index is missing, begins a new one.
    fn known_call(&self, index: Option<u64>, id: Option<&str>, named: bool) -> Option<usize> {
        let same = |call: &Call| id.is_none_or(|id| id == call.id);
        match index {
            Some(_) => {
                self.calls.iter().rposition(|call| call.index == index).filter(|&at| same(&self.calls[at]))
            }
            None if named => None,
            None => self.calls.iter().rposition(same),
        }
    }

    fn stop_reason(&self, word: &str) -> Result<StopReason, ModelError> {
        Ok(match word {
            "length" | "max_tokens" => StopReason::Length,
            "tool_calls" | "function_call" => StopReason::ToolUse,
            "content_filter" => StopReason::Refusal,
            // OpenRouter's way of telling that the provider behind it failed.
            "error" => {
                return Err(ModelError::new(ModelErrorKind::Server, "the provider ended with an error"));
            }
            _ => StopReason::Stop,
        })
    }
}

/// Content is a string by the book; some servers send parts.
fn content_text(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(parts) => {
            parts.iter().filter_map(|part| part.get("text").and_then(Value::as_str)).collect()
        }
        _ => String::new(),
    }
}

fn counts(usage: &WireUsage) -> Usage {
    let cached = usage.prompt_tokens_details.as_ref().and_then(|details| details.cached_tokens).unwrap_or(0);
    Usage {
        input: usage.prompt_tokens.saturating_sub(cached),
        output: usage.completion_tokens,
        total_tokens: usage.prompt_tokens.saturating_add(usage.completion_tokens),
        cache_read: cached,
        cache_write: 0,
    }
}

fn stream_error(error: &Value) -> ModelError {
    let code = error.get("code").or_else(|| error.get("status"));
    let status = code.and_then(|code| code.as_u64().or_else(|| code.as_str()?.parse().ok()));
    let status = status.and_then(|status| u16::try_from(status).ok()).filter(|status| *status >= 400);
    let body = error.to_string();
    match status {
        Some(status) => {
            ModelError { detail: message_in(&body), ..ModelError::from_status(status, &body, None) }
        }
        None => {
            let sorted = ModelError::from_status(400, &body, None);
            let kind =
                if sorted.kind == ModelErrorKind::BadRequest { ModelErrorKind::Server } else { sorted.kind };
            ModelError { kind, status: None, ..sorted }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::providers::assemble::Assembler;
    use crate::agent::providers::model::{AssistantMessage, Block};
    use serde_json::json;

    fn run(chunks: &[Value]) -> (AssistantMessage, bool) {
        let (mut decoder, mut assembler) = (Decoder::default(), Assembler::default());
        for chunk in chunks {
            let event = SseEvent { event: String::new(), data: chunk.to_string() };
            decoder.take(&event, &mut |event| assembler.take(event)).unwrap();
        }
        let whole = decoder.end_of_stream(&mut |event| assembler.take(event));
        (assembler.finish(), whole)
    }

    fn delta(delta: Value) -> Value {
        json!({"id": "c", "choices": [{"index": 0, "delta": delta, "finish_reason": null}]})
    }

    fn finish(reason: &str) -> Value {
        json!({"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]})
    }

    fn calls(message: &AssistantMessage) -> Vec<(String, String)> {
        let call = |block: &Block| match block {
            Block::ToolCall { id, arguments, .. } => {
                Some((id.clone(), Value::Object(arguments.clone()).to_string()))
            }
            _ => None,
        };
        message.content.iter().filter_map(call).collect()
    }

    #[test]
    fn interleaved_tool_calls_by_index() {
        let (message, whole) = run(&[
            delta(json!({"role": "assistant", "reasoning_content": "hm"})),
            delta(
                json!({"tool_calls": [{"index": 0, "id": "a", "type": "function", "function": {"name": "x", "arguments": ""}}]}),
            ),
            delta(
                json!({"tool_calls": [{"index": 1, "id": "b", "type": "function", "function": {"name": "y", "arguments": "{\"n\":"}}]}),
            ),
            delta(
                json!({"tool_calls": [{"index": 0, "function": {"arguments": "{\"n\":1}"}}, {"index": 1, "function": {"arguments": "2}"}}]}),
            ),
            finish("tool_calls"),
            json!({"choices": [], "usage": {"prompt_tokens": 10, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 4}}}),
        ]);
        assert!(whole);
        assert_eq!(calls(&message), [("a".into(), "{\"n\":1}".into()), ("b".into(), "{\"n\":2}".into())]);
        assert_eq!((message.usage.input, message.usage.cache_read, message.usage.total_tokens), (6, 4, 13));
        assert_eq!(message.stop_reason, StopReason::ToolUse);
    }

    #[test]
    fn counts_of_a_server_that_cannot_count_add_up_to_the_most() {
        let usage = json!({"prompt_tokens": u64::MAX, "completion_tokens": 3});
        let (message, _) = run(&[finish("stop"), json!({"choices": [], "usage": usage})]);
        assert_eq!(message.usage.total_tokens, u64::MAX);
    }

    #[test]
    fn missing_ids_shared_indexes_and_whole_arguments() {
        let (message, _) = run(&[
            delta(
                json!({"tool_calls": [{"index": 0, "id": "a", "function": {"name": "x", "arguments": "{}"}}]}),
            ),
            delta(
                json!({"tool_calls": [{"index": 0, "id": "b", "function": {"name": "x", "arguments": {"n": 2}}}]}),
            ),
            delta(json!({"tool_calls": [{"function": {"name": "x", "arguments": "{\"n\":3}"}}]})),
            finish("stop"),
        ]);
        let calls = calls(&message);
        assert_eq!(calls.len(), 3);
        assert_eq!(calls[1], ("b".into(), "{\"n\":2}".into()));
        assert!(calls[2].0.starts_with("call_"));
        assert_eq!(message.stop_reason, StopReason::ToolUse);
    }

    #[test]
    fn a_stream_without_an_end_is_not_whole() {
        assert!(!run(&[delta(json!({"content": "half"}))]).1);
    }

    #[test]
    fn an_answer_that_was_not_streamed() {
        let (message, whole) = run(&[
            json!({"id": "c", "choices": [{"message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}]}),
        ]);
        assert!(whole);
        assert_eq!(message.content, [Block::text("hi")]);
    }

    #[test]
    fn think_tags_at_the_beginning_become_thinking() {
        for pieces in [
            vec!["<think>why</think>\n\nbecause <think>"],
            vec!["<th", "ink>w", "hy</th", "ink>", "because <think>"],
        ] {
            let mut chunks: Vec<Value> =
                pieces.iter().map(|piece| delta(json!({"content": piece}))).collect();
            chunks.push(finish("stop"));
            let (message, _) = run(&chunks);
            let thinking = Block::Thinking { thinking: "why".into(), thinking_signature: None };
            assert_eq!(message.content, [thinking, Block::text("because <think>")]);
        }
    }

    #[test]
    fn text_that_only_begins_like_a_tag_is_text() {
        let (message, _) = run(&[delta(json!({"content": "<th"})), finish("stop")]);
        assert_eq!(message.content, [Block::text("<th")]);
    }

    #[test]
    fn errors_inside_the_stream_have_a_kind() {
        let mut decoder = Decoder::default();
        let mut take = |data: Value| {
            let event = SseEvent { event: String::new(), data: data.to_string() };
            decoder.take(&event, &mut |_| ()).unwrap_err().kind
        };
        assert_eq!(take(json!({"error": {"code": 429, "message": "slow"}})), ModelErrorKind::RateLimited);
        assert_eq!(take(json!({"error": {"message": "boom"}})), ModelErrorKind::Server);
    }
}
