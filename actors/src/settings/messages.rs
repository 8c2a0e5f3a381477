//! `session.*`, `messages.*`, `commands.*`: how messages become turns, and whose they are.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::agents::GroupChatSettings;

/// `session`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct SessionSettings {
    pub dm_scope: DmScope,
    pub group_scope: GroupScope,
    /// Messages that start afresh; empty means `/new` and `/reset`.
    pub reset_triggers: Vec<String>,
    pub reset: ResetSettings,
    /// One person under several channel ids: canonical id to `channel:id`.
    pub identity_links: BTreeMap<String, Vec<String>>,
}

/// `session.dmScope`: which direct chats share a session.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum DmScope {
    #[default]
    Main,
    PerPeer,
    PerChannelPeer,
    PerAccountChannelPeer,
}

/// `session.groupScope`.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum GroupScope {
    #[default]
    PerGroup,
    Main,
}

/// `session.reset`: when a session starts afresh by itself.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ResetSettings {
    pub mode: ResetMode,
    /// Hour of the local day for `daily`.
    pub at_hour: Option<u8>,
    /// Minutes of silence for `idle`.
    pub idle_minutes: Option<u64>,
}

/// `session.reset.mode`.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum ResetMode {
    #[default]
    None,
    Daily,
    Idle,
}

/// `messages`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct MessagesSettings {
    /// Put before every answer.
    pub response_prefix: Option<String>,
    /// Reaction that says "seen"; an empty text turns it off.
    pub ack_reaction: Option<String>,
    pub ack_reaction_scope: AckScope,
    pub queue: QueueSettings,
    pub group_chat: GroupChatSettings,
}

/// `messages.ackReactionScope`.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum AckScope {
    #[default]
    GroupMentions,
    GroupAll,
    Direct,
    All,
    #[serde(alias = "none")]
    Off,
}

/// `messages.queue`: a message that arrives while a run of its session is active.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct QueueSettings {
    pub mode: QueueMode,
    /// Messages of a session that may wait; read it through [`QueueSettings::cap`].
    pub cap: Option<usize>,
    pub drop: QueueDrop,
    pub by_channel: BTreeMap<String, QueueMode>,
}

impl QueueSettings {
    /// Messages of a session that may wait whole; less than one is not acted on.
    pub fn cap(&self) -> usize {
        self.cap.filter(|cap| *cap > 0).unwrap_or(20)
    }

    /// What happens to messages of a channel.
    pub fn mode_for(&self, channel: &str) -> QueueMode {
        self.by_channel.get(channel).copied().unwrap_or(self.mode)
    }
}

/// `messages.queue.drop`: what gives way when more messages wait than may.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum QueueDrop {
    /// The oldest are cut short and answered together.
    #[default]
    Summarize,
    /// The oldest are not answered.
    Old,
    /// The newest is not taken.
    New,
}

/// `messages.queue.mode`.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum QueueMode {
    /// Into the running turn before its next step, where that is possible; else after it.
    #[default]
    Steer,
    /// Each a turn of its own, after the running one.
    Followup,
    /// All that wait become one turn.
    Collect,
    /// The running turn is stopped.
    Interrupt,
}

/// `commands`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct CommandsSettings {
    /// Take `/commands` out of messages.
    pub text: bool,
    /// Owners as `channel:id`, for commands that only an owner may give.
    #[serde(deserialize_with = "ids")]
    pub owner_allow_from: Vec<String>,
}

impl Default for CommandsSettings {
    fn default() -> Self {
        Self { text: true, owner_allow_from: Vec::new() }
    }
}

/// Ids as people write them: texts or bare numbers.
pub fn ids<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    Vec::<Value>::deserialize(deserializer)?
        .into_iter()
        .map(|id| match id {
            Value::String(text) => Ok(text),
            Value::Number(number) => Ok(number.to_string()),
            other => Err(serde::de::Error::custom(format_args!(
                "invalid type: {}, expected an id (a string or a number)",
                super::kind_of(&other)
            ))),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_may_be_numbers() {
        let commands: CommandsSettings =
            serde_json::from_str(r#"{"ownerAllowFrom":["telegram:1",42]}"#).unwrap();
        assert_eq!(commands.owner_allow_from, ["telegram:1", "42"]);
    }
}
