//! The document itself. What we don't know in it is kept as it is.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// How far commands are trusted; ordered from strict to open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Security {
    /// Nothing runs.
    Deny,
    /// Only what the allowlist names.
    Allowlist,
    /// Everything.
    Full,
}

/// When an operator is asked; ordered from open to strict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Ask {
    Off,
    OnMiss,
    Always,
}

/// `exec-approvals.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ApprovalsFile {
    pub(crate) version: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) socket: Option<Map<String, Value>>,
    #[serde(default)]
    pub(crate) defaults: Rules,
    /// Raw, so that one agent's rules can be read and put back without touching another's.
    #[serde(default)]
    pub(crate) agents: Map<String, Value>,
    #[serde(flatten)]
    pub(crate) rest: Map<String, Value>,
}

/// The settings that stand both in the defaults and at an agent.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Rules {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) security: Option<Security>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ask: Option<Ask>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ask_fallback: Option<Security>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) auto_allow_skills: Option<bool>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) allowlist: Vec<AllowEntry>,
    #[serde(flatten)]
    pub(crate) rest: Map<String, Value>,
}

/// One thing that may run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AllowEntry {
    /// A glob over the program's path, or over its bare name.
    pub(crate) pattern: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) id: Option<String>,
    /// `allow-always` for what a decision made; absent for what a person wrote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) source: Option<String>,
    /// A regular expression over the arguments, or a hash of arguments and working directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) arg_pattern: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) last_used_at: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) last_used_command: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) last_resolved_path: Option<String>,
    #[serde(flatten)]
    pub(crate) rest: Map<String, Value>,
}

impl Default for ApprovalsFile {
    fn default() -> Self {
        Self { version: 1, socket: None, defaults: Rules::default(), agents: Map::new(), rest: Map::new() }
    }
}

impl ApprovalsFile {
    /// Reads a document and checks all of it, agents included.
    pub(crate) fn parse(value: Value) -> Result<Self, String> {
        let mut file: Self = serde_path_to_error::deserialize(value).map_err(|error| error.to_string())?;
        if file.version != 1 {
            return Err(format!("version: expected 1, found {}", file.version));
        }
        // An older spelling of the main agent.
        if let Some(rules) = file.agents.remove("default") {
            file.agents.entry("main").or_insert(rules);
        }
        for agent in file.agents.keys() {
            file.agent(agent)?;
        }
        Ok(file)
    }

    /// The rules of one agent; none are empty rules.
    pub(crate) fn agent(&self, name: &str) -> Result<Rules, String> {
        let Some(value) = self.agents.get(name) else { return Ok(Rules::default()) };
        serde_path_to_error::deserialize(value).map_err(|error| format!("agents.{name}.{error}"))
    }

    /// Puts an agent's rules back.
    pub(crate) fn set_agent(&mut self, name: &str, rules: &Rules) {
        if let Ok(value) = serde_json::to_value(rules) {
            self.agents.insert(name.to_owned(), value);
        }
    }

    /// Gives every entry an id, as editors refer to entries by it.
    pub(crate) fn name_entries(&mut self) {
        for agent in self.agents.keys().cloned().collect::<Vec<_>>() {
            let Ok(mut rules) = self.agent(&agent) else { continue };
            for entry in &mut rules.allowlist {
                entry.id.get_or_insert_with(|| uuid::Uuid::new_v4().to_string());
            }
            if !rules.allowlist.is_empty() {
                self.set_agent(&agent, &rules);
            }
        }
    }
}
