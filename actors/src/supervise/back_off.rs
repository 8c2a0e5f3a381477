//! How long to wait before the next restart.

use std::time::Duration;

/// Exponential back-off with jitter: at once, then `first`, doubling up to `max`.
///
/// A child that ran for `stable` starts over at "at once" the next time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BackOff {
    /// The wait after the second failure in a row.
    pub first: Duration,
    /// The longest wait.
    pub max: Duration,
    /// A run at least this long forgets the failures before it.
    pub stable: Duration,
    /// Up to this share of a wait is taken off at random, so that failures do not march in step.
    pub jitter: f64,
}

impl Default for BackOff {
    fn default() -> Self {
        Self {
            first: Duration::from_secs(1),
            max: Duration::from_secs(60),
            stable: Duration::from_secs(120),
            jitter: 0.2,
        }
    }
}

impl BackOff {
    /// Never waits: for tests, and for children whose failures are bounded elsewhere.
    pub fn none() -> Self {
        Self { first: Duration::ZERO, max: Duration::ZERO, ..Self::default() }
    }

    /// The wait after this many failures in a row (1 for the first), with fresh jitter.
    pub fn delay(&self, failures: u32) -> Duration {
        self.delay_with(failures, rand::random::<f64>())
    }

    fn delay_with(&self, failures: u32, chance: f64) -> Duration {
        let Some(doublings) = failures.checked_sub(2) else {
            return Duration::ZERO;
        };
        let factor = 2_u32.checked_pow(doublings).unwrap_or(u32::MAX);
        let full = self.first.checked_mul(factor).map_or(self.max, |wait| wait.min(self.max));
        full.mul_f64(1.0 - self.jitter.clamp(0.0, 1.0) * chance.clamp(0.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_restart_is_at_once_then_waits_double_up_to_the_longest() {
        let waits: Vec<u64> = (1..=10).map(|n| BackOff::default().delay_with(n, 0.0).as_secs()).collect();
        assert_eq!(waits, [0, 1, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!(BackOff::default().delay_with(u32::MAX, 0.0), Duration::from_secs(60));
    }

    #[test]
    fn jitter_only_shortens_and_never_by_more_than_its_share() {
        for _ in 0..1000 {
            let wait = BackOff::default().delay(3).as_secs_f64();
            assert!((1.6..=2.0).contains(&wait), "{wait}");
        }
    }
}
