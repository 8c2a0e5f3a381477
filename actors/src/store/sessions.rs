//! `sessions`: one row a conversation.

use super::{Store, StoreError};
use crate::clock::now_ms;
use crate::inbound::{ChatKind, Inbound, Route};
use rusqlite::{Connection, OptionalExtension, Row, params};

/// A conversation.
#[derive(Debug, Clone, PartialEq)]
pub struct SessionRow {
    pub key: String,
    pub agent_id: String,
    /// Changes when the conversation is reset; the transcript hangs on it.
    pub session_id: String,
    pub channel: Option<String>,
    /// `direct` or `group`.
    pub chat_type: String,
    pub title: Option<String>,
    pub route: Option<Route>,
    pub model: Option<String>,
    pub status: String,
    pub last_run_id: Option<String>,
    pub input_tokens: i64,
    pub output_tokens: i64,
    pub total_tokens: i64,
    pub archived: bool,
    pub started_at: Option<i64>,
    pub ended_at: Option<i64>,
    pub created_at: i64,
    pub updated_at: i64,
}

/// What a run changes of its session; `None` leaves a field as it is.
#[derive(Debug, Clone, Default)]
pub struct SessionUpdate {
    pub status: Option<&'static str>,
    pub model: Option<String>,
    pub last_run_id: Option<String>,
    /// Added to the totals.
    pub input_tokens: i64,
    /// Added to the totals.
    pub output_tokens: i64,
    /// Replaces the size of the context.
    pub total_tokens: Option<i64>,
    pub title: Option<String>,
    pub started_at: Option<i64>,
    pub ended_at: Option<i64>,
}

const COLUMNS: &str =
    "key, agent_id, session_id, channel, chat_type, title, route, model, status, last_run_id,
    input_tokens, output_tokens, total_tokens, archived, started_at, ended_at, created_at, updated_at";

impl Store {
    /// The session that a message belongs to, made when it is the first one, with its route brought up to date.
    ///
    /// # Errors
    /// If the database can't be written.
    pub async fn session_for(&self, inbound: &Inbound) -> Result<SessionRow, StoreError> {
        let (key, channel, route) =
            (inbound.session_key.clone(), inbound.channel.clone(), inbound.route.clone());
        self.write(move |db| {
            let now = now_ms();
            let group = route.as_ref().is_some_and(|route| route.kind != ChatKind::Direct);
            db.prepare_cached(
                "INSERT INTO sessions (key, agent_id, session_id, channel, chat_type, created_at, updated_at)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6) ON CONFLICT DO NOTHING",
            )?
            .execute(params![
                key,
                agent_of(&key),
                uuid::Uuid::new_v4().to_string(),
                channel,
                if group { "group" } else { "direct" },
                now,
            ])?;
            if let Some(route) = &route {
                db.prepare_cached(
                    "UPDATE sessions SET route = ?2, channel = ?3, updated_at = ?4 WHERE key = ?1",
                )?
                .execute(params![key, serde_json::to_string(route)?, channel, now])?;
            }
            one(db, &key)?.ok_or(StoreError::Closed)
        })
        .await
    }

    /// A session by its key.
    ///
    /// # Errors
    /// If the database can't be read.
    pub async fn session(&self, key: &str) -> Result<Option<SessionRow>, StoreError> {
        let key = key.to_owned();
        self.read(move |db| one(db, &key)).await
    }

    /// All sessions, the latest first.
    ///
    /// # Errors
    /// If the database can't be read.
    pub async fn sessions(&self) -> Result<Vec<SessionRow>, StoreError> {
        self.read(|db| {
            let sql = format!("SELECT {COLUMNS} FROM sessions ORDER BY updated_at DESC, key");
            db.prepare_cached(&sql)?.query_map([], read_row)?.map(|row| row?).collect()
        })
        .await
    }

    /// Starts the conversation afresh: a new session id, an empty transcript; the old one is kept.
    ///
    /// # Errors
    /// If the database can't be written.
    pub async fn reset_session(&self, key: &str) -> Result<Option<SessionRow>, StoreError> {
        let key = key.to_owned();
        self.write(move |db| {
            db.prepare_cached(
                "UPDATE sessions SET session_id = ?2, total_tokens = 0, status = 'idle', title = NULL, updated_at = ?3
                 WHERE key = ?1",
            )?
            .execute(params![key, uuid::Uuid::new_v4().to_string(), now_ms()])?;
            one(db, &key)
        })
        .await
    }

