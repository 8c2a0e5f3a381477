//! Sessions: each speaks the protocol on one connection, from the challenge to the close.

mod handshake;
mod hello;
mod open;
#[allow(clippy::module_inception)]
mod session;

pub use session::{FromSocket, Session};
