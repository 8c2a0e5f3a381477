//! `gateway.*`: where the gateway listens, who may come in, what nodes may do.

mod auth;
mod nodes;
mod remote;
mod ways_in;

use std::net::IpAddr;

use serde::Deserialize;

use super::Secret;

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

    /// Whether both let in the same people by the same proofs. Devices' own tokens are no matter of settings.
    pub fn lets_in_as(&self, other: &Self) -> bool {
        let (auth, others) = (&self.auth, &other.auth);
        let same_proxy = || {
            self.trusted_proxies == other.trusted_proxies
                && auth.trusted_proxy == others.trusted_proxy
                && Secret::same(auth.password.as_ref(), others.password.as_ref())
        };
        auth.mode() == others.mode()
            && self.allows_tailscale() == other.allows_tailscale()
            && Secret::same(auth.shared_secret(), others.shared_secret())
            && (auth.mode() != AuthMode::TrustedProxy || same_proxy())
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn settings(gateway: Value) -> GatewaySettings {
        serde_json::from_value(gateway).unwrap()
    }

    #[test]
    fn every_part_of_a_proxys_policy_decides_who_comes_in() {
        let with = |pointer: &str, value: Value| {
            let mut gateway = json!({
                "trustedProxies": ["10.0.0.1"], "port": 1,
                "auth": {"mode": "trusted-proxy", "password": "p", "trustedProxy": {
                    "userHeader": "u", "requiredHeaders": ["r"], "allowUsers": ["me"], "allowLoopback": false,
                }},
            });
            if !pointer.is_empty() {
                *gateway.pointer_mut(pointer).unwrap() = value;
            }
            settings(gateway)
        };
        let before = with("", json!(null));
        assert!(with("/port", json!(2)).lets_in_as(&before));
        for (pointer, value) in [
            ("/trustedProxies", json!(["10.0.0.2"])),
            ("/auth/password", json!("q")),
            ("/auth/trustedProxy/userHeader", json!("v")),
            ("/auth/trustedProxy/requiredHeaders", json!([])),
            ("/auth/trustedProxy/allowUsers", json!(["you"])),
            ("/auth/trustedProxy/allowLoopback", json!(true)),
        ] {
            assert!(!with(pointer, value).lets_in_as(&before), "{pointer}");
        }
    }

    #[test]
    fn what_a_mode_does_not_read_changes_nothing_about_who_comes_in() {
        let token = |proxies: &[&str]| settings(json!({"trustedProxies": proxies, "auth": {"token": "t"}}));
        assert!(token(&["10.0.0.1"]).lets_in_as(&token(&[])));
        assert!(!settings(json!({"auth": {"token": "other"}})).lets_in_as(&token(&[])));
        assert!(!settings(json!({"auth": {"mode": "none"}})).lets_in_as(&token(&[])));
    }
}
