//! Builds an answer from the events of its stream.

use super::model::{AssistantMessage, Block, ModelEvent, StopReason, Usage};
use serde_json::{Map, Value};

/// Collects events in the order of the stream; [`Assembler::finish`] gives the message.
#[derive(Debug, Default)]
pub struct Assembler {
    blocks: Vec<Block>,
    /// The last block may still grow.
    open: bool,
    calls: Vec<Call>,
    usage: Usage,
    stop: Option<StopReason>,
    response_id: Option<String>,
}

/// A tool call whose arguments are still text.
#[derive(Debug)]
struct Call {
    index: usize,
    /// Where the call stands among the blocks.
    block: usize,
    raw: String,
}

impl Assembler {
    /// Takes the next event.
    pub fn take(&mut self, event: ModelEvent) {
        match event {
            ModelEvent::TextDelta(delta) => match self.blocks.last_mut() {
                Some(Block::Text { text }) if self.open => text.push_str(&delta),
                _ => self.push(Block::text(delta), true),
            },
            ModelEvent::ThinkingDelta(delta) => match self.blocks.last_mut() {
                Some(Block::Thinking { thinking, .. }) if self.open => thinking.push_str(&delta),
                _ => self.push(Block::Thinking { thinking: delta, thinking_signature: None }, true),
            },
            ModelEvent::RedactedThinking(data) => self.push(Block::RedactedThinking { data }, false),
            ModelEvent::BlockEnd { signature } => self.close(signature),
            ModelEvent::ToolCallStart { index, id, name } => {
                self.calls.push(Call { index, block: self.blocks.len(), raw: String::new() });
                self.push(
                    Block::ToolCall { id, name, arguments: Map::new(), invalid_arguments: None },
                    false,
                );
            }
            ModelEvent::ToolCallArgs { index, delta } => {
                if let Some(call) = self.calls.iter_mut().rev().find(|call| call.index == index) {
                    call.raw.push_str(&delta);
                }
            }
            ModelEvent::ToolCallEnd { .. } => {}
            ModelEvent::Usage(usage) => self.usage = usage,
            ModelEvent::ResponseId(id) => self.response_id = Some(id),
            ModelEvent::Stop(reason) => self.stop = Some(reason),
        }
    }

    /// The text so far.
    pub fn text(&self) -> String {
        super::model::text_of(&self.blocks)
    }

    /// The whole answer. Who answered is for the caller to say.
    pub fn finish(mut self) -> AssistantMessage {
        for call in std::mem::take(&mut self.calls) {
            if let Some(Block::ToolCall { arguments, invalid_arguments, .. }) =
                self.blocks.get_mut(call.block)
            {
                match parse_arguments(&call.raw) {
                    Some(parsed) => *arguments = parsed,
                    None => *invalid_arguments = Some(call.raw),
                }
            }
        }
        let calls_tools = self.blocks.iter().any(|block| matches!(block, Block::ToolCall { .. }));
        let stop_reason = match self.stop {
            // Some servers end a tool call with a plain `stop`.
            Some(StopReason::Stop) | None if calls_tools => StopReason::ToolUse,
            stop => stop.unwrap_or_default(),
        };
        self.blocks.retain(|block| !matches!(block, Block::Text { text } if text.is_empty()));
        AssistantMessage {
            content: self.blocks,
            usage: self.usage,
            stop_reason,
            response_id: self.response_id,
            ..AssistantMessage::default()
        }
    }

    fn push(&mut self, block: Block, open: bool) {
        self.blocks.push(block);
        self.open = open;
    }

    fn close(&mut self, signature: Option<String>) {
        self.open = false;
        if let (Some(Block::Thinking { thinking_signature, .. }), Some(signature)) =
            (self.blocks.last_mut(), signature)
        {
            *thinking_signature = Some(signature);
        }
    }
}

/// Models leave the arguments out when there are none; some send `null`, some the object as a JSON string.
fn parse_arguments(raw: &str) -> Option<Map<String, Value>> {
    if raw.trim().is_empty() {
        return Some(Map::new());
    }
    match serde_json::from_str(raw).ok()? {
        Value::Object(map) => Some(map),
        Value::Null => Some(Map::new()),
        Value::String(inner) => serde_json::from_str(&inner).ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assemble(events: impl IntoIterator<Item = ModelEvent>) -> AssistantMessage {
        let mut assembler = Assembler::default();
        events.into_iter().for_each(|event| assembler.take(event));
        assembler.finish()
    }

    fn args(index: usize, delta: &str) -> ModelEvent {
        ModelEvent::ToolCallArgs { index, delta: delta.into() }
    }

    fn start(index: usize, id: &str) -> ModelEvent {
        ModelEvent::ToolCallStart { index, id: id.into(), name: "exec".into() }
    }

    #[test]
    fn order_is_kept_and_interleaved_arguments_find_their_call() {
        let message = assemble([
            ModelEvent::ThinkingDelta("hm".into()),
            ModelEvent::BlockEnd { signature: Some("sig".into()) },
            ModelEvent::TextDelta("a".into()),
            ModelEvent::TextDelta("b".into()),
            start(1, "x"),
            start(2, "y"),
            args(1, "{\"n\":"),
            args(2, "{\"n\":2}"),
            args(1, "1}"),
            ModelEvent::Stop(StopReason::Stop),
        ]);
        let call = |id: &str, n: i64| Block::ToolCall {
            id: id.into(),
            name: "exec".into(),
            arguments: Map::from_iter([("n".to_owned(), n.into())]),
            invalid_arguments: None,
        };
        let thinking = Block::Thinking { thinking: "hm".into(), thinking_signature: Some("sig".into()) };
        assert_eq!(message.content, [thinking, Block::text("ab"), call("x", 1), call("y", 2)]);
        assert_eq!(message.stop_reason, StopReason::ToolUse);
    }

    #[test]
    fn arguments_that_are_no_object_are_kept_as_text() {
        let message = assemble([start(0, "x"), args(0, "{\"command\":\"ls")]);
        let Block::ToolCall { invalid_arguments, .. } = &message.content[0] else { panic!("a call") };
        assert_eq!(invalid_arguments.as_deref(), Some("{\"command\":\"ls"));
    }

    #[test]
    fn missing_null_and_doubly_encoded_arguments_are_understood() {
        assert_eq!(parse_arguments(""), Some(Map::new()));
        assert_eq!(parse_arguments("null"), Some(Map::new()));
        assert_eq!(parse_arguments("\"{\\\"a\\\":1}\"").map(|map| map.len()), Some(1));
        assert_eq!(parse_arguments("[1]"), None);
    }
}
