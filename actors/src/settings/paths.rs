//! Where things are kept: one folder for everything.

use std::path::{Path, PathBuf};

/// The state folder and what is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatePaths {
    root: PathBuf,
}

impl StatePaths {
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The SQLite file.
    pub fn database(&self) -> PathBuf {
        self.root.join("tidegate.db")
    }

    /// The token that the gateway made for itself.
    pub fn gateway_token(&self) -> PathBuf {
        self.root.join("gateway-token")
    }

    /// What device tokens are derived with.
    pub fn device_token_key(&self) -> PathBuf {
        self.root.join("device-token.key")
    }

    /// The certificate that the gateway shows, unless another is configured.
    pub fn tls_certificate(&self) -> PathBuf {
        self.root.join("gateway").join("tls").join("gateway-cert.pem")
    }

    /// The key of [`StatePaths::tls_certificate`].
    pub fn tls_key(&self) -> PathBuf {
        self.root.join("gateway").join("tls").join("gateway-key.pem")
    }

    pub fn log_file(&self) -> PathBuf {
        self.root.join("logs").join("gateway.log")
    }

    /// Files on their way to or from a channel.
    pub fn media(&self) -> PathBuf {
        self.root.join("media")
    }

    /// The agent's own files, unless configured elsewhere.
    pub fn workspace(&self) -> PathBuf {
        self.root.join("workspace")
    }

    /// What `node run` keeps: identity, device token, exec approvals.
    pub fn node_host(&self) -> PathBuf {
        self.root.join("node-host")
    }

    pub fn node_identity(&self) -> PathBuf {
        self.node_host().join("identity.json")
    }
}
