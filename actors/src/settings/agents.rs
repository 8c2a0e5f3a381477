//! `agents.*`: which model thinks, where it works, how long it may take.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Deserializer, de};
use serde_json::Value;

/// `agents`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct AgentsSettings {
    pub defaults: AgentDefaults,
    /// Agents by id, as newer files have them.
    pub entries: BTreeMap<String, AgentEntry>,
    /// Agents in a row, as older files have them.
    pub list: Vec<AgentEntry>,
}

impl AgentsSettings {
    /// What a file says about one agent, whichever way it says it.
    pub fn entry(&self, id: &str) -> Option<&AgentEntry> {
        self.entries.get(id).or_else(|| self.list.iter().find(|entry| entry.id.as_deref() == Some(id)))
    }
}

/// `agents.defaults`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct AgentDefaults {
    pub model: Option<ModelChoice>,
    /// Model for images when the main one can't see.
    pub image_model: Option<ModelChoice>,
    /// Cheap model for short internal tasks such as titles and summaries.
    pub utility_model: Option<String>,
    /// Per `provider/model`: alias and parameters.
    pub models: BTreeMap<String, ModelEntry>,
    /// Folder with the agent's own files (`AGENTS.md`, `SOUL.md`, `USER.md`, ...).
    pub workspace: Option<String>,
    /// Cap for one turn; read it through [`AgentDefaults::timeout`].
    pub timeout_seconds: u64,
    pub thinking_default: Option<String>,
    /// IANA time zone for the prompt's date; the system's when unset.
    pub user_timezone: Option<String>,
    /// Tokens of context to use at most, whatever the model could take.
    pub context_tokens: Option<u64>,
    /// Largest file taken from a channel.
    pub media_max_mb: f64,
    /// Runs at the same time over all sessions.
    pub max_concurrent: Option<usize>,
    pub compaction: CompactionSettings,
}

impl Default for AgentDefaults {
    fn default() -> Self {
        Self {
            model: None,
            image_model: None,
            utility_model: None,
            models: BTreeMap::new(),
            workspace: None,
            timeout_seconds: 600,
            thinking_default: None,
            user_timezone: None,
            context_tokens: None,
            media_max_mb: 20.0,
            max_concurrent: None,
            compaction: CompactionSettings::default(),
        }
    }
}

impl AgentDefaults {
    pub fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout_seconds.max(1))
    }

    pub fn media_max_bytes(&self) -> u64 {
        (self.media_max_mb.max(0.0) * 1024.0 * 1024.0) as u64
    }
}

/// One model, or one with others to fall back to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ModelChoice {
    /// `provider/model`, or an alias.
    pub primary: Option<String>,
    /// Tried in this order when the primary fails.
    pub fallbacks: Vec<String>,
}

impl ModelChoice {
    /// All of them, best first.
    pub fn in_order(&self) -> impl Iterator<Item = &str> {
        self.primary.iter().chain(&self.fallbacks).map(String::as_str)
    }
}

impl<'de> Deserialize<'de> for ModelChoice {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Full {
            primary: Option<String>,
            #[serde(default)]
            fallbacks: Vec<String>,
        }
        match Value::deserialize(deserializer)? {
            Value::String(primary) => Ok(Self { primary: Some(primary), fallbacks: Vec::new() }),
            map @ Value::Object(_) => {
                let Full { primary, fallbacks } = Full::deserialize(map).map_err(de::Error::custom)?;
                Ok(Self { primary, fallbacks })
            }
            other => Err(de::Error::custom(format_args!(
                "invalid type: {}, expected \"provider/model\" or {{primary, fallbacks}}",
                super::kind_of(&other)
            ))),
        }
    }
}

/// `agents.defaults.models.<provider/model>`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct ModelEntry {
    pub alias: Option<String>,
    /// Passed on to the provider.
    pub params: serde_json::Map<String, Value>,
}

/// One agent, `agents.entries.<id>` or an element of `agents.list`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct AgentEntry {
    pub id: Option<String>,
    pub name: Option<String>,
    pub default: bool,
    pub workspace: Option<String>,
    pub model: Option<ModelChoice>,
    pub thinking_default: Option<String>,
    pub identity: IdentitySettings,
    pub group_chat: GroupChatSettings,
}

/// `identity` of an agent.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct IdentitySettings {
    pub name: Option<String>,
    pub emoji: Option<String>,
    pub theme: Option<String>,
}

/// `groupChat` of an agent or of `messages`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct GroupChatSettings {
    /// Texts that count as a mention, besides the channel's own kind.
    pub mention_patterns: Vec<String>,
    /// Messages of a group that go along as context.
    pub history_limit: Option<usize>,
}

/// `agents.defaults.compaction`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct CompactionSettings {
    /// Tokens kept free for the answer.
    pub reserve_tokens: Option<u64>,
    /// Newest tokens that are never compacted.
    pub keep_recent_tokens: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_is_a_text_or_an_object() {
        let short: ModelChoice = serde_json::from_str(r#""anthropic/claude""#).unwrap();
        assert_eq!(short.in_order().collect::<Vec<_>>(), ["anthropic/claude"]);
        let long: ModelChoice = serde_json::from_str(r#"{"primary":"a/b","fallbacks":["c/d"]}"#).unwrap();
        assert_eq!(long.in_order().collect::<Vec<_>>(), ["a/b", "c/d"]);
        let error = serde_json::from_str::<ModelChoice>("7").unwrap_err().to_string();
        assert!(error.starts_with("invalid type: a number, expected"), "{error}");
    }
}
