//! Keeps actors running: starts them in order, restarts those that fail, gives up when they fail too often.
//!
//! A tree is written the way it reads:
//!
//! ```text
//! let tree = TreeView::default();
//! let root = Supervisor::new(&tree)
//!     .child(ChildSpec::new("events", || EventHub::new()).at(&gateway.events))
//!     .child(ChildSpec::supervisor("channels", |channels| channels.stop_together()).at(&channels))
//!     .on_give_up(|reason| System::current().stop_with_code(1));
//! let (root, ended) = root.run();
//! ```
//!
//! What counts as a failure: a panic in a handler, a timer or a future of the actor's own context; a
//! permanent child that stops without being asked; a child that misses its liveness probe. A panic inside
//! a `ResponseFuture` is not one: actix runs that future as a task of its own, the actor is untouched and
//! only the caller sees `MailboxError::Closed`.
//!
//! Rules that the tests hold:
//! - two incarnations of a child never overlap: the next one starts when the last is dropped;
//! - a child that cannot even be aborted ends the process, since the alternative is two of it;
//! - expected trouble (network down, a refused login) is a `Result` inside the actor. Restarts are for bugs.

mod back_off;
mod child;
mod exit;
mod intensity;
mod member;
mod messages;
mod order;
mod requests;
mod slot;
mod supervisor;
mod tree;
mod watch;

#[cfg(test)]
mod tests;

pub use back_off::BackOff;
pub use child::{AnyChild, ChildSpec, Restart, Verdict};
pub use exit::Exit;
pub use intensity::Intensity;
pub use messages::{Probe, Shutdown};
pub use requests::{AdoptChild, ListChildren, StartChild, StartError, StopAll, StopChild};
pub use slot::{Restarting, Slot};
pub use supervisor::{Strategy, Supervisor};
pub use tree::{ChildState, TreeNode, TreeView};
pub use watch::{Watched, watch};
