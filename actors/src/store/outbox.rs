//! `outbox`: answers, stored before they are sent.

mod row;

pub use row::{OutboxRow, Progress, answer_key};

use super::{Store, StoreError};
use crate::clock::now_ms;
use crate::inbound::{OutboundMessage, Route};
use row::{COLUMNS, parse, raw};
use rusqlite::{Connection, OptionalExtension, params};

/// How long an answer is worth sending.
const EXPIRES_AFTER_MS: i64 = 24 * 3600 * 1000;
/// How long settled answers stay, so that their keys are still known.
const KEEP_MS: i64 = 30 * 24 * 3600 * 1000;

/// An answer to store.
#[derive(Debug, Clone)]
pub struct NewOutbound {
    /// Storing the same key again changes nothing.
    pub key: String,
    pub route: Route,
    pub run_id: Option<String>,
    pub message: OutboundMessage,
}

/// Stores an answer within a transaction of the caller's; `false` when its key was there already.
///
/// # Errors
/// If the database can't be written.
pub fn enqueue(db: &Connection, outbound: &NewOutbound) -> Result<bool, StoreError> {
    let now = now_ms();
    let stored = db
        .prepare_cached(
            "INSERT INTO outbox (key, channel, account, chat, thread, run_id, body, next_attempt_at, created_at, expires_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?8, ?9) ON CONFLICT DO NOTHING",
        )?
        .execute(params![
            outbound.key,
            outbound.route.channel,
            outbound.route.account,
            outbound.route.chat,
            outbound.route.thread,
            outbound.run_id,
            serde_json::to_string(&outbound.message)?,
            now,
            now + EXPIRES_AFTER_MS,
        ])?;
    Ok(stored == 1)
}

/// What is due at an account.
#[derive(Debug, Default)]
pub struct Claimed {
    /// At most one a chat, so that answers arrive in order. They are marked as being sent.
    pub rows: Vec<OutboxRow>,
    /// Answers that were never taken and are now too old.
    pub expired: Vec<OutboxRow>,
    /// When the next one is due.
    pub next_at: Option<i64>,
}

/// Where an answer is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryState {
    /// `pending`, `sending`, `sent`, `unknown`, `failed` or `expired`.
    pub state: String,
    pub progress: Progress,
    pub last_error: Option<String>,
}

const HEADS: &str = "FROM outbox AS o WHERE channel = ?1 AND account = ?2 AND state = 'pending'
     AND NOT EXISTS (SELECT 1 FROM outbox AS p WHERE p.channel = ?1 AND p.account = ?2 AND p.chat = o.chat
                     AND p.id < o.id AND p.state IN ('pending', 'sending'))";

impl Store {
    /// Takes what is due at an account and marks it as being sent.
    ///
    /// # Errors
    /// If the database can't be written; then nothing is taken.
    pub async fn claim_outbox(
        &self,
        channel: &str,
        account: &str,
        limit: usize,
    ) -> Result<Claimed, StoreError> {
        let (channel, account) = (channel.to_owned(), account.to_owned());
        let next = {
            let (channel, account) = (channel.clone(), account.clone());
            self.read(move |db| next_due(db, &channel, &account)).await?
        };
        match next {
            Some(at) if at <= now_ms() => self.write(move |db| claim(db, &channel, &account, limit)).await,
            next_at => Ok(Claimed { next_at, ..Claimed::default() }),
        }
    }

    /// What was being sent when the process ended. It waits again, marked: the chat may have its next part.
    ///
    /// # Errors
    /// If the database can't be written.
    pub async fn recover_outbox(&self, channel: &str, account: &str) -> Result<Vec<OutboxRow>, StoreError> {
        let (channel, account) = (channel.to_owned(), account.to_owned());
        self.write(move |db| {
            let sql = format!(
                "SELECT {COLUMNS} FROM outbox WHERE channel = ?1 AND account = ?2 AND state = 'sending'"
            );
            let rows = db
                .prepare_cached(&sql)?
                .query_map([&channel, &account], raw)?
                .collect::<Result<Vec<_>, _>>()?;
            let mut found = Vec::new();
            for row in rows {
                let mut row = row.finish()?;
                row.progress.repeated = true;
                save(db, row.id, &row.progress)?;
                db.execute(
                    "UPDATE outbox SET state = 'pending', next_attempt_at = 0 WHERE id = ?1",
                    [row.id],
                )?;
                found.push(row);
            }
            Ok(found)
        })
        .await
    }

