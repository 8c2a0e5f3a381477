//! `gateway.auth`: who may come in.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::settings::Secret;

/// `gateway.auth`: which credential opens the door.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct AuthSettings {
    /// Unset means: `password` if only a password is configured, else `token`.
    pub mode: Option<AuthMode>,
    pub token: Option<Secret>,
    pub password: Option<Secret>,
    /// Accept a Tailscale Serve identity; read through [`GatewaySettings::allows_tailscale`](super::GatewaySettings::allows_tailscale).
    pub allow_tailscale: Option<bool>,
    /// Operator scopes for a verified proxy or Tailscale identity.
    pub identity_scopes: BTreeMap<String, Vec<String>>,
    pub rate_limit: RateLimitSettings,
    pub trusted_proxy: Option<TrustedProxySettings>,
}

impl AuthSettings {
    /// The mode in force.
    pub fn mode(&self) -> AuthMode {
        match self.mode {
            Some(mode) => mode,
            None if self.token.is_none() && self.password.is_some() => AuthMode::Password,
            None => AuthMode::Token,
        }
    }

    /// The shared secret that the mode in force asks for.
    pub fn shared_secret(&self) -> Option<&Secret> {
        match self.mode() {
            AuthMode::Token => self.token.as_ref(),
            AuthMode::Password => self.password.as_ref(),
            AuthMode::None | AuthMode::TrustedProxy => None,
        }
    }
}

/// `gateway.auth.mode`.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum AuthMode {
    /// No credential: for loopback only.
    None,
    Token,
    Password,
    /// A reverse proxy has authenticated the user and says who it is.
    TrustedProxy,
}

impl AuthMode {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Token => "token",
            Self::Password => "password",
            Self::TrustedProxy => "trusted-proxy",
        }
    }
}

/// `gateway.auth.rateLimit`: what wrong guesses cost.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct RateLimitSettings {
    pub max_attempts: u32,
    pub window_ms: u64,
    pub lockout_ms: u64,
    /// Loopback clients are slowed down instead of locked out.
    pub exempt_loopback: bool,
}

impl Default for RateLimitSettings {
    fn default() -> Self {
        Self { max_attempts: 10, window_ms: 60_000, lockout_ms: 300_000, exempt_loopback: true }
    }
}

/// `gateway.auth.trustedProxy`.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct TrustedProxySettings {
    /// The header in which the proxy names the user.
    pub user_header: String,
    /// Headers that must be there as well.
    #[serde(default)]
    pub required_headers: Vec<String>,
    /// Who may come in; empty means everybody whom the proxy lets through.
    #[serde(default)]
    pub allow_users: Vec<String>,
    /// Accept a proxy on this same host.
    #[serde(default)]
    pub allow_loopback: bool,
}
