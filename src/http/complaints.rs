//! Who sends what is no HTTP: a line in the log about it, but not one for every attempt.

use actix_http::error::DispatchError;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Between two lines about one address.
const PAUSE: Duration = Duration::from_secs(60);

/// Addresses that have a line in that time; those beyond them have none.
const MOST: usize = 256;

/// When an address last had its line. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Complaints(Arc<Mutex<HashMap<IpAddr, Instant>>>);

impl Complaints {
    /// A connection ended before its time.
    pub(super) fn ended(&self, error: &DispatchError, from: Option<SocketAddr>) {
        match (error, from) {
            (DispatchError::Parse(error), Some(from)) if self.is_due(from.ip(), Instant::now()) => {
                tracing::warn!(peer = %from.ip(), %error, "not HTTP; no more about this address for a minute");
            }
            _ => tracing::debug!(%error, ?from, "connection ended"),
        }
    }

    fn is_due(&self, address: IpAddr, now: Instant) -> bool {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        told.retain(|_, at| now.saturating_duration_since(*at) < PAUSE);
        let due = told.len() < MOST && !told.contains_key(&address);
        if due {
            told.insert(address, now);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    #[test]
    fn an_address_has_a_line_a_minute_and_all_of_them_have_so_many() {
        let complaints = Complaints::default();
        let start = Instant::now();
        let address = |number: u32| IpAddr::from(Ipv4Addr::from(number));
        assert!(complaints.is_due(address(0), start));
        assert!(!complaints.is_due(address(0), start + PAUSE / 2));
        assert!(complaints.is_due(address(0), start + PAUSE));
        let told = (1..10_000).filter(|number| complaints.is_due(address(*number), start + PAUSE)).count();
        assert_eq!(told, MOST - 1);
    }
}
