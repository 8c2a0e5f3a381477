//! `nodes`: the person's devices.

mod requests;

use super::{
    Arguments, Outcome, ToolError, ToolOutcome, Toolbox, exec, is_called, node_name, required, text,
};
use crate::agent::clock::span;
use crate::agent::media::{MediaStore, StoredMedia, picture_mime};
use crate::agent::providers::model::Block;
use crate::clock::now_ms;
use crate::inbound::MediaKind;
use crate::media_type;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use requests::{Request, for_linux, requests};
use serde_json::{Value, json};
use std::path::Path;
use std::time::Duration;

const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);
/// A camera, a recorder or a locator needs its own time on top of what was asked for.
const OPERATION_SLACK: u64 = 30_000;
/// What `file.write` takes.
const MAX_HANDED_ON: u64 = 16 << 20;
const MAX_TIMEOUT: u64 = 10 * 60 * 1000;

pub(super) async fn run(tools: &Toolbox<'_>, arguments: &Arguments) -> Outcome {
    let action = required(arguments, "action")?;
    match action {
        "status" | "list" => status(tools).await,
        "describe" => describe(tools, arguments).await,
        "pending" => pending(tools).await,
        "approve" | "reject" => {
            let request_id = required(arguments, "requestId")?.to_owned();
            Ok(ToolOutcome::json(&tools.nodes.decide(request_id, action == "approve").await?))
        }
        "run" => exec::run_argv(tools, arguments).await,
        "invoke" => invoke(tools, arguments).await,
        _ => match requests(action, arguments)? {
            Some(all) => ask_all(tools, arguments, all).await,
            None => Err(ToolError::new(format!("there is no action `{action}`"))),
        },
    }
}

async fn invoke(tools: &Toolbox<'_>, arguments: &Arguments) -> Outcome {
    let command = required(arguments, "invokeCommand")?;
    if command.starts_with("system.run") {
        return Err(ToolError::new("use the tool exec, or the action run, to run programs"));
    }
    if command.starts_with("system.execApprovals") {
        return Err(ToolError::new("rules about commands can't be changed from here"));
    }
    let params = match arguments.get("invokeParamsJson").or_else(|| arguments.get("invokeParams")) {
        None | Some(Value::Null) => json!({}),
        Some(Value::String(text)) if text.trim().is_empty() => json!({}),
        Some(Value::String(text)) => serde_json::from_str(text)
            .map_err(|error| ToolError::new(format!("invokeParamsJson is no JSON: {error}")))?,
        Some(object) => object.clone(),
    };
    let params = match text(arguments, "file") {
        Some(name) => with_file(tools, params, name).await?,
        None => params,
    };
    send(tools, arguments, command, params).await
}

/// Hands a stored file on: its bytes become the `contentBase64` that `file.write` takes.
async fn with_file(tools: &Toolbox<'_>, mut params: Value, name: &str) -> Result<Value, ToolError> {
    let (file, size) = tools.stored(name).await?;
    if size > MAX_HANDED_ON {
        return Err(ToolError::new(format!("`{name}` is larger than the 16 MiB that a node takes")));
    }
    let bytes = tools.media.read(&file.path).await;
    let bytes = bytes.ok_or_else(|| ToolError::new(format!("`{name}` could not be read")))?;
    let Value::Object(fields) = &mut params else {
        return Err(ToolError::new("invokeParamsJson must be a JSON object"));
    };
    fields.insert("contentBase64".to_owned(), json!(STANDARD.encode(bytes)));
    Ok(params)
}

/// An action may be several requests: one answer holds what all of them brought.
async fn ask_all(tools: &Toolbox<'_>, arguments: &Arguments, mut all: Vec<Request>) -> Outcome {
    let Some(command) = all.first().map(|request| request.command) else {
        return Err(ToolError::new("there is nothing to ask for"));
    };
    let node = tools.pick_node(text(arguments, "node"), command).await?;
    if all.iter().any(Request::is_sided) {
        if is_linux(tools, &node).await? {
            all = for_linux(all);
        } else if all.len() > 1 && text(arguments, "deviceId").is_some() {
            return Err(ToolError::new(
                "a camera named by `deviceId` is not on both sides; leave out `facing`",
            ));
        }
    }
    let mut payloads = Vec::new();
    for (index, Request { command, params }) in all.into_iter().enumerate() {
        let timeout = patience(arguments, &params);
        let mut call = tools.node_call(&node, command, params, timeout);
        if index > 0 {
            call.key.push_str(&format!(":{index}"));
        }
        payloads.push(tools.invoke(call).await?.payload);
    }
    let payload = match payloads.len() {
        1 => payloads.swap_remove(0),
        _ => Value::Array(payloads),
    };
    present(tools, command, payload).await
}

async fn is_linux(tools: &Toolbox<'_>, node: &str) -> Result<bool, ToolError> {
    let nodes = tools.nodes.list().await?;
    let found = nodes.iter().find(|view| is_called(view, node));
    Ok(found
        .and_then(|view| view["platform"].as_str())
        .is_some_and(|platform| platform.eq_ignore_ascii_case("linux")))
}

