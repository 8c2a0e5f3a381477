//! `gateway.*`: where the gateway listens, who may come in, what nodes may do.

use std::{collections::BTreeMap, net::IpAddr};

use serde::Deserialize;

use super::Secret;

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

/// `gateway.customBindHost`, if it is an address.
pub fn custom_address(gateway: &GatewaySettings) -> Option<IpAddr> {
    gateway.custom_bind_host.as_deref()?.trim().parse().ok()
}

/// `gateway.auth`: which credential opens the door.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct AuthSettings {
    /// Unset means: `password` if only a password is configured, else `token`.
    pub mode: Option<AuthMode>,
    pub token: Option<Secret>,
    pub password: Option<Secret>,
    /// Accept a Tailscale Serve identity; read through [`GatewaySettings::allows_tailscale`].
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

/// `gateway.nodes`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct NodeSettings {
    pub commands: NodeCommandSettings,
    /// Older spelling of `commands.allow`; read through [`NodeSettings::allowed`].
    pub allow_commands: Vec<String>,
    /// Older spelling of `commands.deny`; read through [`NodeSettings::denied`].
    pub deny_commands: Vec<String>,
    pub pairing: NodePairingSettings,
}

impl NodeSettings {
    /// Commands that are allowed beyond the platform's defaults.
    pub fn allowed(&self) -> impl Iterator<Item = &str> {
        self.commands.allow.iter().chain(&self.allow_commands).map(String::as_str)
    }

    /// Commands that are refused whatever else allows them.
    pub fn denied(&self) -> impl Iterator<Item = &str> {
        self.commands.deny.iter().chain(&self.deny_commands).map(String::as_str)
    }
}

/// `gateway.nodes.commands`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct NodeCommandSettings {
    pub allow: Vec<String>,
    pub deny: Vec<String>,
}

/// `gateway.nodes.pairing`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct NodePairingSettings {
    /// Approve a direct local client with the shared secret without asking.
    pub auto_approve_local: bool,
    /// Approve a node's first pairing from these addresses; never an operator's.
    pub auto_approve_cidrs: Vec<String>,
    /// Approve a node's first pairing when its key is found over SSH on the machine that it came from.
    pub ssh_verify: SshVerifySettings,
    /// Approve also what a direct local node may be asked to do: without it `tidegate nodes approve` does.
    pub approve_local_surface: bool,
}

impl Default for NodePairingSettings {
    fn default() -> Self {
        Self {
            auto_approve_local: true,
            auto_approve_cidrs: Vec::new(),
            ssh_verify: SshVerifySettings::default(),
            approve_local_surface: false,
        }
    }
}

/// `gateway.nodes.pairing.sshVerify`: `false`, `true`, or an object, which means `true`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SshVerifySettings {
    pub enabled: bool,
    /// Whom to log in as; unset leaves it to ssh.
    pub user: Option<String>,
    /// The key file to log in with; unset leaves it to ssh.
    pub identity: Option<String>,
    /// For the whole of it.
    pub timeout_ms: u64,
    /// Only machines at these addresses are asked; none: those in private networks.
    pub cidrs: Vec<String>,
}

impl Default for SshVerifySettings {
    fn default() -> Self {
        Self { enabled: true, user: None, identity: None, timeout_ms: 7000, cidrs: Vec::new() }
    }
}

impl<'de> Deserialize<'de> for SshVerifySettings {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SshVerifyVisitor)
    }
}

struct SshVerifyVisitor;

impl<'de> serde::de::Visitor<'de> for SshVerifyVisitor {
    type Value = SshVerifySettings;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("true, false or an object with user, identity, timeoutMs and cidrs")
    }

    fn visit_bool<E>(self, enabled: bool) -> Result<Self::Value, E> {
        Ok(SshVerifySettings { enabled, ..SshVerifySettings::default() })
    }

    fn visit_map<A: serde::de::MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        #[derive(Deserialize)]
        #[serde(default, rename_all = "camelCase")]
        struct Fields {
            user: Option<String>,
            identity: Option<String>,
            timeout_ms: u64,
            cidrs: Vec<String>,
        }
        impl Default for Fields {
            fn default() -> Self {
                let SshVerifySettings { user, identity, timeout_ms, cidrs, .. } =
                    SshVerifySettings::default();
                Self { user, identity, timeout_ms, cidrs }
            }
        }
        let map = serde::de::value::MapAccessDeserializer::new(map);
        let Fields { user, identity, timeout_ms, cidrs } = Fields::deserialize(map)?;
        Ok(SshVerifySettings { enabled: true, user, identity, timeout_ms, cidrs })
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
