//! `audit.access.list`: who was not let in.
//!
//! A method of our own: the official `audit.activity.list` answers with a closed list of kinds of events, none of
//! which is a refused connect.

use serde::{Deserialize, Serialize};
use tidegate_protocol::Scope;

use super::{Call, Method, Reply, json};
use crate::store::AuditRow;

pub(super) const METHODS: &[Method] =
    &[Method::operator("audit.access.list", Scope::Read, |call| Box::pin(list(call)))];

const LIMIT: usize = 100;
const MOST: usize = 500;

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Params {
    limit: Option<usize>,
    /// `nextCursor` of the page before.
    cursor: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Page {
    /// Newest first.
    events: Vec<Event>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    sequence: i64,
    action: &'static str,
    status: &'static str,
    occurred_at: i64,
    last_at: i64,
    tries: i64,
    address: String,
    client_id: String,
    role: String,
    code: String,
}

impl From<AuditRow> for Event {
    fn from(AuditRow { seq, what, tally }: AuditRow) -> Self {
        Self {
            sequence: seq,
            action: "connect",
            status: "blocked",
            occurred_at: tally.first_at,
            last_at: tally.last_at,
            tries: tally.tries,
            address: what.address,
            client_id: what.client,
            role: what.role,
            code: what.code,
        }
    }
}

async fn list(call: Call) -> Reply {
    let params: Params = call.params()?;
    let limit = params.limit.unwrap_or(LIMIT);
    if !(1..=MOST).contains(&limit) {
        return Err(call.invalid("/limit", "must be between 1 and 500"));
    }
    let before = match params.cursor.as_deref().map(str::parse) {
        None => None,
        Some(Ok(before)) => Some(before),
        Some(Err(_)) => return Err(call.invalid("/cursor", "is not one that this gateway gave")),
    };
    // The owner asks: now is the time to write.
    call.gateway.audit.flush(&call.gateway.store).await?;
    let rows = call.gateway.store.refused(before, limit).await?;
    let next_cursor = rows.last().filter(|_| rows.len() == limit).map(|row| row.seq.to_string());
    json(&Page { events: rows.into_iter().map(Event::from).collect(), next_cursor })
}
