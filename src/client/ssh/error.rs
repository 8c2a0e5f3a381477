//! Why there is no tunnel: one sentence each, which says what to do.

use std::{io, path::PathBuf};

/// What `ssh` could not do, in our words.
#[derive(Debug, thiserror::Error)]
pub enum SshError {
    #[error("`{target}` is no SSH target: {problem}")]
    BadTarget { target: String, problem: &'static str },
    #[error("there is no `ssh` program on this machine: install the OpenSSH client (package openssh-client)")]
    Missing,
    #[error("can't start `{program}`: {source}")]
    Start {
        program: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("the SSH identity {} can't be used: {why}", .path.display())]
    Identity { path: PathBuf, why: String },
    #[error(
        "the SSH host key of {host} is not known here: compare its fingerprint with the one on that host, and accept \
         it once with `{by_hand}`"
    )]
    HostKeyUnknown { host: String, by_hand: String },
    #[error(
        "the SSH host key of {host} has CHANGED: if that host was set up anew, forget the old key with \
         `ssh-keygen -R {known_as}` and accept the new one with `{by_hand}`; if not, somebody may be in between"
    )]
    HostKeyChanged { host: String, known_as: String, by_hand: String },
    #[error(
        "{target} takes none of your SSH keys: load the right one with `ssh-add` or name it with --ssh-identity, and \
         see that it is in ~/.ssh/authorized_keys there (ssh asks for no password here)"
    )]
    AuthRefused { target: String },
    #[error(
        "{target} refuses SSH connections: see that its SSH server runs, and on which port (user@host:port)"
    )]
    Refused { target: String },
    #[error("there is no route to {host}: see that this machine is online and that {host} is on")]
    NoRoute { host: String },
    #[error("{host} does not answer: see that it is on, and that no firewall drops SSH")]
    TimedOut { host: String },
    #[error(
        "the host name {host} is not known: check its spelling, or use its address or a name from your ssh config"
    )]
    NameNotFound { host: String },
    #[error(
        "{target} broke off the SSH connection before it stood: see the log of the SSH server there, then try again"
    )]
    BrokenOff { target: String },
    #[error("port {port} of this machine is in use: free it, or choose another one with --local-port")]
    LocalPort { port: u16 },
    #[error(
        "nothing listens on port {port} of {host}: start the gateway there, or name the port that it has (see `tidegate \
         gateway status` on that host)"
    )]
    NothingListens { host: String, port: u16 },
    #[error(
        "the SSH server of {host} forwards nothing to port {port}: allow it there, with `AllowTcpForwarding yes` in \
         sshd_config and in the `permitopen` of your key if that has one"
    )]
    ForwardingForbidden { host: String, port: u16 },
    #[error("ssh to {target} ended: {said}")]
    Ended { target: String, said: String },
}

impl SshError {
    /// Whether trying again later, with nothing changed here, may succeed.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Refused { .. }
            | Self::NoRoute { .. }
            | Self::TimedOut { .. }
            | Self::NameNotFound { .. }
            | Self::BrokenOff { .. }
            | Self::NothingListens { .. }
            | Self::Ended { .. } => true,
            Self::BadTarget { .. }
            | Self::Missing
            | Self::Start { .. }
            | Self::Identity { .. }
            | Self::HostKeyUnknown { .. }
            | Self::HostKeyChanged { .. }
            | Self::AuthRefused { .. }
            | Self::LocalPort { .. }
            | Self::ForwardingForbidden { .. } => false,
        }
    }

    /// Whether the far side, or our check of it, said no.
    pub fn is_refusal(&self) -> bool {
        matches!(
            self,
            Self::HostKeyUnknown { .. }
                | Self::HostKeyChanged { .. }
                | Self::AuthRefused { .. }
                | Self::ForwardingForbidden { .. }
        )
    }
}
