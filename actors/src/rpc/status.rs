//! `health`, `status`, `system-presence`: how the gateway fares.

use super::call::{Call, Payload, Reply, json};
use super::table::Method;
use crate::agent::providers::catalog::{Catalog, process_env};
use crate::channels::shared_conversation;
use crate::clock::now_ms;
use crate::connection::presence;
use crate::events::{Audience, Broadcast};
use crate::settings::Settings;
use crate::{Gateway, VERSION};
use serde_json::value::to_raw_value;
use serde_json::{Map, Value, json as object};
use std::time::Instant;
use tidegate_protocol::{ErrorShape, Scope};

/// Sessions that `health` and `status` show.
const RECENT: usize = 5;

pub(super) const METHODS: &[Method] = &[
    Method::anyone("health", |call| Box::pin(health_method(call))),
    Method::operator("status", Scope::Read, |call| Box::pin(status(call))),
    Method::operator("system-presence", Scope::Read, |call| Box::pin(system_presence(call))),
    Method::operator("system.tree", Scope::Read, |call| Box::pin(tree(call))),
    Method::operator("last-heartbeat", Scope::Read, |call| Box::pin(last_heartbeat(call))),
];

async fn health_method(call: Call) -> Reply {
    let details = call.caller.allows(Scope::Read);
    let mut health = health(&call.gateway, details).await;
    // Beyond the official object, which in the hello is closed and always well.
    if details {
        let failing = failing(&call.gateway);
        health["ok"] = failing.is_empty().into();
        health["failing"] = failing.into();
    }
    actix::spawn(announce_health(call.gateway));
    json(&health)
}

/// Tells everyone how the gateway fares, each as much as it may know.
pub async fn announce_health(gateway: Gateway) {
    if gateway.connections.is_empty() {
        return;
    }
    let version = gateway.versions.health_changed();
    for (details, audience) in [(true, Audience::Scope(Scope::Read)), (false, Audience::Without(Scope::Read))]
    {
        if let Ok(payload) = to_raw_value(&health(&gateway, details).await) {
            let version = Some(version);
            gateway.events.tell(Broadcast { event: "health", payload, audience, droppable: true, version });
        }
    }
}

/// The `health` object; without `details` only that it lives.
pub async fn health(gateway: &Gateway, details: bool) -> Value {
    let started = Instant::now();
    let mut health = object!({
        "ok": true,
        "ts": now_ms(),
        "durationMs": 0,
        "plugins": {"loaded": [], "errors": [], "unavailable": []},
        "channels": {},
        "channelOrder": [],
        "channelLabels": {},
        "heartbeatSeconds": 0,
        "defaultAgentId": "main",
        "agents": [],
        "sessions": {"path": "", "count": 0, "recent": []},
    });
    if details {
        let (channels, order, labels) = channels(gateway);
        health["channels"] = channels;
        health["channelOrder"] = order;
        health["channelLabels"] = labels;
        let sessions = sessions(gateway).await;
        health["agents"] = object!([{
            "agentId": "main",
            "isDefault": true,
            "heartbeat": {"enabled": false, "every": "0m", "everyMs": null, "prompt": "", "target": "none", "ackMaxChars": 0},
            "sessions": sessions.clone(),
        }]);
        health["sessions"] = sessions;
    }
    health["durationMs"] = object!(u64::try_from(started.elapsed().as_millis()).unwrap_or(0));
    health
}

/// Each channel with its accounts; the first account stands for the channel.
fn channels(gateway: &Gateway) -> (Value, Value, Value) {
    let mut channels = Map::new();
    let mut order = Vec::new();
    let mut labels = Map::new();
    for (channel, status) in gateway.channels.statuses() {
        let account = serde_json::to_value(&status).unwrap_or_default();
        let entry = channels.entry(channel.clone()).or_insert_with(|| {
            order.push(Value::String(channel.clone()));
            labels.insert(channel.clone(), Value::String(label(&channel)));
            let mut entry = account.clone();
            entry["accounts"] = object!({});
            entry
        });
        entry["accounts"][status.account_id.as_str()] = account;
    }
    (Value::Object(channels), Value::Array(order), Value::Object(labels))
}

