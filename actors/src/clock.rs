//! What time it is, and moments as text: UTC, with milliseconds, as JSON APIs and logs write them.

use jiff::Timestamp;
use std::time::SystemTime;

/// Milliseconds since the epoch: how every table and every frame tells time.
pub fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// `2026-11-24T07:19:12.345Z`. A moment beyond the calendar is its end.
pub fn utc(time: SystemTime) -> String {
    let late = time > SystemTime::UNIX_EPOCH;
    text(Timestamp::try_from(time).unwrap_or_else(|_| end(late)))
}

/// The same for milliseconds since the epoch, as the protocol carries them.
pub fn utc_ms(ms: i64) -> String {
    text(Timestamp::from_millisecond(ms).unwrap_or_else(|_| end(ms > 0)))
}

fn end(late: bool) -> Timestamp {
    if late { Timestamp::MAX } else { Timestamp::MIN }
}

fn text(moment: Timestamp) -> String {
    format!("{moment:.3}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn dates_are_right() {
        assert_eq!(utc_ms(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(utc_ms(951_782_400_000), "2000-02-29T00:00:00.000Z");
        assert_eq!(utc_ms(1_795_505_952_345), "2026-11-24T07:39:12.345Z");
        assert_eq!(utc_ms(4_107_542_399_999), "2100-02-28T23:59:59.999Z");
        let time = SystemTime::UNIX_EPOCH + Duration::from_micros(1_795_505_952_345_999);
        assert_eq!(utc(time), "2026-11-24T07:39:12.345Z");
    }

    #[test]
    fn no_number_is_too_large() {
        assert!(utc_ms(i64::MAX).starts_with("9999-12-3"));
        assert!(utc_ms(i64::MIN).starts_with("-00999"));
    }
}
