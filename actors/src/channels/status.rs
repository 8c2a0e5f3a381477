//! How a channel's account fares, for operators.

use crate::store::now_ms;
use serde::Serialize;
use std::time::{Duration, Instant};

/// Everything that `channels.status` says of one account, and what `/readyz` wants to know.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ChannelStatus {
    pub account_id: String,
    pub enabled: bool,
    pub configured: bool,
    pub running: bool,
    pub connected: bool,
    pub lifecycle: Lifecycle,
    pub last_start_at: Option<i64>,
    pub last_stop_at: Option<i64>,
    pub restart_pending: bool,
    /// Failures since the last success.
    pub reconnect_attempts: u32,
    pub last_connected_at: Option<i64>,
    pub last_event_at: Option<i64>,
    pub last_transport_activity_at: Option<i64>,
    pub last_inbound_at: Option<i64>,
    pub last_outbound_at: Option<i64>,
    pub last_error: Option<String>,
    pub token_source: &'static str,
    pub token_status: &'static str,
    pub mode: &'static str,
    pub dm_policy: &'static str,
    pub allow_unmentioned_groups: bool,
    pub last_probe_at: Option<i64>,
    /// Answers that Telegram may or may not have: nobody sends them again by itself.
    pub unknown_deliveries: i64,
    /// Answers that were refused for good or expired.
    pub failed_deliveries: i64,
    /// When the channel's server last answered a poll.
    #[serde(skip)]
    pub last_good_poll: Option<Instant>,
    #[serde(skip)]
    pub started: Option<Instant>,
    /// The bot's own name, once known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// Where an account is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Lifecycle {
    Starting,
    Ready,
    /// Telegram is out of reach; it is tried again with growing pauses.
    Reconnecting,
    /// Someone else polls with the same token, or a webhook is set.
    Conflict,
    /// The token is wrong or was revoked.
    AuthFailed,
    Stopped,
}

impl ChannelStatus {
    /// An account that has not started yet.
    pub fn new(account_id: &str) -> Self {
        Self {
            account_id: account_id.to_owned(),
            enabled: true,
            configured: true,
            running: false,
            connected: false,
            lifecycle: Lifecycle::Stopped,
            last_start_at: None,
            last_stop_at: None,
            restart_pending: false,
            reconnect_attempts: 0,
            last_connected_at: None,
            last_event_at: None,
            last_transport_activity_at: None,
            last_inbound_at: None,
            last_outbound_at: None,
            last_error: None,
            token_source: "none",
            token_status: "missing",
            mode: "polling",
            dm_policy: "pairing",
            allow_unmentioned_groups: false,
            last_probe_at: None,
            unknown_deliveries: 0,
            failed_deliveries: 0,
            last_good_poll: None,
            started: None,
            name: None,
        }
    }

    /// How long ago the last good poll was, or the start when there was none yet. `None` while it is not
    /// supposed to poll.
    pub fn silence(&self) -> Option<Duration> {
        let since = self.last_good_poll.max(self.started).filter(|_| self.running);
        since.map(|since| since.elapsed())
    }

    pub(crate) fn start(&mut self) {
        self.running = true;
        self.connected = false;
        self.lifecycle = Lifecycle::Starting;
        self.last_start_at = Some(now_ms());
        self.started = Some(Instant::now());
    }

    pub(crate) fn stop(&mut self) {
        self.running = false;
        self.connected = false;
        self.lifecycle = Lifecycle::Stopped;
        self.last_stop_at = Some(now_ms());
    }

    pub(crate) fn polled(&mut self) {
        let now = now_ms();
        self.connected = true;
        self.lifecycle = Lifecycle::Ready;
        self.reconnect_attempts = 0;
        self.last_error = None;
        self.token_status = "available";
        self.last_good_poll = Some(Instant::now());
        self.last_connected_at = Some(now);
        self.last_event_at = Some(now);
        self.last_transport_activity_at = Some(now);
    }

    pub(crate) fn failed(&mut self, lifecycle: Lifecycle, error: String) {
        self.connected = false;
        self.lifecycle = lifecycle;
        self.reconnect_attempts = self.reconnect_attempts.saturating_add(1);
        self.last_error = Some(error);
        if lifecycle == Lifecycle::AuthFailed {
            self.token_status = "rejected";
        }
    }
}
