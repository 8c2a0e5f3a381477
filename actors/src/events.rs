//! The broadcast hub: one mailbox, so that every connection sees events in one order.

use crate::connection::{Connection, Connections};
use actix::{Actor, Context, Handler, Message};
use serde_json::value::RawValue;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tidegate_protocol::frame::{EventText, StateVersion};
use tidegate_protocol::{Role, Scope};

/// Send an event to everyone it concerns, with the next `seq` of each.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Broadcast {
    pub event: &'static str,
    pub payload: Box<RawValue>,
    pub audience: Audience,
    /// Whether a connection that lags may miss it.
    pub droppable: bool,
    /// For `health` and `presence`.
    pub version: Option<StateVersion>,
}

/// Whom an event concerns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Audience {
    /// Operators and nodes.
    All,
    /// Every operator.
    Operators,
    /// Operators that hold the scope.
    Scope(Scope),
    /// All but operators that hold the scope.
    Without(Scope),
    /// Connections that subscribed to the messages of a session.
    Session(String),
    /// As [`Audience::Session`], but for those that announced the capability: they hear of it in another way.
    SessionWithout(String, &'static str),
    /// Connections that subscribed to the list of sessions.
    SessionList,
    /// One connection.
    Connection(String),
    /// Operators that hold the scope and announced the capability.
    Capable(Scope, &'static str),
}

impl Audience {
    fn includes(&self, connection: &Connection) -> bool {
        let caller = &connection.caller;
        if !connection.is_open() {
            return false;
        }
        match self {
            Self::All => true,
            Self::Operators => caller.role == Role::Operator,
            Self::Scope(scope) => caller.allows(*scope),
            Self::Without(scope) => !caller.allows(*scope),
            Self::Session(key) => {
                caller.allows(Scope::Read) && connection.listens(|to| to.sessions.contains(key))
            }
            Self::SessionWithout(key, cap) => {
                !caller.has_cap(cap)
                    && caller.allows(Scope::Read)
                    && connection.listens(|to| to.sessions.contains(key))
            }
            Self::SessionList => caller.allows(Scope::Read) && connection.listens(|to| to.session_list),
            Self::Connection(conn_id) => caller.conn_id == *conn_id,
            Self::Capable(scope, cap) => caller.allows(*scope) && caller.has_cap(cap),
        }
    }
}

/// Numbers that tell a client whether its picture is current.
#[derive(Clone, Default)]
pub struct StateVersions(Arc<(AtomicU64, AtomicU64)>);

impl StateVersions {
    /// The numbers now.
    pub fn now(&self) -> StateVersion {
        StateVersion { presence: self.0.0.load(Ordering::Acquire), health: self.0.1.load(Ordering::Acquire) }
    }

    /// Counts a change of who is there.
    pub fn presence_changed(&self) -> StateVersion {
        self.0.0.fetch_add(1, Ordering::AcqRel);
        self.now()
    }

    /// Counts a new health picture.
    pub fn health_changed(&self) -> StateVersion {
        self.0.1.fetch_add(1, Ordering::AcqRel);
        self.now()
    }
}

/// Hands events on. It keeps nothing: who listens is in [`Connections`].
pub struct EventHub {
    connections: Connections,
}

impl EventHub {
    /// A hub for these connections.
    pub fn new(connections: Connections) -> Self {
        Self { connections }
    }
}

crate::answers_probes!(EventHub);

impl Actor for EventHub {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        context.set_mailbox_capacity(1024);
    }
}

impl Handler<Broadcast> for EventHub {
    type Result = ();

    fn handle(&mut self, broadcast: Broadcast, _: &mut Self::Context) {
        let text = EventText::new(broadcast.event, &broadcast.payload, broadcast.version);
        for connection in self.connections.all() {
            let lags = broadcast.droppable && connection.caller.outbound.is_nearly_full();
            if !lags && broadcast.audience.includes(&connection) {
                // One that takes no more is closing already.
                let _ = connection.caller.outbound.frame(text.finish(Some(connection.next_seq())));
            }
        }
    }
}
