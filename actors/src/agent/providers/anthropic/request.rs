//! The body of a Messages request.

use super::API;
use crate::agent::providers::model::{AssistantMessage, Block, ChatMessage, Content, ModelRequest, ToolSpec};
use crate::agent::providers::{api_call_id, summary_text};
use serde_json::{Value, json};

/// The API refuses more than this many cache marks; two are set: after the system prompt and at the end.
const CACHE: &str = "ephemeral";
/// Pictures of another kind are refused, and one of them would spoil the whole conversation.
const PICTURES: [&str; 4] = ["image/jpeg", "image/png", "image/gif", "image/webp"];

pub(super) fn body(request: &ModelRequest) -> Value {
    let mut body = json!({
        "model": request.model,
        "max_tokens": request.max_tokens,
        "stream": true,
        "messages": messages(request),
    });
    if !request.system.is_empty() {
        body["system"] = json!([{"type": "text", "text": request.system, "cache_control": {"type": CACHE}}]);
    }
    if !request.tools.is_empty() {
        body["tools"] = request.tools.iter().map(tool).collect();
    }
    if let Some(budget) = request.thinking.budget().filter(|_| may_think(request)) {
        body["thinking"] = json!({"type": "enabled", "budget_tokens": budget});
        body["max_tokens"] = json!(request.max_tokens.max(1024).saturating_add(budget));
    }
    body
}

/// Thinking can't be turned on in the middle of a tool loop that began without it.
fn may_think(request: &ModelRequest) -> bool {
    let own_thinking = |block: &Block| {
        matches!(block, Block::Thinking { thinking_signature: Some(_), .. } | Block::RedactedThinking { .. })
    };
    request
        .messages
        .iter()
        .rev()
        .take_while(|message| !matches!(message, ChatMessage::User { .. } | ChatMessage::Summary { .. }))
        .filter_map(|message| if let ChatMessage::Assistant(answer) = message { Some(answer) } else { None })
        .all(|answer| {
            answer.api == API
                && answer.model == request.model
                && answer.content.first().is_some_and(own_thinking)
        })
}

fn tool(tool: &ToolSpec) -> Value {
    json!({"name": tool.name, "description": tool.description, "input_schema": tool.parameters})
}

