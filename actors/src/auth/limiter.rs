//! Counts wrong credentials. A stranger is locked out for a while; the owner's own programs on this machine are only
//! answered more slowly, for whoever sits there must never be locked out of their own gateway.

use super::net::household;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What wrong tries cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Wrong tries within `window` that lock a guesser out.
    pub max_failures: u32,
    pub window: Duration,
    pub lockout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        let (window, lockout) = (Duration::from_secs(60), Duration::from_secs(300));
        Self { max_failures: 10, window, lockout }
    }
}

const FIRST_DELAY: Duration = Duration::from_millis(250);
const LONGEST_DELAY: Duration = Duration::from_secs(5);
/// Keys kept. When full, those that failed longest ago make room.
const CAPACITY: usize = 8192;

/// What kind of secret is being guessed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CredentialClass {
    Shared,
    DeviceToken,
    Bootstrap,
    /// The end of a join address.
    Join,
}

/// One guesser: an address (an IPv6 /64), the kind of secret, and the page that asks, if one does.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Guesser {
    address: IpAddr,
    class: CredentialClass,
    page: Option<String>,
    /// A program of this machine's owner: slowed, never locked out.
    owner: bool,
}

impl Guesser {
    /// `page`: see [`Peer::guessing_page`](super::peer::Peer::guessing_page).
    pub fn new(address: IpAddr, class: CredentialClass, page: Option<String>, owner: bool) -> Self {
        Self { address: household(address), class, page, owner }
    }
}

struct Record {
    failures: u32,
    window_began: Instant,
    last: Instant,
    locked_until: Option<Instant>,
}

/// Shared by every door of the gateway; cheap to clone.
#[derive(Clone, Default)]
pub struct Limiter(Arc<Mutex<HashMap<Guesser, Record>>>);

impl Limiter {
    /// How long `guesser` must still wait, if it is locked out.
    pub fn locked(&self, guesser: &Guesser, now: Instant) -> Option<Duration> {
        let records = self.records();
        let until = records.get(guesser)?.locked_until?;
        (until > now).then(|| until - now)
    }

    /// Counts a wrong try. The answer is how long to hold back the refusal.
    pub fn failed(&self, guesser: &Guesser, limits: &Limits, now: Instant) -> Duration {
        let mut records = self.records();
        if records.len() >= CAPACITY && !records.contains_key(guesser) {
            make_room(&mut records, limits.window, now);
        }
        let record = records.entry(guesser.clone()).or_insert(Record {
            failures: 0,
            window_began: now,
            last: now,
            locked_until: None,
        });
        if now.saturating_duration_since(record.window_began) >= limits.window {
            (record.failures, record.window_began) = (0, now);
        }
        record.failures += 1;
        record.last = now;
        if guesser.owner {
            return delay(record.failures);
        }
        if record.failures >= limits.max_failures {
            record.locked_until = Some(now + limits.lockout);
        }
        Duration::ZERO
    }

    /// The secret was right: earlier slips are forgotten.
    pub fn succeeded(&self, guesser: &Guesser) {
        self.records().remove(guesser);
    }

    fn records(&self) -> MutexGuard<'_, HashMap<Guesser, Record>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn delay(failures: u32) -> Duration {
    let doublings = failures.saturating_sub(1).min(8);
    (FIRST_DELAY * 2u32.pow(doublings)).min(LONGEST_DELAY)
}

fn make_room(records: &mut HashMap<Guesser, Record>, window: Duration, now: Instant) {
    let is_live = |record: &Record| {
        record.locked_until.is_some_and(|until| until > now)
            || now.saturating_duration_since(record.window_began) < window
    };
    records.retain(|_, record| is_live(record));
    if records.len() >= CAPACITY {
        // A quarter at once, so that a flood of addresses does not pay for this on every try.
        let mut ages: Vec<Instant> = records.values().map(|record| record.last).collect();
        let (_, cut, _) = ages.select_nth_unstable(CAPACITY / 4);
        let cut = *cut;
        records.retain(|_, record| record.last > cut);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits =
        Limits { max_failures: 10, window: Duration::from_secs(60), lockout: Duration::from_secs(300) };

    fn stranger(address: &str) -> Guesser {
        Guesser::new(address.parse().unwrap(), CredentialClass::Shared, None, false)
    }

    fn fail(limiter: &Limiter, guesser: &Guesser, times: u32, now: Instant) {
        for _ in 0..times {
            limiter.failed(guesser, &LIMITS, now);
        }
    }

    #[test]
    fn the_tenth_wrong_try_in_a_minute_locks_out_for_five() {
        let (limiter, now, guesser) = (Limiter::default(), Instant::now(), stranger("203.0.113.1"));
        fail(&limiter, &guesser, 9, now);
        assert_eq!(limiter.locked(&guesser, now), None);
        fail(&limiter, &guesser, 1, now);
        assert_eq!(limiter.locked(&guesser, now), Some(LIMITS.lockout));
        assert_eq!(limiter.locked(&stranger("203.0.113.2"), now), None, "others are not touched");
        assert_eq!(limiter.locked(&guesser, now + LIMITS.lockout), None);
    }

    #[test]
    fn slow_guessing_is_not_a_lockout() {
        let (limiter, begun, guesser) = (Limiter::default(), Instant::now(), stranger("203.0.113.1"));
        for minute in 0..5 {
            let now = begun + LIMITS.window * minute;
            fail(&limiter, &guesser, 9, now);
            assert_eq!(limiter.locked(&guesser, now), None);
        }
    }

    #[test]
    fn the_owner_is_slowed_but_never_locked_out() {
        let (limiter, now) = (Limiter::default(), Instant::now());
        let owner = Guesser::new("127.0.0.1".parse().unwrap(), CredentialClass::Shared, None, true);
        let delays: Vec<u128> = (0..8).map(|_| limiter.failed(&owner, &LIMITS, now).as_millis()).collect();
        assert_eq!(delays, [250, 500, 1000, 2000, 4000, 5000, 5000, 5000]);
        assert_eq!(limiter.locked(&owner, now), None);
        assert_eq!(
            limiter.failed(&owner, &LIMITS, now + LIMITS.window).as_millis(),
            250,
            "a minute later it begins anew"
        );
    }

    #[test]
    fn pages_and_classes_are_counted_apart() {
        let (limiter, now) = (Limiter::default(), Instant::now());
        let address = "127.0.0.1".parse().unwrap();
        let named = |page: &str| Some(page.to_owned());
        let page = Guesser::new(address, CredentialClass::Shared, named("ours"), false);
        fail(&limiter, &page, 10, now);
        assert!(limiter.locked(&page, now).is_some());
        let other = Guesser::new(address, CredentialClass::Shared, named("https://gw.example"), false);
        let device = Guesser::new(address, CredentialClass::DeviceToken, named("ours"), false);
        assert!(limiter.locked(&other, now).is_none() && limiter.locked(&device, now).is_none());
        limiter.succeeded(&page);
        assert!(limiter.locked(&page, now).is_none());
    }

    #[test]
    fn memory_is_bounded() {
        let (limiter, now) = (Limiter::default(), Instant::now());
        for n in 0..20_000u32 {
            let later = now + Duration::from_micros(n.into());
            limiter.failed(&stranger(&std::net::Ipv4Addr::from_bits(n).to_string()), &LIMITS, later);
        }
        assert!(limiter.records().len() <= CAPACITY);
    }
}