    /// Remembers that a part was delivered, before the next one is sent.
    ///
    /// # Errors
    /// If the database can't be written.
    pub async fn outbox_progress(&self, id: i64, progress: Progress) -> Result<(), StoreError> {
        self.write(move |db| save(db, id, &progress)).await
    }

    /// The chat has all of it. The draft that showed the answer is one no more.
    ///
    /// # Errors
    /// If the database can't be written.
    pub async fn outbox_sent(&self, id: i64, progress: Progress) -> Result<(), StoreError> {
        self.write(move |db| {
            save(db, id, &progress)?;
            db.execute(
                "UPDATE outbox SET state = 'sent', sent_at = ?2, last_error = NULL WHERE id = ?1",
                params![id, now_ms()],
            )?;
            db.execute(
                "DELETE FROM channel_drafts AS d WHERE EXISTS (SELECT 1 FROM outbox AS o WHERE o.id = ?1
                 AND (o.channel, o.account, o.run_id, o.key) = (d.channel, d.account, d.run_id, 'run:' || d.run_id))",
                [id],
            )?;
            Ok(())
        })
        .await
    }

    /// It was not taken; it is tried again at `at`.
    ///
    /// # Errors
    /// If the database can't be written.
    pub async fn outbox_retry(&self, id: i64, at: i64, error: String) -> Result<(), StoreError> {
        self.write(move |db| {
            db.execute(
                "UPDATE outbox SET state = 'pending', next_attempt_at = ?2, last_error = ?3 WHERE id = ?1",
                params![id, at, error],
            )?;
            Ok(())
        })
        .await
    }

    /// Nobody tries again: `unknown` when the chat may have it, `failed` when it was refused for good.
    ///
    /// # Errors
    /// If the database can't be written.
    pub async fn outbox_give_up(
        &self,
        id: i64,
        state: &'static str,
        error: String,
    ) -> Result<(), StoreError> {
        self.write(move |db| {
            db.execute(
                "UPDATE outbox SET state = ?2, last_error = ?3 WHERE id = ?1",
                params![id, state, error],
            )?;
            Ok(())
        })
        .await
    }

    /// How many answers of an account are `unknown`, and how many failed or expired.
    ///
    /// # Errors
    /// If the database can't be read.
    pub async fn outbox_losses(&self, channel: &str, account: &str) -> Result<(i64, i64), StoreError> {
        let (channel, account) = (channel.to_owned(), account.to_owned());
        self.read(move |db| {
            let mut query = db.prepare_cached(
                "SELECT count(*) FILTER (WHERE state = 'unknown'), count(*) FILTER (WHERE state IN ('failed', 'expired'))
                 FROM outbox WHERE channel = ?1 AND account = ?2",
            )?;
            Ok(query.query_row([channel, account], |row| Ok((row.get(0)?, row.get(1)?)))?)
        })
        .await
    }

    /// Stores an answer by itself; `false` when its key was there already.
    ///
    /// # Errors
    /// If the database can't be written.
    pub async fn post(&self, outbound: NewOutbound) -> Result<bool, StoreError> {
        self.write(move |db| enqueue(db, &outbound)).await
    }

    /// Where the answer with this key is.
    ///
    /// # Errors
    /// If the database can't be read.
    pub async fn delivery(&self, key: &str) -> Result<Option<DeliveryState>, StoreError> {
        let key = key.to_owned();
        self.read(move |db| {
            let mut query =
                db.prepare_cached("SELECT state, progress, last_error FROM outbox WHERE key = ?1")?;
            let row = query.query_row([key], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).optional()?;
            row.map(|(state, progress, last_error): (_, Option<String>, _)| {
                Ok(DeliveryState { state, progress: parse(progress)?, last_error })
            })
            .transpose()
        })
        .await
    }

    /// Forgets answers that are settled for long.
    ///
    /// # Errors
    /// If the database can't be written.
    pub async fn prune_outbox(&self) -> Result<usize, StoreError> {
        self.write(|db| {
            let before = now_ms() - KEEP_MS;
            Ok(db.execute(
                "DELETE FROM outbox WHERE state NOT IN ('pending', 'sending') AND created_at < ?1",
                [before],
            )?)
        })
        .await
    }
}

fn next_due(db: &Connection, channel: &str, account: &str) -> Result<Option<i64>, StoreError> {
    let sql = format!("SELECT min(min(next_attempt_at, expires_at)) {HEADS}");
    Ok(db.prepare_cached(&sql)?.query_row([channel, account], |row| row.get(0))?)
}

