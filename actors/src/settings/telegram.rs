//! `channels.telegram`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::{Secret, messages::ids};

/// The account that needs no name.
pub const DEFAULT_ACCOUNT: &str = "default";
const API_ROOT: &str = "https://api.telegram.org";
/// The environment's token, for the account without a name.
const TOKEN_VARIABLE: &str = "TELEGRAM_BOT_TOKEN";

/// `channels.telegram`: the account that needs no name, and others by name.
///
/// What an account leaves out it takes from the level above.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct TelegramSettings {
    /// Unset means on.
    pub enabled: Option<bool>,
    pub bot_token: Option<Secret>,
    pub token_file: Option<PathBuf>,
    pub accounts: BTreeMap<String, TelegramSettings>,
    pub default_account: Option<String>,
    /// Another Bot API server.
    pub api_root: Option<String>,
    pub proxy: Option<String>,
    pub dm_policy: Option<DmPolicy>,
    #[serde(deserialize_with = "some_ids")]
    pub allow_from: Option<Vec<String>>,
    pub group_policy: Option<GroupPolicy>,
    /// Who may speak to the bot in groups; unset means those of `allowFrom`.
    #[serde(deserialize_with = "some_ids")]
    pub group_allow_from: Option<Vec<String>>,
    /// Chat id, or `*`, to the group's own settings.
    pub groups: Option<BTreeMap<String, GroupSettings>>,
    pub streaming: Option<Streaming>,
    /// Largest file taken or sent, in MiB.
    pub media_max_mb: Option<u64>,
    pub text_chunk_limit: Option<usize>,
    pub ack_reaction: Option<String>,
    pub reply_to_mode: Option<ReplyToMode>,
    pub link_preview: Option<bool>,
    pub custom_commands: Option<Vec<CustomCommand>>,
    /// Somebody else serves the bot's webhook: it is not polled here, or it would be taken from them.
    pub webhook_url: Option<String>,
}

/// One group, or one topic of a group.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct GroupSettings {
    pub enabled: Option<bool>,
    /// Unset means that the bot must be addressed.
    pub require_mention: Option<bool>,
    pub group_policy: Option<GroupPolicy>,
    #[serde(deserialize_with = "some_ids")]
    pub allow_from: Option<Vec<String>>,
    /// Topic id, or `*`, to what differs there.
    pub topics: BTreeMap<String, GroupSettings>,
}

/// A menu entry that the owner added.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct CustomCommand {
    pub command: String,
    pub description: String,
}

/// `dmPolicy`: who may write to the bot.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum DmPolicy {
    /// A stranger gets a code that the owner approves.
    #[default]
    Pairing,
    Allowlist,
    Open,
    Disabled,
}

/// `groupPolicy`.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum GroupPolicy {
    #[default]
    Allowlist,
    Open,
    Disabled,
}

/// `replyToMode`: whether answers quote the message they answer.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum ReplyToMode {
    #[default]
    Off,
    First,
    #[serde(alias = "batched")]
    All,
}

/// `streaming`: what is shown while an answer is being written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Streaming {
    /// Nothing but the typing notice.
    Off,
    /// The answer as it grows, in one message that becomes the answer.
    #[default]
    Partial,
    /// What is being done, in one message that goes when the answer comes.
    Progress,
}

impl<'de> Deserialize<'de> for Streaming {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        let mode = match &value {
            Value::Object(object) => object.get("mode").cloned().unwrap_or(Value::Bool(true)),
            other => other.clone(),
        };
        match &mode {
            Value::Bool(true) => Ok(Self::Partial),
            Value::Bool(false) => Ok(Self::Off),
            Value::String(text) => match text.as_str() {
                "off" => Ok(Self::Off),
                "partial" | "block" => Ok(Self::Partial),
                "progress" => Ok(Self::Progress),
                other => {
                    Err(serde::de::Error::unknown_variant(other, &["off", "partial", "block", "progress"]))
                }
            },
            other => Err(serde::de::Error::custom(format_args!(
                "invalid type: {}, expected a streaming mode",
                super::kind_of(other)
            ))),
        }
    }
}

/// Where an account's token comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenSource {
    Config,
    TokenFile,
    Env,
    None,
}

impl TokenSource {
    /// As `channels.status` says it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Config => "config",
            Self::TokenFile => "tokenFile",
            Self::Env => "env",
            Self::None => "none",
        }
    }
}

