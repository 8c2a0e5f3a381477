//! How long to wait between attempts to connect: 1, 2, 4, 8, 16, then 30 seconds.

use std::time::Duration;

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(30);

/// Counts failed attempts.
#[derive(Debug, Clone, Default)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The wait before the next attempt. `asked` is what the gateway itself asked for, which is never undercut.
    pub fn next(&mut self, asked: Option<Duration>) -> Duration {
        let wait = FIRST.saturating_mul(1 << self.failures.min(5)).min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        asked.map_or(wait, |asked| wait.max(asked))
    }

    /// A connection stood: start over.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_half_a_minute() {
        let mut backoff = Backoff::default();
        let waits: Vec<u64> = (0..8).map(|_| backoff.next(None).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 30, 30, 30]);
        backoff.reset();
        assert_eq!(backoff.next(None).as_secs(), 1);
        assert_eq!(backoff.next(Some(Duration::from_secs(300))).as_secs(), 300);
    }
}