fn claim(db: &Connection, channel: &str, account: &str, limit: usize) -> Result<Claimed, StoreError> {
    let now = now_ms();
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let sql =
        format!("SELECT {COLUMNS} {HEADS} AND min(next_attempt_at, expires_at) <= ?3 ORDER BY id LIMIT ?4");
    let mut query = db.prepare_cached(&sql)?;
    let rows = query.query_map(params![channel, account, now, limit], raw)?;
    let rows = rows.collect::<Result<Vec<_>, _>>()?;
    let mut claimed = Claimed::default();
    for row in rows {
        let mut row = row.finish()?;
        if row.expires_at <= now {
            db.execute("UPDATE outbox SET state = 'expired' WHERE id = ?1", [row.id])?;
            claimed.expired.push(row);
            continue;
        }
        row.attempts += 1;
        db.execute(
            "UPDATE outbox SET state = 'sending', attempts = ?2 WHERE id = ?1",
            params![row.id, row.attempts],
        )?;
        claimed.rows.push(row);
    }
    claimed.next_at = next_due(db, channel, account)?;
    Ok(claimed)
}

fn save(db: &Connection, id: i64, progress: &Progress) -> Result<(), StoreError> {
    db.prepare_cached("UPDATE outbox SET progress = ?2 WHERE id = ?1")?
        .execute(params![id, serde_json::to_string(progress)?])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inbound::ChatKind;

    async fn post(store: &Store, key: &str, chat: &str) -> bool {
        let route = Route {
            channel: "telegram".into(),
            account: "default".into(),
            chat: chat.into(),
            thread: None,
            reply_to: None,
            kind: ChatKind::Direct,
        };
        let message = OutboundMessage { text: Some(key.into()), ..OutboundMessage::default() };
        store.post(NewOutbound { key: key.into(), route, run_id: None, message }).await.unwrap()
    }

    async fn claim_keys(store: &Store) -> Vec<String> {
        let claimed = store.claim_outbox("telegram", "default", 10).await.unwrap();
        claimed.rows.into_iter().map(|row| row.key).collect()
    }

    async fn id(store: &Store, key: &'static str) -> i64 {
        store
            .read(
                move |db| Ok(db.query_row("SELECT id FROM outbox WHERE key = ?1", [key], |row| row.get(0))?),
            )
            .await
            .unwrap()
    }

    #[actix::test]
    async fn a_chat_gets_its_answers_one_after_another_and_each_key_once() {
        let store = Store::temporary().unwrap();
        assert!(post(&store, "a1", "a").await);
        assert!(!post(&store, "a1", "a").await);
        post(&store, "a2", "a").await;
        post(&store, "b1", "b").await;
        assert_eq!(claim_keys(&store).await, ["a1", "b1"]);
        assert!(claim_keys(&store).await.is_empty());
        store.outbox_sent(id(&store, "a1").await, Progress::default()).await.unwrap();
        assert_eq!(claim_keys(&store).await, ["a2"]);
    }

    #[actix::test]
    async fn a_retry_waits_its_time_and_keeps_its_place() {
        let store = Store::temporary().unwrap();
        post(&store, "a1", "a").await;
        post(&store, "a2", "a").await;
        claim_keys(&store).await;
        let later = now_ms() + 60_000;
        store.outbox_retry(id(&store, "a1").await, later, "500".into()).await.unwrap();
        let claimed = store.claim_outbox("telegram", "default", 10).await.unwrap();
        assert!(claimed.rows.is_empty());
        assert_eq!(claimed.next_at, Some(later));
    }

    #[actix::test]
    async fn what_was_being_sent_at_the_end_comes_back_marked() {
        let store = Store::temporary().unwrap();
        post(&store, "a1", "a").await;
        claim_keys(&store).await;
        store.recover_outbox("telegram", "default").await.unwrap();
        let claimed = store.claim_outbox("telegram", "default", 10).await.unwrap();
        assert!(claimed.rows[0].progress.repeated);
        assert_eq!(claimed.rows[0].attempts, 2);
    }

    #[actix::test]
    async fn an_old_answer_expires_and_is_handed_out_as_such() {
        let store = Store::temporary().unwrap();
        post(&store, "a1", "a").await;
        store.write(|db| Ok(db.execute("UPDATE outbox SET expires_at = 1", [])?)).await.unwrap();
        let claimed = store.claim_outbox("telegram", "default", 10).await.unwrap();
        assert_eq!((claimed.rows.len(), claimed.expired.len()), (0, 1));
        assert_eq!(store.delivery("a1").await.unwrap().unwrap().state, "expired");
        assert_eq!(store.outbox_losses("telegram", "default").await.unwrap(), (0, 1));
    }
}
