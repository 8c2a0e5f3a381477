//! How many sockets may be open before their handshake is done.
//!
//! Each address has a number of places, of which pages may take some, and pages that we don't know a few, so that a web
//! page that opens sockets by the dozen takes nothing from the owner's CLI on the same machine. Handshakes are short: a
//! newcomer to a full house waits as long as others come and go, so that a burst of honest clients behind one address is
//! not turned away. Those who sit there without a word keep their places until their time is up: were they made to
//! leave for the next, a flood would never be told to stop.

use super::net::household;
use super::peer::{Peer, SocketClass};
use dashmap::DashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// Sockets that one address may hold before `hello-ok`.
pub const PLACES: usize = 32;
/// How young the youngest socket must be for a newcomer to wait: after so long without one, nobody comes or goes.
const LULL: Duration = Duration::from_secs(1);
/// How long a socket waits for room at most.
const PATIENCE: Duration = Duration::from_secs(5);
/// Sockets that may wait at one time, all addresses together.
const MAX_WAITING: usize = 1024;
/// Addresses remembered before unused ones are forgotten.
const SWEEP_AT: usize = 1024;

impl SocketClass {
    /// How many of an address's places sockets of this class may take.
    pub fn share(self) -> usize {
        match self {
            Self::Program => PLACES,
            Self::KnownPage => 16,
            Self::ForeignPage => 4,
        }
    }
}

/// Plain data shared by all listeners; cheap to clone.
#[derive(Clone, Default)]
pub struct PreAuthBudget(Arc<Shares>);

#[derive(Default)]
struct Shares {
    by_address: DashMap<IpAddr, Arc<Share>>,
    waiting: AtomicUsize,
}

/// What one address holds.
#[derive(Default)]
struct Share {
    /// Oldest first.
    held: Mutex<Vec<Place>>,
    freed: Notify,
}

struct Place {
    number: u64,
    class: SocketClass,
    since: Instant,
}

/// One socket's place. Drop it when the handshake is over.
pub struct PreAuthPermit {
    share: Arc<Share>,
    number: u64,
}

/// The address has no room: HTTP 503.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("Too many unauthenticated sockets")]
pub struct NoRoom;

impl PreAuthBudget {
    /// Takes a place for `peer`, waiting for one while that makes sense.
    ///
    /// # Errors
    /// If there was none.
    pub async fn enter(&self, peer: &Peer) -> Result<PreAuthPermit, NoRoom> {
        let (share, class) = (self.share(household(peer.addr)), peer.socket_class());
        if let Some(permit) = share.take(class) {
            return Ok(permit);
        }
        let _waiting = self.wait().ok_or(NoRoom)?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let freed = share.freed.notified();
            let mut freed = std::pin::pin!(freed);
            freed.as_mut().enable();
            if let Some(permit) = share.take(class) {
                return Ok(permit);
            }
            let until = share.busy_until(class).min(deadline);
            let nobody_left = tokio::time::timeout_at(until, freed).await.is_err();
            if nobody_left && (until >= deadline || share.busy_until(class) <= until) {
                return share.take(class).ok_or(NoRoom);
            }
        }
    }

    fn share(&self, address: IpAddr) -> Arc<Share> {
        if self.0.by_address.len() >= SWEEP_AT {
            // A share that nobody else points to has no socket and no waiter.
            self.0.by_address.retain(|_, share| Arc::strong_count(share) > 1);
        }
        Arc::clone(&self.0.by_address.entry(address).or_default())
    }

    fn wait(&self) -> Option<Waiting<'_>> {
        let before = self.0.waiting.fetch_add(1, Ordering::AcqRel);
        let place = Waiting(&self.0.waiting);
        (before < MAX_WAITING).then_some(place)
    }
}

impl Share {
    fn take(self: &Arc<Self>, class: SocketClass) -> Option<PreAuthPermit> {
        let mut held = self.held();
        let alike = held.iter().filter(|place| place.class == class).count();
        if held.len() >= PLACES || alike >= class.share() {
            return None;
        }
        let number = held.last().map_or(0, |youngest| youngest.number + 1);
        held.push(Place { number, class, since: Instant::now() });
        Some(PreAuthPermit { share: Arc::clone(self), number })
    }

    /// How long waiting makes sense as far as one can see: somebody came so lately that he may be gone in a moment.
    fn busy_until(&self, class: SocketClass) -> Instant {
        let held = self.held();
        // Where a class has its share taken, only its own can make room.
        let mut alike = held.iter().filter(|place| place.class == class);
        let crowded_by_own = alike.clone().count() >= class.share();
        let youngest = if crowded_by_own { alike.next_back() } else { held.last() };
        youngest.map_or_else(Instant::now, |youngest| youngest.since + LULL)
    }

