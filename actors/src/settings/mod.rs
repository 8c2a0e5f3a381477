//! The settings as structs: the keys of one JSON5 file, with OpenClaw's names.
//!
//! This module says what settings mean; the program's `config` module reads them.
//! A key that is not here is kept in the file and reported once, never fatal.

pub mod agents;
pub mod discovery;
mod file;
pub mod gateway;
mod handle;
pub mod messages;
pub mod models;
mod paths;
mod placeholder;
mod secret;
pub mod telegram;
pub mod tools;
mod unacted;

use serde::Deserialize;
use serde_json::Value;

pub use self::{
    agents::AgentsSettings,
    discovery::DiscoverySettings,
    file::{ConfigFile, ConfigIssue, ConfigSnapshot, ConfigWriteError},
    gateway::{AuthMode, GatewaySettings},
    handle::SettingsHandle,
    messages::{CommandsSettings, MessagesSettings, SessionSettings},
    models::ModelsSettings,
    paths::StatePaths,
    secret::Secret,
    telegram::TelegramSettings,
    tools::{LoggingSettings, ToolsSettings},
};

/// The whole file.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Settings {
    pub gateway: GatewaySettings,
    pub discovery: DiscoverySettings,
    pub agents: AgentsSettings,
    pub models: ModelsSettings,
    pub channels: ChannelsSettings,
    pub commands: CommandsSettings,
    pub session: SessionSettings,
    pub messages: MessagesSettings,
    pub tools: ToolsSettings,
    pub logging: LoggingSettings,
    pub plugins: PluginsSettings,
}

/// `channels`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct ChannelsSettings {
    pub telegram: Option<TelegramSettings>,
}

/// `plugins`: of OpenClaw's plugins, what Tidegate has built in.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct PluginsSettings {
    pub entries: PluginEntries,
}

/// `plugins.entries`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct PluginEntries {
    pub device_pair: DevicePairPlugin,
}

/// `plugins.entries.device-pair`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct DevicePairPlugin {
    pub config: DevicePairSettings,
}

/// `plugins.entries.device-pair.config`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct DevicePairSettings {
    /// Where other machines reach this gateway, for setup codes.
    pub public_url: Option<String>,
}

/// A JSON value's type in words, for messages that must not repeat the value.
pub(crate) fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_openclaw_file_is_read_as_it_is() {
        let settings: Settings = serde_json::from_value(json!({
            "gateway": {
                "mode": "local", "port": 19001, "bind": "loopback",
                "auth": {"mode": "token", "token": "t"},
                "nodes": {"pairing": {"autoApproveLocal": false, "sshVerify": false},
                          "commands": {"allow": ["camera.snap"]}, "denyCommands": ["sms.send"]},
            },
            "agents": {"defaults": {"model": {"primary": "mock/m"}, "workspace": "~/w"}},
            "models": {"providers": {"mock": {"baseUrl": "http://127.0.0.1:1/v1", "apiKey": "k",
                "api": "openai-completions", "models": [{"id": "m", "input": ["text", "image"]}]}}},
            "channels": {"telegram": {"botToken": "1:a", "dmPolicy": "pairing"}},
            "commands": {"ownerAllowFrom": ["telegram:1"]},
            "update": {"checkOnStart": false},
        }))
        .unwrap();
        assert_eq!(settings.gateway.port(), 19001);
        assert_eq!(settings.gateway.auth.mode(), AuthMode::Token);
        assert!(!settings.gateway.nodes.pairing.auto_approve_local);
        assert_eq!(settings.gateway.nodes.allowed().collect::<Vec<_>>(), ["camera.snap"]);
        assert_eq!(settings.gateway.nodes.denied().collect::<Vec<_>>(), ["sms.send"]);
        let provider = &settings.models.providers["mock"];
        assert!(provider.models[0].sees_images());
        assert!(!format!("{settings:?}").contains("1:a"));
    }

    #[test]
    fn a_tailnet_name_counts_by_default_only_with_serve_and_a_token() {
        let allowed = |gateway: Value| {
            serde_json::from_value::<Settings>(json!({"gateway": gateway}))
                .unwrap()
                .gateway
                .allows_tailscale()
        };
        assert!(!allowed(json!({})));
        assert!(!allowed(json!({"auth": {"allowTailscale": true}})), "there is no route");
        assert!(allowed(json!({"tailscale": {"mode": "serve"}})));
        assert!(!allowed(json!({"tailscale": {"mode": "serve"}, "auth": {"allowTailscale": false}})));
        assert!(!allowed(json!({"tailscale": {"mode": "serve"}, "auth": {"password": "p"}})));
        assert!(allowed(
            json!({"tailscale": {"mode": "serve"}, "auth": {"password": "p", "allowTailscale": true}})
        ));
        let public =
            json!({"tailscale": {"mode": "funnel"}, "auth": {"password": "p", "allowTailscale": true}});
        assert!(!allowed(public));
    }

    #[test]
    fn without_a_file_it_is_loopback_with_a_token() {
        let settings: Settings = serde_json::from_value(json!({})).unwrap();
        assert_eq!(settings.gateway.port(), 18_789);
        assert_eq!(settings.gateway.auth.mode(), AuthMode::Token);
        assert_eq!(settings.gateway.bind, gateway::Bind::Loopback);
    }
}