    /// Applies what a run changed.
    ///
    /// # Errors
    /// If the database can't be written.
    pub async fn update_session(&self, key: &str, update: SessionUpdate) -> Result<(), StoreError> {
        let key = key.to_owned();
        self.write(move |db| apply_update(db, &key, &update)).await
    }

    /// Sets whether a session is archived; `false` when there is none of that key.
    ///
    /// # Errors
    /// If the database can't be written.
    pub async fn archive_session(&self, key: &str, archived: bool) -> Result<bool, StoreError> {
        let key = key.to_owned();
        self.write(move |db| {
            let changed = db
                .prepare_cached("UPDATE sessions SET archived = ?2, updated_at = ?3 WHERE key = ?1")?
                .execute(params![key, archived, now_ms()])?;
            Ok(changed == 1)
        })
        .await
    }

    /// Removes a session and its transcript; `false` when there is none of that key.
    ///
    /// # Errors
    /// If the database can't be written.
    pub async fn delete_session(&self, key: &str) -> Result<bool, StoreError> {
        let key = key.to_owned();
        self.write(move |db| {
            db.execute(
                "DELETE FROM transcript WHERE session_id IN (SELECT session_id FROM sessions WHERE key = ?1)",
                [&key],
            )?;
            Ok(db.execute("DELETE FROM sessions WHERE key = ?1", [&key])? == 1)
        })
        .await
    }
}

/// Applies an update within a transaction of the caller's.
pub(crate) fn apply_update(db: &Connection, key: &str, update: &SessionUpdate) -> Result<(), StoreError> {
    db.prepare_cached(
        "UPDATE sessions SET
           status = coalesce(?2, status), model = coalesce(?3, model), last_run_id = coalesce(?4, last_run_id),
           -- A sum too large for an integer would become a float, which no reader of the row expects.
           input_tokens = min(input_tokens + ?5, 9223372036854775807),
           output_tokens = min(output_tokens + ?6, 9223372036854775807),
           total_tokens = coalesce(?7, total_tokens), title = coalesce(?8, title),
           started_at = coalesce(?9, started_at), ended_at = coalesce(?10, ended_at), updated_at = ?11
         WHERE key = ?1",
    )?
    .execute(params![
        key,
        update.status,
        update.model,
        update.last_run_id,
        update.input_tokens,
        update.output_tokens,
        update.total_tokens,
        update.title,
        update.started_at,
        update.ended_at,
        now_ms(),
    ])?;
    Ok(())
}

/// `main` of `agent:main:telegram:group:5`.
fn agent_of(key: &str) -> &str {
    key.strip_prefix("agent:").and_then(|rest| rest.split(':').next()).unwrap_or("main")
}

fn one(db: &Connection, key: &str) -> Result<Option<SessionRow>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM sessions WHERE key = ?1");
    db.prepare_cached(&sql)?.query_row([key], read_row).optional()?.transpose()
}

fn read_row(row: &Row<'_>) -> rusqlite::Result<Result<SessionRow, StoreError>> {
    let route: Option<String> = row.get(6)?;
    let session = SessionRow {
        key: row.get(0)?,
        agent_id: row.get(1)?,
        session_id: row.get(2)?,
        channel: row.get(3)?,
        chat_type: row.get(4)?,
        title: row.get(5)?,
        route: None,
        model: row.get(7)?,
        status: row.get(8)?,
        last_run_id: row.get(9)?,
        input_tokens: row.get(10)?,
        output_tokens: row.get(11)?,
        total_tokens: row.get(12)?,
        archived: row.get(13)?,
        started_at: row.get(14)?,
        ended_at: row.get(15)?,
        created_at: row.get(16)?,
        updated_at: row.get(17)?,
    };
    let route = route.map(|text| serde_json::from_str(&text)).transpose();
    Ok(route.map(|route| SessionRow { route, ..session }).map_err(StoreError::from))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[actix::test]
    async fn tokens_beyond_all_numbers_leave_a_row_that_can_be_read() {
        let store = Store::temporary().unwrap();
        let inbound = Inbound::of_webchat("hello");
        let key = store.session_for(&inbound).await.unwrap().key;
        for _ in 0..2 {
            let update =
                SessionUpdate { input_tokens: i64::MAX, output_tokens: i64::MAX, ..Default::default() };
            store.update_session(&key, update).await.unwrap();
        }
        let row = store.session(&key).await.unwrap().unwrap();
        assert_eq!((row.input_tokens, row.output_tokens), (i64::MAX, i64::MAX));
    }
}
