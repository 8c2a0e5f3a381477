//! The body of a Chat Completions request.

use crate::agent::providers::error::ModelError;
use crate::agent::providers::model::{
    AssistantMessage, Block, ChatMessage, Content, ModelRequest, ToolSpec, text_of,
};
use crate::agent::providers::{api_call_id, summary_text};
use serde_json::{Value, json};

pub(super) fn body(request: &ModelRequest, official: bool) -> Value {
    let mut body = json!({
        "model": request.model,
        "messages": messages(request),
        "stream": true,
        "stream_options": {"include_usage": true},
    });
    if !request.tools.is_empty() {
        body["tools"] = request.tools.iter().map(tool).collect();
        body["tool_choice"] = json!("auto");
    }
    // Most imitations know only the old name; OpenAI's newer models only the new one.
    let limit = if official { "max_completion_tokens" } else { "max_tokens" };
    body[limit] = json!(request.max_tokens);
    if let Some(effort) = request.thinking.effort() {
        body["reasoning_effort"] = json!(effort);
    }
    if let (true, Some(key)) = (official, &request.cache_key) {
        body["prompt_cache_key"] = json!(key);
    }
    body
}

/// Takes out or renames the field that the server complains about; false when there is nothing to give.
pub(super) fn concede(body: &mut Value, error: &ModelError) -> bool {
    let complaint = error.detail.to_ascii_lowercase();
    let Some(fields) = body.as_object_mut() else { return false };
    for (from, to) in [("max_tokens", "max_completion_tokens"), ("max_completion_tokens", "max_tokens")] {
        if complaint.contains(from)
            && let Some(limit) = fields.remove(from)
        {
            // The complaint usually names the other spelling; a server that knows neither gets neither.
            if complaint.contains(to) {
                fields.insert(to.to_owned(), limit);
            }
            return true;
        }
    }
    for field in ["stream_options", "reasoning_effort", "prompt_cache_key", "tool_choice"] {
        if complaint.contains(field) && fields.remove(field).is_some() {
            return true;
        }
    }
    // Local models without a tool template: better an answer without tools than none.
    let no_tools = complaint.contains("not support tools") || complaint.contains("tool choice requires");
    if no_tools && fields.remove("tools").is_some() {
        fields.remove("tool_choice");
        return true;
    }
    false
}

fn tool(tool: &ToolSpec) -> Value {
    json!({"type": "function", "function": {
        "name": tool.name, "description": tool.description, "parameters": tool.parameters,
    }})
}

fn messages(request: &ModelRequest) -> Vec<Value> {
    let mut out = Vec::with_capacity(request.messages.len() + 1);
    if !request.system.is_empty() {
        out.push(json!({"role": "system", "content": request.system}));
    }
    // Files can't stand in a tool message; they follow the results as a message of their own.
    let mut files: Vec<Value> = Vec::new();
    for message in &request.messages {
        if !matches!(message, ChatMessage::ToolResult { .. }) {
            flush_files(&mut files, &mut out);
        }
        match message {
            ChatMessage::User { content: Content::Text(text), .. } => {
                out.push(json!({"role": "user", "content": text}))
            }
            ChatMessage::User { content: Content::Blocks(blocks), .. } => {
                let parts: Vec<Value> = blocks.iter().filter_map(part).collect();
                out.push(json!({"role": "user", "content": parts}));
            }
            ChatMessage::Summary { content, .. } => {
                out.push(json!({"role": "user", "content": summary_text(content)}))
            }
            ChatMessage::Assistant(answer) => out.extend(answer_message(answer)),
            ChatMessage::ToolResult { tool_call_id, tool_name, content, .. } => {
                let text = text_of(content);
                let text = if text.is_empty() { "(no output)".to_owned() } else { text };
                out.push(json!({"role": "tool", "tool_call_id": api_call_id(tool_call_id), "content": text}));
                let returned: Vec<Value> = content
                    .iter()
                    .filter(|block| matches!(block, Block::Image { .. } | Block::File { .. }))
                    .filter_map(part)
                    .collect();
                if !returned.is_empty() {
                    files.push(json!({"type": "text", "text": format!("Returned by `{tool_name}`:")}));
                    files.extend(returned);
                }
            }
        }
    }
    flush_files(&mut files, &mut out);
    out
}

