//! What the parts of an account share: the line to Telegram, the store, and what operators see.

use super::api::{ApiError, BotApi, PATIENCE};
use super::preview::Previews;
use crate::channels::{ChannelHandle, TELEGRAM};
use crate::gateway::Gateway;
use crate::settings::telegram::TelegramAccount;
use crate::store::IngressRow;
use crate::supervise::BackOff;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// Tells the agent that a message was stored.
pub type Arrived = Arc<dyn Fn(IngressRow) + Send + Sync>;

/// The times an account keeps. Tests use shorter ones.
#[derive(Debug, Clone)]
pub struct Timing {
    /// How long Telegram holds a poll open.
    pub poll: Duration,
    /// How much longer a poll may stay silent before the line counts as dead.
    pub grace: Duration,
    /// Between attempts while Telegram is out of reach.
    pub network: BackOff,
    /// While someone else polls with the same token.
    pub conflict: BackOff,
    /// While the token is refused.
    pub auth: BackOff,
    /// Between attempts to deliver one answer.
    pub delivery: BackOff,
    /// How long one call of another kind may take.
    pub call: Duration,
    pub typing: Duration,
    /// Between two edits of a preview, in a private chat and in a group.
    pub edit_direct: Duration,
    pub edit_group: Duration,
    /// How long an answer may take to come before a preview is shown at all.
    pub first_preview: Duration,
    /// How long after its run a preview may wait for the answer.
    pub abandon: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        let secs = Duration::from_secs;
        let back_off = |first, max| BackOff { first: secs(first), max: secs(max), ..BackOff::default() };
        Self {
            poll: secs(30),
            grace: secs(15),
            network: back_off(1, 30),
            conflict: back_off(4, 60),
            auth: back_off(10, 300),
            delivery: back_off(1, 30),
            call: PATIENCE,
            typing: Duration::from_millis(4500),
            edit_direct: Duration::from_millis(1100),
            // Telegram allows a bot some twenty messages a minute in a group.
            edit_group: Duration::from_millis(3200),
            first_preview: Duration::from_millis(800),
            abandon: secs(10),
        }
    }
}

impl Timing {
    /// The pause after so many failures in a row: never none, for Telegram is not to be hammered.
    pub(super) fn pause(back_off: &BackOff, failures: u32) -> Duration {
        back_off.delay(failures.saturating_add(1))
    }
}

/// Everything that an account's parts have in common.
pub(super) struct Line {
    pub(super) api: BotApi,
    pub(super) gateway: Gateway,
    pub(super) name: String,
    pub(super) handle: ChannelHandle,
    pub(super) timing: Timing,
    pub(super) arrived: Arrived,
    pub(super) previews: Previews,
    pub(super) watchdog: Watchdog,
    /// What the settings said at the start, should they no longer name this account.
    started_with: TelegramAccount,
}

impl Line {
    pub(super) fn new(
        account: TelegramAccount,
        api: BotApi,
        gateway: Gateway,
        handle: ChannelHandle,
        timing: Timing,
        arrived: Arrived,
    ) -> Self {
        Self {
            api,
            gateway,
            name: account.name.clone(),
            handle,
            timing,
            arrived,
            previews: Previews::default(),
            watchdog: Watchdog::default(),
            started_with: account,
        }
    }

    /// The account's settings as they are now: rules apply at once, without a reconnect.
    pub(super) fn account(&self) -> TelegramAccount {
        let settings = self.gateway.settings.get();
        let now =
            settings.channels.telegram.as_ref().and_then(|telegram| telegram.resolved().remove(&self.name));
        now.unwrap_or_else(|| self.started_with.clone())
    }

    pub(super) fn media_folder(&self) -> PathBuf {
        self.gateway.settings.paths().media()
    }

    pub(super) async fn call<T: DeserializeOwned>(
        &self,
        method: &str,
        params: &impl Serialize,
    ) -> Result<T, ApiError> {
        self.api.call(method, params, self.timing.call).await
    }

    /// Parameters that say where something goes.
    pub(super) fn place(chat: &str, thread: Option<&str>) -> Value {
        let mut place = json!({"chat_id": chat_id(chat)});
        if let Some(thread) = thread.and_then(|thread| thread.parse::<i64>().ok()) {
            place["message_thread_id"] = thread.into();
        }
        place
    }

    /// Has Telegram show no picture of the links in a text, if the settings want none.
    pub(super) fn leave_links(&self, params: &mut Value) {
        if !self.account().link_preview {
            params["link_preview_options"] = json!({"is_disabled": true});
        }
    }

    pub(super) fn channel(&self) -> (&'static str, &str) {
        (TELEGRAM, &self.name)
    }
}

/// Knows by when the poller must have shown a sign of life.
#[derive(Default)]
pub(super) struct Watchdog(Mutex<Option<Instant>>);

impl Watchdog {
    pub(super) fn expect_within(&self, time: Duration) {
        // A time that no clock can tell is never over.
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now().checked_add(time);
    }

    /// Whether that time is over.
    pub(super) fn is_overdue(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_some_and(|due| Instant::now() > due)
    }
}

/// Ids go out as numbers; what is not one is a public name.
pub(super) fn chat_id(chat: &str) -> Value {
    chat.parse::<i64>().map_or_else(|_| Value::from(chat), Value::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_is_never_none_and_grows_up_to_its_longest() {
        let network = Timing::default().network;
        assert!(Timing::pause(&network, 1) >= Duration::from_millis(800));
        assert!(Timing::pause(&network, 50) <= Duration::from_secs(30));
    }

    #[tokio::test(start_paused = true)]
    async fn the_watchdog_barks_only_after_the_time_it_was_given() {
        let watchdog = Watchdog::default();
        assert!(!watchdog.is_overdue());
        watchdog.expect_within(Duration::from_secs(60));
        tokio::time::advance(Duration::from_secs(59)).await;
        assert!(!watchdog.is_overdue());
        tokio::time::advance(Duration::from_secs(2)).await;
        assert!(watchdog.is_overdue());
        watchdog.expect_within(Duration::MAX);
        assert!(!watchdog.is_overdue());
    }

    #[test]
    fn a_chat_is_a_number_or_a_public_name() {
        assert_eq!(chat_id("-100"), Value::from(-100));
        assert_eq!(chat_id("@name"), Value::from("@name"));
    }
}