async fn send(tools: &Toolbox<'_>, arguments: &Arguments, command: &str, params: Value) -> Outcome {
    let node = tools.pick_node(text(arguments, "node"), command).await?;
    let timeout = patience(arguments, &params);
    let answer = tools.invoke(tools.node_call(&node, command, params, timeout)).await?;
    present(tools, command, answer.payload).await
}

/// What was asked for; else what the operation takes by its own params, and some more.
fn patience(arguments: &Arguments, params: &Value) -> Duration {
    let given = |name: &str| arguments.get(name).and_then(Value::as_u64).filter(|ms| *ms > 0);
    let operation = params["durationMs"].as_u64().or(params["timeoutMs"].as_u64());
    let needed = operation.map(|ms| ms.saturating_add(OPERATION_SLACK));
    let ms = given("invokeTimeoutMs").or(given("timeoutMs")).or(needed);
    ms.map_or(DEFAULT_TIMEOUT, |ms| Duration::from_millis(ms.min(MAX_TIMEOUT)))
}

/// Pictures and clips leave the payload as files; the rest is shown as JSON.
async fn present(tools: &Toolbox<'_>, command: &str, mut payload: Value) -> Outcome {
    let files = store_files(tools.media, command, &mut payload).await.map_err(ToolError::new)?;
    let (media, blocks): (Vec<StoredMedia>, Vec<Option<Block>>) = files.into_iter().unzip();
    let mut outcome = ToolOutcome::json(&payload).with_media(&media);
    if let Some(note) = delivery_note(tools, &media) {
        outcome.content.push(Block::text(note));
    }
    outcome.content.extend(blocks.into_iter().flatten());
    Ok(outcome)
}

/// Takes the files out of a node's answer and stores them, each with how a model is shown it.
pub(in crate::agent) async fn store_files(
    store: &MediaStore,
    command: &str,
    payload: &mut Value,
) -> Result<Vec<(StoredMedia, Option<Block>)>, String> {
    let mut files = Vec::new();
    take_media(payload, &mut files);
    let mut stored = Vec::new();
    for File { bytes, format, name } in files {
        let (mime, kind) = kind_of(&bytes, &format, name.as_deref());
        let saved = store.save(&bytes, mime, kind, name.as_deref()).await;
        let saved = saved.map_err(|error| format!("a file from `{command}` could not be stored: {error}"))?;
        let shown = store.shown(&saved, &bytes).ok();
        stored.push((saved, shown));
    }
    Ok(stored)
}

fn delivery_note(tools: &Toolbox<'_>, media: &[StoredMedia]) -> Option<String> {
    let there = if tools.inbound.route.is_some() {
        "goes to the chat with your answer unless you send it yourself"
    } else {
        "kept with this conversation"
    };
    let names: Vec<String> = media.iter().map(|stored| format!("`{}`", stored.path)).collect();
    (!names.is_empty()).then(|| format!("(stored as {}; {there})", names.join(", ")))
}

/// A file that was in an answer.
struct File {
    bytes: Vec<u8>,
    format: String,
    name: Option<String>,
}

/// Takes every `base64` of the payload out, with what is said of it beside it.
fn take_media(value: &mut Value, out: &mut Vec<File>) {
    match value {
        Value::Object(map) => {
            let said = |name: &str| map.get(name).and_then(Value::as_str).map(str::to_owned);
            let format = said("format").or_else(|| said("mimeType")).unwrap_or_default();
            let name = said("fileName").or_else(|| said("path"));
            if let Some(Value::String(data)) = map.get("base64")
                && !data.is_empty()
                && let Ok(bytes) = STANDARD.decode(data.trim())
            {
                map.insert("base64".to_owned(), json!(format!("[{} bytes]", bytes.len())));
                out.push(File { bytes, format, name });
            }
            map.values_mut().for_each(|inner| take_media(inner, out));
        }
        Value::Array(items) => items.iter_mut().for_each(|inner| take_media(inner, out)),
        _ => {}
    }
}

fn kind_of(bytes: &[u8], format: &str, name: Option<&str>) -> (&'static str, MediaKind) {
    if let Some(mime) = picture_mime(bytes) {
        return (mime, MediaKind::Image);
    }
    let ending = match format.rsplit('/').next().unwrap_or_default() {
        _ if bytes.starts_with(b"%PDF-") => "pdf",
        "mpeg" if !format.starts_with("video") => "mp3",
        "" | "octet-stream" => name.and_then(|name| name.rsplit('.').next()).unwrap_or_default(),
        format => format,
    };
    let mime = media_type::mime_of(Path::new(&format!("x.{ending}")));
    match media_type::kind_of(mime) {
        // A picture that isn't one by its bytes, and a PDF in name only, are shown as what they are: files.
        MediaKind::Image => ("application/octet-stream", MediaKind::Document),
        _ if mime == "application/pdf" && !bytes.starts_with(b"%PDF-") => {
            ("application/octet-stream", MediaKind::Document)
        }
        kind => (mime, kind),
    }
}

