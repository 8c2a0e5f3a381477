//! Who is on the other end of an admitted connection.

use super::{Outbound, Ticket};
use serde_json::value::RawValue;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
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
