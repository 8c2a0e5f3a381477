//! An answer as it is stored.

use crate::inbound::OutboundMessage;
use crate::store::StoreError;
use rusqlite::Row;
use serde::{Deserialize, Serialize};

/// An answer to deliver.
#[derive(Debug, Clone)]
pub struct OutboxRow {
    pub id: i64,
    pub key: String,
    pub chat: String,
    pub thread: Option<String>,
    pub run_id: Option<String>,
    pub message: OutboundMessage,
    pub progress: Progress,
    /// How often it was tried, this time included.
    pub attempts: u32,
    pub expires_at: i64,
}

impl OutboxRow {
    /// Whether this is the run's own answer, rather than something it sent along the way.
    pub fn is_answer(&self) -> bool {
        self.run_id.as_deref().is_some_and(|run_id| self.key == answer_key(run_id))
    }
}

/// The key of a run's own answer: a run has one, however often it is played.
pub fn answer_key(run_id: &str) -> String {
    format!("run:{run_id}")
}

/// How far a delivery has come: an answer may take several messages.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Progress {
    /// Parts that are delivered.
    pub parts: usize,
    /// What the channel calls the messages sent so far.
    pub message_ids: Vec<String>,
    /// The process ended while the next part was on its way: the chat may have it.
    pub repeated: bool,
    /// The length at which its parts are cut, once one of them was sent.
    pub limit: Option<usize>,
    /// Its topic is gone: it goes to the chat itself.
    pub off_topic: bool,
    /// The last part that was refused and left out, and why.
    pub refused: Option<String>,
}

/// What [`raw`] reads, in its order.
pub(super) const COLUMNS: &str = "id, key, chat, thread, run_id, body, progress, attempts, expires_at";

pub(super) fn parse(progress: Option<String>) -> Result<Progress, StoreError> {
    Ok(progress.map(|text| serde_json::from_str(&text)).transpose()?.unwrap_or_default())
}

pub(super) struct RawRow {
    row: OutboxRow,
    body: String,
    progress: Option<String>,
}

pub(super) fn raw(row: &Row<'_>) -> rusqlite::Result<RawRow> {
    Ok(RawRow {
        body: row.get(5)?,
        progress: row.get(6)?,
        row: OutboxRow {
            id: row.get(0)?,
            key: row.get(1)?,
            chat: row.get(2)?,
            thread: row.get(3)?,
            run_id: row.get(4)?,
            message: OutboundMessage::default(),
            progress: Progress::default(),
            attempts: row.get(7)?,
            expires_at: row.get(8)?,
        },
    })
}

impl RawRow {
    pub(super) fn finish(self) -> Result<OutboxRow, StoreError> {
        Ok(OutboxRow {
            message: serde_json::from_str(&self.body)?,
            progress: parse(self.progress)?,
            ..self.row
        })
    }
}
