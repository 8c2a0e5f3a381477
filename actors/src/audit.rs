//! Who was not let in, for the owner to read later.
//!
//! Strangers decide how often this happens, so they must not decide how often the disk is written: tries that are
//! alike are counted together in memory, and written by the clock.

use crate::auth::net::household;
use crate::clock::now_ms;
use crate::store::{Refused, Store, StoreError, Tally};
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tidegate_protocol::connect::ConnectParams;

/// How often what has come together is written.
pub const FLUSH_INTERVAL: Duration = Duration::from_secs(10);

/// Kinds of tries that are told apart between two writes; all others are one more kind.
const KINDS: usize = 128;

/// What is not written yet. Cheap to clone; a restart of an actor doesn't forget it.
#[derive(Clone, Default)]
pub struct Audit(Arc<Mutex<HashMap<Refused, Tally>>>);

impl Audit {
    /// Notes a refused connect. Of what it sent, only what it says it is; never a credential.
    pub fn refused(&self, address: IpAddr, params: &ConnectParams, code: &str) {
        self.note(Refused {
            address: household(address).to_string(),
            client: params.client.id.as_str().to_owned(),
            role: match params.role.as_deref() {
                Some("node") => "node".to_owned(),
                None | Some("operator") => "operator".to_owned(),
                // Anything may stand there.
                Some(_) => "other".to_owned(),
            },
            code: code.to_owned(),
        });
    }

    fn note(&self, what: Refused) {
        let now = now_ms();
        let mut pending = self.pending();
        let what = if pending.len() < KINDS || pending.contains_key(&what) { what } else { others(&what) };
        let tally = pending.entry(what).or_insert(Tally { first_at: now, last_at: now, tries: 0 });
        tally.tries += 1;
        tally.last_at = now;
    }

    /// Writes what has come together.
    ///
    /// # Errors
    /// If the database can't be written: then it stays for the next time.
    pub async fn flush(&self, store: &Store) -> Result<(), StoreError> {
        let pending = std::mem::take(&mut *self.pending());
        if pending.is_empty() {
            return Ok(());
        }
        let mut rows: Vec<_> = pending.into_iter().collect();
        rows.sort_by_key(|(_, tally)| tally.first_at);
        let written = store.add_refused(rows.clone()).await;
        if written.is_err() {
            let mut pending = self.pending();
            for (what, tally) in rows {
                let merged = pending.entry(what).or_insert(Tally { tries: 0, ..tally });
                merged.first_at = merged.first_at.min(tally.first_at);
                merged.tries += tally.tries;
            }
        }
        written
    }

    fn pending(&self) -> MutexGuard<'_, HashMap<Refused, Tally>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn others(what: &Refused) -> Refused {
    let many = || "various".to_owned();
    Refused { address: many(), client: many(), role: many(), code: what.code.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(address: &str) -> Refused {
        let text = |text: &str| text.to_owned();
        Refused { address: text(address), client: text("cli"), role: text("operator"), code: text("C") }
    }

    #[actix::test]
    async fn tries_that_are_alike_are_one_row() {
        let (audit, store) = (Audit::default(), Store::temporary().unwrap());
        for _ in 0..1000 {
            audit.note(refused("192.0.2.1"));
        }
        audit.note(refused("192.0.2.2"));
        audit.flush(&store).await.unwrap();
        audit.flush(&store).await.unwrap();
        let rows = store.refused(None, 10).await.unwrap();
        let mut seen: Vec<_> = rows.iter().map(|row| (row.what.address.as_str(), row.tally.tries)).collect();
        seen.sort_unstable();
        assert_eq!(seen, [("192.0.2.1", 1000), ("192.0.2.2", 1)]);
    }

    #[actix::test]
    async fn a_flood_of_addresses_fills_neither_memory_nor_disk() {
        let (audit, store) = (Audit::default(), Store::temporary().unwrap());
        for number in 0..50_000_u32 {
            audit.note(refused(&std::net::Ipv4Addr::from_bits(number).to_string()));
        }
        assert!(audit.pending().len() <= KINDS + 1);
        audit.flush(&store).await.unwrap();
        let rows = store.refused(None, 1000).await.unwrap();
        assert!(rows.len() <= KINDS + 1);
        assert_eq!(rows.iter().map(|row| row.tally.tries).sum::<i64>(), 50_000);
    }
}