fn flush_files(files: &mut Vec<Value>, out: &mut Vec<Value>) {
    if !files.is_empty() {
        out.push(json!({"role": "user", "content": std::mem::take(files)}));
    }
}

fn part(block: &Block) -> Option<Value> {
    match block {
        Block::Text { text } => Some(json!({"type": "text", "text": text})),
        Block::Image { mime_type, data, .. } if !data.is_empty() => Some(
            json!({"type": "image_url", "image_url": {"url": format!("data:{mime_type};base64,{data}")}}),
        ),
        Block::File { mime_type, data, path, .. } if !data.is_empty() => file_part(mime_type, data, path),
        _ => None,
    }
}

fn file_part(mime: &str, data: &str, name: &str) -> Option<Value> {
    if mime == "application/pdf" {
        return Some(json!({"type": "file", "file": {
            "filename": name, "file_data": format!("data:{mime};base64,{data}"),
        }}));
    }
    let format = match mime {
        "audio/mpeg" => "mp3",
        "audio/mp4" => "m4a",
        _ => mime.strip_prefix("audio/")?,
    };
    Some(json!({"type": "input_audio", "input_audio": {"data": data, "format": format}}))
}

fn answer_message(answer: &AssistantMessage) -> Option<Value> {
    let text = text_of(&answer.content);
    let calls: Vec<Value> = answer
        .content
        .iter()
        .filter_map(|block| match block {
            Block::ToolCall { id, name, arguments, .. } => Some(json!({
                "id": api_call_id(id), "type": "function",
                "function": {"name": name, "arguments": Value::Object(arguments.clone()).to_string()},
            })),
            _ => None,
        })
        .collect();
    let mut message = json!({"role": "assistant", "content": text});
    if !calls.is_empty() {
        if text.is_empty() {
            message["content"] = Value::Null;
        }
        message["tool_calls"] = Value::Array(calls);
    } else if text.trim().is_empty() {
        return None;
    }
    Some(message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::providers::error::ModelErrorKind;
    use serde_json::Map;

    fn result(id: &str, content: Vec<Block>) -> ChatMessage {
        let (tool_call_id, tool_name) = (id.to_owned(), "camera".to_owned());
        ChatMessage::ToolResult {
            tool_call_id,
            tool_name,
            content,
            details: None,
            is_error: false,
            timestamp: 0,
        }
    }

    #[test]
    fn pictures_of_tools_follow_all_results() {
        let call = |id: &str| Block::ToolCall {
            id: id.into(),
            name: "camera".into(),
            arguments: Map::new(),
            invalid_arguments: None,
        };
        let answer = AssistantMessage { content: vec![call("a"), call("b")], ..AssistantMessage::default() };
        let image = Block::Image { mime_type: "image/jpeg".into(), data: "AA==".into(), path: None };
        let request = ModelRequest {
            messages: vec![
                ChatMessage::Assistant(answer),
                result("a", vec![image]),
                result("b", vec![Block::text("ok")]),
            ],
            ..ModelRequest::default()
        };
        let out = messages(&request);
        let roles: Vec<&str> = out.iter().map(|message| message["role"].as_str().unwrap()).collect();
        assert_eq!(roles, ["assistant", "tool", "tool", "user"]);
        assert_eq!(out[0]["content"], Value::Null);
        assert_eq!(out[3]["content"][1]["image_url"]["url"], "data:image/jpeg;base64,AA==");
    }

    #[test]
    fn a_refused_field_is_given_up() {
        let mut body = body(&ModelRequest { max_tokens: 9, ..ModelRequest::default() }, false);
        let complain = |text: &str| ModelError::new(ModelErrorKind::BadRequest, text);
        assert!(concede(
            &mut body,
            &complain("Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.")
        ));
        assert_eq!(body["max_completion_tokens"], 9);
        assert!(concede(&mut body, &complain("unknown field stream_options")));
        assert!(body.get("stream_options").is_none());
        assert!(!concede(&mut body, &complain("something else")));
    }
}
