//! Which channel accounts run, and how to reach them.

use super::messages::{
    AskAccount, ChannelError, ChannelRequest, FetchError, FetchMedia, FetchedMedia, FlushOutbox, RunProgress,
};
use super::status::ChannelStatus;
use actix::Recipient;
use dashmap::DashMap;
use serde_json::Value;
use std::sync::{Arc, PoisonError, RwLock};

/// Running channel accounts by channel and account. Plain data; cheap to clone.
#[derive(Clone, Default)]
pub struct Channels(Arc<DashMap<(String, String), ChannelHandle>>);

/// One account. Its addresses are those of the newest incarnation, or none while it is down.
#[derive(Clone)]
pub struct ChannelHandle {
    pub(crate) progress: Option<Recipient<RunProgress>>,
    pub(crate) flush: Option<Recipient<FlushOutbox>>,
    pub(crate) fetch: Option<Recipient<FetchMedia>>,
    pub(crate) ask: Option<Recipient<AskAccount>>,
    status: Arc<RwLock<ChannelStatus>>,
}

impl ChannelHandle {
    /// A handle that reaches nobody yet.
    pub fn new(status: ChannelStatus) -> Self {
        Self { progress: None, flush: None, fetch: None, ask: None, status: Arc::new(RwLock::new(status)) }
    }

    pub fn status(&self) -> ChannelStatus {
        self.status.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Changes what operators see.
    pub(crate) fn update(&self, change: impl FnOnce(&mut ChannelStatus)) {
        change(&mut self.status.write().unwrap_or_else(PoisonError::into_inner));
    }
}

impl Channels {
    /// Makes `handle` the way to this account.
    pub fn set(&self, channel: &str, account: &str, handle: ChannelHandle) {
        self.0.insert(key(channel, account), handle);
    }

    pub fn remove(&self, channel: &str, account: &str) {
        self.0.remove(&key(channel, account));
    }

    pub fn get(&self, channel: &str, account: &str) -> Option<ChannelHandle> {
        self.0.get(&key(channel, account)).map(|handle| handle.clone())
    }

    /// The status of every known account of every channel, by name.
    pub fn statuses(&self) -> Vec<(String, ChannelStatus)> {
        let mut all: Vec<_> =
            self.0.iter().map(|entry| (entry.key().0.clone(), entry.value().status())).collect();
        all.sort_by(|(a, left), (b, right)| (a, &left.account_id).cmp(&(b, &right.account_id)));
        all
    }

    /// Tells an account that its outbox has something new. A channel without an outbox has nothing to be told.
    pub fn flush(&self, channel: &str, account: &str) {
        if let Some(flush) = self.get(channel, account).and_then(|handle| handle.flush) {
            flush.do_send(FlushOutbox);
        }
    }

    /// Tells the chat's account how its run comes along. Lost while the account is down: it is only a picture.
    pub fn progress(&self, progress: RunProgress) {
        let handle = self.get(&progress.route.channel, &progress.route.account);
        if let Some(recipient) = handle.and_then(|handle| handle.progress) {
            recipient.do_send(progress);
        }
    }

    /// Gets a file that a person sent.
    ///
    /// # Errors
    /// If it is too large, can't be fetched, or its account is down.
    pub async fn fetch(
        &self,
        channel: &str,
        account: &str,
        fetch: FetchMedia,
    ) -> Result<FetchedMedia, FetchError> {
        let down = || FetchError::NotRunning(account.to_owned());
        let recipient = self.get(channel, account).and_then(|handle| handle.fetch).ok_or_else(down)?;
        recipient.send(fetch).await.map_err(|_| down())?
    }

    /// Has an account do something at once.
    ///
    /// # Errors
    /// If the channel refuses, or the account is down.
    pub async fn ask(
        &self,
        channel: &str,
        account: &str,
        request: ChannelRequest,
    ) -> Result<Value, ChannelError> {
        let down = || ChannelError::Unavailable(format!("{channel} account `{account}` is not running"));
        let recipient = self.get(channel, account).and_then(|handle| handle.ask).ok_or_else(down)?;
        recipient.send(AskAccount(request)).await.map_err(|_| down())?
    }
}

fn key(channel: &str, account: &str) -> (String, String) {
    (channel.to_owned(), account.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[actix::test]
    async fn an_unknown_account_is_a_clear_error_and_never_a_panic() {
        let channels = Channels::default();
        channels.flush("telegram", "default");
        let fetch = FetchMedia { file_id: "x".into(), file_name: None, mime: "image/png".into() };
        let error = channels.fetch("telegram", "default", fetch).await.unwrap_err();
        assert_eq!(error.to_string(), "account `default` is not running");
        assert!(channels.ask("telegram", "default", ChannelRequest::Probe).await.is_err());
    }

    #[test]
    fn silence_counts_from_the_start_until_the_first_poll() {
        let channels = Channels::default();
        let handle = ChannelHandle::new(ChannelStatus::new("default"));
        channels.set("telegram", "default", handle.clone());
        let silence = || channels.get("telegram", "default").unwrap().status().silence();
        assert!(silence().is_none());
        handle.update(ChannelStatus::start);
        assert!(silence().is_some());
    }
}
