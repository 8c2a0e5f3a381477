//! How a channel's account fares, for operators.

use crate::clock::now_ms;
use serde::Serialize;
use std::time::{Duration, Instant};

/// An account that heard nothing from its server for longer than this does not serve.
const LONGEST_SILENCE: Duration = Duration::from_secs(180);

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
    /// The first start under these settings: restarts don't count, or a crash loop would never look silent.
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

    /// How long ago the last good poll was, or the first start when there was none yet. `None` while it is not
    /// supposed to poll.
    pub fn silence(&self) -> Option<Duration> {
        let since = self.last_good_poll.or(self.started).filter(|_| self.should_serve());
        since.map(|since| since.elapsed())
    }

    /// How long ago the last good poll was; `None` before the first.
    pub fn since_good_poll(&self) -> Option<Duration> {
        self.last_good_poll.filter(|_| self.should_serve()).map(|at| at.elapsed())
    }

    /// Whether it should serve and does not: it is down, or its server has been silent for too long.
    pub fn is_failing(&self) -> bool {
        let silent = self.silence().is_some_and(|silence| silence > LONGEST_SILENCE);
        self.should_serve() && (silent || self.lifecycle == Lifecycle::Stopped)
    }

    fn should_serve(&self) -> bool {
        self.enabled && self.configured
    }

    /// Goes on counting where an earlier keeper of the same account was.
    pub(crate) fn resume(&mut self, before: &Self) {
        if before.should_serve() {
            (self.last_good_poll, self.started) = (before.last_good_poll, before.started);
        }
    }

    pub(crate) fn start(&mut self) {
        self.running = true;
        self.connected = false;
        self.lifecycle = Lifecycle::Starting;
        self.last_start_at = Some(now_ms());
        self.started.get_or_insert_with(Instant::now);
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

#[cfg(test)]
mod tests {
    use super::*;

    fn ago(time: Duration) -> Option<Instant> {
        Some(Instant::now().checked_sub(time).unwrap())
    }

    #[test]
    fn a_crash_loop_does_not_restart_the_clock() {
        let mut status = ChannelStatus::new("default");
        status.start();
        status.polled();
        assert!(!status.is_failing());
        status.last_good_poll = ago(LONGEST_SILENCE + Duration::from_secs(1));
        for _ in 0..3 {
            status.stop();
            assert!(status.is_failing() && status.silence().unwrap() > LONGEST_SILENCE);
            status.start();
            assert!(status.is_failing() && status.silence().unwrap() > LONGEST_SILENCE);
        }
        let mut successor = ChannelStatus::new("default");
        successor.resume(&status);
        successor.start();
        assert!(successor.is_failing());
        successor.polled();
        assert!(!successor.is_failing());
    }

    #[test]
    fn one_that_never_polled_well_is_silent_since_its_first_start() {
        let mut status = ChannelStatus::new("default");
        status.start();
        status.started = ago(LONGEST_SILENCE + Duration::from_secs(1));
        status.stop();
        status.start();
        assert!(status.is_failing() && status.since_good_poll().is_none());
        status.polled();
        assert!(status.since_good_poll().is_some());
    }

    #[test]
    fn only_what_should_serve_can_fail() {
        let mut status = ChannelStatus::new("default");
        assert!(status.is_failing(), "down");
        status.enabled = false;
        assert!(!status.is_failing() && status.silence().is_none());
        (status.enabled, status.configured) = (true, false);
        assert!(!status.is_failing());
    }
}
