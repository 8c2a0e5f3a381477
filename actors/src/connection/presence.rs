//! Who is there, as operators see it.

use super::{Caller, Connections};
use crate::VERSION;
use crate::clock::now_ms;
use crate::host::shown_host_name;
use serde_json::{Value, json};

/// The gateway itself and every connected device. Helpers without a device come and go too fast to be listed.
pub fn presence(connections: &Connections, boot_id: &str) -> Vec<Value> {
    let mut entries = vec![own_entry(boot_id)];
    let mut callers: Vec<_> = connections.all().iter().map(|connection| connection.caller.clone()).collect();
    callers.retain(|caller| caller.device_id.is_some() && !caller.is_revoked());
    callers.sort_by_key(|caller| caller.connected_at_ms);
    entries.extend(callers.iter().map(|caller| entry(caller)));
    entries
}

fn own_entry(boot_id: &str) -> Value {
    let host = shown_host_name();
    json!({
        "host": host,
        "version": VERSION,
        "platform": std::env::consts::OS,
        "mode": "gateway",
        "reason": "self",
        "instanceId": boot_id,
        "text": format!("Gateway: {host} · app {VERSION} · mode gateway"),
        "ts": now_ms(),
    })
}

fn entry(caller: &Caller) -> Value {
    let client = &caller.client;
    let host = client.display_name.as_deref().unwrap_or(client.id.as_str());
    let mode = client.mode.as_str();
    let mut entry = json!({
        "host": host,
        "version": client.version,
        "platform": client.platform,
        "mode": mode,
        "reason": "connect",
        "text": format!("{}: {host} · app {} · mode {mode}", caller.role, client.version),
        "ts": caller.connected_at_ms,
        "roles": [caller.role],
        "scopes": caller.scopes,
    });
    let optional = [
        ("deviceFamily", client.device_family.clone()),
        ("modelIdentifier", client.model_identifier.clone()),
        ("timeZone", client.time_zone.clone()),
        ("instanceId", client.instance_id.clone()),
        ("deviceId", caller.device_id.clone()),
        ("ip", (!caller.peer.is_loopback()).then(|| caller.peer.to_string())),
    ];
    for (key, value) in optional {
        if let Some(value) = value {
            entry[key] = Value::String(value);
        }
    }
    entry
}
