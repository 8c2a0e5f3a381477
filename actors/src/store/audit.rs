//! `audit_access`: connects that were refused.

use super::{Store, StoreError};
use crate::clock::now_ms;
use rusqlite::{Connection, params};

/// A row is kept for so long.
const KEEP_MS: i64 = 30 * 24 * 3600 * 1000;
/// Rows kept; beyond them the oldest go.
const MOST_ROWS: i64 = 10_000;

/// A kind of refused try.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Refused {
    /// The client's address; of an IPv6 address the /64.
    pub address: String,
    pub client: String,
    pub role: String,
    /// `details.code` of the refusal.
    pub code: String,
}

/// How often and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tally {
    pub first_at: i64,
    pub last_at: i64,
    pub tries: i64,
}

/// A stored row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditRow {
    /// Rises with each row: where a page of them ends.
    pub seq: i64,
    pub what: Refused,
    pub tally: Tally,
}

impl Store {
    /// Adds rows, and lets go of old ones.
    ///
    /// # Errors
    /// If the database can't be written.
    pub async fn add_refused(&self, refused: Vec<(Refused, Tally)>) -> Result<(), StoreError> {
        self.write(move |db| {
            for (what, tally) in &refused {
                insert(db, what, tally)?;
            }
            db.execute("DELETE FROM audit_access WHERE last_at < ?1", [now_ms() - KEEP_MS])?;
            db.execute(
                "DELETE FROM audit_access WHERE seq <= (SELECT max(seq) FROM audit_access) - ?1",
                [MOST_ROWS],
            )?;
            Ok(())
        })
        .await
    }

    /// The newest rows, those before `before` if it is given.
    ///
    /// # Errors
    /// If the database can't be read.
    pub async fn refused(&self, before: Option<i64>, limit: usize) -> Result<Vec<AuditRow>, StoreError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.read(move |db| {
            let mut query = db.prepare_cached(
                "SELECT seq, first_at, last_at, tries, address, client, role, code FROM audit_access
                 WHERE seq < ?1 AND last_at >= ?2 ORDER BY seq DESC LIMIT ?3",
            )?;
            let oldest = now_ms() - KEEP_MS;
            let rows = query.query_map(params![before.unwrap_or(i64::MAX), oldest, limit], |row| {
                Ok(AuditRow {
                    seq: row.get(0)?,
                    tally: Tally { first_at: row.get(1)?, last_at: row.get(2)?, tries: row.get(3)? },
                    what: Refused {
                        address: row.get(4)?,
                        client: row.get(5)?,
                        role: row.get(6)?,
                        code: row.get(7)?,
                    },
                })
            })?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
        .await
    }
}

fn insert(db: &Connection, what: &Refused, tally: &Tally) -> Result<(), StoreError> {
    db.prepare_cached(
        "INSERT INTO audit_access (first_at, last_at, tries, address, client, role, code)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?
    .execute(params![
        tally.first_at,
        tally.last_at,
        tally.tries,
        what.address,
        what.client,
        what.role,
        what.code
    ])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(address: &str) -> Refused {
        let text = |text: &str| text.to_owned();
        Refused {
            address: text(address),
            client: text("cli"),
            role: text("operator"),
            code: text("AUTH_TOKEN_MISMATCH"),
        }
    }

    #[actix::test]
    async fn rows_are_read_newest_first_and_page_by_page() {
        let store = Store::temporary().unwrap();
        let tally = Tally { first_at: now_ms(), last_at: now_ms(), tries: 3 };
        let rows = ["1.1.1.1", "2.2.2.2", "3.3.3.3"].map(|address| (refused(address), tally));
        store.add_refused(rows.to_vec()).await.unwrap();
        let page = store.refused(None, 2).await.unwrap();
        assert_eq!(
            page.iter().map(|row| row.what.address.as_str()).collect::<Vec<_>>(),
            ["3.3.3.3", "2.2.2.2"]
        );
        assert_eq!(page[0].tally, tally);
        let rest = store.refused(Some(page[1].seq), 2).await.unwrap();
        assert_eq!(rest.len(), 1);
    }

    #[actix::test]
    async fn old_rows_go_and_so_do_those_beyond_the_limit() {
        let store = Store::temporary().unwrap();
        let old = now_ms() - KEEP_MS - 1;
        let ancient = (refused("1.1.1.1"), Tally { first_at: old, last_at: old, tries: 1 });
        store.add_refused(vec![ancient]).await.unwrap();
        assert!(store.refused(None, 10).await.unwrap().is_empty());
        let tally = Tally { first_at: now_ms(), last_at: now_ms(), tries: 1 };
        let flood = vec![(refused("2.2.2.2"), tally); usize::try_from(MOST_ROWS).unwrap() + 50];
        store.add_refused(flood).await.unwrap();
        let kept = store.refused(None, 100_000).await.unwrap().len();
        assert_eq!(i64::try_from(kept).unwrap(), MOST_ROWS);
    }
}
