//! Which credential a connect sent, and whether it opens the gateway.

use super::attempt::Attempt;
use super::limiter::{CredentialClass, Guesser, Limiter};
use super::policy::{AuthMode, TrustedProxy};
use super::proxy::ProxyUser;
use super::refusal::{Audience, Refusal, SharedKind};
use crate::pairings::{DeviceBook, DeviceRecord};
use crate::secret::{SecretDigest, sha256};
use std::time::Duration;
use tidegate_protocol::setup_code::Access;
use tidegate_protocol::{Role, Scopes};

/// What a connect proved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Credential {
    /// It knows the gateway's secret.
    Shared(SharedKind),
    /// None is asked for.
    NotNeeded,
    /// It holds the token of its own device for this role.
    DeviceToken,
    /// It holds the token of a setup code, which is good for one device.
    Bootstrap([u8; 32], Access),
    /// A trusted proxy vouches for a person.
    Proxy,
    /// Tailscale passed it on for a person whom the daemon confirmed.
    Tailnet,
}

/// The credentials in `auth`, trimmed; blank ones are none.
pub(super) struct Sent<'a> {
    token: Option<&'a str>,
    password: Option<&'a str>,
    device_token: Option<&'a str>,
    bootstrap: Option<&'a str>,
}

impl<'a> Sent<'a> {
    pub(super) fn by(attempt: &Attempt<'a>) -> Self {
        let auth = attempt.params.auth.as_ref();
        let filled = |text: Option<&'a String>| text.map(|text| text.trim()).filter(|text| !text.is_empty());
        Self {
            token: filled(auth.and_then(|auth| auth.token.as_ref())),
            password: filled(auth.and_then(|auth| auth.password.as_ref())),
            device_token: filled(auth.and_then(|auth| auth.device_token.as_ref())),
            bootstrap: filled(auth.and_then(|auth| auth.bootstrap_token.as_ref())),
        }
    }

    /// Whether there is a candidate for the gateway's own secret.
    pub(super) fn has_shared(&self) -> bool {
        self.token.is_some() || self.password.is_some()
    }

    fn is(&self, secret: &SecretDigest) -> bool {
        // Both are always compared: the time taken does not say which field was right.
        let token = self.token.is_some_and(|text| secret.is(text));
        let password = self.password.is_some_and(|text| secret.is(text));
        token | password
    }

    /// A device token may come in its own field or where clients put the shared one.
    fn device_tokens(&self) -> impl Iterator<Item = &'a str> {
        self.device_token.into_iter().chain(self.token)
    }
}

/// The checks of one connect.
pub(super) struct Judge<'a, 'b> {
    pub attempt: &'b Attempt<'a>,
    pub role: Role,
    pub scopes: &'b Scopes,
    /// The device that proved its key in this connect.
    pub device_id: Option<&'b str>,
    pub book: &'b DeviceBook,
    pub limiter: &'b Limiter,
}

impl Judge<'_, '_> {
    /// Finds the credential that lets this connect in, or says what is wrong with what was sent.
    pub(super) fn credential(&self) -> Result<Credential, Refusal> {
        let sent = Sent::by(self.attempt);
        match &self.attempt.policy.mode {
            AuthMode::None => Ok(Credential::NotNeeded),
            AuthMode::Token(secret) => self.by_secret(&sent, secret, SharedKind::Token),
            AuthMode::Password(secret) => self.by_secret(&sent, secret, SharedKind::Password),
            AuthMode::TrustedProxy(proxy) => self.by_proxy(&sent, proxy),
        }
    }

    fn by_secret(
        &self,
        sent: &Sent<'_>,
        secret: &SecretDigest,
        kind: SharedKind,
    ) -> Result<Credential, Refusal> {
        let guesser = self.guesser(CredentialClass::Shared);
        let locked = self.limiter.locked(&guesser, self.attempt.now).filter(|_| sent.has_shared());
        if locked.is_none() && sent.is(secret) {
            self.limiter.succeeded(&guesser);
            return Ok(Credential::Shared(kind));
        }
        if self.is_tailnet_operator(sent) {
            return Ok(Credential::Tailnet);
        }
        if let Some(credential) = self.by_device(sent)? {
            return Ok(credential);
        }
        if let Some(wait) = locked {
            return Err(Refusal::rate_limited(wait));
        }
        let delay = if sent.has_shared() { self.failed(&guesser) } else { Duration::ZERO };
        Err(self.refusal(sent, kind).after(delay))
    }