fn label(channel: &str) -> String {
    let mut letters = channel.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

async fn sessions(gateway: &Gateway) -> Value {
    let rows = gateway.store.sessions().await.unwrap_or_default();
    let now = now_ms();
    let recent: Vec<Value> = rows
        .iter()
        .take(RECENT)
        .map(|row| object!({"key": row.key, "updatedAt": row.updated_at, "age": (now - row.updated_at).max(0)}))
        .collect();
    object!({"path": gateway.settings.paths().database().display().to_string(), "count": rows.len(), "recent": recent})
}

async fn status(call: Call) -> Reply {
    let gateway = &call.gateway;
    let sessions = sessions(gateway).await;
    let settings = gateway.settings.get();
    let model = first_model(&settings);
    json(&object!({
        "runtimeVersion": VERSION,
        "heartbeat": {"defaultAgentId": "main", "agents": []},
        "channelSummary": channel_summary(gateway).await,
        "queuedSystemEvents": [],
        "tasks": {"total": 0, "active": 0, "terminal": 0, "failures": 0, "byStatus": {}, "byRuntime": {}},
        "taskAudit": {"total": 0, "warnings": 0, "errors": 0, "byCode": {}},
        "sessions": {
            "paths": [sessions["path"]],
            "count": sessions["count"],
            "defaults": {"model": model, "contextTokens": null},
            "recent": recent_sessions(gateway).await,
            "byAgent": [],
        },
        "uptimeMs": u64::try_from(gateway.started.elapsed().as_millis()).unwrap_or(u64::MAX),
        "bootId": gateway.boot_id,
        "connections": gateway.connections.len(),
        "tailscale": tailscale(gateway),
        "unwell": gateway.tree.unwell(),
        "processMemory": {"rssBytes": resident_bytes()},
    }))
}

/// The way in through the tailnet: its mode, how it is doing, and the address to tell people.
fn tailscale(gateway: &Gateway) -> Value {
    let mut shown = serde_json::to_value(gateway.tailscale.exposure()).unwrap_or_default();
    shown["mode"] = object!(gateway.tailscale.mode().as_str());
    shown
}

async fn channel_summary(gateway: &Gateway) -> Vec<String> {
    let lines = gateway.channels.statuses().into_iter().map(|(channel, status)| {
        let state = serde_json::to_value(status.lifecycle).unwrap_or_default();
        let state = state.as_str().unwrap_or_default().to_owned();
        let counts = [
            (status.failed_deliveries, "not delivered"),
            (status.unknown_deliveries, "perhaps not delivered"),
        ];
        let lost = counts.iter().filter(|(count, _)| *count > 0);
        let lost: String = lost.map(|(count, what)| format!(", {count} {what}")).collect();
        format!("{} {}: {state}{lost}", label(&channel), status.account_id)
    });
    let mut lines: Vec<String> = lines.collect();
    lines.extend(shared_conversation(gateway).await.ok().flatten());
    lines
}

async fn recent_sessions(gateway: &Gateway) -> Vec<Value> {
    let now = now_ms();
    let rows = gateway.store.sessions().await.unwrap_or_default();
    let rows = rows.into_iter().take(RECENT);
    rows.map(|row| {
        object!({
            "agentId": row.agent_id,
            "key": row.key,
            "kind": row.chat_type,
            "sessionId": row.session_id,
            "updatedAt": row.updated_at,
            "age": (now - row.updated_at).max(0),
            "model": row.model,
            "inputTokens": row.input_tokens,
            "outputTokens": row.output_tokens,
            "totalTokens": row.total_tokens,
            "totalTokensFresh": true,
            "remainingTokens": null,
            "percentUsed": null,
            "flags": [],
        })
    })
    .collect()
}

/// What `/proc` says this process holds in memory.
fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0);
    pages * 4096
}

async fn system_presence(call: Call) -> Reply {
    json(&presence(&call.gateway.connections, &call.gateway.boot_id))
}

async fn tree(call: Call) -> Reply {
    json(&object!({"children": call.gateway.tree.snapshot()}))
}

async fn last_heartbeat(_: Call) -> Reply {
    null()
}

fn null() -> Result<Payload, ErrorShape> {
    json(&Value::Null)
}

/// Whether a model is named anywhere.
pub fn model_configured(settings: &Settings) -> bool {
    Catalog { settings, env: &process_env, ollama: &[] }.candidates("main", None).is_ok()
}

/// The model that runs use unless told otherwise.
pub(super) fn first_model(settings: &Settings) -> Option<String> {
    let found = Catalog { settings, env: &process_env, ollama: &[] }.candidates("main", None);
    found.ok().map(|mut found| found.swap_remove(0).name())
}

/// What `/readyz` answers.
pub struct Readiness {
    /// Parts that don't work, by name; empty when ready.
    pub failing: Vec<String>,
    /// Each channel account and how long ago it last polled well.
    pub channels: Vec<Value>,
}

/// Looks at every part.
pub async fn readiness(gateway: &Gateway) -> Readiness {
    let mut failing = Vec::new();
    if gateway.is_draining() {
        failing.push("draining".to_owned());
    }
    if let Err(error) = gateway.store.probe().await {
        failing.push(format!("store: {error}"));
    }
    failing.extend(self::failing(gateway));
    let channels = gateway.channels.statuses().into_iter().map(|(channel, status)| {
        let age = status.since_good_poll().map(|age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX));
        object!({
            "channel": channel,
            "accountId": status.account_id,
            "connected": status.connected,
            "lastGoodPollAgeMs": age,
            "lastError": status.last_error,
        })
    });
    Readiness { failing, channels: channels.collect() }
}

/// Parts of the tree and accounts of channels that should work and don't.
fn failing(gateway: &Gateway) -> Vec<String> {
    let accounts = gateway.channels.statuses().into_iter().filter(|(_, status)| status.is_failing());
    let accounts = accounts.map(|(channel, status)| format!("{channel}:{}", status.account_id));
    gateway.tree.failing().into_iter().chain(accounts).collect()
}
