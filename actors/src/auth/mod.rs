//! Who may come in, decided without sockets and without a database.
//!
//! [`peer::classify`] judges a request by its headers before anything else happens; [`budget`] bounds the sockets
//! that have not said who they are; [`limiter`] counts wrong secrets; [`decide()`] answers a connect.

mod attempt;
pub mod budget;
mod credential;
pub mod decide;
pub mod head;
pub mod limiter;
pub mod net;
pub mod origin;
pub mod peer;
pub mod person;
pub mod policy;
pub mod proxy;
pub mod refusal;
pub mod tailnet;
mod web_origin;

pub use attempt::Attempt;
pub use decide::{Decision, decide};
pub use head::RequestHead;
pub use limiter::Limiter;
pub use net::{is_private, is_tailnet};
pub use peer::{HttpRefusal, Peer, PeerClass, SocketClass, classify};
pub use policy::AuthPolicy;
pub use refusal::Refusal;
