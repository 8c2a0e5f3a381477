//! Who may do what to devices: nobody approves, mints, rotates or sees more than they hold.

use crate::connection::Caller;
use crate::pairings::PairingRequest;
use tidegate_protocol::{Role, Scope, Scopes};

/// What a caller holds, as far as devices are concerned.
#[derive(Debug, Clone)]
pub struct CallerRights {
    pub(super) conn_id: String,
    pub(super) scopes: Scopes,
    /// `None`: it came in with the gateway's own secret and no device.
    pub(super) device_id: Option<String>,
}

impl CallerRights {
    pub fn of(caller: &Caller) -> Self {
        Self {
            conn_id: caller.conn_id.clone(),
            scopes: caller.scopes.clone(),
            device_id: caller.device_id.clone(),
        }
    }

    pub(super) fn is_admin(&self) -> bool {
        self.scopes.allows(Scope::Admin)
    }

    /// A paired device that is no admin sees and touches itself alone.
    pub fn may_see(&self, device_id: &str) -> bool {
        self.is_admin() || self.device_id.as_deref().is_none_or(|own| own == device_id)
    }

    /// Whether this caller may grant what `asked` asks for.
    pub(super) fn may_approve(&self, asked: &PairingRequest) -> bool {
        let ordinary = asked.roles.iter().all(|role| *role == Role::Operator);
        // A device that could approve would approve itself.
        self.is_admin() || (self.device_id.is_none() && ordinary && self.scopes.covers(&asked.scopes))
    }

    /// Whether this caller may renew or void a token that carries `scopes` in `role`.
    pub(super) fn may_handle_token(&self, device_id: &str, role: Role, scopes: &Scopes) -> bool {
        let ordinary = role == Role::Operator && self.scopes.covers(scopes);
        self.is_admin() || (self.may_see(device_id) && ordinary)
    }
}
