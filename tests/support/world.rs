//! A gateway with everything around it: Telegram, a model, and a config that a person would write for them.

use super::fake_models::{Answer, FakeModels, KEY};
use super::fake_telegram::FakeTelegram;
use super::gateway::{Gateway, Setup, merge};
use super::{Socket, eventually};
use serde_json::{Value, json};

/// The person who owns the bot, and whose chat it is.
pub const OWNER: i64 = 555;
/// A forum group that the bot is allowed in, and one of its topics.
pub const FORUM: i64 = -1_001_234;
pub const TOPIC: i64 = 77;

pub struct World {
    pub telegram: FakeTelegram,
    pub models: FakeModels,
    pub gateway: Gateway,
    /// The content of the gateway's config file.
    pub config: Value,
}

impl World {
    pub async fn start() -> Self {
        Self::with(json!({})).await
    }

    /// With these keys added to the config.
    pub async fn with(extra: Value) -> Self {
        let telegram = FakeTelegram::start();
        telegram.add_forum(FORUM, "Forum", &[TOPIC]);
        let models = FakeModels::start();
        let mut config = config(&telegram, &models);
        merge(&mut config, extra);
        Self::configured(telegram, models, config).await
    }

    /// Telegram, but no model anywhere.
    pub async fn without_model() -> Self {
        let (telegram, models) = (FakeTelegram::start(), FakeModels::start());
        let mut config = config(&telegram, &models);
        config["models"] = json!({"mode": "replace"});
        config.as_object_mut().unwrap().remove("agents");
        Self::configured(telegram, models, config).await
    }

    async fn configured(telegram: FakeTelegram, models: FakeModels, config: Value) -> Self {
        let gateway = Setup::new().config(config.clone()).start().await;
        Self { telegram, models, gateway, config }
    }

    /// Kills the gateway at this very moment and starts it again on the same state.
    pub async fn crash(self) -> Self {
        let mut gateway = self.gateway;
        gateway.kill();
        Self { gateway: gateway.restart().await, ..self }
    }

    /// Waits until somebody sees this text in a chat.
    pub async fn shown(&self, chat: i64, text: &str) {
        let what = format!("{text:?} in chat {chat}; shown: {:?}", self.telegram.shown_texts(chat));
        eventually(&what, async || self.count(chat, text).gt(&0).then_some(())).await;
    }

    /// How many messages of a chat hold this text.
    pub fn count(&self, chat: i64, text: &str) -> usize {
        self.telegram.shown_texts(chat).iter().filter(|shown| shown.contains(text)).count()
    }

    /// Waits until the gateway has nothing left to do for anybody, so that a double would have shown by now:
    /// a message sent after everything else was answered.
    pub async fn settled(&self) {
        let mark = format!("settled-{}", uuid::Uuid::new_v4());
        self.telegram.say(OWNER, &format!("SAY {mark}"));
        self.shown(OWNER, &mark).await;
    }

    pub async fn operator(&self) -> Socket {
        self.gateway.operator().await
    }
}

fn config(telegram: &FakeTelegram, models: &FakeModels) -> Value {
    json!({
        "gateway": {"mode": "local"},
        "channels": {"telegram": {
            "enabled": true,
            "botToken": telegram.token(),
            "apiRoot": telegram.api_root(),
            "dmPolicy": "allowlist",
            "allowFrom": [OWNER.to_string()],
            "groupPolicy": "allowlist",
            "groups": {FORUM.to_string(): {"requireMention": false}},
            "groupAllowFrom": [OWNER.to_string()],
            "network": {"dangerouslyAllowPrivateNetwork": true},
        }},
        "commands": {"ownerAllowFrom": [format!("telegram:{OWNER}")]},
        "models": {"providers": {"fake": {
            "baseUrl": models.openai_url(),
            "apiKey": KEY,
            "api": "openai-completions",
            "models": [{"id": "m1", "name": "M1", "contextWindow": 128_000}],
        }}},
        "agents": {"defaults": {"model": {"primary": "fake/m1"}}},
    })
}

/// An answer that asks the node of this name where `ls` is.
pub fn ask_node(call: &str, node: &str) -> Answer {
    let arguments = json!({
        "action": "invoke", "node": node,
        "invokeCommand": "system.which", "invokeParamsJson": json!({"bins": ["ls"]}).to_string(),
    });
    Answer::call(call, "nodes", arguments)
}