/// Roles must alternate and begin with the person: neighbours of one role become one message.
fn messages(request: &ModelRequest) -> Vec<Value> {
    let mut turns: Vec<(&'static str, Vec<Value>)> = Vec::new();
    for message in &request.messages {
        let (role, blocks) = blocks_of(message, &request.model);
        if blocks.is_empty() {
            continue;
        }
        match turns.last_mut() {
            Some((last, content)) if *last == role => content.extend(blocks),
            _ => turns.push((role, blocks)),
        }
    }
    if turns.first().is_some_and(|(role, _)| *role == "assistant") {
        turns.insert(0, ("user", vec![json!({"type": "text", "text": "(the conversation goes on)"})]));
    }
    if let Some(last) = turns.last_mut().and_then(|(_, content)| content.last_mut())
        && !matches!(last["type"].as_str(), Some("thinking" | "redacted_thinking"))
    {
        last["cache_control"] = json!({"type": CACHE});
    }
    turns.into_iter().map(|(role, content)| json!({"role": role, "content": content})).collect()
}

fn blocks_of(message: &ChatMessage, model: &str) -> (&'static str, Vec<Value>) {
    match message {
        ChatMessage::User { content: Content::Text(text), .. } => {
            ("user", text_block(text).into_iter().collect())
        }
        ChatMessage::User { content: Content::Blocks(blocks), .. } => {
            ("user", blocks.iter().filter_map(input_block).collect())
        }
        ChatMessage::Summary { content, .. } => {
            ("user", text_block(&summary_text(content)).into_iter().collect())
        }
        ChatMessage::Assistant(answer) => ("assistant", answer_blocks(answer, model)),
        ChatMessage::ToolResult { tool_call_id, content, is_error, .. } => {
            let mut inner: Vec<Value> = content.iter().filter_map(input_block).collect();
            if inner.is_empty() {
                inner.push(json!({"type": "text", "text": "(no output)"}));
            }
            let result = json!({
                "type": "tool_result", "tool_use_id": api_call_id(tool_call_id),
                "content": inner, "is_error": is_error,
            });
            ("user", vec![result])
        }
    }
}

/// Blank text is refused by the API.
fn text_block(text: &str) -> Option<Value> {
    (!text.trim().is_empty()).then(|| json!({"type": "text", "text": text}))
}

fn input_block(block: &Block) -> Option<Value> {
    match block {
        Block::Text { text } => text_block(text),
        Block::Image { mime_type, data, .. }
            if !data.is_empty() && PICTURES.contains(&mime_type.as_str()) =>
        {
            Some(json!({
                "type": "image", "source": {"type": "base64", "media_type": mime_type, "data": data},
            }))
        }
        Block::File { mime_type, data, .. } if !data.is_empty() && mime_type == "application/pdf" => {
            Some(json!({
                "type": "document", "source": {"type": "base64", "media_type": mime_type, "data": data},
            }))
        }
        _ => None,
    }
}

fn answer_blocks(answer: &AssistantMessage, model: &str) -> Vec<Value> {
    // A signature is good only for the model that made it.
    let own = answer.api == API && answer.model == model;
    answer
        .content
        .iter()
        .filter_map(|block| match block {
            Block::Text { text } => text_block(text.trim_end()),
            Block::Thinking { thinking, thinking_signature: Some(signature) } if own => {
                Some(json!({"type": "thinking", "thinking": thinking, "signature": signature}))
            }
            Block::RedactedThinking { data } if own => {
                Some(json!({"type": "redacted_thinking", "data": data}))
            }
            Block::ToolCall { id, name, arguments, .. } => {
                Some(json!({"type": "tool_use", "id": api_call_id(id), "name": name, "input": arguments}))
            }
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::providers::model::{StopReason, Thinking};
    use serde_json::Map;

    fn user(text: &str) -> ChatMessage {
        ChatMessage::User { content: Content::Text(text.into()), timestamp: 0, idempotency_key: None }
    }

    fn request(messages: Vec<ChatMessage>) -> ModelRequest {
        ModelRequest {
            model: "claude".into(),
            system: "s".into(),
            messages,
            max_tokens: 100,
            ..ModelRequest::default()
        }
    }

    #[test]
    fn results_follow_their_calls_and_roles_alternate() {
        let call = |id: &str| Block::ToolCall {
            id: id.into(),
            name: "exec".into(),
            arguments: Map::new(),
            invalid_arguments: None,
        };
        let thinking = Block::Thinking { thinking: "t".into(), thinking_signature: Some("sig".into()) };
        let answer = AssistantMessage {
            content: vec![thinking, Block::text("  "), call("call.1"), call("call_2")],
            api: API.into(),
            model: "claude".into(),
            stop_reason: StopReason::ToolUse,
            ..AssistantMessage::default()
        };
        let result = |id: &str| ChatMessage::ToolResult {
            tool_call_id: id.into(),
            tool_name: "exec".into(),
            content: vec![Block::Image { mime_type: "image/png".into(), data: "AA==".into(), path: None }],
            details: None,
            is_error: false,
            timestamp: 0,
        };
        let messages = vec![
            user("a"),
            user("b"),
            ChatMessage::Assistant(answer),
            result("call.1"),
            result("call_2"),
            user("c"),
        ];
        let body = body(&request(messages));
        let turns = body["messages"].as_array().unwrap();
        let roles: Vec<&str> = turns.iter().map(|turn| turn["role"].as_str().unwrap()).collect();
        assert_eq!(roles, ["user", "assistant", "user"]);
        assert_eq!(turns[1]["content"][0]["signature"], "sig");
        assert_eq!(turns[1]["content"][1]["id"], "call_1");
        assert_eq!(turns[2]["content"][0]["tool_use_id"], "call_1");
        assert_eq!(turns[2]["content"][0]["content"][0]["source"]["data"], "AA==");
        assert_eq!(turns[2]["content"][2]["text"], "c");
        assert_eq!(turns[2]["content"][2]["cache_control"]["type"], "ephemeral");
    }

    #[test]
    fn a_pdf_is_a_document() {
        let file = |mime: &str| Block::File {
            mime_type: mime.into(),
            size: 1,
            data: "AA==".into(),
            path: "n-plan.pdf".into(),
        };
        let blocks = vec![Block::text("read"), file("application/pdf"), file("audio/ogg")];
        let content = Content::Blocks(blocks);
        let message = ChatMessage::User { content, timestamp: 0, idempotency_key: None };
        let body = body(&request(vec![message]));
        let content = body["messages"][0]["content"].as_array().unwrap();
        assert_eq!(content.len(), 2);
        assert_eq!(
            content[1]["source"],
            json!({"type": "base64", "media_type": "application/pdf", "data": "AA=="})
        );
        assert_eq!(content[1]["type"], "document");
    }

    #[test]
    fn foreign_thinking_is_left_out() {
        let thinking = Block::Thinking { thinking: "t".into(), thinking_signature: Some("sig".into()) };
        let answer = AssistantMessage {
            content: vec![thinking, Block::text("x")],
            api: API.into(),
            model: "another".into(),
            ..AssistantMessage::default()
        };
        let body = body(&request(vec![user("a"), ChatMessage::Assistant(answer), user("b")]));
        assert_eq!(body["messages"][1]["content"].as_array().unwrap().len(), 1);
    }

    #[test]
    fn thinking_gets_its_own_budget() {
        let request = ModelRequest { thinking: Thinking::Low, ..request(vec![user("a")]) };
        let body = body(&request);
        assert!(body["max_tokens"].as_u64() > body["thinking"]["budget_tokens"].as_u64());
    }
}
