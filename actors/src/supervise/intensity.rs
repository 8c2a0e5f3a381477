//! How many restarts are tolerable before the supervisor itself has failed.

use std::collections::VecDeque;
use std::time::Duration;
use tokio::time::Instant;

/// At most `max` restarts within any span of `within`.
#[derive(Debug, Clone)]
pub struct Intensity {
    max: Option<usize>,
    within: Duration,
    spent: VecDeque<Instant>,
}

impl Default for Intensity {
    fn default() -> Self {
        Self::new(10, Duration::from_secs(300))
    }
}

impl Intensity {
    /// Tolerates `max` restarts within any span of `within`.
    pub fn new(max: usize, within: Duration) -> Self {
        Self { max: Some(max), within, spent: VecDeque::new() }
    }

    /// Never escalates; back-off alone slows the restarts. For children that share nothing, such as the
    /// accounts of a channel, where a broken one must not take its neighbours down.
    pub fn unlimited() -> Self {
        Self { max: None, within: Duration::ZERO, spent: VecDeque::new() }
    }

    /// Books one restart; false when it was one too many.
    pub(super) fn spend(&mut self, now: Instant) -> bool {
        let Some(max) = self.max else { return true };
        while self.spent.front().is_some_and(|&then| now - then > self.within) {
            self.spent.pop_front();
        }
        self.spent.push_back(now);
        self.spent.len() <= max
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_restarts_inside_the_window_count() {
        let start = Instant::now();
        let mut intensity = Intensity::new(2, Duration::from_secs(5));
        assert!(intensity.spend(start));
        assert!(intensity.spend(start + Duration::from_secs(1)));
        assert!(intensity.spend(start + Duration::from_secs(6)), "the first is out of the window");
        assert!(!intensity.spend(start + Duration::from_secs(6)), "three within five seconds");
    }

    #[test]
    fn unlimited_never_escalates() {
        let now = Instant::now();
        let mut intensity = Intensity::unlimited();
        assert!((0..1000).all(|_| intensity.spend(now)));
    }
}