    fn held(&self) -> MutexGuard<'_, Vec<Place>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for PreAuthPermit {
    fn drop(&mut self) {
        self.share.held().retain(|place| place.number != self.number);
        // All of them: the place may not be for the class of who has waited longest.
        self.share.freed.notify_waiters();
    }
}

struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::origin::PageOrigin;
    use crate::auth::peer::PeerClass;
    use crate::auth::proxy::ProxyUser;

    fn peer(address: &str, page: PageOrigin) -> Peer {
        Peer {
            addr: address.parse().unwrap(),
            class: PeerClass::DirectLocal,
            page,
            user: ProxyUser::NotAsked,
            origin: None,
            host: None,
            user_agent: None,
        }
    }

    async fn fill(budget: &PreAuthBudget, peer: &Peer, tries: usize) -> Vec<PreAuthPermit> {
        let mut held = vec![];
        for _ in 0..tries {
            held.extend(budget.enter(peer).await.ok());
        }
        held
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_holds_at_most_its_share() {
        let budget = PreAuthBudget::default();
        let cli = peer("127.0.0.1", PageOrigin::Absent);
        let mut held = fill(&budget, &cli, 70).await;
        assert_eq!(held.len(), 32);
        assert!(budget.enter(&cli).await.is_err());
        assert!(budget.enter(&peer("192.0.2.1", PageOrigin::Absent)).await.is_ok());
        held.pop();
        assert!(budget.enter(&cli).await.is_ok(), "room again");
    }

    #[tokio::test(start_paused = true)]
    async fn pages_take_nothing_from_the_owner() {
        let budget = PreAuthBudget::default();
        let foreign = fill(&budget, &peer("127.0.0.1", PageOrigin::Foreign), 70).await;
        let nameless = fill(&budget, &peer("127.0.0.1", PageOrigin::Invalid), 70).await;
        let own = fill(&budget, &peer("127.0.0.1", PageOrigin::Own), 70).await;
        assert_eq!((foreign.len() + nameless.len(), own.len()), (4, 16));
        assert!(budget.enter(&peer("127.0.0.1", PageOrigin::Absent)).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_waits_for_short_handshakes_instead_of_being_turned_away() {
        let budget = PreAuthBudget::default();
        let cli = peer("127.0.0.1", PageOrigin::Absent);
        let handshake = || async {
            let permit = budget.enter(&cli).await?;
            tokio::time::sleep(Duration::from_millis(20)).await;
            drop(permit);
            Ok::<_, NoRoom>(())
        };
        let all = futures_util::future::join_all((0..200).map(|_| handshake())).await;
        assert!(all.iter().all(Result::is_ok));
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_flood_of_idlers_never_holds_more_than_its_places() {
        let budget = PreAuthBudget::default();
        let mut idle = vec![];
        for n in 0..70 {
            let loopback = peer(&format!("127.0.0.{}", n % 3 + 1), PageOrigin::Absent);
            idle.extend(budget.enter(&loopback).await.ok());
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        assert_eq!(idle.len(), PLACES, "nobody leaves for another");
        let begun = Instant::now();
        assert!(budget.enter(&peer("127.0.0.1", PageOrigin::Absent)).await.is_err());
        assert_eq!(begun.elapsed(), Duration::ZERO, "hopeless waiting ends at once");
        idle.truncate(PLACES - 1);
        assert!(budget.enter(&peer("127.0.0.1", PageOrigin::Absent)).await.is_ok(), "room again");
    }

    #[tokio::test(start_paused = true)]
    async fn classes_share_the_places_of_an_address() {
        let budget = PreAuthBudget::default();
        let pages = fill(&budget, &peer("192.0.2.1", PageOrigin::Own), 70).await;
        let foreign = fill(&budget, &peer("192.0.2.1", PageOrigin::Foreign), 70).await;
        let programs = fill(&budget, &peer("192.0.2.1", PageOrigin::Absent), 70).await;
        assert_eq!(pages.len() + foreign.len() + programs.len(), PLACES);
    }

    #[tokio::test(start_paused = true)]
    async fn unused_addresses_are_forgotten() {
        let budget = PreAuthBudget::default();
        for n in 0..5000u32 {
            let address = std::net::Ipv4Addr::from_bits(n).to_string();
            drop(budget.enter(&peer(&address, PageOrigin::Absent)).await);
        }
        assert!(budget.0.by_address.len() <= SWEEP_AT + 1);
    }
}
