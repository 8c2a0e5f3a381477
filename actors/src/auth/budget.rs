//! How many sockets may be open before their handshake is done.
//!
//! Each address has a share for programs, one for pages we know and a small one for other pages, so that a web page
//! that opens sockets by the dozen takes nothing from the owner's CLI on the same machine. Handshakes are short: a
//! newcomer to a full share waits for a moment while others come and go, so that a burst of honest clients behind one
//! address is not turned away, and one that sits there without a word has to leave for it.

use super::net::household;
use super::peer::{Peer, SocketClass};
use dashmap::DashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// How long a socket waits for room, and how young the others must be for that to make sense.
pub const PATIENCE: Duration = Duration::from_secs(1);
/// A socket that took longer than this for its handshake leaves when another needs its place.
pub const GRACE: Duration = Duration::from_secs(2);
/// Sockets that may wait at one time, all addresses together.
const MAX_WAITING: usize = 1024;
/// Addresses remembered before unused ones are forgotten.
const SWEEP_AT: usize = 1024;

impl SocketClass {
    /// Sockets of this class that one address may hold before `hello-ok`.
    pub fn share(self) -> usize {
        match self {
            Self::Program => 32,
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
    by_address: DashMap<(IpAddr, SocketClass), Arc<Share>>,
    waiting: AtomicUsize,
}

/// What one address holds of one class.
struct Share {
    size: usize,
    /// Oldest first.
    held: Mutex<Vec<Place>>,
    freed: Notify,
}

struct Place {
    since: Instant,
    leave: Arc<Notify>,
    told_to_leave: bool,
}

/// One socket's place. Drop it when the handshake is over.
pub struct PreAuthPermit {
    share: Arc<Share>,
    leave: Arc<Notify>,
}

/// The address has no room: HTTP 503.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("Too many unauthenticated sockets")]
pub struct NoRoom;

impl PreAuthBudget {
    /// Takes a place for `peer`, waiting up to [`PATIENCE`] for one.
    ///
    /// # Errors
    /// If there was none.
    pub async fn enter(&self, peer: &Peer) -> Result<PreAuthPermit, NoRoom> {
        let share = self.share(household(peer.addr), peer.socket_class());
        if let Some(permit) = share.take() {
            return Ok(permit);
        }
        let _waiting = self.wait().ok_or(NoRoom)?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let freed = share.freed.notified();
            let mut freed = std::pin::pin!(freed);
            freed.as_mut().enable();
            if let Some(permit) = share.take() {
                return Ok(permit);
            }
            let until = share.make_room(Instant::now()).min(deadline);
            if tokio::time::timeout_at(until, freed).await.is_err() {
                return share.take().ok_or(NoRoom);
            }
        }
    }

    fn share(&self, address: IpAddr, class: SocketClass) -> Arc<Share> {
        if self.0.by_address.len() >= SWEEP_AT {
            // A share that nobody else points to has no socket and no waiter.
            self.0.by_address.retain(|_, share| Arc::strong_count(share) > 1);
        }
        let fresh = || {
            let (held, freed) = (Mutex::default(), Notify::new());
            Arc::new(Share { size: class.share(), held, freed })
        };
        Arc::clone(&self.0.by_address.entry((address, class)).or_insert_with(fresh))
    }

    fn wait(&self) -> Option<Waiting<'_>> {
        let before = self.0.waiting.fetch_add(1, Ordering::AcqRel);
        let place = Waiting(&self.0.waiting);
        (before < MAX_WAITING).then_some(place)
    }
}

impl Share {
    fn take(self: &Arc<Self>) -> Option<PreAuthPermit> {
        let mut held = self.held();
        if held.len() >= self.size {
            return None;
        }
        let leave = Arc::new(Notify::new());
        held.push(Place { since: Instant::now(), leave: Arc::clone(&leave), told_to_leave: false });
        Some(PreAuthPermit { share: Arc::clone(self), leave })
    }

    /// Has the oldest leave, if it had its time. The answer is how long waiting makes sense: as long as somebody is
    /// leaving, or somebody came so lately that he may be gone in a moment.
    fn make_room(&self, now: Instant) -> Instant {
        let mut held = self.held();
        let overdue = held.iter_mut().find(|place| !place.told_to_leave);
        if let Some(place) = overdue.filter(|place| now.duration_since(place.since) >= GRACE) {
            place.told_to_leave = true;
            place.leave.notify_one();
            return now + PATIENCE;
        }
        held.last().map_or(now, |youngest| youngest.since + PATIENCE)
    }

    fn held(&self) -> MutexGuard<'_, Vec<Place>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PreAuthPermit {
    /// Ends when the socket has to leave for another.
    pub fn told_to_leave(&self) -> impl Future<Output = ()> + use<> {
        let leave = Arc::clone(&self.leave);
        async move { leave.notified().await }
    }
}

impl Drop for PreAuthPermit {
    fn drop(&mut self) {
        self.share.held().retain(|place| !Arc::ptr_eq(&place.leave, &self.leave));
        self.share.freed.notify_one();
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
    async fn who_idles_leaves_when_another_needs_the_place() {
        let budget = PreAuthBudget::default();
        let cli = peer("127.0.0.1", PageOrigin::Absent);
        let begun = Instant::now();
        let mut idle = fill(&budget, &cli, 70).await;
        assert!(begun.elapsed() < GRACE, "hopeless waiting ends soon: {:?}", begun.elapsed());
        tokio::time::sleep(GRACE).await;
        let oldest = idle.remove(0);
        tokio::spawn(async move {
            oldest.told_to_leave().await;
            drop(oldest);
        });
        assert!(budget.enter(&cli).await.is_ok());
        let stays = tokio::time::timeout(GRACE, idle[0].told_to_leave());
        assert!(stays.await.is_err(), "one place was needed, one was cleared");
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
