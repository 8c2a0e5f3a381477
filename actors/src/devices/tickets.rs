//! All tickets in use, by what they end with.
//!
//! A ticket is made together with the decision to let a connection in. So a revocation reaches connections that were
//! let in but are not yet listed among the live ones.

use crate::connection::Ticket;
use std::collections::HashMap;
use std::sync::Weak;
use std::sync::atomic::{AtomicBool, Ordering};
use tidegate_protocol::Role;

/// All tickets in use.
#[derive(Debug, Default)]
pub(super) struct Tickets {
    by_device: HashMap<String, Vec<(Role, Stub)>>,
    by_secret: Vec<Stub>,
}

#[derive(Debug)]
struct Stub(Weak<AtomicBool>);

impl Stub {
    fn of(ticket: &Ticket) -> Self {
        Self(ticket.flag())
    }

    fn is_used(&self) -> bool {
        self.0.strong_count() > 0
    }

    fn void(&self) {
        if let Some(flag) = self.0.upgrade() {
            flag.store(true, Ordering::Release);
        }
    }
}

impl Tickets {
    /// A ticket for a connection of `device` in `role`; `by_secret` if the shared secret opened the door.
    pub(super) fn issue(&mut self, device: Option<&str>, role: Role, by_secret: bool) -> Ticket {
        let ticket = Ticket::default();
        if let Some(device) = device {
            let stubs = self.by_device.entry(device.to_owned()).or_default();
            stubs.retain(|(_, stub)| stub.is_used());
            stubs.push((role, Stub::of(&ticket)));
        }
        if by_secret {
            self.by_secret.retain(Stub::is_used);
            self.by_secret.push(Stub::of(&ticket));
        }
        ticket
    }

    /// Ends what a device holds, in one role or in all.
    pub(super) fn void_device(&mut self, device: &str, only: Option<Role>) {
        for (role, stub) in self.by_device.get(device).into_iter().flatten() {
            if only.is_none_or(|only| only == *role) {
                stub.void();
            }
        }
    }

    /// Ends everything that the shared secret opened.
    pub(super) fn void_secret(&mut self) {
        self.by_secret.drain(..).for_each(|stub| stub.void());
    }

    /// Forgets connections that are gone.
    pub(super) fn sweep(&mut self) {
        self.by_device.retain(|_, stubs| stubs.iter().any(|(_, stub)| stub.is_used()));
        self.by_secret.retain(Stub::is_used);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_ends_with_its_device_role_or_secret() {
        let mut tickets = Tickets::default();
        let operator = tickets.issue(Some("a"), Role::Operator, false);
        let node = tickets.issue(Some("a"), Role::Node, true);
        let other = tickets.issue(Some("b"), Role::Operator, false);
        let cli = tickets.issue(None, Role::Operator, true);
        tickets.void_device("a", Some(Role::Operator));
        assert!(operator.is_void() && !node.is_void() && !other.is_void() && !cli.is_void());
        tickets.void_secret();
        assert!(node.is_void() && cli.is_void() && !other.is_void());
        drop(other);
        tickets.sweep();
        assert!(!tickets.by_device.contains_key("b"));
    }
}
