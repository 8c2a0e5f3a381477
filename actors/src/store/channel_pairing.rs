//! `channel_requests` and `channel_allowed`: strangers who may write, and those who would like to.

use super::outbox::{NewOutbound, enqueue};
use super::{Store, StoreError};
use crate::clock::now_ms;
use crate::inbound::{ChatKind, OutboundMessage, Route};
use crate::randomness;
use rusqlite::{Connection, OptionalExtension, Row, params};
use uuid::Uuid;

/// How long a request waits.
pub const PAIRING_TTL_MS: i64 = 3600 * 1000;
/// Requests that may wait at an account; more are not taken, so that nobody can flood the owner.
pub const PENDING_PER_ACCOUNT: i64 = 3;
/// Without those that are read as each other: 0 O 1 I.
const ALPHABET: &[u8; 32] = b"ABCDEFGHJKLMNPQRSTUVWXYZ23456789";
const CODE_LENGTH: usize = 8;

/// Someone who asks to be let in.
#[derive(Debug, Clone)]
pub struct Stranger {
    pub channel: String,
    pub account: String,
    pub sender: String,
    pub label: String,
    pub username: Option<String>,
    pub chat: String,
}

/// A request that waits for the owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PairingRequest {
    pub request_id: String,
    pub channel: String,
    pub account: String,
    pub sender: String,
    pub label: String,
    pub username: Option<String>,
    pub chat: String,
    pub code: String,
    pub created_at: i64,
    pub last_seen_at: i64,
    pub expires_at: i64,
}

/// What became of asking.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PairingAsked {
    /// A new request; the code is on its way to the stranger.
    New(Box<PairingRequest>),
    /// The stranger has a code already.
    Waiting,
    /// Too many wait.
    Full,
}

/// How the owner names a request.
#[derive(Debug, Clone)]
pub enum PairingName {
    Code(String),
    Request(String),
}

/// Someone who was let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllowedSender {
    pub sender: String,
    pub label: String,
    pub approved_at: i64,
}

impl Store {
    /// Takes a stranger's request and, in the same transaction, puts the answer with the code in the outbox.
    ///
    /// # Errors
    /// If the database can't be written.
    pub async fn ask_channel_pairing(
        &self,
        stranger: Stranger,
        answer: fn(&PairingRequest) -> OutboundMessage,
    ) -> Result<PairingAsked, StoreError> {
        self.write(move |db| ask(db, stranger, answer)).await
    }