    /// A person of the tailnet, where that is enough. Whoever sends a secret is judged by the secret.
    fn is_tailnet_operator(&self, sent: &Sent<'_>) -> bool {
        let Attempt { peer, policy, .. } = self.attempt;
        policy.allow_tailscale
            && self.role == Role::Operator
            && !sent.has_shared()
            && peer.tailnet_user().is_some()
    }

    /// The two credentials that only a device can have. `None`: neither was sent, or not one that can be judged.
    fn by_device(&self, sent: &Sent<'_>) -> Result<Option<Credential>, Refusal> {
        let Some(device_id) = self.device_id else { return Ok(None) };
        if self.holds_token(sent, device_id) {
            let granted = self.book.device(device_id).and_then(|record| record.live_token(self.role));
            let covered = granted.is_some_and(|token| token.scopes.covers(self.scopes));
            let node = self.role == Role::Node;
            return if covered || node {
                Ok(Some(Credential::DeviceToken))
            } else {
                Err(Refusal::scope_mismatch())
            };
        }
        match sent.bootstrap {
            Some(code) => self.by_code(code).map(Some),
            None => Ok(None),
        }
    }

    fn holds_token(&self, sent: &Sent<'_>, device_id: &str) -> bool {
        let record: Option<&DeviceRecord> = self.book.device(device_id);
        let Some(token) = record.and_then(|record| record.live_token(self.role)) else { return false };
        sent.device_tokens().any(|candidate| token.digest.is(candidate))
    }

    fn by_code(&self, code: &str) -> Result<Credential, Refusal> {
        let guesser = self.guesser(CredentialClass::Bootstrap);
        if let Some(wait) = self.limiter.locked(&guesser, self.attempt.now) {
            return Err(Refusal::rate_limited(wait));
        }
        let digest = sha256(code.as_bytes());
        let open = self.book.open_code(&digest, self.attempt.now_ms);
        let covers = |access: &Access| {
            let wished = match self.role {
                Role::Node => self.scopes.is_empty(),
                Role::Operator => access.scopes().covers(self.scopes),
            };
            wished && access.roles().contains(&self.role)
        };
        match open.map(|code| code.access).filter(covers) {
            Some(access) => Ok(Credential::Bootstrap(digest, access)),
            None => Err(Refusal::bootstrap_invalid().after(self.failed(&guesser))),
        }
    }

    fn by_proxy(&self, sent: &Sent<'_>, proxy: &TrustedProxy) -> Result<Credential, Refusal> {
        if matches!(self.attempt.peer.user, ProxyUser::Known(_)) {
            return Ok(Credential::Proxy);
        }
        if let Some(password) = &proxy.password
            && self.attempt.peer.is_local_program()
            && sent.has_shared()
        {
            return self.by_secret(sent, password, SharedKind::Password);
        }
        if let Some(credential) = self.by_device(sent)? {
            return Ok(credential);
        }
        let reason = match &self.attempt.peer.user {
            ProxyUser::LoopbackSource => "trusted_proxy_loopback_source".to_owned(),
            ProxyUser::MissingHeader(name) => format!("trusted_proxy_missing_header_{name}"),
            ProxyUser::MissingUser => "trusted_proxy_user_missing".to_owned(),
            ProxyUser::NotAllowed => "trusted_proxy_user_not_allowed".to_owned(),
            ProxyUser::UntrustedSource | ProxyUser::NotAsked | ProxyUser::Known(_) => {
                "trusted_proxy_untrusted_source".to_owned()
            }
        };
        Err(Refusal::proxy_identity(&reason))
    }

    fn refusal(&self, sent: &Sent<'_>, kind: SharedKind) -> Refusal {
        let audience = Audience::of(&self.attempt.params.client, self.attempt.peer.is_direct_local());
        if self.device_id.is_some() && sent.device_token.is_some() {
            // The client then forgets the stored token and falls back to what its owner configured.
            let guesser = self.guesser(CredentialClass::DeviceToken);
            if let Some(wait) = self.limiter.locked(&guesser, self.attempt.now) {
                return Refusal::rate_limited(wait);
            }
            return Refusal::device_token_mismatch().after(self.failed(&guesser));
        }
        if sent.has_shared() {
            Refusal::secret_mismatch(kind, audience, self.device_id.is_some())
        } else {
            Refusal::secret_missing(kind, audience)
        }
    }

    fn failed(&self, guesser: &Guesser) -> Duration {
        self.limiter.failed(guesser, &self.attempt.policy.limits, self.attempt.now)
    }

    fn guesser(&self, class: CredentialClass) -> Guesser {
        let Attempt { peer, policy, .. } = self.attempt;
        let owner = policy.exempt_local && peer.is_local_program();
        Guesser::new(peer.addr, class, peer.guessing_page(), owner)
    }
}
