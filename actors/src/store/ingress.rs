//! `ingress` and `offsets`: what people wrote, stored before anyone is told.

use super::{Store, StoreError};
use crate::clock::now_ms;
use crate::inbound::{Inbound, RunOutcome};
use rusqlite::{Connection, OptionalExtension, Row, params};

/// How long finished rows stay, so that the same event again is still known.
const KEEP_MS: i64 = 30 * 24 * 3600 * 1000;

/// One event of a channel.
#[derive(Debug, Clone)]
pub enum Arrival {
    /// To be answered.
    Message(Box<Inbound>),
    /// The same, where the channel has a name for the message itself: told in another event, it is no second one.
    Named { inbound: Box<Inbound>, message: String },
    /// Seen and deliberately not answered; kept so that it is never looked at again.
    Ignored { channel: String, account: String, event_id: String, reason: String },
}

/// How far the channel may now acknowledge.
#[derive(Debug, Clone)]
pub struct Offset {
    pub channel: String,
    pub account: String,
    pub value: i64,
}

/// What became of an [`Arrival`].
#[derive(Debug, Clone)]
pub enum Accepted {
    /// It is stored for the first time.
    New(Box<IngressRow>),
    /// It was there already.
    Duplicate(Box<IngressRow>),
    /// It was stored as ignored, now or earlier.
    Ignored,
    /// It isn't stored: another message's run has the id that its run would have.
    RunTaken,
}

/// A stored message.
#[derive(Debug, Clone)]
pub struct IngressRow {
    pub id: i64,
    pub inbound: Inbound,
    pub state: IngressState,
    pub outcome: Option<RunOutcome>,
}

/// How far a message has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IngressState {
    Pending,
    Done,
}

const COLUMNS: &str = "id, body, state, outcome";

impl Store {
    /// Stores a batch and the offset that acknowledges it, in one transaction.
    ///
    /// # Errors
    /// If nothing could be stored: then nothing may be acknowledged.
    pub async fn accept(
        &self,
        arrivals: Vec<Arrival>,
        offset: Option<Offset>,
    ) -> Result<Vec<Accepted>, StoreError> {
        self.write(move |db| {
            // Nothing may be written behind a failure: SQLite may have undone the transaction it belonged to.
            let accepted =
                arrivals.into_iter().map(|arrival| accept_one(db, arrival)).collect::<Result<_, _>>()?;
            if let Some(Offset { channel, account, value }) = offset {
                db.prepare_cached(
                    "INSERT INTO offsets VALUES (?1, ?2, ?3)
                     ON CONFLICT DO UPDATE SET value = excluded.value",
                )?
                .execute(params![channel, account, value])?;
            }
            Ok(accepted)
        })
        .await
    }

    /// The offset stored last.
    ///
    /// # Errors
    /// If the database can't be read.
    pub async fn offset(&self, channel: &str, account: &str) -> Result<Option<i64>, StoreError> {
        let (channel, account) = (channel.to_owned(), account.to_owned());
        self.read(move |db| {
            let mut query =
                db.prepare_cached("SELECT value FROM offsets WHERE channel = ?1 AND account = ?2")?;
            Ok(query.query_row([channel, account], |row| row.get(0)).optional()?)
        })
        .await
    }

    /// Everything that still waits for an answer, oldest first.
    ///
    /// # Errors
    /// If the database can't be read.
    pub async fn pending_ingress(&self) -> Result<Vec<IngressRow>, StoreError> {
        self.read(|db| {
            let sql = format!("SELECT {COLUMNS} FROM ingress WHERE state = 'pending' ORDER BY id");
            let mut query = db.prepare_cached(&sql)?;
            query.query_map([], read_row)?.map(|row| row?.finish()).collect()
        })
        .await
    }

