//! How the tools are described to the model. Every word is paid for on each turn: keep them few.

use super::ToolSpec;
use serde_json::{Value, json};

pub(super) fn nodes() -> ToolSpec {
    ToolSpec {
        name: "nodes".into(),
        description: "The person's paired computers and phones. status lists them, describe tells all about one; pending, \
                      approve and reject are about what nodes ask to be allowed; which looks for programs; invoke sends any \
                      other command of a node. Pictures and clips reach the chat by themselves."
            .into(),
        parameters: nodes_parameters(),
    }
}

fn nodes_parameters() -> Value {
    json!({
        "type": "object",
        "required": ["action"],
        "properties": {
            "action": {"type": "string", "enum": [
                "status", "describe", "pending", "approve", "reject", "notify", "camera_snap", "camera_list", "camera_clip",
                "camera_ptz", "photos_latest", "screen_record", "screen_snapshot", "location_get", "notifications_list",
                "notifications_action", "device_status", "device_info", "device_permissions", "device_health", "which", "run",
                "invoke",
            ]},
            "node": {"type": "string", "description": "Id or name. May be left out when only one node can do it."},
            "requestId": {"type": "string", "description": "approve, reject"},
            "title": {"type": "string", "description": "notify"},
            "body": {"type": "string", "description": "notify"},
            "sound": {"type": "string"},
            "priority": {"type": "string", "enum": ["passive", "active", "timeSensitive"]},
            "delivery": {"type": "string", "enum": ["system", "overlay", "auto"]},
            "facing": {"type": "string", "enum": ["front", "back", "both"], "description": "camera_snap, camera_clip (not both)"},
            "maxWidth": {"type": "integer", "minimum": 1},
            "quality": {"type": "number", "minimum": 0, "maximum": 1},
            "delayMs": {"type": "integer", "minimum": 0},
            "deviceId": {"type": "string", "description": "A camera's id, from camera_list"},
            "ptzOperation": {"type": "string", "enum": ["status", "set", "move", "home"], "description": "camera_ptz; ask status first"},
            "panDegrees": {"type": "number"},
            "tiltDegrees": {"type": "number"},
            "zoomPercent": {"type": "number"},
            "limit": {"type": "integer", "minimum": 1, "maximum": 20},
            "durationMs": {"type": "integer", "minimum": 1, "maximum": 300_000},
            "includeAudio": {"type": "boolean"},
            "fps": {"type": "number", "exclusiveMinimum": 0},
            "screenIndex": {"type": "integer", "minimum": 0},
            "maxAgeMs": {"type": "integer", "minimum": 0},
            "locationTimeoutMs": {"type": "integer", "minimum": 1},
            "desiredAccuracy": {"type": "string", "enum": ["coarse", "balanced", "precise"]},
            "notificationAction": {"type": "string", "enum": ["open", "dismiss", "reply"]},
            "notificationKey": {"type": "string"},
            "notificationReplyText": {"type": "string"},
            "bins": {"type": "array", "items": {"type": "string", "minLength": 1}, "minItems": 1, "maxItems": 64, "description": "which"},
            "command": {"type": "array", "items": {"type": "string"}, "minItems": 1, "description": "run: program and arguments, no shell"},
            "cwd": {"type": "string", "description": "run"},
            "invokeCommand": {"type": "string", "description": "invoke"},
            "invokeParamsJson": {"type": "string", "description": "invoke: a JSON object"},
            "file": {"type": "string", "description": "invoke: a stored file's name; its bytes become contentBase64, as file.write takes them (beside path, overwrite, createParents)"},
            "invokeTimeoutMs": {"type": "integer", "minimum": 1, "description": "How long the node may take"},
            "timeoutMs": {"type": "integer", "minimum": 1},
        },
    })
}

pub(super) fn exec() -> ToolSpec {
    ToolSpec {
        name: "exec".into(),
        description: "Run a shell command on a node and get its output. It ends when the command does. A person may be asked \
                      for approval first."
            .into(),
        parameters: json!({
            "type": "object",
            "required": ["command"],
            "properties": {
                "command": {"type": "string", "description": "Shell command."},
                "node": {"type": "string", "description": "Id or name; may be left out when only one node runs commands."},
                "workdir": {"type": "string", "description": "Folder to run in; left out: the node's default."},
                "env": {"type": "object", "additionalProperties": {"type": "string"}, "description": "Literal values, no expansion."},
                "timeoutSeconds": {"type": "number", "description": "0: no limit. Default 1800."},
                "host": {"type": "string", "enum": ["node"]},
            },
        }),
    }
}

pub(super) fn message() -> ToolSpec {
    ToolSpec {
        name: "message".into(),
        description:
            "Send a message, files or both to a chat of a channel, beside your answer (which reaches this chat by itself)."
                .into(),
        parameters: json!({
            "type": "object",
            "properties": {
                "action": {"type": "string", "enum": ["send"]},
                "message": {"type": "string", "description": "Markdown."},
                "media": {"type": "array", "items": {"type": "string"}, "description": "Names that files are stored as: what people sent, what nodes returned."},
                "asVoice": {"type": "boolean", "description": "Sound goes as a voice note."},
                "asDocument": {"type": "boolean", "description": "Pictures and clips go as plain files."},
                "channel": {"type": "string", "description": "Such as telegram; left out: this chat's channel."},
                "to": {"type": "string", "description": "Chat id; left out: this chat."},
                "threadId": {"type": "string"},
                "accountId": {"type": "string"},
                "silent": {"type": "boolean"},
            },
        }),
    }
}
