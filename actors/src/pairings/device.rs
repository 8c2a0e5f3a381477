//! What is known of devices: the paired ones, and those that ask to be.

use super::token::{IssuedToken, TokenRecord};
use serde::{Deserialize, Serialize};
use tidegate_protocol::device_auth::normalised;
use tidegate_protocol::{Role, Scopes};

/// How long a request waits for an answer after the device asked last.
pub const REQUEST_LIFETIME_MS: i64 = 5 * 60 * 1000;

/// A device as it described itself in a connect whose signature covered all of this.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeviceClaim {
    pub device_id: String,
    pub public_key: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub display_name: Option<String>,
    pub platform: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_family: Option<String>,
    pub client_id: String,
    pub client_mode: String,
    /// The role it asked for last.
    pub role: Role,
}

/// A device that waits for an operator. One a device: what it asks for later is merged in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PairingRequest {
    pub request_id: String,
    #[serde(flatten)]
    pub claim: DeviceClaim,
    pub roles: Vec<Role>,
    pub scopes: Scopes,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote_ip: Option<String>,
    pub silent: bool,
    /// The device is paired already and asks for more.
    pub is_repair: bool,
    pub ts: i64,
    /// When the device asked last; not part of what operators see.
    #[serde(skip)]
    pub asked_at_ms: i64,
}

/// A paired device.
#[derive(Debug, Clone)]
pub struct DeviceRecord {
    pub claim: DeviceClaim,
    pub operator_label: Option<String>,
    pub roles: Vec<Role>,
    /// Approved for the operator role.
    pub scopes: Scopes,
    pub approved_via: String,
    pub created_at_ms: i64,
    pub approved_at_ms: i64,
    pub last_seen_at_ms: Option<i64>,
    pub last_seen_reason: Option<String>,
    pub tokens: Vec<TokenRecord>,
}

impl PairingRequest {
    pub fn is_expired(&self, now_ms: i64) -> bool {
        now_ms.saturating_sub(self.asked_at_ms) >= REQUEST_LIFETIME_MS
    }

    /// Whether approving this request also grants what `other` asks for, for the same device as it is now.
    pub fn includes(&self, other: &Self) -> bool {
        other.roles.iter().all(|role| self.roles.contains(role))
            && other.scopes.names().iter().all(|name| self.scopes.names().contains(name))
            && self.claim.is_same_kind(&other.claim)
            && self.is_repair == other.is_repair
    }
}

impl DeviceClaim {
    /// Whether platform and family are what they were: a key that moved to another kind of machine needs a person's
    /// eyes.
    pub fn is_same_kind(&self, other: &Self) -> bool {
        normalised(Some(&self.platform)) == normalised(Some(&other.platform))
            && normalised(self.device_family.as_deref()) == normalised(other.device_family.as_deref())
    }
}

impl DeviceRecord {
    pub fn device_id(&self) -> &str {
        &self.claim.device_id
    }

    /// The token of a role that is approved and not revoked.
    pub fn live_token(&self, role: Role) -> Option<&TokenRecord> {
        let mut tokens = self.tokens.iter();
        tokens.find(|token| token.role == role && token.revoked_at_ms.is_none())
    }

    /// The record as it is once `claim` is approved for `roles` and `scopes`, on top of what it held before.
    /// `issue` makes the token of a role that has none.
    pub fn approved(
        before: Option<&Self>,
        approval: Approval<'_>,
        issue: impl Fn(Role) -> std::io::Result<IssuedToken>,
    ) -> std::io::Result<Self> {
        let Approval { claim, roles, scopes, via, now_ms } = approval;
        let mut record = before.cloned().unwrap_or_else(|| Self {
            claim: claim.clone(),
            operator_label: None,
            roles: vec![],
            scopes: Scopes::none(),
            approved_via: String::new(),
            created_at_ms: now_ms,
            approved_at_ms: now_ms,
            last_seen_at_ms: None,
            last_seen_reason: None,
            tokens: vec![],
        });
        record.claim = claim.clone();
        record.approved_via = via.to_owned();
        record.approved_at_ms = now_ms;
        for role in roles {
            if !record.roles.contains(role) {
                record.roles.push(*role);
            }
        }
        if record.roles.contains(&Role::Operator) {
            record.scopes = record.scopes.union(scopes);
        }
        for role in roles {
            if record.live_token(*role).is_none() {
                let token = issue(*role)?;
                record.tokens.retain(|old| old.role != *role);
                record.tokens.push(token.record(*role, now_ms));
            }
        }
        record.align_token_scopes();
        Ok(record)
    }

    /// The record with a new token in the place of a role's old one, and perhaps fewer scopes on it.
    pub fn rotated(&self, role: Role, token: &IssuedToken, scopes: Scopes, now_ms: i64) -> Self {
        let mut record = self.clone();
        for old in record.tokens.iter_mut().filter(|old| old.role == role) {
            let created_at_ms = old.created_at_ms;
            *old = TokenRecord {
                scopes: scopes.clone(),
                created_at_ms,
                rotated_at_ms: Some(now_ms),
                ..token.record(role, now_ms)
            };
        }
        record
    }

    /// The record with a role's token made void. The role stays approved on paper, so that asking for it again is
    /// seen as what it is: an upgrade.
    pub fn revoked(&self, role: Role, now_ms: i64) -> Self {
        let mut record = self.clone();
        for token in record.tokens.iter_mut().filter(|token| token.role == role) {
            token.revoked_at_ms = Some(now_ms);
        }
        record
    }

    /// The record without a role, or `None` if it was the only one.
    pub fn without_role(&self, role: Role) -> Option<Self> {
        let mut record = self.clone();
        record.roles.retain(|held| *held != role);
        record.tokens.retain(|token| token.role != role);
        if let Some(left) = record.roles.first() {
            record.claim.role = *left;
        }
        (!record.roles.is_empty()).then_some(record)
    }

    /// Whether its owner vouched for it so firmly that what it first offers as a node needs no second approval: an
    /// admin made the code that it showed, or its key was read on a machine of the owner's.
    pub fn is_vouched_for(&self) -> bool {
        matches!(self.approved_via.as_str(), "bootstrap" | "ssh-verified")
    }

    fn align_token_scopes(&mut self) {
        for token in self.tokens.iter_mut().filter(|token| token.role == Role::Operator) {
            token.scopes = self.scopes.clone();
        }
    }
}

/// What is approved, and how.
#[derive(Debug, Clone, Copy)]
pub struct Approval<'a> {
    pub claim: &'a DeviceClaim,
    pub roles: &'a [Role],
    pub scopes: &'a Scopes,
    /// `silent`, `owner`, `bootstrap`, `trusted-cidr` or `ssh-verified`.
    pub via: &'a str,
    pub now_ms: i64,
}
