//! What the settings say about who may come in, in the form in which decisions need it.

use super::limiter::Limits;
use super::net::{Cidr, is_private};
use super::web_origin::WebOrigin;
use crate::secret::SecretDigest;
use crate::settings::{self, Settings, gateway::SshVerifySettings, gateway::custom_address};
use std::net::IpAddr;
use std::time::Duration;

/// Everything that [`super::peer::classify`] and [`super::decide()`] need to know about this gateway.
#[derive(Debug, Clone)]
pub struct AuthPolicy {
    pub mode: AuthMode,
    /// Proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<Cidr>,
    /// Take the client address from `X-Real-IP` where a trusted proxy sends no `X-Forwarded-For`.
    pub allow_real_ip: bool,
    pub allowed_origins: AllowedOrigins,
    /// Whether only this machine can reach the listener. Otherwise pages on its own port of `localhost` are
    /// expected to be tunnelled to it.
    pub loopback_only: bool,
    /// Whether the listener speaks TLS: then own pages are `https`.
    pub tls: bool,
    /// Whether a client on this machine that knows the secret is paired without asking.
    pub auto_approve_local: bool,
    /// Networks from which a node's first pairing, and nothing else, is approved without asking.
    pub auto_approve_nodes: Vec<Cidr>,
    /// How a new node may prove that it runs on a machine of the owner's.
    pub ssh_proof: Option<SshProof>,
    /// What wrong credentials cost.
    pub limits: Limits,
    /// Whether the owner's programs on this machine are slowed instead of locked out.
    pub exempt_local: bool,
    /// Whether a tailnet user whom the daemon confirmed needs no shared secret.
    pub allow_tailscale: bool,
    /// The build the Control UI must have; `None` accepts any.
    pub ui_build: Option<String>,
}

/// `gateway.auth.mode` with what it needs.
#[derive(Debug, Clone)]
pub enum AuthMode {
    Token(SecretDigest),
    Password(SecretDigest),
    None,
    TrustedProxy(TrustedProxy),
}

impl AuthMode {
    fn from_settings(auth: &settings::gateway::AuthSettings) -> Self {
        let digest = |secret: &Option<settings::Secret>| match secret {
            Some(secret) if !secret.is_blank() => SecretDigest::of(secret.expose()),
            // No secret is set: nothing that anyone could send may match.
            _ => SecretDigest::unmatchable(),
        };
        match auth.mode() {
            settings::AuthMode::Token => Self::Token(digest(&auth.token)),
            settings::AuthMode::Password => Self::Password(digest(&auth.password)),
            settings::AuthMode::None => Self::None,
            settings::AuthMode::TrustedProxy => match &auth.trusted_proxy {
                Some(proxy) => Self::TrustedProxy(TrustedProxy {
                    user_header: proxy.user_header.clone(),
                    required_headers: proxy.required_headers.clone(),
                    allow_users: proxy.allow_users.clone(),
                    allow_loopback: proxy.allow_loopback,
                    password: auth.password.as_ref().map(|_| digest(&auth.password)),
                }),
                None => Self::Token(SecretDigest::unmatchable()),
            },
        }
    }
}

fn blocks(texts: &[String]) -> Vec<Cidr> {
    texts.iter().filter_map(|text| text.parse().ok()).collect()
}

/// `gateway.auth.trustedProxy`.
#[derive(Debug, Clone)]
pub struct TrustedProxy {
    /// The header in which the proxy names the person.
    pub user_header: String,
    pub required_headers: Vec<String>,
    /// Empty: everybody whom the proxy lets through.
    pub allow_users: Vec<String>,
    /// Whether the proxy may run on this machine, where any local process could forge its headers.
    pub allow_loopback: bool,
    /// Lets clients on this machine in beside the proxy.
    pub password: Option<SecretDigest>,
}

/// `gateway.nodes.pairing.sshVerify`, where it is on.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SshProof {
    /// Whom to be there; `None` leaves it to ssh.
    pub user: Option<String>,
    /// The file of the key to log in with; `None` leaves it to ssh.
    pub identity: Option<String>,
    pub timeout: Duration,
    /// Machines that may be asked; empty: those of private networks.
    cidrs: Vec<Cidr>,
}

