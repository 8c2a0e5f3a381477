//! `node.*` for nodes: answering calls, telling news, publishing tools. A node speaks for itself alone.

use super::call::{Call, Reply, json};
use super::table::{Method, carried_through};
use crate::clock::now_ms;
use crate::events::Audience;
use crate::nodes::{Answer, NodeConnection, NodeError, hear};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use std::sync::Arc;
use tidegate_protocol::error::AWAITING_APPROVAL;
use tidegate_protocol::{ErrorShape, Scope, lenient};

pub(super) const METHODS: &[Method] = &[
    // Not a future that waits: an answer counts from the moment its frame was read, even if the socket
    // closes right behind it.
    Method::node("node.invoke.result", |call| Box::pin(std::future::ready(result(&call)))),
    Method::node("node.invoke.progress", |call| Box::pin(std::future::ready(progress(&call)))),
    Method::node("node.event", |call| Box::pin(carried_through(event(call)))),
    Method::node("node.pluginTools.update", |call| Box::pin(std::future::ready(plugin_tools(&call)))),
    Method::node("node.skills.update", |call| Box::pin(std::future::ready(skills(&call)))),
    Method::node("node.runnerInventory.update", |call| Box::pin(std::future::ready(inventory(&call))))
        .hidden(),
    Method::node("node.pending.pull", |call| Box::pin(std::future::ready(pull(&call)))),
    Method::node("node.pending.drain", |call| Box::pin(std::future::ready(drain(&call)))),
    Method::node("node.pending.ack", |call| Box::pin(std::future::ready(ack(&call)))),
    Method::node("skills.bins", |_| Box::pin(std::future::ready(json(&serde_json::json!({ "bins": [] }))))),
];

