//! A conversation as clients see it in lists and events.

use super::messages::AgentLoad;
use crate::clock::now_ms;
use crate::session_key::MAIN;
use crate::store::SessionRow;
use serde_json::{Value, json};

/// A session as lists and events show it.
pub(crate) fn session_value(row: &SessionRow, load: &AgentLoad) -> Value {
    let running: Vec<&str> =
        load.running.iter().filter(|(_, key)| *key == row.key).map(|(run_id, _)| run_id.as_str()).collect();
    let (provider, model) = split_model(row.model.as_deref());
    let mut value = json!({
        "key": row.key,
        "visibility": "shared",
        "kind": row.chat_type,
        "classification": classification(row),
        "agentId": row.agent_id,
        "isMain": row.key == MAIN,
        "isBackground": false,
        "chatType": row.chat_type,
        "createdAt": row.created_at,
        "updatedAt": row.updated_at,
        "lastInteractionAt": row.updated_at,
        "archived": row.archived,
        "pinned": false,
        "unread": false,
        "sessionId": row.session_id,
        "abortedLastRun": row.status == "aborted",
        "status": if running.is_empty() { "done" } else { "running" },
        "hasActiveRun": !running.is_empty(),
        "activeRunIds": running,
        "inputTokens": row.input_tokens,
        "outputTokens": row.output_tokens,
        "totalTokens": row.total_tokens,
        "totalTokensFresh": row.total_tokens > 0,
        "modelProvider": provider,
        "model": model,
        "thinkingLevels": [{"id": "off", "label": "off"}],
        "thinkingOptions": ["off"],
        "thinkingDefault": "off",
        "snapshotAt": now_ms(),
    });
    let optional = [
        ("displayName", row.title.clone().map(Value::from)),
        ("label", row.title.clone().map(Value::from)),
        ("channel", row.channel.clone().map(Value::from)),
        ("startedAt", row.started_at.map(Value::from)),
        ("endedAt", row.ended_at.map(Value::from)),
        ("lastRunId", row.last_run_id.clone().map(Value::from)),
    ];
    for (key, field) in optional {
        if let Some(field) = field {
            value[key] = field;
        }
    }
    value
}

fn classification(row: &SessionRow) -> &str {
    if row.key == MAIN { "main" } else { &row.chat_type }
}

/// Provider and name.
pub(crate) fn split_model(model: Option<&str>) -> (Option<&str>, Option<&str>) {
    match model.map(|model| model.split_once('/')) {
        Some(Some((provider, name))) => (Some(provider), Some(name)),
        _ => (None, model),
    }
}