impl SshProof {
    fn from_settings(settings: &SshVerifySettings) -> Option<Self> {
        let filled = |text: &Option<String>| {
            text.as_ref().map(|text| text.trim().to_owned()).filter(|text| !text.is_empty())
        };
        settings.enabled.then(|| Self {
            user: filled(&settings.user),
            identity: filled(&settings.identity),
            timeout: Duration::from_millis(settings.timeout_ms.clamp(250, 60_000)),
            cidrs: blocks(&settings.cidrs),
        })
    }

    /// Whether a machine at this address may be asked. Elsewhere than in private networks that takes a setting: else
    /// anyone who knows the secret could have the gateway knock at strangers' doors.
    pub fn reaches(&self, address: IpAddr) -> bool {
        if self.cidrs.is_empty() {
            is_private(address) && !address.to_canonical().is_loopback()
        } else {
            self.cidrs.iter().any(|block| block.contains(address))
        }
    }
}

/// `gateway.controlUi.allowedOrigins`.
#[derive(Debug, Clone, Default)]
pub struct AllowedOrigins(Vec<WebOrigin>);

impl AllowedOrigins {
    /// Entries that are no origin, as a wildcard is none, are left out: they could never match.
    pub fn from_settings<'a>(entries: impl IntoIterator<Item = &'a str>) -> Self {
        let origin = |entry: &str| WebOrigin::parse(entry.trim().trim_end_matches('/'));
        Self(entries.into_iter().filter_map(origin).collect())
    }

    pub fn allows(&self, origin: &WebOrigin) -> bool {
        self.0.contains(origin)
    }
}

impl AuthPolicy {
    /// Reads the settings. What they get wrong is left out here, which only ever makes the policy stricter; that
    /// they are complete is checked before the gateway starts.
    pub fn from_settings(settings: &Settings) -> Self {
        let gateway = &settings.gateway;
        let limits = &gateway.auth.rate_limit;
        Self {
            mode: AuthMode::from_settings(&gateway.auth),
            trusted_proxies: blocks(&gateway.trusted_proxies),
            allow_real_ip: gateway.allow_real_ip_fallback,
            allowed_origins: AllowedOrigins::from_settings(
                gateway.control_ui.allowed_origins.iter().map(String::as_str),
            ),
            loopback_only: !gateway.bind.may_be_reached(custom_address(gateway)),
            tls: gateway.tls.enabled,
            auto_approve_local: gateway.nodes.pairing.auto_approve_local,
            auto_approve_nodes: blocks(&gateway.nodes.pairing.auto_approve_cidrs),
            ssh_proof: SshProof::from_settings(&gateway.nodes.pairing.ssh_verify),
            limits: Limits {
                max_failures: limits.max_attempts.max(1),
                window: Duration::from_millis(limits.window_ms.max(1)),
                lockout: Duration::from_millis(limits.lockout_ms.max(1)),
            },
            exempt_local: limits.exempt_loopback,
            allow_tailscale: gateway.allows_tailscale(),
            ui_build: None,
        }
    }

    /// What tests begin with: nothing is asked for, and only this machine gets there.
    #[cfg(test)]
    pub(crate) fn open_on_loopback() -> Self {
        Self {
            mode: AuthMode::None,
            trusted_proxies: vec![],
            allow_real_ip: false,
            allowed_origins: AllowedOrigins::default(),
            loopback_only: true,
            tls: false,
            auto_approve_local: true,
            auto_approve_nodes: vec![],
            ssh_proof: None,
            limits: Limits::default(),
            exempt_local: true,
            allow_tailscale: false,
            ui_build: None,
        }
    }

    /// The shared secret that opens this gateway, where there is one.
    pub fn secret(&self) -> Option<&SecretDigest> {
        match &self.mode {
            AuthMode::Token(secret) | AuthMode::Password(secret) => Some(secret),
            AuthMode::None | AuthMode::TrustedProxy(_) => None,
        }
    }
}
