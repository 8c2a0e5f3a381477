//! What a node tells of its own accord: `node.event`.

use super::error::pairing_changed;
use crate::clock::now_ms;
use crate::events::Audience;
use crate::gateway::Gateway;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tidegate_protocol::{ErrorShape, Scope};

/// `node.event`'s answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Heard {
    pub ok: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub handled: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'static str>,
}

/// Payload of `node.host.stats`. Other fields are not kept.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct HostStats {
    cpu_count: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    load_average: Option<[f64; 3]>,
    memory_total_bytes: u64,
    memory_free_bytes: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    disk_total_bytes: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    disk_available_bytes: Option<u64>,
}

/// Why a node says that it is alive.
const TRIGGERS: [&str; 6] =
    ["background", "silent_push", "bg_app_refresh", "significant_location", "manual", "connect"];

/// Takes in one event. The node speaks for itself alone, whatever the payload says.
///
/// # Errors
/// `UNAVAILABLE` while the node's surface waits for its first approval, or when the store refused.
pub async fn hear(
    gateway: &Gateway,
    node_id: &str,
    event: &str,
    payload: Option<Value>,
) -> Result<Heard, ErrorShape> {
    match event {
        "node.host.stats" => host_stats(gateway, node_id, event, payload).await,
        "node.presence.alive" => alive(gateway, node_id, event, payload).await,
        "exec.started" | "exec.finished" | "exec.denied" => Ok(exec(gateway, node_id, event, payload)),
        _ => Ok(not_handled(event, "unsupported_event")),
    }
}

async fn host_stats(
    gateway: &Gateway,
    node_id: &str,
    event: &str,
    payload: Option<Value>,
) -> Result<Heard, ErrorShape> {
    let stats = payload.and_then(|payload| serde_json::from_value::<HostStats>(payload).ok());
    let Some(stats) = stats.filter(HostStats::is_plausible) else {
        return Ok(not_handled(event, "invalid_payload"));
    };
    let mut stats = json!(stats);
    stats["updatedAtMs"] = now_ms().into();
    let record = {
        let known = gateway.node_table.known_mut(node_id);
        let Some(mut known) = known.filter(|known| known.record.approved.is_some()) else {
            return Err(pairing_changed(json!({ "code": "PAIRING_CHANGED" })));
        };
        known.record.host_stats = Some(stats.clone());
        known.record.clone()
    };
    gateway.store.touch_node(record).await?;
    let payload = json!({ "nodeId": node_id, "hostStats": stats });
    gateway.broadcast_droppable("node.hostStats", &payload, Audience::Scope(Scope::Read));
    Ok(handled(event, "updated"))
}

async fn alive(
    gateway: &Gateway,
    node_id: &str,
    event: &str,
    payload: Option<Value>,
) -> Result<Heard, ErrorShape> {
    let trigger = payload.as_ref().and_then(|payload| payload.get("trigger")?.as_str());
    let Some(trigger) = trigger.filter(|trigger| TRIGGERS.contains(trigger)) else {
        return Ok(not_handled(event, "invalid_payload"));
    };
    let record = {
        let Some(mut known) = gateway.node_table.known_mut(node_id) else {
            return Err(pairing_changed(json!({ "code": "PAIRING_CHANGED" })));
        };
        known.record.last_seen_at_ms = now_ms();
        known.record.last_seen_reason = trigger.to_owned();
        known.record.clone()
    };
    gateway.store.touch_node(record).await?;
    Ok(handled(event, "persisted"))
}

/// A word about a program that runs: heard only from the node that was asked to run it.
fn exec(gateway: &Gateway, node_id: &str, event: &str, payload: Option<Value>) -> Heard {
    let Some(Value::Object(payload)) = payload else { return not_handled(event, "invalid_payload") };
    let Some(run_id) = word(&payload, "runId") else { return not_handled(event, "unmatched_exec_event") };
    let last = event != "exec.started";
    if !gateway.node_table.runs().may_report(node_id, run_id, word(&payload, "sessionKey"), last) {
        return not_handled(event, "unmatched_exec_event");
    }
    tracing::debug!(node = node_id, run = run_id, event, "node told of a run");
    Heard { ok: true, event: None, handled: None, reason: None }
}

fn word<'a>(payload: &'a Map<String, Value>, key: &str) -> Option<&'a str> {
    payload.get(key)?.as_str().map(str::trim).filter(|text| !text.is_empty())
}

fn handled(event: &str, reason: &'static str) -> Heard {
    Heard { ok: true, event: Some(event.to_owned()), handled: Some(true), reason: Some(reason) }
}

fn not_handled(event: &str, reason: &'static str) -> Heard {
    Heard { handled: Some(false), ..handled(event, reason) }
}

impl HostStats {
    fn is_plausible(&self) -> bool {
        self.cpu_count > 0
            && self.memory_free_bytes <= self.memory_total_bytes
            && self.load_average.is_none_or(|load| load.iter().all(|load| load.is_finite() && *load >= 0.0))
    }
}
