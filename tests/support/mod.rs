//! What the black-box tests stand on: the gateway as a process, a raw WebSocket client, device identities,
//! and (in files of their own) fakes of the servers that the gateway talks to.

pub mod connect;
pub mod dns_sd;
// The agent's unit tests use the rest of it.
#[allow(dead_code, unused_imports)]
pub mod fake_models;
pub mod fake_tailscale;
pub mod fake_telegram;
pub mod gateway;
pub mod http;
pub mod identity;
pub mod lan;
pub mod laptop;
pub mod newcomer;
pub mod node;
pub mod node_host;
pub mod node_peer;
pub mod official;
pub mod page;
pub mod patience;
pub mod ports;
pub mod schema;
pub mod sshd;
pub mod tls;
pub mod wire;
pub mod world;

pub use connect::{Connect, Outcome, Refused};
pub use gateway::{Gateway, Setup};
pub use identity::Identity;
pub use lan::{Host, Lan};
pub use newcomer::Newcomer;
pub use node::Node;
pub use patience::{eventually, within};
pub use sshd::Sshd;
pub use wire::{Incoming, Socket, Upgrade};
