//! Wall-clock time as text, in UTC.

use std::time::{SystemTime, UNIX_EPOCH};

/// `2026-11-24T07:19:12.345Z`.
pub fn utc(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    utc_ms(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// The same for milliseconds since the epoch, as the protocol carries them.
pub fn utc_ms(ms: u64) -> String {
    let (year, month, day) = date(ms / 86_400_000);
    let of_day = ms % 86_400_000;
    let (hours, minutes, seconds) = (of_day / 3_600_000, of_day / 60_000 % 60, of_day / 1000 % 60);
    format!("{year:04}-{month:02}-{day:02}T{hours:02}:{minutes:02}:{seconds:02}.{:03}Z", ms % 1000)
}

/// Days since 1970 as a date of the Gregorian calendar. Years begin in March here, so
/// that the leap day is the last one of its year.
fn date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let era = days / 146_097;
    let day_of_era = days % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_right() {
        assert_eq!(utc_ms(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(utc_ms(951_782_400_000), "2000-02-29T00:00:00.000Z");
        assert_eq!(utc_ms(1_795_505_952_345), "2026-11-24T07:39:12.345Z");
        assert_eq!(utc_ms(4_107_542_399_999), "2100-02-28T23:59:59.999Z");
    }
}
