//! Every way a connect is refused, with the codes and words that official clients act on.

use serde_json::{Map, Value, json};
use std::time::Duration;
use tidegate_protocol::client::{ClientId, ClientInfo};
use tidegate_protocol::device_auth::DeviceAuthError;
use tidegate_protocol::limits::{MINIMUM_PROBE_PROTOCOL, PROTOCOL_VERSION, close};
use tidegate_protocol::{ErrorShape, Role, Scopes};

/// The answer to a connect that was not let in: an error response, then a close.
#[derive(Debug, Clone, PartialEq)]
pub struct Refusal {
    pub error: ErrorShape,
    pub close_code: u16,
    pub close_reason: String,
    /// Hold the answer back for this long: guessing must be slow.
    pub delay: Option<Duration>,
}

/// Whom a refusal is worded for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Audience {
    LocalCli,
    RemoteCli,
    Ui,
    Other,
}

impl Audience {
    pub fn of(client: &ClientInfo, local: bool) -> Self {
        match client.id {
            ClientId::Cli if local => Self::LocalCli,
            ClientId::Cli => Self::RemoteCli,
            ClientId::OpenclawControlUi | ClientId::WebchatUi | ClientId::Webchat => Self::Ui,
            _ => Self::Other,
        }
    }
}

/// Which shared secret a gateway asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SharedKind {
    Token,
    Password,
}

/// Why a device must be approved first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PairingReason {
    NotPaired,
    RoleUpgrade,
    ScopeUpgrade,
    MetadataUpgrade,
}

impl Refusal {
    fn policy(error: ErrorShape) -> Self {
        let close_reason = error.message.clone();
        Self { error, close_code: close::POLICY, close_reason, delay: None }
    }

    pub fn after(mut self, delay: Duration) -> Self {
        if !delay.is_zero() {
            self.delay = Some(self.delay.unwrap_or_default().max(delay));
        }
        self
    }

    pub fn invalid_role() -> Self {
        Self::policy(ErrorShape::invalid("invalid role"))
    }

    pub fn protocol(min: u64, max: u64) -> Self {
        let details = json!({
            "code": "PROTOCOL_MISMATCH",
            "clientMinProtocol": min,
            "clientMaxProtocol": max,
            "expectedProtocol": PROTOCOL_VERSION,
            "minimumProbeProtocol": MINIMUM_PROBE_PROTOCOL,
        });
        let error = ErrorShape::invalid("protocol mismatch").with_details(details);
        Self { close_code: close::PROTOCOL, ..Self::policy(error) }
    }

    pub fn origin(missing: bool) -> Self {
        let reason = if missing { "origin missing or invalid" } else { "origin not allowed" };
        let message = "origin not allowed (open the Control UI from the gateway host or allow it in \
                       gateway.controlUi.allowedOrigins)";
        let details = json!({"code": "CONTROL_UI_ORIGIN_NOT_ALLOWED", "reason": reason});
        Self::policy(ErrorShape::invalid(message).with_details(details))
    }

    pub fn device_proof(error: DeviceAuthError) -> Self {
        let details = json!({"code": error.code(), "reason": error.reason()});
        Self::policy(ErrorShape::invalid(error.to_string()).with_details(details))
    }

    pub fn device_identity_required(ui: bool) -> Self {
        if ui {
            let message = "control ui requires device identity (use HTTPS or localhost secure context)";
            let details = json!({"code": "CONTROL_UI_DEVICE_IDENTITY_REQUIRED"});
            return Self::policy(ErrorShape::invalid(message).with_details(details));
        }
        let details = json!({"code": "DEVICE_IDENTITY_REQUIRED"});
        Self::policy(ErrorShape::not_paired("device identity required").with_details(details))
    }

    pub fn secret_missing(kind: SharedKind, audience: Audience) -> Self {
        let (noun, code, reason) = match kind {
            SharedKind::Token => ("token", "AUTH_TOKEN_MISSING", "token_missing"),
            SharedKind::Password => ("password", "AUTH_PASSWORD_MISSING", "password_missing"),
        };
        let message = format!("gateway {noun} missing ({})", hint(kind, audience));
        Self::unauthorized(&message, code, reason, "update_auth_configuration", false)
    }

    /// `has_device`: the client could try a device token that it stored earlier.
    pub fn secret_mismatch(kind: SharedKind, audience: Audience, has_device: bool) -> Self {
        let (noun, code, reason) = match kind {
            SharedKind::Token => ("token", "AUTH_TOKEN_MISMATCH", "token_mismatch"),
            SharedKind::Password => ("password", "AUTH_PASSWORD_MISMATCH", "password_mismatch"),
        };
        let retry = has_device && kind == SharedKind::Token;
        let next = if retry { "retry_with_device_token" } else { "update_auth_credentials" };
        let message = format!("gateway {noun} mismatch ({})", hint(kind, audience));
        Self::unauthorized(&message, code, reason, next, retry)
    }

    pub fn device_token_mismatch() -> Self {
        let message = "device token mismatch (rotate/reissue device token)";
        let next = "update_auth_credentials";
        Self::unauthorized(message, "AUTH_DEVICE_TOKEN_MISMATCH", "device_token_mismatch", next, false)
    }

    pub fn scope_mismatch() -> Self {
        let message = "device token scope mismatch (re-pair or approve scope upgrade)";
        let next = "review_auth_configuration";
        Self::unauthorized(message, "AUTH_SCOPE_MISMATCH", "scope_mismatch", next, false)
    }

    pub fn bootstrap_invalid() -> Self {
        let message = "setup code invalid, expired, revoked, or already used (create a new code; review \
                       `openclaw devices list`)";
        let next = "review_auth_configuration";
        Self::unauthorized(message, "AUTH_BOOTSTRAP_TOKEN_INVALID", "bootstrap_token_invalid", next, false)
    }