async fn status(tools: &Toolbox<'_>) -> Outcome {
    let nodes = tools.nodes.list().await?;
    if nodes.is_empty() {
        return Ok(ToolOutcome::text("No node is paired.", json!({"status": "ok", "nodes": []})));
    }
    let lines: Vec<String> = nodes.iter().map(line).collect();
    let ids: Vec<&Value> = nodes.iter().map(|node| &node["nodeId"]).collect();
    Ok(ToolOutcome::text(lines.join("\n"), json!({"status": "ok", "nodes": ids})))
}

/// One node in one line, for the model and for `/nodes`.
pub(in crate::agent) fn line(node: &Value) -> String {
    let id = node["nodeId"].as_str().unwrap_or_default();
    let short = &id[..id.floor_char_boundary(12)];
    let state = match (node["connected"] == true, node["approvalState"].as_str()) {
        (_, Some("pending-approval")) => "waits for approval".to_owned(),
        (true, Some("pending-reapproval")) => "connected, asks for more".to_owned(),
        (true, _) => "connected".to_owned(),
        (false, _) => match node["lastSeenAtMs"].as_i64() {
            Some(seen) => format!("offline, seen {} ago", span(now_ms() - seen)),
            None => "offline".to_owned(),
        },
    };
    let platform = node["platform"].as_str().unwrap_or("unknown platform");
    let commands = node["commands"].as_array().map(|all| {
        let names: Vec<&str> = all.iter().filter_map(Value::as_str).collect();
        names.join(" ")
    });
    let commands = commands
        .filter(|names| !names.is_empty())
        .map(|names| format!("; commands: {names}"))
        .unwrap_or_default();
    format!("- {} ({short}): {platform}, {state}{commands}", node_name(node))
}

async fn describe(tools: &Toolbox<'_>, arguments: &Arguments) -> Outcome {
    let wanted = required(arguments, "node")?;
    let nodes = tools.nodes.list().await?;
    match nodes.iter().find(|node| is_called(node, wanted)) {
        Some(node) => Ok(ToolOutcome::json(node)),
        None => Err(ToolError::new(format!("no node is called `{wanted}`"))),
    }
}

async fn pending(tools: &Toolbox<'_>) -> Outcome {
    let nodes = tools.nodes.list().await?;
    let waiting: Vec<Value> = nodes
        .iter()
        .filter(|node| node["pendingRequestId"].is_string())
        .map(|node| {
            json!({
                "requestId": node["pendingRequestId"], "nodeId": node["nodeId"], "displayName": node["displayName"],
                "platform": node["platform"], "commands": node["pendingDeclaredCommands"],
            })
        })
        .collect();
    Ok(ToolOutcome::json(&json!({"pending": waiting})))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_taken_out_of_the_payload_wherever_they_are() {
        let mut payload = json!({"photos": [{"format": "jpeg", "base64": "/9j/4AAQ", "width": 2}], "format": "mp4", "base64": "AAAA"});
        let mut files = Vec::new();
        take_media(&mut payload, &mut files);
        assert_eq!(files.len(), 2);
        assert_eq!(payload["photos"][0]["base64"], "[6 bytes]");
        let kind = |file: &File| kind_of(&file.bytes, &file.format, file.name.as_deref());
        assert_eq!(kind(&files[0]).1, MediaKind::Video);
        assert_eq!(kind(&files[1]), ("image/jpeg", MediaKind::Image));
        assert_eq!(kind_of(b"OggS", "opus", None), ("audio/ogg", MediaKind::Audio));
        assert_eq!(kind_of(b"%PDF-1", "", Some("/a/plan.bin")), ("application/pdf", MediaKind::Document));
        assert_eq!(kind_of(b"a,b", "", Some("/a/t.csv")), ("text/csv", MediaKind::Document));
    }

    #[test]
    fn every_action_of_the_schema_is_known() {
        let schema = super::super::schema::nodes().parameters;
        let own = ["status", "describe", "pending", "approve", "reject", "run", "invoke"];
        for action in schema["properties"]["action"]["enum"].as_array().unwrap() {
            let action = action.as_str().unwrap();
            let known = !matches!(requests(action, &Arguments::new()), Ok(None));
            assert!(own.contains(&action) || known, "{action}");
        }
    }

    #[test]
    fn a_call_waits_as_long_as_it_was_asked_to_or_as_its_operation_takes() {
        let wait =
            |arguments: Value, params: Value| patience(arguments.as_object().unwrap(), &params).as_millis();
        assert_eq!(wait(json!({}), json!({})), 30_000);
        assert_eq!(wait(json!({}), json!({"durationMs": 10_000})), 40_000);
        assert_eq!(wait(json!({}), json!({"timeoutMs": 45_000})), 75_000);
        assert_eq!(
            wait(json!({"invokeTimeoutMs": 5000, "timeoutMs": 90_000}), json!({"durationMs": 1})),
            5000
        );
    }

    #[test]
    fn a_node_in_one_line() {
        let node = json!({"nodeId": "b1e1338d087dcb28", "displayName": "pi", "platform": "linux", "connected": true, "commands": ["system.run"]});
        assert_eq!(line(&node), "- pi (b1e1338d087d): linux, connected; commands: system.run");
    }
}
