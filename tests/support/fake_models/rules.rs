//! The rules that the real APIs enforce; breaking one is a refusal with the status that they give.

use super::{Api, KEY};
use serde_json::Value;

pub(super) struct Refusal {
    pub(super) status: u16,
    pub(super) message: String,
}

type Verdict = Result<(), String>;

pub(super) fn check(
    api: Api,
    header: &dyn Fn(&str) -> Option<String>,
    body: &Value,
    known: &[String],
) -> Option<Refusal> {
    let refuse = |status: u16, message: &str| Some(Refusal { status, message: message.to_owned() });
    let key = match api {
        Api::Anthropic => header("x-api-key"),
        Api::OpenAi => header("authorization").and_then(|v| v.strip_prefix("Bearer ").map(str::to_owned)),
    };
    if key.as_deref() != Some(KEY) {
        let message = if api == Api::Anthropic { "invalid x-api-key" } else { "Incorrect API key provided" };
        return refuse(401, message);
    }
    if header("content-type").as_deref().is_none_or(|kind| !kind.starts_with("application/json")) {
        return refuse(415, "content-type must be application/json");
    }
    let verdict = match api {
        Api::Anthropic => anthropic(header, body),
        Api::OpenAi => openai(body),
    };
    if let Err(message) = verdict {
        return refuse(400, &message);
    }
    let model = body["model"].as_str().unwrap_or_default();
    if !known.is_empty() && known.iter().all(|name| name != model) {
        return refuse(404, &format!("model: {model} does not exist"));
    }
    None
}

fn need(ok: bool, message: impl Into<String>) -> Verdict {
    if ok { Ok(()) } else { Err(message.into()) }
}

fn valid_id(id: &str) -> bool {
    !id.is_empty()
        && id.len() <= 64
        && id.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
}

fn anthropic(header: &dyn Fn(&str) -> Option<String>, body: &Value) -> Verdict {
    need(header("anthropic-version").is_some(), "anthropic-version: header is required")?;
    need(body["model"].is_string(), "model: Field required")?;
    need(body["max_tokens"].as_u64().is_some_and(|n| n > 0), "max_tokens: Field required")?;
    if let Some(budget) = body["thinking"]["budget_tokens"].as_u64() {
        need(budget >= 1024, "thinking.budget_tokens: must be at least 1024")?;
        need(
            body["max_tokens"].as_u64() > Some(budget),
            "`max_tokens` must be greater than `thinking.budget_tokens`",
        )?;
    }
    for tool in body["tools"].as_array().into_iter().flatten() {
        need(tool["name"].as_str().is_some_and(valid_id), "tools: invalid name")?;
        need(tool["input_schema"]["type"] == "object", "tools.input_schema.type: Field required")?;
    }
    let messages = body["messages"].as_array().ok_or("messages: Field required")?;
    need(
        messages.first().is_some_and(|m| m["role"] == "user"),
        "messages: first message must use the \"user\" role",
    )?;
    need(
        body.to_string().matches("\"cache_control\"").count() <= 4,
        "A maximum of 4 blocks with cache_control",
    )?;
    let mut expected: Vec<String> = Vec::new();
    for (at, message) in messages.iter().enumerate() {
        let role = message["role"].as_str().unwrap_or_default();
        need(matches!(role, "user" | "assistant"), format!("messages.{at}.role: invalid"))?;
        let blocks = match &message["content"] {
            Value::String(text) => {
                need(!text.trim().is_empty(), format!("messages.{at}: must have non-empty content"))?;
                need(
                    expected.is_empty(),
                    format!("messages.{at}: `tool_use` ids were found without `tool_result` blocks"),
                )?;
                continue;
            }
            Value::Array(blocks) => blocks,
            _ => return Err(format!("messages.{at}.content: invalid")),
        };
        need(!blocks.is_empty(), format!("messages.{at}: must have non-empty content"))?;
        results_match(at, role, blocks, &expected)?;
        for block in blocks {
            block_is_valid(at, role, block)?;
        }
        let calls = blocks.iter().filter(|block| block["type"] == "tool_use");
        expected = calls.filter_map(|block| block["id"].as_str()).map(str::to_owned).collect();
        if body["thinking"]["type"] == "enabled" && !expected.is_empty() && ends_in_tool_loop(messages, at) {
            let first = blocks[0]["type"].as_str().unwrap_or_default();
            let thinks = matches!(first, "thinking" | "redacted_thinking");
            need(
                thinks,
                format!(
                    "messages.{at}.content.0.type: Expected `thinking` or `redacted_thinking`, but found `{first}`"
                ),
            )?;
        }
    }
    need(expected.is_empty(), "`tool_use` ids were found without `tool_result` blocks immediately after")
}

