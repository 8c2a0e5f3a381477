//! Connections: the way out to a socket, who is on it, and the session that speaks the protocol.

mod caller;
mod connections;
mod hello;
mod limit;
mod open;
mod outbound;
mod presence;
#[allow(clippy::module_inception)]
mod session;

pub use caller::Caller;
pub use connections::{Connection, Connections, Registration, Subscriptions};
pub use limit::FrameLimit;
pub use outbound::{Full, KillSwitch, Outbound, Outgoing, Outgoings};
pub use presence::presence;
pub use session::{FromSocket, Session};