const LARGEST_CHUNK: usize = 16_384;
const MOST_TOOLS: usize = 128;
const MOST_SKILLS: usize = 64;
const LARGEST_SKILL: usize = 65_536;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ResultParams {
    id: String,
    node_id: String,
    ok: bool,
    #[serde(default)]
    payload: Option<Box<RawValue>>,
    #[serde(default, rename = "payloadJSON")]
    payload_json: Option<String>,
    #[serde(default)]
    error: Option<NodeError>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ProgressParams {
    #[serde(rename = "invokeId")]
    _invoke_id: String,
    node_id: String,
    #[serde(rename = "seq")]
    _seq: u64,
    chunk: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct EventParams {
    event: String,
    #[serde(default)]
    payload: Option<Value>,
    #[serde(default, rename = "payloadJSON")]
    payload_json: Option<String>,
}

fn result(call: &Call) -> Reply {
    let params: ResultParams = call.params()?;
    same_node(call, &params.node_id)?;
    let ResultParams { id, node_id, ok, payload, payload_json, error } = params;
    let answer = Answer { ok, payload, payload_json, error };
    taken(call.gateway.node_table.calls().complete(&id, &node_id, answer))
}

/// Nobody here listens to a command while it runs, and the node is told so.
fn progress(call: &Call) -> Reply {
    let ProgressParams { node_id, chunk, .. } = call.params()?;
    same_node(call, &node_id)?;
    if chunk.len() > LARGEST_CHUNK {
        return Err(ErrorShape::invalid("progress chunk too large"));
    }
    taken(false)
}

async fn event(call: Call) -> Reply {
    let EventParams { event, payload, payload_json } = call.params()?;
    let node_id = own_id(&call)?;
    let payload = match payload_json {
        Some(text) => lenient::from_str(&text).ok(),
        None => payload,
    };
    json(&hear(&call.gateway, node_id, &event, payload).await?)
}

fn plugin_tools(call: &Call) -> Reply {
    #[derive(Deserialize)]
    struct Params {
        tools: Vec<Map<String, Value>>,
    }
    const FIELDS: [&str; 6] = ["pluginId", "name", "description", "parameters", "command", "mcp"];
    let Params { tools } = call.params()?;
    if tools.len() > MOST_TOOLS {
        return Err(call.invalid("/tools", "must not have more than 128 items"));
    }
    let mut kept = Vec::with_capacity(tools.len());
    for (index, mut tool) in tools.into_iter().enumerate() {
        let good = filled(&tool, "pluginId") && filled(&tool, "description") && is_tool_name(&tool);
        if !good {
            return Err(call
                .invalid(&format!("/tools/{index}"), "must be a tool with pluginId, name and description"));
        }
        tool.retain(|key, _| FIELDS.contains(&key.as_str()));
        kept.push(Value::Object(tool));
    }
    let node = socket(call)?;
    node.published(|published| published.tools.clone_from(&kept));
    json(&serde_json::json!({ "nodeId": &*node.node_id, "tools": kept }))
}

fn skills(call: &Call) -> Reply {
    #[derive(Deserialize)]
    struct Params {
        skills: Vec<Map<String, Value>>,
    }
    let Params { skills } = call.params()?;
    if skills.len() > MOST_SKILLS {
        return Err(call.invalid("/skills", "must not have more than 64 items"));
    }
    let mut kept = Vec::with_capacity(skills.len());
    for (index, mut skill) in skills.into_iter().enumerate() {
        let small =
            skill.get("content").and_then(Value::as_str).is_some_and(|text| text.len() <= LARGEST_SKILL);
        if !(small && filled(&skill, "content") && filled(&skill, "description") && is_skill_name(&skill)) {
            return Err(call
                .invalid(&format!("/skills/{index}"), "must be a skill with name, description and content"));
        }
        skill.retain(|key, _| matches!(key.as_str(), "name" | "description" | "content"));
        kept.push(Value::Object(skill));
    }
    let node = socket(call)?;
    node.published(|published| published.skills.clone_from(&kept));
    json(&serde_json::json!({ "nodeId": &*node.node_id, "skills": kept }))
}

fn inventory(call: &Call) -> Reply {
    let node_id = own_id(call)?;
    {
        let known = call.gateway.node_table.known(node_id);
        let approved = known.as_ref().is_some_and(|known| known.record.approved.is_some());
        if !approved {
            let request = known.as_ref().and_then(|known| known.request.as_ref());
            return Err(awaiting(request.map(|request| request.request_id.as_str())));
        }
    }
    let payload = serde_json::json!({ "nodeId": node_id });
    call.gateway.broadcast("node.runnerInventory.changed", &payload, Audience::Scope(Scope::Read));
    json(&payload)
}

fn awaiting(request_id: Option<&str>) -> ErrorShape {
    let how = request_id.map_or_else(
        || "see `tidegate nodes pending`".to_owned(),
        |id| format!("run `tidegate nodes approve {id}` (see `tidegate nodes pending`)"),
    );
    ErrorShape::unavailable(format!(
        "node capability surface is awaiting operator approval; {how}, then this node retries automatically"
    ))
    .with_details(serde_json::json!({ "code": AWAITING_APPROVAL }))
}

fn pull(call: &Call) -> Reply {
    json(&serde_json::json!({ "nodeId": own_id(call)?, "actions": [] }))
}

/// Nothing is kept for nodes that are away; the baseline item asks for a report, as nodes expect.
fn drain(call: &Call) -> Reply {
    json(&serde_json::json!({
        "nodeId": own_id(call)?,
        "revision": 0,
        "items": [{
            "id": "baseline-status", "type": "status.request", "priority": "default",
            "createdAtMs": now_ms(), "expiresAtMs": null,
        }],
        "hasMore": false,
    }))
}

fn ack(call: &Call) -> Reply {
    #[derive(Deserialize)]
    struct Params {
        ids: Vec<String>,
    }
    let Params { ids } = call.params()?;
    json(&serde_json::json!({ "nodeId": own_id(call)?, "ackedIds": ids, "remainingCount": 0 }))
}

/// The id that the connection proved; what a node writes into its params never counts.
fn own_id(call: &Call) -> Result<&str, ErrorShape> {
    call.caller.device_id.as_deref().ok_or_else(|| ErrorShape::invalid("nodeId required"))
}

fn same_node(call: &Call, node_id: &str) -> Result<(), ErrorShape> {
    if own_id(call)? == node_id { Ok(()) } else { Err(ErrorShape::invalid("nodeId mismatch")) }
}

/// This very socket in the table; missing while the registry has not heard of it, or after a removal.
fn socket(call: &Call) -> Result<Arc<NodeConnection>, ErrorShape> {
    call.gateway.node_table.socket(own_id(call)?, &call.caller.conn_id).ok_or_else(|| {
        ErrorShape::unavailable("node pairing changed before request dispatch")
            .with_details(serde_json::json!({ "code": "PAIRING_CHANGED" }))
            .retryable()
    })
}

fn taken(taken: bool) -> Reply {
    #[derive(serde::Serialize)]
    struct Taken {
        ok: bool,
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        ignored: bool,
    }
    json(&Taken { ok: true, ignored: !taken })
}

fn filled(object: &Map<String, Value>, key: &str) -> bool {
    object.get(key).and_then(Value::as_str).is_some_and(|text| !text.trim().is_empty())
}

fn is_tool_name(tool: &Map<String, Value>) -> bool {
    let Some(name) = tool.get("name").and_then(Value::as_str) else { return false };
    name.len() <= 64
        && name.starts_with(|first: char| first.is_ascii_alphabetic())
        && name.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_' || letter == '-')
}

fn is_skill_name(skill: &Map<String, Value>) -> bool {
    let Some(name) = skill.get("name").and_then(Value::as_str) else { return false };
    !name.is_empty()
        && name.len() <= 64
        && !name.starts_with('-')
        && !name.ends_with('-')
        && !name.contains("--")
        && name.chars().all(|letter| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '-')
}