    /// Requests that still wait, oldest first; of one channel or account if named.
    ///
    /// # Errors
    /// If the database can't be read.
    pub async fn channel_requests(
        &self,
        channel: Option<String>,
        account: Option<String>,
    ) -> Result<Vec<PairingRequest>, StoreError> {
        self.read(move |db| {
            let sql = format!(
                "SELECT {COLUMNS} FROM channel_requests WHERE expires_at > ?1
                 AND (?2 IS NULL OR channel = ?2) AND (?3 IS NULL OR account = ?3) ORDER BY created_at"
            );
            let mut query = db.prepare_cached(&sql)?;
            let rows = query.query_map(params![now_ms(), channel, account], read)?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
        .await
    }

    /// Lets a stranger in. `None` when no such request waits.
    ///
    /// # Errors
    /// If the database can't be written.
    pub async fn approve_channel_request(
        &self,
        channel: String,
        account: Option<String>,
        name: PairingName,
    ) -> Result<Option<PairingRequest>, StoreError> {
        self.write(move |db| {
            let Some(request) = take(db, &channel, account.as_deref(), &name)? else { return Ok(None) };
            db.execute(
                "INSERT INTO channel_allowed VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT DO NOTHING",
                params![request.channel, request.account, request.sender, request.label, now_ms()],
            )?;
            Ok(Some(request))
        })
        .await
    }

    /// Forgets a request. `None` when no such request waits.
    ///
    /// # Errors
    /// If the database can't be written.
    pub async fn dismiss_channel_request(
        &self,
        channel: String,
        account: Option<String>,
        name: PairingName,
    ) -> Result<Option<PairingRequest>, StoreError> {
        self.write(move |db| take(db, &channel, account.as_deref(), &name)).await
    }

    /// Everyone who was let in at an account, the first one first.
    ///
    /// # Errors
    /// If the database can't be read.
    pub async fn allowed_senders(
        &self,
        channel: &str,
        account: &str,
    ) -> Result<Vec<AllowedSender>, StoreError> {
        let (channel, account) = (channel.to_owned(), account.to_owned());
        self.read(move |db| {
            let mut query = db.prepare_cached(
                "SELECT sender, label, approved_at FROM channel_allowed
                 WHERE channel = ?1 AND account = ?2 ORDER BY approved_at, sender",
            )?;
            let rows = query.query_map([channel, account], |row| {
                Ok(AllowedSender { sender: row.get(0)?, label: row.get(1)?, approved_at: row.get(2)? })
            })?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
        .await
    }
}

const COLUMNS: &str =
    "request_id, channel, account, sender, label, username, chat, code, created_at, last_seen_at, expires_at";

fn ask(
    db: &Connection,
    stranger: Stranger,
    answer: fn(&PairingRequest) -> OutboundMessage,
) -> Result<PairingAsked, StoreError> {
    let now = now_ms();
    let Stranger { channel, account, sender, label, username, chat } = stranger;
    db.execute("DELETE FROM channel_requests WHERE expires_at <= ?1", [now])?;
    let known = db.execute(
        "UPDATE channel_requests SET last_seen_at = ?4 WHERE channel = ?1 AND account = ?2 AND sender = ?3",
        params![channel, account, sender, now],
    )?;
    if known > 0 {
        return Ok(PairingAsked::Waiting);
    }
    let waiting: i64 = db.query_row(
        "SELECT count(*) FROM channel_requests WHERE channel = ?1 AND account = ?2",
        [&channel, &account],
        |row| row.get(0),
    )?;
    if waiting >= PENDING_PER_ACCOUNT {
        return Ok(PairingAsked::Full);
    }
    let request = PairingRequest {
        request_id: Uuid::new_v4().to_string(),
        code: code()?,
        channel,
        account,
        sender,
        label,
        username,
        chat,
        created_at: now,
        last_seen_at: now,
        expires_at: now + PAIRING_TTL_MS,
    };
    insert(db, &request)?;
    let route = Route {
        channel: request.channel.clone(),
        account: request.account.clone(),
        chat: request.chat.clone(),
        thread: None,
        reply_to: None,
        kind: ChatKind::Direct,
    };
    let key = format!("pairing:{}", request.request_id);
    enqueue(db, &NewOutbound { key, route, run_id: None, message: answer(&request) })?;
    Ok(PairingAsked::New(Box::new(request)))
}

fn insert(db: &Connection, request: &PairingRequest) -> Result<(), StoreError> {
    let sql = format!(
        "INSERT INTO channel_requests ({COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)"
    );
    db.prepare_cached(&sql)?.execute(params![
        request.request_id,
        request.channel,
        request.account,
        request.sender,
        request.label,
        request.username,
        request.chat,
        request.code,
        request.created_at,
        request.last_seen_at,
        request.expires_at,
    ])?;
    Ok(())
}

fn take(
    db: &Connection,
    channel: &str,
    account: Option<&str>,
    name: &PairingName,
) -> Result<Option<PairingRequest>, StoreError> {
    let (column, value) = match name {
        PairingName::Code(code) => ("code", code.trim().to_ascii_uppercase()),
        PairingName::Request(id) => ("request_id", id.clone()),
    };
    let sql = format!(
        "DELETE FROM channel_requests WHERE channel = ?1 AND {column} = ?2 AND expires_at > ?3
         AND (?4 IS NULL OR account = ?4) RETURNING {COLUMNS}"
    );
    Ok(db.prepare_cached(&sql)?.query_row(params![channel, value, now_ms(), account], read).optional()?)
}

fn read(row: &Row<'_>) -> rusqlite::Result<PairingRequest> {
    Ok(PairingRequest {
        request_id: row.get(0)?,
        channel: row.get(1)?,
        account: row.get(2)?,
        sender: row.get(3)?,
        label: row.get(4)?,
        username: row.get(5)?,
        chat: row.get(6)?,
        code: row.get(7)?,
        created_at: row.get(8)?,
        last_seen_at: row.get(9)?,
        expires_at: row.get(10)?,
    })
}

fn code() -> Result<String, StoreError> {
    let bytes: [u8; CODE_LENGTH] = randomness::bytes()?;
    Ok(bytes.iter().map(|byte| char::from(ALPHABET[usize::from(byte % 32)])).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stranger(sender: &str) -> Stranger {
        Stranger {
            channel: "telegram".into(),
            account: "default".into(),
            sender: sender.into(),
            label: "Alice".into(),
            username: None,
            chat: sender.into(),
        }
    }

    fn answer(request: &PairingRequest) -> OutboundMessage {
        OutboundMessage { text: Some(request.code.clone()), ..OutboundMessage::default() }
    }

    async fn ask_as(store: &Store, sender: &str) -> PairingAsked {
        store.ask_channel_pairing(stranger(sender), answer).await.unwrap()
    }

    #[actix::test]
    async fn a_stranger_gets_one_code_and_only_a_few_may_wait() {
        let store = Store::temporary().unwrap();
        let PairingAsked::New(request) = ask_as(&store, "1").await else { panic!("not new") };
        assert_eq!(request.code.len(), CODE_LENGTH);
        assert!(request.code.bytes().all(|byte| ALPHABET.contains(&byte)));
        assert_eq!(ask_as(&store, "1").await, PairingAsked::Waiting);
        ask_as(&store, "2").await;
        ask_as(&store, "3").await;
        assert_eq!(ask_as(&store, "4").await, PairingAsked::Full);
        let texts: i64 = store
            .read(|db| Ok(db.query_row("SELECT count(*) FROM outbox", [], |row| row.get(0))?))
            .await
            .unwrap();
        assert_eq!(texts, 3);
    }

    #[actix::test]
    async fn approval_takes_the_code_in_any_case_and_once() {
        let store = Store::temporary().unwrap();
        let PairingAsked::New(request) = ask_as(&store, "1").await else { panic!("not new") };
        let name = PairingName::Code(format!(" {} ", request.code.to_lowercase()));
        let wrong = store
            .approve_channel_request("telegram".into(), Some("work".into()), name.clone())
            .await
            .unwrap();
        assert_eq!(wrong, None);
        let approved = store.approve_channel_request("telegram".into(), None, name.clone()).await.unwrap();
        assert_eq!(approved.unwrap().sender, "1");
        assert_eq!(store.approve_channel_request("telegram".into(), None, name).await.unwrap(), None);
        assert_eq!(store.allowed_senders("telegram", "default").await.unwrap()[0].sender, "1");
        assert!(store.allowed_senders("telegram", "work").await.unwrap().is_empty());
    }

    #[actix::test]
    async fn an_expired_request_is_gone_and_makes_room() {
        let store = Store::temporary().unwrap();
        let PairingAsked::New(request) = ask_as(&store, "1").await else { panic!("not new") };
        store.write(|db| Ok(db.execute("UPDATE channel_requests SET expires_at = 1", [])?)).await.unwrap();
        assert!(store.channel_requests(None, None).await.unwrap().is_empty());
        let name = PairingName::Request(request.request_id);
        assert_eq!(store.dismiss_channel_request("telegram".into(), None, name).await.unwrap(), None);
        assert!(matches!(ask_as(&store, "1").await, PairingAsked::New(_)));
    }
}
