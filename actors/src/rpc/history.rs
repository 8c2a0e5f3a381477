//! A session's messages as clients read them.

use super::call::{Reply, json as text};
use super::ids;
use crate::Gateway;
use crate::session_key::canonical;
use crate::store::TranscriptRow;
use serde::Deserialize;
use serde_json::{Value, json};
use tidegate_protocol::ErrorShape;
use tokio::sync::Semaphore;

/// Pages that are read and written out at a time, all connections together: each may be large, and the store's reader has others
/// to serve.
static WORKSHOP: Semaphore = Semaphore::const_new(2);

const DEFAULT_LIMIT: usize = 200;
const MAX_LIMIT: usize = 1000;

/// `ChatHistoryParams`, with what newer clients add.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct HistoryAsk {
    session_key: String,
    #[serde(default)]
    limit: Option<usize>,
    /// Messages to skip, counted from the newest.
    #[serde(default)]
    offset: Option<usize>,
    #[serde(default)]
    max_bytes: Option<usize>,
    #[serde(default)]
    max_chars: Option<usize>,
    /// What the client has already: the cursor of an earlier answer.
    #[serde(default)]
    cursor: Option<String>,
    #[serde(default, rename = "agentId")]
    _agent_id: Option<String>,
    #[serde(default, rename = "sessionId", deserialize_with = "ids::session_id")]
    _session_id: Option<String>,
    #[serde(default, rename = "messageId")]
    _message_id: Option<String>,
    #[serde(default, rename = "pendingBefore")]
    _pending_before: Option<i64>,
    #[serde(default, rename = "inputRunIds")]
    _input_run_ids: Option<Vec<String>>,
}

impl HistoryAsk {
    /// The session's key as it is stored.
    pub(super) fn session_key(&self) -> Result<String, ErrorShape> {
        canonical(&self.session_key)
    }
}

/// A page of a session's messages, oldest first.
pub(super) struct History {
    session_key: String,
    session_id: Option<String>,
    messages: Vec<Value>,
    total: usize,
    has_more: bool,
    /// Only what came after the client's cursor.
    delta: bool,
    cursor: String,
}

impl History {
    /// Reads the page that was asked for and makes an answer of it with `finish`, off the thread that serves
    /// connections: a page can be large, and everybody else would wait for it.
    pub(super) async fn answer(
        gateway: &Gateway,
        ask: HistoryAsk,
        finish: impl FnOnce(Value) -> Value + Send + 'static,
    ) -> Reply {
        let place = WORKSHOP.acquire().await.map_err(|_| unread())?;
        let session_key = ask.session_key()?;
        let Some(session) = gateway.store.session(&session_key).await? else {
            return text(&finish(Self::empty(session_key).into_value()));
        };
        let session_id = session.session_id;
        let total = usize::try_from(gateway.store.transcript_len(&session_id).await?).unwrap_or(0);
        let limit = ask.limit.unwrap_or(DEFAULT_LIMIT).clamp(1, MAX_LIMIT);
        let rows = limit.saturating_add(ask.offset.unwrap_or(0));
        let rows = gateway.store.transcript(&session_id, rows).await?;
        let work = tokio::task::spawn_blocking(move || {
            let _place = place;
            text(&finish(Self::page(session_key, session_id, &ask, total, rows).into_value()))
        });
        work.await.map_err(|_| unread())?
    }

    fn page(
        session_key: String,
        session_id: String,
        ask: &HistoryAsk,
        total: usize,
        mut rows: Vec<TranscriptRow>,
    ) -> Self {
        let offset = ask.offset.unwrap_or(0);
        rows.truncate(rows.len().saturating_sub(offset));
        let cursor = format!("{session_id}:{}", rows.last().map_or(0, |row| row.seq));
        let since = ask.cursor.as_deref().and_then(|cursor| seq_of(cursor, &session_id));
        let first = rows.first().map_or(1, |row| row.seq);
        // A cursor from before this page can't be continued from it.
        let since = since.filter(|&seq| seq >= first.saturating_sub(1));
        let newer = since.map(|seq| rows.iter().filter(|row| row.seq > seq).count());
        let mut messages: Vec<Value> = rows.into_iter().map(shown).collect();
        trim(&mut messages, ask.max_bytes.or(ask.max_chars));
        // News that do not fit would have a hole that the client cannot see: then it gets a page, which says so.
        let newer = newer.filter(|&newer| newer <= messages.len());
        if let Some(newer) = newer {
            messages.drain(..messages.len() - newer);
        }
        let has_more = newer.is_none() && messages.len().saturating_add(offset) < total;
        Self {
            session_key,
            session_id: Some(session_id),
            messages,
            total,
            has_more,
            delta: newer.is_some(),
            cursor,
        }
    }

    fn empty(session_key: String) -> Self {
        Self {
            session_key,
            session_id: None,
            messages: Vec::new(),
            total: 0,
            has_more: false,
            delta: false,
            cursor: String::new(),
        }
    }

    fn into_value(self) -> Value {
        let mut value = json!({
            "messages": self.messages,
            "pendingInputs": {"items": [], "total": 0},
        });
        if self.delta {
            value["kind"] = json!("delta");
        } else {
            value["sessionKey"] = json!(self.session_key);
            value["hasMore"] = json!(self.has_more);
            value["totalMessages"] = json!(self.total);
        }
        if let Some(session_id) = self.session_id {
            value["sessionId"] = json!(session_id);
            value["deltaCursor"] = json!(self.cursor);
        }
        value
    }
}