/// One account with everything it inherits.
#[derive(Clone, Debug)]
pub struct TelegramAccount {
    pub name: String,
    pub enabled: bool,
    pub token: Option<Secret>,
    pub token_file: Option<PathBuf>,
    pub token_source: TokenSource,
    /// Without a slash at the end.
    pub api_root: String,
    pub proxy: Option<String>,
    pub dm_policy: DmPolicy,
    pub allow_from: Vec<String>,
    pub group_policy: GroupPolicy,
    pub group_allow_from: Vec<String>,
    pub groups: BTreeMap<String, GroupSettings>,
    pub streaming: Streaming,
    pub media_max_bytes: u64,
    pub text_limit: Option<usize>,
    pub ack_reaction: Option<String>,
    pub reply_to_mode: ReplyToMode,
    pub link_preview: bool,
    pub custom_commands: Vec<CustomCommand>,
    /// The settings give it a webhook.
    pub webhook: bool,
}

impl TelegramAccount {
    /// Whether `other` reaches the same bot in the same way: then nothing needs to reconnect.
    pub fn connects_like(&self, other: &Self) -> bool {
        self.enabled == other.enabled
            && Secret::same(self.token.as_ref(), other.token.as_ref())
            && self.token_file == other.token_file
            && self.api_root == other.api_root
            && self.proxy == other.proxy
            && self.webhook == other.webhook
    }
}

impl TelegramSettings {
    /// All accounts, whether on or off.
    pub fn resolved(&self) -> BTreeMap<String, TelegramAccount> {
        self.resolved_with(std::env::var(TOKEN_VARIABLE).ok().as_deref())
    }

    /// The account for a sender that names none.
    pub fn default_account(&self) -> String {
        let accounts = self.resolved();
        let named = self.default_account.clone().filter(|name| accounts.contains_key(name));
        let usual = || accounts.contains_key(DEFAULT_ACCOUNT).then(|| DEFAULT_ACCOUNT.to_owned());
        named.or_else(usual).or_else(|| accounts.keys().next().cloned()).unwrap_or(DEFAULT_ACCOUNT.to_owned())
    }

    fn resolved_with(&self, env_token: Option<&str>) -> BTreeMap<String, TelegramAccount> {
        let mut found = BTreeMap::new();
        for (name, account) in &self.accounts {
            found.insert(name.clone(), self.resolve(name, account, None));
        }
        let own = self.bot_token.is_some() || self.token_file.is_some();
        let from_env = env_token.filter(|token| !token.trim().is_empty());
        if !found.contains_key(DEFAULT_ACCOUNT) && (own || from_env.is_some() || found.is_empty()) {
            let account = self.resolve(DEFAULT_ACCOUNT, self, from_env);
            found.insert(DEFAULT_ACCOUNT.to_owned(), account);
        }
        found
    }

    fn resolve(&self, name: &str, own: &Self, env_token: Option<&str>) -> TelegramAccount {
        let mut token = own.bot_token.clone().filter(|token| !token.is_blank());
        // An account called `default` is the one without a name.
        if name == DEFAULT_ACCOUNT && own.token_file.is_none() {
            token = token.or_else(|| self.bot_token.clone().filter(|token| !token.is_blank()));
        }
        let token_file = own.token_file.clone().filter(|_| token.is_none());
        let mut token_source = match (&token, &token_file) {
            (Some(_), _) => TokenSource::Config,
            (None, Some(_)) => TokenSource::TokenFile,
            (None, None) => TokenSource::None,
        };
        if let (TokenSource::None, Some(env)) = (token_source, env_token) {
            token = Some(Secret::new(env.trim()));
            token_source = TokenSource::Env;
        }
        let allow_from = own.allow_from.clone().or_else(|| self.allow_from.clone()).unwrap_or_default();
        let group_allow_from = own.group_allow_from.clone().or_else(|| self.group_allow_from.clone());
        let api_root = own.api_root.as_ref().or(self.api_root.as_ref());
        let webhook = own.webhook_url.as_ref().or(self.webhook_url.as_ref());
        TelegramAccount {
            name: name.to_owned(),
            enabled: own.enabled.unwrap_or(true) && self.enabled.unwrap_or(true),
            token,
            token_file,
            token_source,
            api_root: api_root.map_or(API_ROOT, |root| root.trim_end_matches('/')).to_owned(),
            proxy: own.proxy.clone().or_else(|| self.proxy.clone()).filter(|proxy| !proxy.is_empty()),
            dm_policy: own.dm_policy.or(self.dm_policy).unwrap_or_default(),
            group_policy: own.group_policy.or(self.group_policy).unwrap_or_default(),
            group_allow_from: group_allow_from.unwrap_or_else(|| allow_from.clone()),
            allow_from,
            groups: own.groups.clone().or_else(|| self.groups.clone()).unwrap_or_default(),
            streaming: own.streaming.or(self.streaming).unwrap_or_default(),
            media_max_bytes: own
                .media_max_mb
                .or(self.media_max_mb)
                .unwrap_or(100)
                .saturating_mul(1024 * 1024),
            text_limit: own.text_chunk_limit.or(self.text_chunk_limit),
            ack_reaction: own.ack_reaction.clone().or_else(|| self.ack_reaction.clone()),
            reply_to_mode: own.reply_to_mode.or(self.reply_to_mode).unwrap_or_default(),
            link_preview: own.link_preview.or(self.link_preview).unwrap_or(true),
            custom_commands: own
                .custom_commands
                .clone()
                .or_else(|| self.custom_commands.clone())
                .unwrap_or_default(),
            webhook: webhook.is_some_and(|url| !url.trim().is_empty()),
        }
    }
}

