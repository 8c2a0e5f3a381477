//! What can be asked of a supervisor.

use super::child::AnyChild;
use super::watch::Watched;
use actix::Message;
use std::time::Duration;

/// Starts one more child, last in order.
#[derive(Message)]
#[rtype(result = "Result<(), StartError>")]
pub struct StartChild(pub AnyChild);

impl StartChild {
    /// Wraps a child spec.
    pub fn new(child: impl Into<AnyChild>) -> Self {
        Self(child.into())
    }
}

/// Takes an actor that already runs, here or on another arbiter, as a temporary child.
#[derive(Message)]
#[rtype(result = "Result<(), StartError>")]
pub struct AdoptChild {
    /// Unique among the children of this supervisor.
    pub name: String,
    /// From [`watch`](super::watch()).
    pub watched: Watched,
    /// How long it may take to stop when asked.
    pub shutdown: Duration,
}

/// Stops a child and forgets it. Answers when it is gone: true when there was one.
#[derive(Debug, Message)]
#[rtype(result = "bool")]
pub struct StopChild {
    /// The name it was started under.
    pub name: String,
}

/// The names of all children, in start order.
#[derive(Debug, Message)]
#[rtype(result = "Vec<String>")]
pub struct ListChildren;

/// Stops every child, last first, then the supervisor. Answers when all are gone.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct StopAll;

/// Why a child was not started.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    /// The name is taken by a child that runs or waits for its restart.
    #[error("a child named `{0}` is already there")]
    NameTaken(String),
    /// The supervisor is on its way out.
    #[error("the supervisor is stopping")]
    Stopping,
}

/// A child's incarnation has ended.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct ChildEnded {
    pub(super) id: u64,
    pub(super) incarnation: u64,
    pub(super) exit: super::Exit,
}
