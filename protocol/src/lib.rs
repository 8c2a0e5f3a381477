//! The words of the Gateway protocol v4: plain data, no I/O.
//!
//! Facts come from the published schema (`@openclaw/gateway-protocol`) and from what the official clients were
//! seen to say on the wire.

pub mod client;
pub mod connect;
pub mod device_auth;
pub mod discovery;
pub mod duplex;
pub mod error;
pub mod frame;
pub mod hello;
pub mod lenient;
pub mod limits;
pub mod params;
pub mod scope;
pub mod setup_code;
mod strict;

pub use error::{ErrorCode, ErrorShape};
pub use scope::{Role, Scope, Scopes};
