//! What a message is judged by.

use crate::settings::messages::{DmScope, GroupScope};
use crate::settings::telegram::TelegramAccount;
use serde::Deserialize;

/// The bot as Telegram knows it.
#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct BotIdentity {
    pub(super) id: i64,
    #[serde(default)]
    pub(super) username: String,
    /// Private chats have threads of their own.
    #[serde(default)]
    pub(super) has_topics_enabled: bool,
}

/// What the rules are made of.
pub(super) struct House<'a> {
    pub(super) account: &'a TelegramAccount,
    pub(super) bot: &'a BotIdentity,
    /// `commands.ownerAllowFrom`.
    pub(super) owners: &'a [String],
    /// Let in by pairing, the first one first: for direct messages only.
    pub(super) paired: &'a [String],
    /// Texts that address the bot as its name does.
    pub(super) mention_patterns: &'a [String],
    pub(super) dm_scope: DmScope,
    pub(super) group_scope: GroupScope,
    /// Whether commands are read at all: `commands.text`.
    pub(super) commands: bool,
    /// What this group was called before it moved.
    pub(super) former_chat: Option<i64>,
}
