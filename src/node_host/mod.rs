//! `tidegate node run`: this machine as a node of a gateway.
//!
//! A node connects to its gateway, declares its commands, and runs what it is asked to, within the exec approvals of
//! this machine. It stays until it is told to stop, and connects again whenever the connection is lost.

mod approvals;
mod args;
mod commands;
mod duplex;
mod exec;
mod failure;
mod host;
mod invitation;
mod link;
mod runner;
mod secrets;
mod session;
mod state;
mod stats;
#[cfg(test)]
mod tests;
mod trust;
mod work;

use std::{io, path::PathBuf};

pub use args::{NodeRoute, NodeRun};
pub use state::Holder;

use crate::{
    client::ClientError,
    config::{ConfigError, Environment, Place},
};

/// Why a node host can't run, or can't go on.
#[derive(Debug, thiserror::Error)]
pub enum NodeHostError {
    /// Two hosts with one identity would take each other's requests.
    #[error("another node host{holder} runs with this identity ({}); stop it, or give this one a state folder of its own", .folder.display())]
    AlreadyRunning { folder: PathBuf, holder: Holder },
    /// A file of the state folder.
    #[error("cannot use {}", .path.display())]
    State {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// `--commands` names nothing that exists.
    #[error("none of these commands exists here: {asked}; this node has {known}")]
    NoCommands { asked: String, known: String },
    /// The options contradict each other.
    #[error("{0}")]
    Options(String),
    /// `--pair` says nothing that could be used.
    #[error("{0}")]
    Invitation(String),
    /// The configuration of a local gateway is needed and can't be read.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The gateway, and no use in trying again.
    #[error(transparent)]
    Gateway(#[from] ClientError),
    /// The runtime.
    #[error("cannot start")]
    Start(#[source] io::Error),
}

impl NodeHostError {
    /// What a person can do about it.
    pub fn advice(&self) -> Option<String> {
        match self {
            Self::Gateway(error) => error.advice(),
            Self::Invitation(_) => {
                Some("make a new one on the gateway's host: tidegate devices join-code".to_owned())
            }
            _ => None,
        }
    }
}

/// Runs a node host until it is told to stop (SIGINT, SIGTERM) or can't go on.
pub fn run(args: NodeRun, place: &Place, env: &Environment) -> Result<(), NodeHostError> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(NodeHostError::Start)?;
    runtime.block_on(runner::run(args, place, env))
}
