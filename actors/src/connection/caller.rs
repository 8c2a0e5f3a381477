//! Who is on the other end of an admitted connection.

use super::{Outbound, Ticket};
use serde_json::value::RawValue;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tidegate_protocol::client::ClientInfo;
use tidegate_protocol::hello::AuthMethod;
use tidegate_protocol::{Role, Scope, Scopes};

/// A connection that said `hello`. Fixed for its life, but for [`Caller::revoke`].
#[derive(Debug)]
pub struct Caller {
    pub conn_id: String,
    pub role: Role,
    pub scopes: Scopes,
    pub client: ClientInfo,
    pub caps: Vec<String>,
    /// The paired device, where there is one; a node's id.
    pub device_id: Option<String>,
    /// Whether it is on the gateway's own host, with no proxy between.
    pub local: bool,
    /// Whether its owner vouched for its device: see `DeviceRecord::is_vouched_for`.
    pub vouched_for: bool,
    pub peer: IpAddr,
    pub auth_method: AuthMethod,
    pub outbound: Outbound,
    pub connected_at_ms: i64,
    pub(crate) revoked: AtomicBool,
    /// Void once what let it in is revoked, even before the connection was listed.
    pub(crate) ticket: Ticket,
    pub(crate) last_words: LastWords,
}

/// Answers that a connection is owed although what they tell of may end it.
#[derive(Debug, Default)]
pub(crate) struct LastWords(Mutex<Owed>);

#[derive(Debug, Default)]
struct Owed {
    answers: usize,
    /// The close that waits for them.
    close: Option<(u16, &'static str)>,
}

impl LastWords {
    fn owed(&self) -> MutexGuard<'_, Owed> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Until it is dropped, [`Caller::revoke_answered`] closes nothing.
pub(crate) struct OwedAnswer(Arc<Caller>);

impl Drop for OwedAnswer {
    fn drop(&mut self) {
        let mut owed = self.0.last_words.owed();
        owed.answers -= 1;
        if owed.answers == 0
            && let Some((code, reason)) = owed.close
        {
            self.0.outbound.close(code, reason);
        }
    }
}

impl Caller {
    /// Whether it may do what needs `scope`.
    pub fn allows(&self, scope: Scope) -> bool {
        self.role == Role::Operator && self.scopes.allows(scope)
    }

    /// Takes all rights at once: nothing that is still being worked on is answered any more.
    pub fn revoke(&self, code: u16, reason: &str) {
        self.revoked.store(true, Ordering::Release);
        self.outbound.close(code, reason);
    }

    /// As [`Caller::revoke`], but an answer that is owed goes out before the close.
    pub(crate) fn revoke_answered(&self, code: u16, reason: &'static str) {
        self.revoked.store(true, Ordering::Release);
        let mut owed = self.last_words.owed();
        if owed.answers > 0 {
            owed.close = Some((code, reason));
        } else {
            self.outbound.close(code, reason);
        }
    }

    /// For a handler whose own doing may end its caller's connection.
    pub(crate) fn owe_answer(self: &Arc<Self>) -> OwedAnswer {
        self.last_words.owed().answers += 1;
        OwedAnswer(Arc::clone(self))
    }

    /// Whether [`Caller::revoke`] was called.
    pub fn is_revoked(&self) -> bool {
        self.revoked.load(Ordering::Acquire) || self.ticket.is_void()
    }

    /// Whether the client announced a capability.
    pub fn has_cap(&self, cap: &str) -> bool {
        self.caps.iter().any(|name| name == cap)
    }

    /// Sends an event to this connection alone. A connection that is closing misses it.
    pub fn push(&self, event: &str, payload: &RawValue) {
        let _ = self.outbound.event(event, payload);
    }
}