/// Results stand first in the message after their calls, one for each, and answer nothing else.
fn results_match(at: usize, role: &str, blocks: &[Value], expected: &[String]) -> Verdict {
    let results: Vec<&str> = blocks
        .iter()
        .take_while(|block| block["type"] == "tool_result")
        .filter_map(|block| block["tool_use_id"].as_str())
        .collect();
    let all = blocks.iter().filter(|block| block["type"] == "tool_result").count();
    need(all == results.len(), format!("messages.{at}: `tool_result` blocks must come first"))?;
    for result in &results {
        need(
            expected.iter().any(|id| id == result),
            format!("messages.{at}: unexpected `tool_use_id` found: {result}"),
        )?;
    }
    let missing = expected.iter().find(|id| !results.contains(&id.as_str()));
    if let Some(missing) = missing {
        return Err(format!(
            "messages.{at}: `tool_use` ids were found without `tool_result` blocks: {missing}"
        ));
    }
    need(role == "user" || results.is_empty(), format!("messages.{at}: `tool_result` only in user messages"))
}

fn block_is_valid(at: usize, role: &str, block: &Value) -> Verdict {
    match block["type"].as_str().unwrap_or_default() {
        "text" => need(
            block["text"].as_str().is_some_and(|text| !text.trim().is_empty()),
            format!("messages.{at}: text content blocks must be non-empty"),
        ),
        "image" => image_is_valid(at, block),
        "document" => document_is_valid(at, block),
        "tool_use" => {
            need(role == "assistant", format!("messages.{at}: tool_use only in assistant messages"))?;
            need(
                block["id"].as_str().is_some_and(valid_id),
                format!("messages.{at}.id: String should match pattern"),
            )?;
            need(
                block["input"].is_object(),
                format!("messages.{at}.input: Input should be a valid dictionary"),
            )
        }
        "tool_result" => {
            for inner in block["content"].as_array().into_iter().flatten() {
                match inner["type"].as_str() {
                    Some("text") => block_is_valid(at, "user", inner)?,
                    Some("image") => image_is_valid(at, inner)?,
                    Some("document") => document_is_valid(at, inner)?,
                    _ => return Err(format!("messages.{at}: invalid tool_result content")),
                }
            }
            Ok(())
        }
        "thinking" => {
            need(block["signature"].is_string(), format!("messages.{at}.signature: Field required"))
        }
        "redacted_thinking" => need(block["data"].is_string(), format!("messages.{at}.data: Field required")),
        other => Err(format!("messages.{at}: Input tag '{other}' does not match any of the expected tags")),
    }
}

fn document_is_valid(at: usize, block: &Value) -> Verdict {
    let source = &block["source"];
    let ok =
        source["type"] == "base64" && source["media_type"] == "application/pdf" && source["data"].is_string();
    need(ok, format!("messages.{at}: document source is not supported"))
}

fn image_is_valid(at: usize, block: &Value) -> Verdict {
    let kind = block["source"]["media_type"].as_str().unwrap_or_default();
    let kinds = ["image/jpeg", "image/png", "image/gif", "image/webp"];
    need(kinds.contains(&kind), format!("messages.{at}: image media_type `{kind}` is not supported"))?;
    need(
        block["source"]["data"].as_str().is_some_and(|data| !data.is_empty()),
        format!("messages.{at}: image data"),
    )
}

