//! `gateway.*`: where the gateway listens, who may come in, what nodes may do.

mod auth;
mod nodes;
mod remote;
mod ways_in;

use std::net::IpAddr;

use serde::Deserialize;

pub use self::{
    auth::{AuthMode, AuthSettings, RateLimitSettings, TrustedProxySettings},
    nodes::{NodeCommandSettings, NodePairingSettings, NodeSettings, SshVerifySettings},
    remote::{RemoteSettings, RemoteTransport, SshHostKeyPolicy},
    ways_in::{Bind, TailscaleMode, TailscaleSettings, TlsSettings},
};

/// `gateway`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct GatewaySettings {
    /// Run a gateway here, or use one that runs elsewhere.
    pub mode: Option<GatewayMode>,
    /// WebSocket and HTTP share this port; read it through [`GatewaySettings::port`].
    pub port: Option<u16>,
    /// Which addresses to listen on.
    pub bind: Bind,
    /// The address for `bind: "custom"`.
    pub custom_bind_host: Option<String>,
    pub auth: AuthSettings,
    /// The gateway that this machine's client commands talk to.
    pub remote: RemoteSettings,
    /// Addresses or CIDR ranges of reverse proxies whose forwarding headers count.
    pub trusted_proxies: Vec<String>,
    /// Take `X-Real-IP` from a trusted proxy that sends no `X-Forwarded-For`.
    pub allow_real_ip_fallback: bool,
    pub control_ui: ControlUiSettings,
    pub nodes: NodeSettings,
    pub tls: TlsSettings,
    pub tailscale: TailscaleSettings,
    pub reload: ReloadSettings,
}

impl GatewaySettings {
    pub const DEFAULT_PORT: u16 = 18_789;

    /// Whether a Tailscale identity may stand in for the shared secret.
    pub fn allows_tailscale(&self) -> bool {
        let by_default = matches!(self.auth.mode(), AuthMode::Token | AuthMode::None);
        self.tailscale.mode == TailscaleMode::Serve && self.auth.allow_tailscale.unwrap_or(by_default)
    }

    pub fn port(&self) -> u16 {
        self.port.unwrap_or(Self::DEFAULT_PORT)
    }
}

/// `gateway.mode`.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum GatewayMode {
    Local,
    Remote,
}

/// `gateway.customBindHost`, if it is an address.
pub fn custom_address(gateway: &GatewaySettings) -> Option<IpAddr> {
    gateway.custom_bind_host.as_deref()?.trim().parse().ok()
}

/// `gateway.controlUi`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ControlUiSettings {
    pub enabled: bool,
    /// Browser origins that may open a WebSocket, besides the gateway's own.
    pub allowed_origins: Vec<String>,
}

impl Default for ControlUiSettings {
    fn default() -> Self {
        Self { enabled: true, allowed_origins: Vec::new() }
    }
}

/// `gateway.reload`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct ReloadSettings {
    pub mode: ReloadMode,
}

/// `gateway.reload.mode`: what happens when the config file changes.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum ReloadMode {
    /// Nothing until the next start.
    Off,
    /// What can change while running does; the rest asks for a restart.
    #[default]
    #[serde(alias = "hot", alias = "restart")]
    Hybrid,
}
