//! `session.reset`: a conversation that starts afresh by itself.

use super::Run;
use crate::settings::messages::{ResetMode, ResetSettings};
use crate::store::StoreError;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};

/// Rows in which the person's last message is looked for.
const LOOK_BACK: usize = 400;
/// The hour of `daily`, unless the settings say otherwise.
const AT_HOUR: u8 = 4;

impl Run<'_> {
    /// Starts afresh if nobody wrote here for as long as the settings say.
    pub(super) async fn start_afresh_if_due(&mut self) -> Result<(), StoreError> {
        let reset = &self.settings.session.reset;
        if reset.mode == ResetMode::None {
            return Ok(());
        }
        let rows = self.shop.gateway.store.transcript(&self.session.session_id, LOOK_BACK).await?;
        let last = rows.iter().rev().find(|row| row.role == "user");
        let Some(last) = last.filter(|_| !rows.iter().any(|row| self.is_own(row))) else { return Ok(()) };
        if is_due(reset, last.created_at, self.inbound.received_at_ms, &TimeZone::system()) {
            tracing::info!(session = %self.session.key, mode = ?reset.mode, "the conversation starts afresh");
            self.start_afresh().await?;
        }
        Ok(())
    }
}

fn is_due(reset: &ResetSettings, last_ms: i64, now_ms: i64, zone: &TimeZone) -> bool {
    let silence = u64::try_from(now_ms.saturating_sub(last_ms)).unwrap_or(0);
    let idle = reset.idle_minutes.is_some_and(|minutes| silence > minutes.saturating_mul(60_000));
    idle || (reset.mode == ResetMode::Daily
        && is_before_the_hour(reset, last_ms, now_ms, zone).unwrap_or(false))
}

/// Whether `last` lies before the latest moment at which the clock showed the hour of the reset.
fn is_before_the_hour(
    reset: &ResetSettings,
    last_ms: i64,
    now_ms: i64,
    zone: &TimeZone,
) -> Result<bool, jiff::Error> {
    let now = Timestamp::from_millisecond(now_ms)?.to_zoned(zone.clone());
    let hour = i8::try_from(reset.at_hour.unwrap_or(AT_HOUR).min(23)).unwrap_or(0);
    let today = now.date().at(hour, 0, 0, 0).to_zoned(zone.clone())?;
    let moment = if today <= now { today } else { today.checked_sub(1.day())? };
    Ok(Timestamp::from_millisecond(last_ms)? < moment.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_and_the_hour_decide() {
        let zone = TimeZone::fixed(jiff::tz::offset(-6));
        let at = |time: &str| time.parse::<Timestamp>().unwrap().as_millisecond();
        let due = |reset: &ResetSettings, last: &str, now: &str| is_due(reset, at(last), at(now), &zone);
        let idle = ResetSettings { mode: ResetMode::Idle, at_hour: None, idle_minutes: Some(60) };
        assert!(!due(&idle, "2026-11-24T10:00Z", "2026-11-24T10:59Z"));
        assert!(due(&idle, "2026-11-24T10:00Z", "2026-11-24T11:01Z"));
        // Four o'clock there is ten o'clock in UTC.
        let daily = ResetSettings { mode: ResetMode::Daily, at_hour: None, idle_minutes: None };
        assert!(!due(&daily, "2026-11-23T11:00Z", "2026-11-24T09:59Z"));
        assert!(due(&daily, "2026-11-24T09:59Z", "2026-11-24T10:01Z"));
        assert!(!due(&daily, "2026-11-24T10:01Z", "2026-11-24T23:00Z"));
        let late = ResetSettings { at_hour: Some(23), ..daily };
        assert!(!due(&late, "2026-11-24T09:59Z", "2026-11-24T10:01Z"));
    }
}
