//! A connection as plain data: who is on it, the way out to its socket, and all that there are. Sessions make them,
//! everyone reads them.

mod caller;
mod connections;
mod limit;
mod outbound;
mod presence;
mod ticket;

pub use caller::Caller;
pub use connections::{Connection, Connections, Registration, Subscriptions};
pub use limit::FrameLimit;
pub use outbound::{Full, KillSwitch, Outbound, Outgoing, Outgoings};
pub use presence::presence;
pub use ticket::Ticket;
