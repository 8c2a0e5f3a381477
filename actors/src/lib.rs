//! The living part of the gateway: the supervision tree and everything on it.

pub mod agent;
pub mod audit;
pub mod auth;
pub mod channels;
pub mod commands;
pub mod devices;
pub mod events;
pub mod gateway;
pub mod inbound;
mod media_type;
pub mod nodes;
pub mod pin;
pub mod pulse;
pub mod randomness;
pub mod redaction;
pub mod remote;
pub mod root;
pub mod rpc;
pub mod session;
pub mod session_key;
pub mod settings;
pub mod ssh;
pub mod store;
pub mod supervise;

pub use gateway::{Gateway, VERSION};
