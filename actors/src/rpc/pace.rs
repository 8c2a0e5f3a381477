//! How often one address may change the gateway itself.

use dashmap::DashMap;
use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::LazyLock;
use std::time::{Duration, Instant};
use tidegate_protocol::ErrorShape;

/// Changes within [`WINDOW`] before the next one has to wait.
const MOST: usize = 30;
const WINDOW: Duration = Duration::from_secs(60);

static CHANGES: LazyLock<Pace> = LazyLock::new(Pace::default);

#[derive(Default)]
struct Pace(DashMap<IpAddr, VecDeque<Instant>>);

/// Counts a change by `address`.
///
/// # Errors
/// `UNAVAILABLE` with the time to wait, when there were too many.
pub(super) fn count_change(method: &str, address: IpAddr) -> Result<(), ErrorShape> {
    CHANGES.count(address, Instant::now()).map_err(|wait| {
        ErrorShape::unavailable(format!("too many changes: {method} may be called {MOST} times a minute"))
            .retry_after(wait)
    })
}

impl Pace {
    fn count(&self, address: IpAddr, now: Instant) -> Result<(), Duration> {
        self.0.retain(|_, times| times.back().is_some_and(|&last| now - last < WINDOW));
        let mut times = self.0.entry(address).or_default();
        while times.front().is_some_and(|&first| now - first >= WINDOW) {
            times.pop_front();
        }
        match times.front() {
            Some(&first) if times.len() >= MOST => Err(WINDOW - (now - first)),
            _ => {
                times.push_back(now);
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_thirty_first_change_waits_until_the_first_is_old() {
        let (pace, start) = (Pace::default(), Instant::now());
        let (owner, other) = (IpAddr::from([127, 0, 0, 1]), IpAddr::from([192, 0, 2, 1]));
        for _ in 0..MOST {
            pace.count(owner, start).unwrap();
        }
        assert_eq!(pace.count(owner, start + Duration::from_secs(20)), Err(Duration::from_secs(40)));
        pace.count(other, start).unwrap();
        pace.count(owner, start + WINDOW).unwrap();
    }
}