    pub fn proxy_identity(reason: &str) -> Self {
        let missing_header = reason.starts_with("trusted_proxy_missing_header_");
        let (message, code) = if missing_header {
            ("the proxy sent no identity header", "AUTH_IDENTITY_HEADER_REQUIRED")
        } else {
            ("the proxy's identity is not accepted", "AUTH_UNAUTHORIZED")
        };
        Self::unauthorized(message, code, reason, "review_auth_configuration", false)
    }

    pub fn rate_limited(wait: Duration) -> Self {
        let message = "too many failed authentication attempts (retry later)";
        let mut refusal =
            Self::unauthorized(message, "AUTH_RATE_LIMITED", "rate_limited", "wait_then_retry", false);
        refusal.error = refusal.error.retry_after(wait);
        refusal
    }

    fn unauthorized(message: &str, code: &str, reason: &str, next: &str, retry_with_device: bool) -> Self {
        let details = json!({
            "code": code,
            "authReason": reason,
            "canRetryWithDeviceToken": retry_with_device,
            "recommendedNextStep": next,
        });
        Self::policy(ErrorShape::invalid(format!("unauthorized: {message}")).with_details(details))
    }

    /// `request_id`: the pending request that an operator can approve.
    pub fn pairing_required(ask: &PairingAsk<'_>, request_id: &str) -> Self {
        let mut details = Map::new();
        details.insert("code".into(), "PAIRING_REQUIRED".into());
        details.insert("reason".into(), ask.reason.as_str().into());
        details.insert("requestId".into(), request_id.into());
        details.insert("remediationHint".into(), ask.reason.hint().into());
        if ask.wait {
            // The client waits for the approval by itself; others stop.
            details.insert("recommendedNextStep".into(), "wait_then_retry".into());
            details.insert("retryable".into(), true.into());
            details.insert("pauseReconnect".into(), false.into());
        }
        details.insert("deviceId".into(), ask.device_id.into());
        details.insert("requestedRole".into(), ask.role.as_str().into());
        if !ask.scopes.is_empty() {
            details.insert("requestedScopes".into(), json!(ask.scopes));
        }
        if let Some((roles, scopes)) = ask.approved {
            details.insert("approvedRoles".into(), json!(roles));
            details.insert("approvedScopes".into(), json!(scopes));
        }
        let message = format!("pairing required: {}", ask.reason.sentence());
        let close_reason = format!("{message} (requestId: {request_id})");
        let error = ErrorShape::not_paired(message).with_details(Value::Object(details));
        Self { close_reason, ..Self::policy(error) }
    }

    pub fn ui_build(gateway_build: &str) -> Self {
        let message = "protocol mismatch: Control UI updated; reload this page to continue";
        let details = json!({
            "code": "PROTOCOL_MISMATCH", "gatewayBuildId": gateway_build, "reloadRequired": true,
        });
        let mut error = ErrorShape::unavailable(message).with_details(details);
        error.retryable = Some(false);
        Self::policy(error)
    }

    /// Nothing was decided: the gateway can't reach its state.
    pub fn unavailable(message: &str) -> Self {
        let error = ErrorShape::unavailable(message).retry_after(Duration::from_millis(500));
        Self { close_code: close::AGAIN, ..Self::policy(error) }
    }
}

/// What a device asked for that needs approval.
#[derive(Debug, Clone, Copy)]
pub struct PairingAsk<'a> {
    pub reason: PairingReason,
    pub device_id: &'a str,
    pub role: Role,
    pub scopes: &'a Scopes,
    /// What the device holds already, if it is paired.
    pub approved: Option<(&'a [Role], &'a Scopes)>,
    /// Whether asking again soon is of use.
    pub wait: bool,
}

impl PairingReason {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotPaired => "not-paired",
            Self::RoleUpgrade => "role-upgrade",
            Self::ScopeUpgrade => "scope-upgrade",
            Self::MetadataUpgrade => "metadata-upgrade",
        }
    }

    fn sentence(self) -> &'static str {
        match self {
            Self::NotPaired => "device is not approved yet",
            Self::RoleUpgrade => "device is asking for a higher role than currently approved",
            Self::ScopeUpgrade => "device is asking for more scopes than currently approved",
            Self::MetadataUpgrade => "device identity changed and must be re-approved",
        }
    }

    fn hint(self) -> &'static str {
        match self {
            Self::NotPaired => "Approve this device from the pending pairing requests.",
            Self::RoleUpgrade => "Review the requested role upgrade, then approve the pending request.",
            Self::ScopeUpgrade => "Review the requested scopes, then approve the pending upgrade.",
            Self::MetadataUpgrade => "Review the refreshed device details, then approve the pending request.",
        }
    }
}

fn hint(kind: SharedKind, audience: Audience) -> &'static str {
    match (kind, audience) {
        (SharedKind::Token, Audience::LocalCli) => "use this gateway's gateway.auth.token or pair the device",
        (SharedKind::Token, Audience::RemoteCli) => "set gateway.remote.token to match gateway.auth.token",
        (SharedKind::Token, Audience::Ui) => "open the dashboard URL and paste the token in its settings",
        (SharedKind::Token, Audience::Other) => "provide gateway auth token",
        (SharedKind::Password, Audience::LocalCli) => "use this gateway's gateway.auth.password",
        (SharedKind::Password, Audience::RemoteCli) => {
            "set gateway.remote.password to match gateway.auth.password"
        }
        (SharedKind::Password, Audience::Ui) => "enter the password in the dashboard's settings",
        (SharedKind::Password, Audience::Other) => "provide gateway auth password",
    }
}
