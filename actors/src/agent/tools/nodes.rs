//! `nodes`: the person's devices.

use super::{Arguments, Outcome, ToolError, ToolOutcome, Toolbox, exec, node_name, required, text};
use crate::agent::clock::span;
use crate::agent::media::{MAX_PICTURE, StoredMedia, picture_mime};
use crate::agent::providers::model::Block;
use crate::inbound::MediaKind;
use crate::store::now_ms;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};
use std::time::Duration;

const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);
/// A camera or a recorder needs its own time on top of what was asked for.
const RECORDING_SLACK: u64 = 30_000;
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
        _ => match command_of(action) {
            Some((command, fields)) => {
                let params = pick(arguments, fields, action);
                send(tools, arguments, command, params).await
            }
            None => Err(ToolError::new(format!("there is no action `{action}`"))),
        },
    }
}

/// The node command behind an action, and the arguments that go with it as (ours, the node's).
fn command_of(action: &str) -> Option<(&'static str, &'static [(&'static str, &'static str)])> {
    const PICTURE: &[(&str, &str)] = &[
        ("facing", "facing"),
        ("maxWidth", "maxWidth"),
        ("quality", "quality"),
        ("delayMs", "delayMs"),
        ("deviceId", "deviceId"),
    ];
    const PTZ: &[(&str, &str)] = &[
        ("deviceId", "deviceId"),
        ("ptzOperation", "operation"),
        ("panDegrees", "panDegrees"),
        ("tiltDegrees", "tiltDegrees"),
        ("zoomPercent", "zoomPercent"),
    ];
    Some(match action {
        "notify" => (
            "system.notify",
            &[
                ("title", "title"),
                ("body", "body"),
                ("sound", "sound"),
                ("priority", "priority"),
                ("delivery", "delivery"),
            ],
        ),
        "camera_snap" => ("camera.snap", PICTURE),
        "camera_list" => ("camera.list", &[]),
        "camera_clip" => (
            "camera.clip",
            &[
                ("facing", "facing"),
                ("durationMs", "durationMs"),
                ("includeAudio", "includeAudio"),
                ("deviceId", "deviceId"),
            ],
        ),
        "camera_ptz" => ("camera.ptz", PTZ),
        "photos_latest" => {
            ("photos.latest", &[("limit", "limit"), ("maxWidth", "maxWidth"), ("quality", "quality")])
        }
        "screen_snapshot" | "screen_snap" => (
            "screen.snapshot",
            &[("screenIndex", "screenIndex"), ("maxWidth", "maxWidth"), ("quality", "quality")],
        ),
        "screen_record" => (
            "screen.record",
            &[
                ("durationMs", "durationMs"),
                ("screenIndex", "screenIndex"),
                ("fps", "fps"),
                ("includeAudio", "includeAudio"),
            ],
        ),
        "location_get" => (
            "location.get",
            &[
                ("maxAgeMs", "maxAgeMs"),
                ("desiredAccuracy", "desiredAccuracy"),
                ("locationTimeoutMs", "timeoutMs"),
            ],
        ),
        "notifications_list" => ("notifications.list", &[("limit", "limit")]),
        "notifications_action" => (
            "notifications.actions",
            &[
                ("notificationAction", "action"),
                ("notificationKey", "key"),
                ("notificationReplyText", "replyText"),
            ],
        ),
        "device_status" => ("device.status", &[]),
        "device_info" => ("device.info", &[]),
        "device_permissions" => ("device.permissions", &[]),
        "device_health" => ("device.health", &[]),
        "which" => ("system.which", &[("bins", "bins")]),
        _ => return None,
    })
}

fn pick(arguments: &Arguments, fields: &[(&str, &str)], action: &str) -> Value {
    let mut params = Map::new();
    for (ours, theirs) in fields {
        if let Some(value) = arguments.get(*ours).filter(|value| !value.is_null()) {
            params.insert((*theirs).to_owned(), value.clone());
        }
    }
    let format = match action {
        "camera_snap" | "screen_snapshot" | "screen_snap" => Some("jpg"),
        "camera_clip" | "screen_record" => Some("mp4"),
        _ => None,
    };
    if let Some(format) = format {
        params.insert("format".to_owned(), json!(format));
    }
    Value::Object(params)
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
    send(tools, arguments, command, params).await
}

async fn send(tools: &Toolbox<'_>, arguments: &Arguments, command: &str, params: Value) -> Outcome {
    let node = tools.pick_node(text(arguments, "node"), command).await?;
    let asked =
        arguments.get("timeoutMs").or_else(|| arguments.get("invokeTimeoutMs")).and_then(Value::as_u64);
    let needed = params["durationMs"].as_u64().map(|ms| ms + RECORDING_SLACK);
    let timeout = asked.or(needed).map_or(DEFAULT_TIMEOUT, |ms| Duration::from_millis(ms.min(MAX_TIMEOUT)));
    let answer = tools.invoke(tools.node_call(&node, command, params, timeout)).await?;
    present(tools, command, answer.payload).await
}

