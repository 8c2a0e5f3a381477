//! A way to a gateway through SSH: the system's own `ssh` holds a tunnel open for as long as somebody needs it.

mod complaint;
mod error;
mod keeper;
mod options;
mod target;
mod tunnel;

pub use error::SshError;
pub use keeper::Keeper;
pub use options::{HostKeys, TunnelOptions};
pub use target::SshTarget;
pub use tunnel::Tunnel;