/// True when nothing but tool results follows the message at `at`.
fn ends_in_tool_loop(messages: &[Value], at: usize) -> bool {
    messages[at + 1..]
        .iter()
        .filter(|m| m["role"] == "user")
        .all(|m| m["content"][0]["type"] == "tool_result")
}

fn openai(body: &Value) -> Verdict {
    need(body["model"].is_string(), "you must provide a model parameter")?;
    let messages = body["messages"].as_array().ok_or("Missing required parameter: 'messages'.")?;
    need(!messages.is_empty(), "[] is too short - 'messages'")?;
    need(
        body.get("tools").is_none_or(|tools| tools.as_array().is_some_and(|t| !t.is_empty())),
        "[] is too short - 'tools'",
    )?;
    for tool in body["tools"].as_array().into_iter().flatten() {
        need(tool["type"] == "function", "tools.type must be function")?;
        need(tool["function"]["name"].as_str().is_some_and(valid_id), "tools.function.name: invalid")?;
        need(
            tool["function"]["parameters"]["type"] == "object",
            "tools.function.parameters: invalid schema",
        )?;
    }
    let mut open: Vec<String> = Vec::new();
    for (at, message) in messages.iter().enumerate() {
        let role = message["role"].as_str().unwrap_or_default();
        if role == "tool" {
            let id = message["tool_call_id"].as_str().unwrap_or_default();
            let Some(found) = open.iter().position(|open| open == id) else {
                return Err(format!(
                    "messages[{at}]: 'tool' must be a response to a preceeding message with 'tool_calls'"
                ));
            };
            open.remove(found);
            need(message["content"].is_string(), format!("messages[{at}].content: expected a string"))?;
            continue;
        }
        need(
            open.is_empty(),
            format!(
                "An assistant message with 'tool_calls' must be followed by tool messages; missing {open:?}"
            ),
        )?;
        need(
            matches!(role, "system" | "user" | "assistant" | "developer"),
            format!("messages[{at}].role: invalid"),
        )?;
        let calls = message["tool_calls"].as_array();
        need(
            calls.is_none_or(|calls| role == "assistant" && !calls.is_empty()),
            format!("messages[{at}].tool_calls: invalid"),
        )?;
        for call in calls.into_iter().flatten() {
            let arguments = call["function"]["arguments"].as_str().unwrap_or("-");
            need(
                serde_json::from_str::<Value>(arguments).is_ok(),
                format!("messages[{at}]: arguments must be JSON text"),
            )?;
            need(call["type"] == "function" && call["function"]["name"].is_string(), "tool_calls: invalid")?;
            open.push(call["id"].as_str().unwrap_or_default().to_owned());
        }
        match &message["content"] {
            Value::String(_) => {}
            Value::Null => {
                need(calls.is_some(), format!("messages[{at}].content: expected a string, got null"))?
            }
            Value::Array(parts) => {
                need(!parts.is_empty(), format!("messages[{at}].content: empty"))?;
                for part in parts {
                    let ok = match part["type"].as_str() {
                        Some("text") => part["text"].is_string(),
                        Some("image_url") => {
                            role == "user"
                                && part["image_url"]["url"]
                                    .as_str()
                                    .is_some_and(|u| u.starts_with("data:image/"))
                        }
                        Some("file") => {
                            let data = part["file"]["file_data"].as_str().unwrap_or_default();
                            role == "user"
                                && part["file"]["filename"].is_string()
                                && data.starts_with("data:application/pdf;base64,")
                        }
                        Some("input_audio") => {
                            role == "user"
                                && part["input_audio"]["data"].is_string()
                                && part["input_audio"]["format"].is_string()
                        }
                        _ => false,
                    };
                    need(ok, format!("messages[{at}].content: invalid part"))?;
                }
            }
            _ => return Err(format!("messages[{at}].content: invalid")),
        }
    }
    need(open.is_empty(), "An assistant message with 'tool_calls' must be followed by tool messages")
}