/// Pictures and clips leave the payload as files; the rest is shown as JSON.
async fn present(tools: &Toolbox<'_>, command: &str, mut payload: Value) -> Outcome {
    let mut files = Vec::new();
    take_media(&mut payload, &mut files);
    let (mut blocks, mut media) = (Vec::new(), Vec::new());
    for (bytes, format) in files {
        let (mime, kind) = kind_of(&bytes, &format);
        let sees = kind == MediaKind::Image && picture_mime(&bytes).is_some() && bytes.len() <= MAX_PICTURE;
        match tools.media.save(bytes, mime, kind).await {
            Ok(stored) => {
                if sees {
                    let (mime_type, path) = (stored.mime.clone(), Some(stored.path.clone()));
                    blocks.push(Block::Image { mime_type, data: String::new(), path });
                }
                media.push(stored);
            }
            Err(error) => {
                return Err(ToolError::new(format!("a file from `{command}` could not be stored: {error}")));
            }
        }
    }
    let mut outcome = ToolOutcome::json(&payload).with_media(&media);
    if let Some(note) = delivery_note(tools, &media) {
        outcome.content.push(Block::text(note));
    }
    outcome.content.extend(blocks);
    Ok(outcome)
}

fn delivery_note(tools: &Toolbox<'_>, media: &[StoredMedia]) -> Option<String> {
    let count = media.len();
    let there = if tools.inbound.route.is_some() {
        "sent to the chat with your answer"
    } else {
        "kept with this conversation"
    };
    (count > 0).then(|| format!("({count} file{} {there})", if count == 1 { "" } else { "s" }))
}

/// Takes every `base64` of the payload out, with the `format` beside it.
fn take_media(value: &mut Value, out: &mut Vec<(Vec<u8>, String)>) {
    match value {
        Value::Object(map) => {
            let format = map
                .get("format")
                .or_else(|| map.get("mimeType"))
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned();
            if let Some(Value::String(data)) = map.get("base64")
                && let Ok(bytes) = STANDARD.decode(data.trim())
            {
                map.insert("base64".to_owned(), json!(format!("[{} bytes]", bytes.len())));
                out.push((bytes, format));
            }
            map.values_mut().for_each(|inner| take_media(inner, out));
        }
        Value::Array(items) => items.iter_mut().for_each(|inner| take_media(inner, out)),
        _ => {}
    }
}

fn kind_of(bytes: &[u8], format: &str) -> (&'static str, MediaKind) {
    if let Some(mime) = picture_mime(bytes) {
        return (mime, MediaKind::Image);
    }
    match format.rsplit('/').next().unwrap_or_default() {
        "mp4" => ("video/mp4", MediaKind::Video),
        "webm" => ("video/webm", MediaKind::Video),
        "ogg" | "opus" => ("audio/ogg", MediaKind::Audio),
        "mp3" | "mpeg" => ("audio/mpeg", MediaKind::Audio),
        _ => ("application/octet-stream", MediaKind::Document),
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
    let wanted = required(arguments, "node")?.to_lowercase();
    let nodes = tools.nodes.list().await?;
    let is_it = |node: &&Value| {
        let id = node["nodeId"].as_str().unwrap_or_default();
        (wanted.len() >= 4 && id.starts_with(&wanted))
            || id == wanted
            || node_name(node).to_lowercase() == wanted
    };
    match nodes.iter().find(is_it) {
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
        assert_eq!(kind_of(&files[0].0, &files[0].1).1, MediaKind::Video);
        assert_eq!(kind_of(&files[1].0, &files[1].1), ("image/jpeg", MediaKind::Image));
    }

    #[test]
    fn every_action_of_the_schema_is_known() {
        let schema = super::super::schema::nodes().parameters;
        let own = ["status", "describe", "pending", "approve", "reject", "run", "invoke"];
        for action in schema["properties"]["action"]["enum"].as_array().unwrap() {
            let action = action.as_str().unwrap();
            assert!(own.contains(&action) || command_of(action).is_some(), "{action}");
        }
    }

    #[test]
    fn arguments_are_renamed_and_absent_ones_left_out() {
        let arguments =
            json!({"action": "camera_ptz", "deviceId": "c", "ptzOperation": "home", "quality": 1});
        let (command, fields) = command_of("camera_ptz").unwrap();
        let params = pick(arguments.as_object().unwrap(), fields, "camera_ptz");
        assert_eq!((command, params), ("camera.ptz", json!({"deviceId": "c", "operation": "home"})));
    }

    #[test]
    fn a_node_in_one_line() {
        let node = json!({"nodeId": "b1e1338d087dcb28", "displayName": "pi", "platform": "linux", "connected": true, "commands": ["system.run"]});
        assert_eq!(line(&node), "- pi (b1e1338d087d): linux, connected; commands: system.run");
    }
}
