//! One run for one idempotency key, however often it is asked for.
//!
//! The first caller leads; callers with the same key meanwhile join it; callers afterwards get the outcome
//! that was kept. What a key already did is remembered longer than the outcome itself, so that a dropped
//! outcome never leads to a second run.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// What makes two requests the same: the digest of their params.
pub(super) type Fingerprint = [u8; 32];

/// How much is remembered, and for how long.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Finished keys.
    pub entries: usize,
    /// Bytes of all outcomes together.
    pub bytes: usize,
    /// Bytes of one outcome; a larger one is not kept.
    pub one: usize,
    /// How long after its end a key is remembered.
    pub age: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { entries: 1_000, bytes: 4 << 20, one: 1 << 20, age: Duration::from_secs(300) }
    }
}

/// Keys seen lately. Cheap to clone.
pub struct Once<T>(Arc<Mutex<Inner<T>>>);

struct Inner<T> {
    bounds: Bounds,
    entries: HashMap<Arc<str>, Entry<T>>,
    /// Finished keys, oldest first.
    finished: VecDeque<(Arc<str>, Instant)>,
    /// Finished keys whose outcome is still held, oldest first.
    held: VecDeque<(Arc<str>, usize)>,
    bytes: usize,
}

struct Entry<T> {
    fingerprint: Fingerprint,
    state: State<T>,
}

enum State<T> {
    Running(watch::Sender<Option<Arc<T>>>),
    Done(Arc<T>),
    /// It ran to an end that is no longer known here.
    Forgotten,
}

/// What a key leads to.
pub enum Begun<T> {
    /// Nobody asked before: run it, and tell the [`Lead`] how it ended.
    First(Lead<T>, watch::Receiver<Option<Arc<T>>>),
    /// It runs right now.
    Running(watch::Receiver<Option<Arc<T>>>),
    /// It ran; this is how it ended.
    Done(Arc<T>),
    /// It ran, and how it ended is not known any more.
    Forgotten,
    /// The key belongs to a request with other params.
    Different,
}

/// The duty to say how the first run ended. Dropping it says that nobody knows.
pub struct Lead<T> {
    once: Once<T>,
    key: Arc<str>,
    joiners: watch::Sender<Option<Arc<T>>>,
    settled: bool,
}

/// What to remember of an outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// It ran: never run it again. The outcome weighs this many bytes.
    Outcome(usize),
    /// Nothing ran: the key is free again.
    Nothing,
}

impl<T> Clone for Once<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Once<T> {
    /// An empty memory.
    pub fn new(bounds: Bounds) -> Self {
        Self(Arc::new(Mutex::new(Inner {
            bounds,
            entries: HashMap::new(),
            finished: VecDeque::new(),
            held: VecDeque::new(),
            bytes: 0,
        })))
    }

    /// Looks a key up, or claims it.
    pub fn begin(&self, key: &str, fingerprint: Fingerprint) -> Begun<T> {
        let mut inner = self.lock();
        inner.forget_old(Instant::now());
        if let Some(entry) = inner.entries.get(key) {
            if entry.fingerprint != fingerprint {
                return Begun::Different;
            }
            return match &entry.state {
                State::Running(joiners) => Begun::Running(joiners.subscribe()),
                State::Done(outcome) => Begun::Done(Arc::clone(outcome)),
                State::Forgotten => Begun::Forgotten,
            };
        }
        let (joiners, outcome) = watch::channel(None);
        let key: Arc<str> = key.into();
        let entry = Entry { fingerprint, state: State::Running(joiners.clone()) };
        inner.entries.insert(Arc::clone(&key), entry);
        Begun::First(Lead { once: self.clone(), key, joiners, settled: false }, outcome)
    }

    /// Forgets what is past its age; called from a timer, so that an idle gateway gives memory back.
    pub fn sweep(&self) {
        self.lock().forget_old(Instant::now());
    }

    fn lock(&self) -> MutexGuard<'_, Inner<T>> {
        // Nothing in here panics half-way through a change, so a poisoned lock still guards whole data.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Inner<T> {
    fn settle(&mut self, key: &Arc<str>, outcome: Option<Arc<T>>, keep: Keep) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        match (keep, outcome) {
            (Keep::Nothing, _) => {
                self.entries.remove(key);
                return;
            }
            (Keep::Outcome(bytes), Some(outcome)) if bytes <= self.bounds.one => {
                entry.state = State::Done(outcome);
                self.bytes += bytes;
                self.held.push_back((Arc::clone(key), bytes));
            }
            (Keep::Outcome(_), _) => entry.state = State::Forgotten,
        }
        let now = Instant::now();
        self.finished.push_back((Arc::clone(key), now));
        self.forget_old(now);
    }

    fn forget_old(&mut self, now: Instant) {
        while self.bytes > self.bounds.bytes {
            let Some((key, bytes)) = self.held.pop_front() else { break };
            self.bytes -= bytes;
            if let Some(entry) = self.entries.get_mut(&key) {
                entry.state = State::Forgotten;
            }
        }
        while let Some((key, at)) = self.finished.front() {
            if self.finished.len() <= self.bounds.entries && now.duration_since(*at) < self.bounds.age {
                break;
            }
            self.entries.remove(key);
            if self.held.front().is_some_and(|(held, _)| Arc::ptr_eq(held, key)) {
                self.bytes -= self.held.pop_front().map_or(0, |(_, bytes)| bytes);
            }
            self.finished.pop_front();
        }
    }
}