fn some_ids<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<String>>, D::Error> {
    ids(deserializer).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(value: Value) -> TelegramSettings {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn an_account_inherits_what_it_leaves_out() {
        let settings = read(json!({
            "botToken": "1:root", "apiRoot": "http://127.0.0.1:9/", "allowFrom": [555],
            "groups": {"-1": {}},
            "accounts": {"work": {"botToken": "2:work", "dmPolicy": "allowlist", "groups": {}}},
        }));
        let accounts = settings.resolved_with(None);
        let work = &accounts["work"];
        assert_eq!(work.token.as_ref().unwrap().expose(), "2:work");
        assert_eq!((work.api_root.as_str(), work.dm_policy), ("http://127.0.0.1:9", DmPolicy::Allowlist));
        assert_eq!((work.allow_from.as_slice(), work.groups.len()), (&["555".to_owned()][..], 0));
        assert_eq!(accounts["default"].token.as_ref().unwrap().expose(), "1:root");
        assert_eq!(accounts["default"].group_allow_from, ["555"]);
    }

    #[test]
    fn the_token_of_the_environment_is_for_the_account_without_a_name() {
        let accounts = read(json!({"accounts": {"work": {"botToken": "2:w"}}})).resolved_with(Some("9:env"));
        assert_eq!(accounts["default"].token_source, TokenSource::Env);
        assert_eq!(accounts["work"].token_source, TokenSource::Config);
        assert_eq!(read(json!({})).resolved_with(None)["default"].token_source, TokenSource::None);
    }

    #[test]
    fn a_webhook_is_the_accounts_own_or_that_of_the_level_above() {
        let webhooks = |value: Value| -> Vec<bool> {
            read(value).resolved_with(None).values().map(|account| account.webhook).collect()
        };
        assert_eq!(webhooks(json!({"botToken": "1:a", "webhookUrl": "https://x/y"})), [true]);
        assert_eq!(webhooks(json!({"botToken": "1:a", "webhookUrl": " ", "webhookPath": "/y"})), [false]);
        let accounts =
            json!({"a": {"botToken": "1:a"}, "b": {"botToken": "2:b", "webhookUrl": "https://x/y"}});
        assert_eq!(webhooks(json!({"accounts": accounts})), [false, true]);
        assert_eq!(webhooks(json!({"webhookUrl": "https://x/y", "accounts": accounts})), [true, true]);
    }

    #[test]
    fn streaming_is_read_in_every_form() {
        for (value, wanted) in [
            (json!("off"), Streaming::Off),
            (json!(false), Streaming::Off),
            (json!({"mode": "progress"}), Streaming::Progress),
            (json!({"preview": {}}), Streaming::Partial),
            (json!("block"), Streaming::Partial),
        ] {
            assert_eq!(serde_json::from_value::<Streaming>(value).unwrap(), wanted);
        }
        assert!(serde_json::from_value::<Streaming>(json!("loud")).is_err());
    }
}
