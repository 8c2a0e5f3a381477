//! The words every provider shares: what is asked of a model and what comes back.
//!
//! [`ChatMessage`] serialises exactly as a transcript row does on the wire, so that one shape serves the
//! store, `chat.history` and the request builders.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// One turn to be put to a model.
#[derive(Debug, Clone, Default)]
pub struct ModelRequest {
    /// Model name as the provider knows it, without the provider's prefix.
    pub model: String,
    /// The system prompt.
    pub system: String,
    /// The conversation so far, oldest first.
    pub messages: Vec<ChatMessage>,
    /// Tools the model may call.
    pub tools: Vec<ToolSpec>,
    /// Upper bound of the answer.
    pub max_tokens: u32,
    /// How hard the model should think, if it was asked to.
    pub thinking: Thinking,
    /// Stable name of the conversation, for prompt caches.
    pub cache_key: Option<String>,
}

/// How much reasoning is asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Thinking {
    #[default]
    Off,
    Minimal,
    Low,
    Medium,
    High,
}

impl Thinking {
    /// Reads a level as people write it; an unknown word is no level.
    pub fn parse(word: &str) -> Option<Self> {
        Some(match word.trim().to_ascii_lowercase().as_str() {
            "off" | "none" => Self::Off,
            "minimal" => Self::Minimal,
            "low" | "on" => Self::Low,
            "medium" | "med" => Self::Medium,
            "high" | "max" | "xhigh" | "ultra" => Self::High,
            _ => return None,
        })
    }

    /// Tokens set aside for thinking, for APIs that count them.
    pub fn budget(self) -> Option<u32> {
        match self {
            Self::Off => None,
            Self::Minimal => Some(1024),
            Self::Low => Some(2048),
            Self::Medium => Some(8192),
            Self::High => Some(16_384),
        }
    }

    /// The word that OpenAI-like APIs take.
    pub fn effort(self) -> Option<&'static str> {
        match self {
            Self::Off => None,
            Self::Minimal => Some("minimal"),
            Self::Low => Some("low"),
            Self::Medium => Some("medium"),
            Self::High => Some("high"),
        }
    }
}

/// A tool as the model sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct ToolSpec {
    pub name: String,
    pub description: String,
    /// JSON Schema of the arguments, always an object schema.
    pub parameters: Value,
}

/// One entry of the conversation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "role", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum ChatMessage {
    /// What a person (or the gateway on their behalf) said.
    User {
        content: Content,
        timestamp: i64,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        idempotency_key: Option<String>,
    },
    /// What a model answered.
    Assistant(AssistantMessage),
    /// What a tool returned.
    ToolResult {
        tool_call_id: String,
        tool_name: String,
        content: Vec<Block>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        details: Option<Value>,
        is_error: bool,
        timestamp: i64,
    },
    /// Older turns, told again in short; what came before is no longer sent to the model.
    Summary { content: String, timestamp: i64 },
}

/// A person's message: plain text, or blocks when there is more than text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Content {
    Text(String),
    Blocks(Vec<Block>),
}

/// A model's answer with where it came from and what it cost.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AssistantMessage {
    #[serde(default)]
    pub content: Vec<Block>,
    #[serde(default)]
    pub api: String,
    #[serde(default)]
    pub provider: String,
    #[serde(default)]
    pub model: String,
    #[serde(default)]
    pub usage: Usage,
    #[serde(default)]
    pub stop_reason: StopReason,
    #[serde(default)]
    pub timestamp: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_message: Option<String>,
}

/// A piece of a message.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Block {
    Text {
        text: String,
    },
    Thinking {
        thinking: String,
        /// Proof that the provider wrote this; without it the block is not sent back.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        thinking_signature: Option<String>,
    },
    /// Thinking that the provider gives only in sealed form.
    RedactedThinking {
        data: String,
    },
    ToolCall {
        id: String,
        name: String,
        arguments: Map<String, Value>,
        /// The raw text, when it was no JSON object.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        invalid_arguments: Option<String>,
    },
    Image {
        mime_type: String,
        /// Base64. Empty in stored rows that name a `path`.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        data: String,
        /// Where the stored picture lies, relative to the media folder.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        path: Option<String>,
    },
    /// A document or a sound.
    File {
        mime_type: String,
        /// Bytes of the file.
        size: u64,
        /// Base64. Empty in stored rows.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        data: String,
        /// Where the stored file lies, relative to the media folder.
        path: String,
    },
    /// A kind that this version doesn't know; kept in the store, never sent.
    #[serde(other)]
    Unknown,
}

