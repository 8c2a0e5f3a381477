//! The right to stay connected, which ends when the device or the secret behind it does.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

/// Held by a connection; void once it must end. `devices` makes it together with the decision to let the connection in.
#[derive(Debug, Clone, Default)]
pub struct Ticket(Arc<AtomicBool>);

impl Ticket {
    /// Whether the connection must end now, with close code 4001.
    pub fn is_void(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    /// What makes it void when it is set; gone with the last who holds the ticket.
    pub(crate) fn flag(&self) -> Weak<AtomicBool> {
        Arc::downgrade(&self.0)
    }
}
