//! `agents.list`, `agent.identity.get`, `models.list`: who answers, and with what.

use super::call::{Call, Reply, json};
use super::table::Method;
use crate::agent::providers::catalog::{Catalog, process_env};
use crate::gateway::Gateway;
use crate::session_key::agent_of;
use crate::settings::Settings;
use serde::Deserialize;
use serde_json::{Value, json as object};
use tidegate_protocol::{ErrorShape, Scope};

pub(super) const METHODS: &[Method] = &[
    Method::operator("agents.list", Scope::Read, |call| Box::pin(list(call))),
    Method::operator("agent.identity.get", Scope::Read, |call| Box::pin(identity(call))),
    Method::operator("models.list", Scope::Read, |call| Box::pin(models_list(call))),
];

const MAIN: &str = "main";

async fn list(call: Call) -> Reply {
    let settings = call.gateway.settings.get();
    let agents: Vec<Value> =
        agent_ids(&settings).iter().map(|id| agent(&call.gateway, &settings, id)).collect();
    json(&object!({
        "defaultId": default_id(&settings), "ownership": "sole", "selectionRequired": false, "mainKey": MAIN,
        "scope": "per-sender", "agents": agents,
    }))
}

/// Refuses an agent that nobody configured: it would answer as if it were known.
pub(super) fn known(gateway: &Gateway, id: &str) -> Result<(), ErrorShape> {
    let ids = agent_ids(&gateway.settings.get());
    if ids.iter().any(|known| known.eq_ignore_ascii_case(id)) {
        return Ok(());
    }
    let names: Vec<String> = ids.iter().map(|id| format!("`{id}`")).collect();
    Err(ErrorShape::invalid(format!("unknown agent id \"{id}\": this gateway has {}", names.join(", "))))
}

/// Every agent that the settings name; always at least `main`.
fn agent_ids(settings: &Settings) -> Vec<String> {
    let entries = settings.agents.entries.keys().cloned();
    let listed = settings.agents.list.iter().filter_map(|entry| entry.id.clone());
    let mut ids: Vec<String> = entries.chain(listed).collect();
    if !ids.iter().any(|id| id == MAIN) {
        ids.insert(0, MAIN.to_owned());
    }
    ids.dedup();
    ids
}

fn default_id(settings: &Settings) -> String {
    let entries = settings.agents.entries.iter().map(|(id, entry)| (Some(id), entry));
    let listed = settings.agents.list.iter().map(|entry| (entry.id.as_ref(), entry));
    let chosen = entries.chain(listed).find(|(_, entry)| entry.default).and_then(|(id, _)| id.cloned());
    chosen.unwrap_or_else(|| MAIN.to_owned())
}

fn agent(gateway: &Gateway, settings: &Settings, id: &str) -> Value {
    let entry = settings.agents.entry(id);
    let defaults = &settings.agents.defaults;
    let workspace = entry.and_then(|entry| entry.workspace.clone()).or_else(|| defaults.workspace.clone());
    let workspace = workspace.unwrap_or_else(|| gateway.settings.paths().workspace().display().to_string());
    let catalog = Catalog { settings, env: &process_env, ollama: &[] };
    let primary = catalog.candidates(id, None).ok().map(|mut found| found.swap_remove(0).name());
    let mut value = object!({
        "id": id, "workspace": workspace, "workspaceGit": false,
        "agentRuntime": {"id": "auto", "cloudPlacementSupported": false, "devicePlacementSupported": false, "source": "implicit"},
        "thinkingLevels": [{"id": "off", "label": "off"}], "thinkingOptions": ["off"], "thinkingDefault": "off",
        "defaultPermissionMode": "full", "kind": "agent",
    });
    if let Some(primary) = primary {
        value["model"] = object!({"primary": primary});
    }
    if let Some(name) = entry.and_then(|entry| entry.name.as_ref().or(entry.identity.name.as_ref())) {
        value["name"] = object!(name);
    }
    value
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct IdentityParams {
    #[serde(default)]
    agent_id: Option<String>,
    #[serde(default)]
    session_key: Option<String>,
}

async fn identity(call: Call) -> Reply {
    let params: IdentityParams = call.params()?;
    let settings = call.gateway.settings.get();
    let id = params.agent_id.or_else(|| params.session_key.as_deref().map(|key| agent_of(key).to_owned()));
    let id = id.unwrap_or_else(|| default_id(&settings));
    if !agent_ids(&settings).contains(&id) {
        return Err(ErrorShape::invalid(format!("unknown agent id \"{id}\"")));
    }
    let identity = settings.agents.entry(&id).map(|entry| &entry.identity);
    let name = identity.and_then(|identity| identity.name.clone());
    let shown = name.clone().unwrap_or_else(|| "Assistant".to_owned());
    let avatar = identity.and_then(|identity| identity.emoji.clone());
    let initial: String = shown.chars().take(1).collect();
    json(&object!({
        "agentId": id, "name": shown, "nameSource": if name.is_some() { "config" } else { "default" },
        "avatar": avatar.unwrap_or(initial),
    }))
}

async fn models_list(call: Call) -> Reply {
    json(&object!({"models": models(&call.gateway)}))
}

/// The models that can be asked, the one that is asked first marked so.
pub(super) fn models(gateway: &Gateway) -> Vec<Value> {
    let settings = gateway.settings.get();
    let catalog = Catalog { settings: &settings, env: &process_env, ollama: &[] };
    let default = catalog.candidates(MAIN, None).ok().map(|mut found| found.swap_remove(0).name());
    let one = |candidate: &crate::agent::providers::catalog::Candidate| {
        let is_default = default.as_ref() == Some(&candidate.name());
        object!({
            "id": candidate.model, "name": candidate.model, "provider": candidate.account.provider,
            "contextWindow": candidate.context_tokens, "reasoning": false,
            "tags": if is_default { vec!["default"] } else { Vec::new() },
            "thinkingLevels": [{"id": "off", "label": "off"}], "thinkingDefault": "off", "available": true,
        })
    };
    catalog.all().iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn main_is_always_there_and_the_default_is_what_the_settings_say() {
        let settings: Settings = serde_json::from_value(object!({})).unwrap();
        assert_eq!(
            (agent_ids(&settings), default_id(&settings)),
            (vec!["main".to_owned()], "main".to_owned())
        );
        let settings: Settings =
            serde_json::from_value(object!({"agents": {"list": [{"id": "ops", "default": true}]}})).unwrap();
        assert_eq!(agent_ids(&settings), ["main", "ops"]);
        assert_eq!(default_id(&settings), "ops");
    }
}
