//! The operator and node WebSocket client: what the command line, the node host, the benches and the tests connect with.
//!
//! ```no_run
//! # async fn example() -> Result<(), tidegate::client::ClientError> {
//! use tidegate::client::{Client, ConnectOptions, Credentials, Endpoint};
//! use tidegate_protocol::Scope;
//!
//! let auth = Credentials { token: Some("secret".into()), ..Default::default() };
//! let options = ConnectOptions::operator(Endpoint::plain("127.0.0.1", 18789), auth, [Scope::Read]);
//! let (client, mut events) = Client::connect(&options).await?;
//! let health: serde_json::Value = client.call("health", &serde_json::json!({})).await?;
//! println!("{health}, then {:?}", events.next().await);
//! # Ok(()) }
//! ```
//!
//! A connection is two small tasks and a handle; it never reconnects by itself. Whoever needs that (the node host does)
//! connects again with [`Backoff`] between the attempts.

mod backoff;
mod calls;
mod connection;
mod endpoint;
mod error;
#[cfg(test)]
pub(crate) mod fake;
mod handshake;
mod identity;
mod incoming;
mod pump;
pub mod ssh;
#[cfg(test)]
mod tests;
mod tls;
mod transport;

pub use crate::tls::Pin;
pub use backoff::Backoff;
pub use calls::Ended;
pub use connection::{CALL_TIMEOUT, Client, Events, Later};
pub use endpoint::{DEFAULT_PORT, Endpoint, Via};
pub use error::ClientError;
pub use handshake::{ConnectOptions, describe};
pub use identity::DeviceIdentity;
pub use incoming::Event;
pub use tidegate_protocol::connect::ConnectAuth as Credentials;
pub(crate) use tls::wrap as secure;
