//! Whose an address is, remembered for a moment.

use super::daemon::Daemon;
use crate::auth::person::TailnetUser;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::Instant;

/// How long an answer counts. A page opens several sockets at once; an address changes hands rarely.
const KEPT: Duration = Duration::from_secs(5);

/// Answers that are kept at a time.
const ROOM: usize = 256;

/// Questions that are asked at a time.
const AT_ONCE: usize = 4;

/// Answers of the daemon. Only a yes is ever taken from memory: a name that does not fit is asked for again.
pub(super) struct Directory {
    known: Mutex<HashMap<IpAddr, Known>>,
    asking: Semaphore,
}

struct Known {
    login: String,
    name: Option<String>,
    until: Instant,
}

impl Default for Directory {
    fn default() -> Self {
        Self { known: Mutex::default(), asking: Semaphore::new(AT_ONCE) }
    }
}

impl Directory {
    /// `claimed`, if the daemon says that `address` is that person's.
    pub(super) async fn confirm(
        &self,
        daemon: &Daemon,
        address: IpAddr,
        claimed: &TailnetUser,
    ) -> Option<TailnetUser> {
        if let Some(user) = self.remembered(address, claimed) {
            return Some(user);
        }
        let _turn = self.asking.acquire().await.ok()?;
        // Whoever was before us in the queue may have asked the same.
        if let Some(user) = self.remembered(address, claimed) {
            return Some(user);
        }
        let answer = match daemon.whois(address).await {
            Ok(answer) => answer.and_then(|answer| answer.person()),
            Err(error) => {
                tracing::warn!(%error, peer = %address, "a tailnet user could not be confirmed");
                None
            }
        };
        self.remember(address, answer);
        self.remembered(address, claimed)
    }

    fn remembered(&self, address: IpAddr, claimed: &TailnetUser) -> Option<TailnetUser> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let known = known.get(&address).filter(|known| known.until > Instant::now())?;
        let same = known.login.eq_ignore_ascii_case(&claimed.login);
        same.then(|| TailnetUser {
            login: known.login.clone(),
            name: known.name.clone().or_else(|| claimed.name.clone()),
            picture: claimed.picture.clone(),
        })
    }

    fn remember(&self, address: IpAddr, answer: Option<(String, Option<String>)>) {
        let now = Instant::now();
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, entry| entry.until > now);
        known.remove(&address);
        if let Some((login, name)) = answer {
            if known.len() >= ROOM {
                let oldest = known.iter().min_by_key(|(_, entry)| entry.until).map(|(address, _)| *address);
                oldest.and_then(|address| known.remove(&address));
            }
            known.insert(address, Known { login, name, until: now + KEPT });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claimed(login: &str) -> TailnetUser {
        TailnetUser { login: login.to_owned(), name: None, picture: None }
    }

    fn address(n: usize) -> IpAddr {
        IpAddr::from([100, 64, (n / 256) as u8, (n % 256) as u8])
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_is_forgotten_after_a_moment() {
        let directory = Directory::default();
        directory.remember(address(7), Some(("owner@example.com".to_owned(), None)));
        assert!(directory.remembered(address(7), &claimed("Owner@Example.com")).is_some());
        assert!(directory.remembered(address(7), &claimed("other@example.com")).is_none());
        tokio::time::advance(KEPT).await;
        assert!(directory.remembered(address(7), &claimed("owner@example.com")).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn memory_is_bounded_and_the_oldest_goes_first() {
        let directory = Directory::default();
        for n in 0..=ROOM {
            directory.remember(address(n), Some(("owner@example.com".to_owned(), None)));
            tokio::time::advance(Duration::from_millis(1)).await;
        }
        assert_eq!(directory.known.lock().unwrap().len(), ROOM);
        assert!(directory.remembered(address(0), &claimed("owner@example.com")).is_none());
        assert!(directory.remembered(address(ROOM), &claimed("owner@example.com")).is_some());
    }

    #[tokio::test]
    async fn a_no_replaces_an_earlier_yes() {
        let directory = Directory::default();
        directory.remember(address(7), Some(("owner@example.com".to_owned(), None)));
        directory.remember(address(7), None);
        assert!(directory.remembered(address(7), &claimed("owner@example.com")).is_none());
    }
}
