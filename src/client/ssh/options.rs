//! What a tunnel is to be.

use std::path::PathBuf;

use super::SshTarget;

/// Which host keys to believe: `gateway.remote.sshHostKeyPolicy`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum HostKeys {
    /// Those in `known_hosts`, whatever the ssh config says.
    #[default]
    Strict,
    /// Those that the user's ssh config has `ssh` believe.
    OpenSsh,
}

/// What to open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TunnelOptions {
    pub target: SshTarget,
    /// A private key's file; unset leaves the choice to `ssh`.
    pub identity: Option<PathBuf>,
    pub host_keys: HostKeys,
    /// The gateway's port on the far side.
    pub remote_port: u16,
    /// Where the tunnel starts on this machine; unset takes any free port.
    pub local_port: Option<u16>,
}
