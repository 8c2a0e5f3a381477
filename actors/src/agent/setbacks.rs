//! Messages whose run could not be settled: how often, how long to wait, and when to stop trying.

use std::collections::HashMap;
use std::time::Duration;

/// No pause is longer.
const LONGEST: Duration = Duration::from_secs(300);

/// Counts by row.
#[derive(Debug)]
pub(super) struct Setbacks {
    counts: HashMap<i64, u32>,
    /// The first pause; each further one doubles it.
    base: Duration,
    /// Setbacks of one row before it is parked.
    most: u32,
}

impl Setbacks {
    pub(super) fn new(base: Duration, most: u32) -> Self {
        Self { counts: HashMap::new(), base, most }
    }

    /// One more: how long to wait before the next try, or `None` when there should be none.
    pub(super) fn again(&mut self, id: i64) -> Option<Duration> {
        let count = self.counts.entry(id).or_default();
        *count += 1;
        if *count >= self.most {
            return None;
        }
        Some(self.base.saturating_mul(1 << (*count - 1).min(16)).min(LONGEST))
    }

    pub(super) fn forget(&mut self, id: i64) {
        self.counts.remove(&id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_end() {
        let mut setbacks = Setbacks::new(Duration::from_millis(500), 20);
        let pauses: Vec<Duration> = std::iter::from_fn(|| setbacks.again(1)).collect();
        assert_eq!(
            (pauses.len(), pauses[0], pauses[1]),
            (19, Duration::from_millis(500), Duration::from_secs(1))
        );
        assert_eq!(pauses.last(), Some(&LONGEST));
        assert!(setbacks.again(2).is_some(), "another row has its own count");
        setbacks.forget(1);
        assert!(setbacks.again(1).is_some());
    }
}
