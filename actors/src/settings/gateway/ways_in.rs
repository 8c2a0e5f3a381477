//! Where the gateway listens, with which certificate, and the way in through the tailnet.

use std::net::IpAddr;

use serde::Deserialize;

/// `gateway.bind`.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Bind {
    /// Loopback, unless that is impossible.
    Auto,
    #[default]
    Loopback,
    /// Every interface.
    Lan,
    /// The Tailscale address when there is one, else loopback.
    Tailnet,
    /// `gateway.customBindHost`.
    Custom,
}

impl Bind {
    /// Whether somebody beyond this machine may be able to reach a listener. `auto` listens beyond loopback only on a
    /// host without one, which is seen when it is bound.
    pub fn may_be_reached(self, custom: Option<IpAddr>) -> bool {
        match self {
            Self::Auto | Self::Loopback => false,
            Self::Lan | Self::Tailnet => true,
            Self::Custom => custom.is_none_or(|host| !host.is_loopback()),
        }
    }
}

/// `gateway.tls`.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(default, rename_all = "camelCase")]
pub struct TlsSettings {
    pub enabled: bool,
    /// Make a self-signed pair when both files are missing.
    pub auto_generate: bool,
    pub cert_path: Option<String>,
    pub key_path: Option<String>,
    /// Certificates of authorities that complete the chain of the one in `cert_path`; they let no client in.
    pub ca_path: Option<String>,
}

impl Default for TlsSettings {
    fn default() -> Self {
        Self { enabled: false, auto_generate: true, cert_path: None, key_path: None, ca_path: None }
    }
}

/// `gateway.tailscale`.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(default, rename_all = "camelCase")]
pub struct TailscaleSettings {
    pub mode: TailscaleMode,
    /// The `tailscale` program, where it is not found by its name.
    pub program: Option<String>,
    /// The daemon's local API, where it is not at its usual place.
    pub socket: Option<String>,
    /// How long a daemon that is still starting is waited for.
    pub startup_wait_seconds: u64,
}

impl Default for TailscaleSettings {
    fn default() -> Self {
        Self { mode: TailscaleMode::Off, program: None, socket: None, startup_wait_seconds: 90 }
    }
}

/// `gateway.tailscale.mode`.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum TailscaleMode {
    #[default]
    Off,
    /// Reachable in the tailnet.
    Serve,
    /// Reachable from the internet.
    Funnel,
}

impl TailscaleMode {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Serve => "serve",
            Self::Funnel => "funnel",
        }
    }
}