impl Block {
    /// A text block.
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text { text: text.into() }
    }
}

/// Tokens of one answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Usage {
    pub input: u64,
    pub output: u64,
    pub total_tokens: u64,
    pub cache_read: u64,
    pub cache_write: u64,
}

impl Usage {
    /// True when the provider told nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// All that the model read, from its cache or not.
    pub fn prompt(&self) -> u64 {
        self.input.saturating_add(self.cache_read).saturating_add(self.cache_write)
    }

    /// Adds another answer of the same run. A server may tell any number.
    pub fn add(&mut self, other: &Self) {
        self.input = self.input.saturating_add(other.input);
        self.output = self.output.saturating_add(other.output);
        self.total_tokens = self.total_tokens.saturating_add(other.total_tokens);
        self.cache_read = self.cache_read.saturating_add(other.cache_read);
        self.cache_write = self.cache_write.saturating_add(other.cache_write);
    }
}

/// Why a model ended its answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum StopReason {
    #[default]
    Stop,
    /// The answer hit its token limit.
    Length,
    ToolUse,
    /// The provider's filter stepped in.
    Refusal,
    /// The run was stopped by a person.
    Aborted,
    Error,
}

/// What a stream says, in the order in which it says it.
#[derive(Debug, Clone, PartialEq)]
pub enum ModelEvent {
    TextDelta(String),
    ThinkingDelta(String),
    RedactedThinking(String),
    /// Closes the open text or thinking block.
    BlockEnd {
        signature: Option<String>,
    },
    ToolCallStart {
        index: usize,
        id: String,
        name: String,
    },
    ToolCallArgs {
        index: usize,
        delta: String,
    },
    ToolCallEnd {
        index: usize,
    },
    /// Counts so far; a later one replaces the earlier.
    Usage(Usage),
    ResponseId(String),
    Stop(StopReason),
}

/// The text of blocks, joined.
pub fn text_of(blocks: &[Block]) -> String {
    let mut text = String::new();
    for block in blocks {
        if let Block::Text { text: part } = block {
            text.push_str(part);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn rows_look_like_the_wire() {
        let row = json!({
            "role": "assistant",
            "content": [{"type": "toolCall", "id": "call_14", "name": "exec", "arguments": {"command": "id"}}],
            "api": "openai-completions", "provider": "fake", "model": "fake-1",
            "usage": {"input": 100, "output": 20, "totalTokens": 120, "cacheRead": 0, "cacheWrite": 0},
            "stopReason": "toolUse", "timestamp": 5, "responseId": "chatcmpl-fake-14",
        });
        let message: ChatMessage = serde_json::from_value(row.clone()).unwrap();
        assert_eq!(serde_json::to_value(&message).unwrap(), row);
    }

    #[test]
    fn absurd_counts_end_at_the_largest_number() {
        let most = Usage {
            input: u64::MAX,
            output: u64::MAX,
            total_tokens: u64::MAX,
            cache_read: 1,
            cache_write: 1,
        };
        let mut sum = most;
        sum.add(&most);
        assert_eq!(
            (sum.input, sum.output, sum.total_tokens, sum.cache_read),
            (u64::MAX, u64::MAX, u64::MAX, 2)
        );
        assert_eq!(sum.prompt(), u64::MAX);
    }

    #[test]
    fn unknown_blocks_are_tolerated() {
        let row = json!({"role": "toolResult", "toolCallId": "a", "toolName": "x", "isError": false, "timestamp": 1,
                         "content": [{"type": "video", "url": "x"}]});
        let message: ChatMessage = serde_json::from_value(row).unwrap();
        assert!(matches!(message, ChatMessage::ToolResult { content, .. } if content == [Block::Unknown]));
    }

    #[test]
    fn thinking_levels_are_read_as_people_write_them() {
        assert_eq!(Thinking::parse(" High "), Some(Thinking::High));
        assert_eq!(Thinking::parse("nonsense"), None);
    }
}
