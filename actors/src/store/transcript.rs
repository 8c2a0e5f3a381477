//! `transcript`: every message of every session, as `chat.history` shows it.

use super::ingress::settle;
use super::outbox::{NewOutbound, enqueue};
use super::sessions::{SessionUpdate, apply_update};
use super::{Store, StoreError};
use crate::clock::now_ms;
use crate::inbound::RunOutcome;
use rusqlite::{Connection, Row, params};
use serde_json::Value;

/// A message to append.
#[derive(Debug, Clone)]
pub struct NewMessage {
    /// Unique; appending the same id again changes nothing.
    pub message_id: String,
    pub run_id: Option<String>,
    /// `user`, `assistant`, `toolResult` or `summary`.
    pub role: &'static str,
    pub message: Value,
}

/// A stored message.
#[derive(Debug, Clone)]
pub struct TranscriptRow {
    pub seq: i64,
    pub message_id: String,
    pub run_id: Option<String>,
    pub role: String,
    pub message: Value,
    pub created_at: i64,
}

const COLUMNS: &str = "seq, message_id, run_id, role, message, created_at";

impl Store {
    /// Appends messages in order and gives their sequence numbers.
    ///
    /// # Errors
    /// If the database can't be written.
    pub async fn append(&self, session_id: &str, messages: Vec<NewMessage>) -> Result<Vec<i64>, StoreError> {
        let session_id = session_id.to_owned();
        self.write(move |db| messages.iter().map(|message| append_one(db, &session_id, message)).collect())
            .await
    }

    /// The last `limit` messages, oldest first.
    ///
    /// # Errors
    /// If the database can't be read.
    pub async fn transcript(&self, session_id: &str, limit: usize) -> Result<Vec<TranscriptRow>, StoreError> {
        let session_id = session_id.to_owned();
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.read(move |db| {
            let sql =
                format!("SELECT {COLUMNS} FROM transcript WHERE session_id = ?1 ORDER BY seq DESC LIMIT ?2");
            let mut query = db.prepare_cached(&sql)?;
            let rows = query.query_map(params![session_id, limit], read_row)?;
            let mut rows: Vec<_> = rows.map(|row| row?).collect::<Result<_, StoreError>>()?;
            rows.reverse();
            Ok(rows)
        })
        .await
    }

    /// How many messages a session has.
    ///
    /// # Errors
    /// If the database can't be read.
    pub async fn transcript_len(&self, session_id: &str) -> Result<i64, StoreError> {
        let session_id = session_id.to_owned();
        self.read(move |db| {
            let mut query = db.prepare_cached("SELECT count(*) FROM transcript WHERE session_id = ?1")?;
            Ok(query.query_row([session_id], |row| row.get(0))?)
        })
        .await
    }

    /// Ends a run in one transaction: its last messages, its answer in the outbox, its session, its ingress row.
    /// A crash leaves all of it or nothing.
    ///
    /// # Errors
    /// If the database can't be written: then the run has not ended, and is done again after a restart.
    pub async fn finish_run(&self, end: RunEnd) -> Result<(), StoreError> {
        self.write(move |db| {
            for message in &end.messages {
                append_one(db, &end.session_id, message)?;
            }
            for outbound in &end.outbox {
                enqueue(db, outbound)?;
            }
            apply_update(db, &end.session_key, &end.update)?;
            std::iter::once(end.ingress_id).chain(end.joined).try_for_each(|id| settle(db, id, &end.outcome))
        })
        .await
    }
}

/// All that the end of a run stores.
#[derive(Debug, Clone)]
pub struct RunEnd {
    pub ingress_id: i64,
    /// Rows of messages that this run answered along with its own.
    pub joined: Vec<i64>,
    pub session_key: String,
    pub session_id: String,
    pub messages: Vec<NewMessage>,
    pub outbox: Vec<NewOutbound>,
    pub update: SessionUpdate,
    pub outcome: RunOutcome,
}

fn append_one(db: &Connection, session_id: &str, message: &NewMessage) -> Result<i64, StoreError> {
    let inserted = db.prepare_cached(
        "INSERT INTO transcript (session_id, seq, message_id, run_id, role, message, created_at)
         VALUES (?1, (SELECT coalesce(max(seq), 0) + 1 FROM transcript WHERE session_id = ?1), ?2, ?3, ?4, ?5, ?6)
         ON CONFLICT (message_id) DO NOTHING",
    )?
    .execute(params![
        session_id,
        message.message_id,
        message.run_id,
        message.role,
        serde_json::to_string(&message.message)?,
        now_ms(),
    ])?;
    debug_assert!(inserted <= 1);
    let mut query = db.prepare_cached("SELECT seq FROM transcript WHERE message_id = ?1")?;
    Ok(query.query_row([&message.message_id], |row| row.get(0))?)
}

fn read_row(row: &Row<'_>) -> rusqlite::Result<Result<TranscriptRow, StoreError>> {
    let text: String = row.get(4)?;
    let (seq, message_id, run_id, role, created_at) =
        (row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(5)?);
    Ok(serde_json::from_str(&text).map_err(StoreError::from).map(|message| TranscriptRow {
        seq,
        message_id,
        run_id,
        role,
        message,
        created_at,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn message(id: &str) -> NewMessage {
        NewMessage { message_id: id.into(), run_id: None, role: "user", message: json!({"content": id}) }
    }

    #[actix::test]
    async fn messages_are_numbered_without_gaps_and_once() {
        let store = Store::temporary().unwrap();
        let seqs = store.append("s", vec![message("a"), message("b"), message("a")]).await.unwrap();
        assert_eq!(seqs, [1, 2, 1]);
        store.append("other", vec![message("c")]).await.unwrap();
        let last = store.transcript("s", 1).await.unwrap();
        assert_eq!((last[0].seq, last[0].message_id.as_str()), (2, "b"));
        assert_eq!(store.transcript_len("s").await.unwrap(), 2);
    }
}
