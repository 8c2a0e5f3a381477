//! `config.*`: reading and editing the config file, never with a secret in sight.

use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;
use tidegate_protocol::{ErrorShape, Scope};

use super::{Call, Method, Reply, json};
use crate::devices::HeedSettings;
use crate::events::Audience;
use crate::gateway::Gateway;
use crate::settings::{ConfigFile, ConfigIssue, ConfigSnapshot, ConfigWriteError};

pub(super) const METHODS: &[Method] = &[
    Method::operator("config.get", Scope::Read, |call| Box::pin(get(call))),
    Method::operator("config.set", Scope::Admin, |call| Box::pin(set(call))).paced(),
    Method::operator("config.apply", Scope::Admin, |call| Box::pin(set(call))).paced(),
    Method::operator("config.patch", Scope::Admin, |call| Box::pin(patch(call))).paced(),
];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GetParams {}

/// What `config.set`, `config.apply` and `config.patch` take. The last four are for a
/// gateway that restarts itself to apply a change; this one doesn't have to.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct WriteParams {
    raw: String,
    base_hash: Option<String>,
    /// Arrays that a patch may shorten.
    #[serde(default)]
    replace_paths: Vec<String>,
    #[serde(rename = "sessionKey")]
    _session_key: Option<String>,
    #[serde(rename = "deliveryContext")]
    _delivery_context: Option<Value>,
    #[serde(rename = "note")]
    _note: Option<String>,
    #[serde(rename = "restartDelayMs")]
    _restart_delay_ms: Option<u64>,
}

async fn get(call: Call) -> Reply {
    call.params::<GetParams>()?;
    let snapshot = off_thread(&call, |file| Ok(file.shown(&file.read()))).await?;
    json(&view(&snapshot))
}

async fn set(call: Call) -> Reply {
    let params: WriteParams = call.params()?;
    write(&call, move |file| {
        needs_hash(file, params.base_hash.as_deref())?;
        file.write(&params.raw, params.base_hash.as_deref()).map_err(refused)
    })
    .await
}

async fn patch(call: Call) -> Reply {
    let params: WriteParams = call.params()?;
    write(&call, move |file| {
        needs_hash(file, params.base_hash.as_deref())?;
        let before = file.read();
        let text = before.text.as_deref().unwrap_or_default();
        let text = file.patched(text, &params.raw, &params.replace_paths).map_err(refused)?;
        file.write(&text, Some(&before.hash)).map_err(refused)
    })
    .await
}

/// What is written may end its writer's own connection; the answer goes out before that.
async fn write(
    call: &Call,
    job: impl FnOnce(&dyn ConfigFile) -> Result<ConfigSnapshot, ErrorShape> + Send + 'static,
) -> Reply {
    let _owed = call.caller.owe_answer();
    let snapshot = off_thread(call, move |file| Ok(file.shown(&job(file)?))).await?;
    let reply = json(&written(&snapshot));
    // Devices that are just starting anew begin with the new settings.
    let _ = call.gateway.devices.send(HeedSettings).await;
    if call.caller.is_revoked()
        && let Ok(payload) = &reply
    {
        // From here on nothing else is answered on this connection.
        call.interim(payload);
    }
    reply
}

/// Runs `job` with the file where it may block.
async fn off_thread<T: Send + 'static>(
    call: &Call,
    job: impl FnOnce(&dyn ConfigFile) -> Result<T, ErrorShape> + Send + 'static,
) -> Result<T, ErrorShape> {
    let file: Arc<dyn ConfigFile> = call
        .gateway
        .settings
        .file()
        .ok_or_else(|| ErrorShape::unavailable("this gateway runs without a config file"))?;
    let job = tokio::task::spawn_blocking(move || job(&*file));
    job.await.map_err(|_| ErrorShape::unavailable("reading the config file failed; see the gateway's log"))?
}

/// Nobody overwrites what they haven't read.
fn needs_hash(file: &dyn ConfigFile, given: Option<&str>) -> Result<(), ErrorShape> {
    if given.is_none() && file.read().exists {
        return Err(ErrorShape::invalid(
            "config base hash required; call config.get and pass its hash as baseHash",
        ));
    }
    Ok(())
}

fn refused(error: ConfigWriteError) -> ErrorShape {
    match &error {
        ConfigWriteError::Io { .. } => {
            tracing::warn!(error = &error as &dyn std::error::Error, "config file not written");
            ErrorShape::unavailable(error.to_string())
        }
        ConfigWriteError::Changed => ErrorShape::invalid(error.to_string()),
        ConfigWriteError::Invalid(issues) => {
            ErrorShape::invalid(error.to_string()).with_details(json!({ "issues": list(issues) }))
        }
    }
}

/// `config.get` as OpenClaw's clients read it.
fn view(snapshot: &ConfigSnapshot) -> Value {
    let ConfigSnapshot { path, exists, text, parsed, resolved, issues, warnings, hash, applied_hash } =
        snapshot;
    json!({
        "path": path,
        "includedPaths": [],
        "includeProvenance": [],
        "agentRosterIncludeOwned": false,
        "bindingsIncludeOwned": false,
        "exists": exists,
        "raw": text,
        "parsed": parsed,
        "sourceConfig": parsed,
        "resolved": resolved,
        "valid": issues.is_empty(),
        "runtimeConfig": resolved,
        "config": resolved,
        "hash": hash,
        "issues": list(issues),
        "warnings": list(warnings),
        "legacyIssues": [],
        "configRevisionHash": hash,
        "appliedConfigHash": applied_hash,
    })
}

fn written(snapshot: &ConfigSnapshot) -> Value {
    let ConfigSnapshot { path, resolved, hash, warnings, .. } = snapshot;
    json!({"ok": true, "path": path, "hash": hash, "config": resolved, "warnings": list(warnings)})
}

fn list(issues: &[ConfigIssue]) -> Vec<Value> {
    issues.iter().map(|issue| json!({"path": issue.path, "message": issue.message})).collect()
}

/// Tells operators about every change of the settings, for as long as the gateway runs.
pub async fn announce_changes(gateway: Gateway) {
    let mut changes = gateway.settings.subscribe();
    while changes.changed().await.is_ok() {
        let Some(file) = gateway.settings.file() else { return };
        let Ok(snapshot) = tokio::task::spawn_blocking(move || file.read()).await else { return };
        let event = json!({"path": snapshot.path, "hash": snapshot.hash, "ts": crate::clock::now_ms()});
        gateway.broadcast("config.changed", &event, Audience::Operators);
    }
}
