//! `gateway.remote`: the gateway that this machine's client commands talk to.

use serde::Deserialize;

use crate::settings::Secret;

/// `gateway.remote`: used by client commands, never as the gateway's own credential.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct RemoteSettings {
    pub url: Option<String>,
    pub token: Option<Secret>,
    pub password: Option<Secret>,
    /// SHA-256 of the gateway's certificate.
    pub tls_fingerprint: Option<String>,
    /// How to get there. Unset: straight to `url` if there is one, else by SSH.
    pub transport: Option<RemoteTransport>,
    /// `user@host` or `user@host:port`.
    pub ssh_target: Option<String>,
    /// A private key's file.
    pub ssh_identity: Option<String>,
    /// The gateway's port on the SSH host; unset means the port in `url`.
    pub remote_port: Option<u16>,
    pub ssh_host_key_policy: SshHostKeyPolicy,
}

/// `gateway.remote.transport`.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum RemoteTransport {
    Ssh,
    Direct,
}

/// `gateway.remote.sshHostKeyPolicy`.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum SshHostKeyPolicy {
    /// Only keys that are in `known_hosts` already.
    #[default]
    Strict,
    /// Whatever the user's OpenSSH config says.
    OpenSsh,
}