impl<T> Lead<T> {
    /// Tells joiners and later callers how it ended.
    pub fn finish(mut self, outcome: T, keep: Keep) {
        self.settled = true;
        let outcome = Arc::new(outcome);
        self.once.lock().settle(&self.key, Some(Arc::clone(&outcome)), keep);
        self.joiners.send_replace(Some(outcome));
    }

    /// Returns when nobody has been waiting for `patience`.
    pub async fn abandoned(&self, patience: Duration) {
        loop {
            self.joiners.closed().await;
            tokio::time::sleep(patience).await;
            if self.joiners.is_closed() {
                return;
            }
        }
    }
}

impl<T> Drop for Lead<T> {
    fn drop(&mut self) {
        if !self.settled {
            self.once.lock().settle(&self.key, None, Keep::Outcome(0));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAME: Fingerprint = [1; 32];

    fn first(once: &Once<u32>, key: &str) -> Lead<u32> {
        match once.begin(key, SAME) {
            Begun::First(lead, _) => lead,
            _ => panic!("`{key}` is taken"),
        }
    }

    #[tokio::test]
    async fn concurrent_callers_join_and_later_ones_get_the_kept_outcome() {
        let once = Once::new(Bounds::default());
        let lead = first(&once, "k");
        let Begun::Running(mut joined) = once.begin("k", SAME) else { panic!("must join") };
        lead.finish(7, Keep::Outcome(4));
        joined.changed().await.unwrap();
        assert_eq!(**joined.borrow().as_ref().unwrap(), 7);
        assert!(matches!(once.begin("k", SAME), Begun::Done(outcome) if *outcome == 7));
    }

    #[tokio::test]
    async fn other_params_under_the_same_key_are_another_request() {
        let once = Once::new(Bounds::default());
        let lead = first(&once, "k");
        assert!(matches!(once.begin("k", [2; 32]), Begun::Different));
        lead.finish(1, Keep::Outcome(1));
        assert!(matches!(once.begin("k", [2; 32]), Begun::Different));
    }

    #[tokio::test]
    async fn a_key_that_ran_nothing_is_free_again() {
        let once = Once::new(Bounds::default());
        first(&once, "k").finish(1, Keep::Nothing);
        drop(first(&once, "k"));
    }

    #[tokio::test]
    async fn a_run_that_vanished_is_never_run_again() {
        let once = Once::new(Bounds::default());
        let lead = first(&once, "k");
        let Begun::Running(mut joined) = once.begin("k", SAME) else { panic!("must join") };
        drop(lead);
        assert!(joined.changed().await.is_err(), "joiners learn that nobody will tell");
        assert!(matches!(once.begin("k", SAME), Begun::Forgotten));
    }

    #[tokio::test]
    async fn outcomes_are_dropped_before_the_keys_are() {
        let once = Once::new(Bounds { bytes: 10, one: 8, ..Bounds::default() });
        first(&once, "a").finish(1, Keep::Outcome(8));
        first(&once, "b").finish(2, Keep::Outcome(8));
        first(&once, "c").finish(3, Keep::Outcome(9));
        assert!(matches!(once.begin("a", SAME), Begun::Forgotten));
        assert!(matches!(once.begin("b", SAME), Begun::Done(_)));
        assert!(matches!(once.begin("c", SAME), Begun::Forgotten));
    }

    #[tokio::test(start_paused = true)]
    async fn keys_are_forgotten_by_number_and_by_age_but_never_while_they_run() {
        let once = Once::new(Bounds { entries: 2, ..Bounds::default() });
        let running = first(&once, "running");
        for key in ["a", "b", "c"] {
            first(&once, key).finish(1, Keep::Outcome(1));
        }
        assert!(matches!(once.begin("b", SAME), Begun::Done(_)));
        first(&once, "a").finish(1, Keep::Nothing);
        tokio::time::advance(Duration::from_secs(301)).await;
        once.sweep();
        assert_eq!(once.lock().bytes, 0);
        assert!(matches!(once.begin("running", SAME), Begun::Running(_)));
        first(&once, "b").finish(1, Keep::Nothing);
        running.finish(1, Keep::Outcome(1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_is_abandoned_only_after_a_while_without_callers() {
        let once = Once::<u32>::new(Bounds::default());
        let Begun::First(lead, caller) = once.begin("k", SAME) else { panic!("must lead") };
        drop(caller);
        let Begun::Running(back) = once.begin("k", SAME) else { panic!("must join") };
        let patience = Duration::from_secs(3);
        assert!(tokio::time::timeout(patience * 4, lead.abandoned(patience)).await.is_err());
        drop(back);
        assert!(tokio::time::timeout(patience * 4, lead.abandoned(patience)).await.is_ok());
    }
}
