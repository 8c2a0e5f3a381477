//! The living part of the gateway: the supervision tree and everything on it.

pub mod agent;
pub mod audit;
pub mod auth;
pub mod channels;
pub mod clock;
pub mod commands;
pub mod connection;
pub mod devices;
pub mod events;
pub mod gateway;
pub mod host;
pub mod inbound;
mod media_type;
pub mod nodes;
pub mod pairings;
pub mod pin;
pub mod pulse;
pub mod randomness;
pub mod redaction;
pub mod remote;
pub mod root;
pub mod rpc;
pub mod secret;
pub mod session;
pub mod session_key;
pub mod settings;
pub mod ssh;
pub mod store;
pub mod supervise;

pub use gateway::Gateway;

/// The version in `hello-ok`, `/startupz` and `--version`.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