/// The answer when the page was not made, which is a bug and no restart.
fn unread() -> ErrorShape {
    ErrorShape::unavailable("the history could not be read; see the gateway's log").retryable()
}

fn seq_of(cursor: &str, session_id: &str) -> Option<i64> {
    cursor.strip_prefix(session_id)?.strip_prefix(':')?.parse().ok()
}

/// A row as `chat.history` shows it: the message, and where it stands.
pub(crate) fn shown(row: TranscriptRow) -> Value {
    let mut message = row.message;
    if !message["__openclaw"].is_object() {
        message["__openclaw"] = json!({});
    }
    let place = &mut message["__openclaw"];
    place["id"] = json!(row.message_id);
    place["seq"] = json!(row.seq);
    place["recordTimestampMs"] = json!(row.created_at);
    if let Some(run_id) = row.run_id {
        place["runId"] = json!(run_id);
    }
    message
}

/// Drops the oldest messages until the rest fits; the newest one always stays.
fn trim(messages: &mut Vec<Value>, limit: Option<usize>) {
    let Some(limit) = limit else { return };
    let mut size = 0;
    let fits = messages.iter().rev().take_while(|message| {
        size += message.to_string().len();
        size <= limit
    });
    let keep = fits.count().max(1).min(messages.len());
    messages.drain(..messages.len() - keep);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inbound::Inbound;
    use crate::settings::{Settings, SettingsHandle, StatePaths};
    use crate::store::{NewMessage, Store};

    #[test]
    fn the_oldest_go_first_and_the_newest_stays() {
        let mut messages = vec![json!("a".repeat(50)), json!("b".repeat(50)), json!("c".repeat(50))];
        trim(&mut messages, Some(110));
        assert_eq!(messages.len(), 2);
        trim(&mut messages, Some(1));
        assert_eq!(messages, [json!("c".repeat(50))]);
    }

    #[test]
    fn news_have_no_hole_or_are_a_page() {
        let rows = |count: i64| {
            let row = |seq| TranscriptRow {
                seq,
                message_id: format!("m{seq}"),
                run_id: None,
                role: "user".into(),
                message: json!({"role": "user", "content": "x".repeat(400)}),
                created_at: 0,
            };
            (1..=count).map(row).collect::<Vec<_>>()
        };
        let page = |max_bytes: usize| {
            let ask = json!({"sessionKey": "main", "cursor": "s:2", "maxBytes": max_bytes});
            let ask = serde_json::from_value(ask).unwrap();
            let page = History::page("main".into(), "s".into(), &ask, 5, rows(5)).into_value();
            let seqs =
                page["messages"].as_array().unwrap().iter().map(|row| row["__openclaw"]["seq"].as_i64());
            (page["kind"].clone(), page["hasMore"].clone(), seqs.map(Option::unwrap).collect::<Vec<_>>())
        };
        assert_eq!(page(100_000), (json!("delta"), Value::Null, vec![3, 4, 5]));
        assert_eq!(page(1200), (Value::Null, json!(true), vec![4, 5]));
    }

    #[actix::test]
    async fn a_page_is_written_out_on_a_thread_of_its_own() {
        let paths = StatePaths::new("unused");
        let gateway =
            Gateway::new(SettingsHandle::new(Settings::default(), paths), Store::temporary().unwrap());
        let inbound = Inbound::of_webchat("hello");
        let session = gateway.store.session_for(&inbound).await.unwrap();
        let message = json!({"role": "user", "content": "hello"});
        let message = NewMessage { message_id: "m".into(), run_id: None, role: "user", message };
        gateway.store.append(&session.session_id, vec![message]).await.unwrap();
        let here = std::thread::current().id();
        let ask = serde_json::from_value(json!({"sessionKey": "main"})).unwrap();
        let reply = History::answer(&gateway, ask, move |mut page| {
            page["elsewhere"] = json!(std::thread::current().id() != here);
            page
        });
        let page: Value = serde_json::from_str(reply.await.unwrap().get()).unwrap();
        assert_eq!((&page["elsewhere"], &page["messages"][0]["content"]), (&json!(true), &json!("hello")));
    }
    #[test]
    fn no_number_of_a_client_is_too_large() {
        let row = TranscriptRow {
            seq: 1,
            message_id: "m".into(),
            run_id: None,
            role: "user".into(),
            message: json!({}),
            created_at: 0,
        };
        let ask = json!({"sessionKey": "main", "cursor": format!("s:{}", i64::MAX)});
        let ask: HistoryAsk = serde_json::from_value(ask).unwrap();
        let page = History::page("main".into(), "s".into(), &ask, 1, vec![row.clone()]);
        assert!(page.delta && page.messages.is_empty());
        for offset in [1, usize::MAX] {
            let ask: HistoryAsk =
                serde_json::from_value(json!({"sessionKey": "main", "offset": offset})).unwrap();
            let page = History::page("main".into(), "s".into(), &ask, 1, vec![row.clone()]);
            assert!(page.messages.is_empty() && !page.has_more);
        }
    }
}