    /// The message that a run answers.
    ///
    /// # Errors
    /// If the database can't be read.
    pub async fn ingress_of_run(&self, run_id: &str) -> Result<Option<IngressRow>, StoreError> {
        let run_id = run_id.to_owned();
        self.read(move |db| {
            let sql = format!("SELECT {COLUMNS} FROM ingress WHERE run_id = ?1 AND state <> 'ignored'");
            let row = db.prepare_cached(&sql)?.query_row([run_id], read_row).optional()?;
            row.map(RawRow::finish).transpose()
        })
        .await
    }

    /// Forgets finished messages that are too old to come again.
    ///
    /// # Errors
    /// If the database can't be written.
    pub async fn prune_ingress(&self) -> Result<usize, StoreError> {
        self.write(|db| {
            let before = now_ms() - KEEP_MS;
            Ok(db.execute("DELETE FROM ingress WHERE state <> 'pending' AND received_at < ?1", [before])?)
        })
        .await
    }
}

/// Marks a message as answered, within the transaction that stores its answer.
pub(crate) fn settle(db: &Connection, id: i64, outcome: &RunOutcome) -> Result<(), StoreError> {
    db.prepare_cached("UPDATE ingress SET state = 'done', outcome = ?2, done_at = ?3 WHERE id = ?1")?
        .execute(params![id, serde_json::to_string(outcome)?, now_ms()])?;
    Ok(())
}

fn accept_one(db: &Connection, arrival: Arrival) -> Result<Accepted, StoreError> {
    match arrival {
        Arrival::Message(inbound) => accept_message(db, *inbound, None),
        Arrival::Named { inbound, message } => accept_message(db, *inbound, Some(&message)),
        Arrival::Ignored { channel, account, event_id, reason } => {
            db.prepare_cached(
                "INSERT INTO ingress (channel, account, event_id, run_id, session_key, body, state, reason, received_at)
                 VALUES (?1, ?2, ?3, '', '', '{}', 'ignored', ?4, ?5) ON CONFLICT DO NOTHING",
            )?
            .execute(params![channel, account, event_id, reason, now_ms()])?;
            Ok(Accepted::Ignored)
        }
    }
}

fn accept_message(db: &Connection, inbound: Inbound, message: Option<&str>) -> Result<Accepted, StoreError> {
    let taken: bool = db
        .prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM ingress WHERE run_id = ?1 AND state <> 'ignored'
                            AND (channel, account, event_id) <> (?2, ?3, ?4))",
        )?
        .query_row([&inbound.run_id, &inbound.channel, &inbound.account, &inbound.event_id], |row| {
            row.get(0)
        })?;
    if taken {
        return Ok(Accepted::RunTaken);
    }
    let stored = db
        .prepare_cached(
            "INSERT INTO ingress (channel, account, event_id, run_id, session_key, body, state, received_at, message)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, 'pending', ?7, ?8) ON CONFLICT DO NOTHING",
        )?
        .execute(params![
            inbound.channel,
            inbound.account,
            inbound.event_id,
            inbound.run_id,
            inbound.session_key,
            serde_json::to_string(&inbound)?,
            inbound.received_at_ms,
            message,
        ])?;
    if stored == 1 {
        let id = db.last_insert_rowid();
        return Ok(Accepted::New(Box::new(IngressRow {
            id,
            inbound,
            state: IngressState::Pending,
            outcome: None,
        })));
    }
    let sql = format!(
        "SELECT {COLUMNS} FROM ingress
         WHERE channel = ?1 AND account = ?2 AND (event_id = ?3 OR message = ?4) AND state <> 'ignored'"
    );
    let row = db
        .prepare_cached(&sql)?
        .query_row(params![inbound.channel, inbound.account, inbound.event_id, message], read_row)
        .optional()?;
    match row {
        Some(row) => Ok(Accepted::Duplicate(Box::new(row.finish()?))),
        None => Ok(Accepted::Ignored),
    }
}

struct RawRow {
    id: i64,
    body: String,
    state: String,
    outcome: Option<String>,
}

