//! `channel_drafts` and `channel_moves`: what a channel must know again after a restart.

use super::{Store, StoreError};
use crate::clock::now_ms;
use rusqlite::{OptionalExtension, params};

/// Drafts of runs that ended without an answer go after this long.
const KEEP_DRAFTS_MS: i64 = 24 * 3600 * 1000;

impl Store {
    /// Remembers the message that shows a run's answer while it grows.
    ///
    /// # Errors
    /// If the database can't be written.
    pub async fn save_draft(
        &self,
        channel: &str,
        account: &str,
        run_id: &str,
        chat: &str,
        message_id: i64,
    ) -> Result<(), StoreError> {
        let row = (
            channel.to_owned(),
            account.to_owned(),
            run_id.to_owned(),
            chat.to_owned(),
            message_id,
            now_ms(),
        );
        self.write(move |db| {
            db.execute("DELETE FROM channel_drafts WHERE created_at < ?1", [row.5 - KEEP_DRAFTS_MS])?;
            db.execute("INSERT OR REPLACE INTO channel_drafts VALUES (?1, ?2, ?3, ?4, ?5, ?6)", row)?;
            Ok(())
        })
        .await
    }

    /// The message that shows a run's answer, if there is one.
    ///
    /// # Errors
    /// If the database can't be read.
    pub async fn draft(&self, channel: &str, account: &str, run_id: &str) -> Result<Option<i64>, StoreError> {
        let key = (channel.to_owned(), account.to_owned(), run_id.to_owned());
        self.read(move |db| {
            let mut query = db.prepare_cached(
                "SELECT message_id FROM channel_drafts WHERE channel = ?1 AND account = ?2 AND run_id = ?3",
            )?;
            Ok(query.query_row(key, |row| row.get(0)).optional()?)
        })
        .await
    }

    /// Whether something else was said in the draft's chat and thread since it was sent.
    ///
    /// # Errors
    /// If the database can't be read.
    pub async fn draft_is_buried(
        &self,
        channel: &str,
        account: &str,
        run_id: &str,
        thread: Option<&str>,
    ) -> Result<bool, StoreError> {
        let key = (channel.to_owned(), account.to_owned(), run_id.to_owned(), thread.map(str::to_owned));
        self.read(move |db| {
            let mut query = db.prepare_cached(
                "SELECT EXISTS (SELECT 1 FROM outbox AS o WHERE o.channel = ?1 AND o.account = ?2
                                AND o.chat = d.chat AND o.thread IS ?4 AND o.sent_at >= d.created_at)
                     OR EXISTS (SELECT 1 FROM ingress AS i WHERE i.channel = ?1 AND i.account = ?2
                                AND i.id > (SELECT min(id) FROM ingress WHERE run_id = ?3)
                                AND i.received_at >= d.created_at AND i.state <> 'ignored'
                                AND json_extract(i.body, '$.route.chat') = d.chat
                                AND json_extract(i.body, '$.route.thread') IS ?4)
                 FROM channel_drafts AS d WHERE channel = ?1 AND account = ?2 AND run_id = ?3",
            )?;
            Ok(query.query_row(key, |row| row.get(0)).optional()?.unwrap_or(false))
        })
        .await
    }

    /// Forgets it: the answer is there, or the message is gone.
    ///
    /// # Errors
    /// If the database can't be written.
    pub async fn forget_draft(&self, channel: &str, account: &str, run_id: &str) -> Result<(), StoreError> {
        let key = (channel.to_owned(), account.to_owned(), run_id.to_owned());
        self.write(move |db| {
            db.execute(
                "DELETE FROM channel_drafts WHERE channel = ?1 AND account = ?2 AND run_id = ?3",
                key,
            )?;
            Ok(())
        })
        .await
    }

    /// A chat goes on under another id; answers that wait go there.
    ///
    /// # Errors
    /// If the database can't be written.
    pub async fn move_chat(
        &self,
        channel: &str,
        account: &str,
        old: &str,
        new: &str,
    ) -> Result<(), StoreError> {
        let row = (channel.to_owned(), account.to_owned(), old.to_owned(), new.to_owned());
        self.write(move |db| {
            db.execute("INSERT OR REPLACE INTO channel_moves VALUES (?1, ?2, ?3, ?4)", row.clone())?;
            db.execute(
                "UPDATE outbox SET chat = ?4 WHERE channel = ?1 AND account = ?2 AND chat = ?3
                 AND state IN ('pending', 'sending')",
                row,
            )?;
            Ok(())
        })
        .await
    }

    /// What `chat` was called before it moved.
    ///
    /// # Errors
    /// If the database can't be read.
    pub async fn former_chat(
        &self,
        channel: &str,
        account: &str,
        chat: &str,
    ) -> Result<Option<String>, StoreError> {
        let key = (channel.to_owned(), account.to_owned(), chat.to_owned());
        self.read(move |db| {
            let mut query = db.prepare_cached(
                "SELECT old FROM channel_moves WHERE channel = ?1 AND account = ?2 AND new = ?3",
            )?;
            Ok(query.query_row(params![key.0, key.1, key.2], |row| row.get(0)).optional()?)
        })
        .await
    }
}
