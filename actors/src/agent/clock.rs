//! Times as people and models read them.

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// The zone of this name; the machine's own without one, or where it isn't known.
pub(super) fn zone(name: Option<&str>) -> TimeZone {
    name.and_then(|name| TimeZone::get(name).ok()).unwrap_or_else(TimeZone::system)
}

/// `Sun 2026-11-22 16:30 UTC`.
pub(super) fn stamp(ms: i64, zone: &TimeZone) -> String {
    let moment = Timestamp::from_millisecond(ms).unwrap_or_default();
    moment.to_zoned(zone.clone()).strftime("%a %Y-%m-%d %H:%M %Z").to_string()
}

/// `3 min`, `2 h`, `4 d`.
pub(super) fn span(ms: i64) -> String {
    let seconds = ms.max(0) / 1000;
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..86_400 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_moments() {
        let utc = |ms| stamp(ms, &TimeZone::UTC);
        assert_eq!(utc(0), "Thu 1970-01-01 00:00 UTC");
        assert_eq!(utc(1_795_365_000_000), "Sun 2026-11-22 16:30 UTC");
        assert_eq!(utc(951_782_400_000), "Tue 2000-02-29 00:00 UTC");
        let east = TimeZone::fixed(jiff::tz::offset(2));
        assert_eq!(stamp(951_782_400_000, &east), "Tue 2000-02-29 02:00 +02");
    }

    #[test]
    fn spans_are_short() {
        assert_eq!((span(5_000), span(7_200_000)), ("5 s".into(), "2 h".into()));
    }
}