fn read_row(row: &Row<'_>) -> rusqlite::Result<RawRow> {
    Ok(RawRow { id: row.get(0)?, body: row.get(1)?, state: row.get(2)?, outcome: row.get(3)? })
}

impl RawRow {
    fn finish(self) -> Result<IngressRow, StoreError> {
        let state = if self.state == "pending" { IngressState::Pending } else { IngressState::Done };
        let outcome = self.outcome.map(|text| serde_json::from_str(&text)).transpose()?;
        Ok(IngressRow { id: self.id, inbound: serde_json::from_str(&self.body)?, state, outcome })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inbound::Sender;

    fn message(event_id: &str) -> Arrival {
        Arrival::Message(Box::new(Inbound {
            channel: "telegram".into(),
            account: "default".into(),
            event_id: event_id.into(),
            run_id: format!("run-{event_id}"),
            session_key: "agent:main:main".into(),
            route: None,
            sender: Sender { id: "555".into(), ..Sender::default() },
            text: "hello".into(),
            attachments: vec![],
            received_at_ms: now_ms(),
            reply_context: None,
            model: None,
            timeout_ms: None,
            thinking: None,
        }))
    }

    #[actix::test]
    async fn the_same_event_is_taken_once() {
        let store = Store::temporary().unwrap();
        let offset = Offset { channel: "telegram".into(), account: "default".into(), value: 8 };
        let first = store.accept(vec![message("7"), message("7")], Some(offset)).await.unwrap();
        assert!(matches!(first[..], [Accepted::New(_), Accepted::Duplicate(_)]));
        assert_eq!(store.offset("telegram", "default").await.unwrap(), Some(8));
        assert_eq!(store.pending_ingress().await.unwrap().len(), 1);
    }

    #[actix::test]
    async fn no_two_messages_share_a_run() {
        let store = Store::temporary().unwrap();
        let Arrival::Message(mut other) = message("7") else { panic!("no message") };
        other.channel = "cli".into();
        let accepted =
            store.accept(vec![message("7"), Arrival::Message(other), message("7")], None).await.unwrap();
        assert!(matches!(accepted[..], [Accepted::New(_), Accepted::RunTaken, Accepted::Duplicate(_)]));
        assert_eq!(store.pending_ingress().await.unwrap().len(), 1);
    }

    #[actix::test]
    async fn the_same_message_in_another_event_is_taken_once() {
        let store = Store::temporary().unwrap();
        let named = |event_id: &str, name: &str| match message(event_id) {
            Arrival::Message(inbound) => Arrival::Named { inbound, message: name.into() },
            other => other,
        };
        let arrivals = vec![named("7", "a"), named("8", "a"), named("9", "b"), message("10"), message("11")];
        let accepted = store.accept(arrivals, None).await.unwrap();
        let [_, Accepted::Duplicate(row), Accepted::New(_), Accepted::New(_), Accepted::New(_)] =
            &accepted[..]
        else {
            panic!("{accepted:?}")
        };
        assert_eq!(row.inbound.event_id, "7");
        assert_eq!(store.pending_ingress().await.unwrap().len(), 4);
    }

    #[actix::test]
    async fn a_settled_message_keeps_its_outcome() {
        let store = Store::temporary().unwrap();
        let accepted = store.accept(vec![message("7")], None).await.unwrap();
        let [Accepted::New(row)] = &accepted[..] else { panic!("not new") };
        let (id, outcome) = (row.id, RunOutcome::Error { message: "no".into() });
        let stored = outcome.clone();
        store.write(move |db| settle(db, id, &stored)).await.unwrap();
        assert!(store.pending_ingress().await.unwrap().is_empty());
        let row = store.ingress_of_run("run-7").await.unwrap().unwrap();
        assert_eq!((row.state, row.outcome), (IngressState::Done, Some(outcome)));
    }
}
