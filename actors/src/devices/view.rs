//! Devices and requests as operators see them.

use super::Devices;
use super::rights::CallerRights;
use crate::clock::now_ms;
use crate::pairings::{DeviceClaim, DeviceRecord, PairingRequest, TokenRecord};
use actix::{Context, Handler, Message, MessageResult};
use serde::Serialize;
use tidegate_protocol::{Role, Scopes};

/// Everything that the caller may see; `None` sees all.
#[derive(Debug, Message)]
#[rtype(result = "DeviceList")]
pub struct ListDevices {
    pub rights: Option<CallerRights>,
}

/// Result of `device.pair.list`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DeviceList {
    /// Newest first.
    pub pending: Vec<PairingRequest>,
    /// Approved last, first.
    pub paired: Vec<DeviceView>,
}

/// A paired device.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DeviceView {
    #[serde(flatten)]
    pub claim: DeviceClaim,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operator_label: Option<String>,
    pub roles: Vec<Role>,
    pub scopes: Scopes,
    pub approved_via: String,
    pub created_at_ms: i64,
    pub approved_at_ms: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_seen_at_ms: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_seen_reason: Option<String>,
    /// Only in a list.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connected: Option<bool>,
    pub tokens: Vec<TokenView>,
}

/// A token, without anything that could be used.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TokenView {
    pub role: Role,
    pub scopes: Scopes,
    pub created_at_ms: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rotated_at_ms: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revoked_at_ms: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_used_at_ms: Option<i64>,
}

impl From<&TokenRecord> for TokenView {
    fn from(token: &TokenRecord) -> Self {
        Self {
            role: token.role,
            scopes: token.scopes.clone(),
            created_at_ms: token.created_at_ms,
            rotated_at_ms: token.rotated_at_ms,
            revoked_at_ms: token.revoked_at_ms,
            last_used_at_ms: token.last_used_at_ms,
        }
    }
}

impl From<&DeviceRecord> for DeviceView {
    fn from(record: &DeviceRecord) -> Self {
        Self {
            claim: record.claim.clone(),
            operator_label: record.operator_label.clone(),
            roles: record.roles.clone(),
            scopes: record.scopes.clone(),
            approved_via: record.approved_via.clone(),
            created_at_ms: record.created_at_ms,
            approved_at_ms: record.approved_at_ms,
            last_seen_at_ms: record.last_seen_at_ms,
            last_seen_reason: record.last_seen_reason.clone(),
            connected: None,
            tokens: record.tokens.iter().map(TokenView::from).collect(),
        }
    }
}

impl Handler<ListDevices> for Devices {
    type Result = MessageResult<ListDevices>;

    fn handle(&mut self, ListDevices { rights }: ListDevices, _: &mut Context<Self>) -> Self::Result {
        let visible =
            |device_id: &str| rights.as_ref().is_none_or(|rights: &CallerRights| rights.may_see(device_id));
        let requests = self.book.requests(now_ms()).filter(|asked| visible(&asked.claim.device_id));
        let mut pending: Vec<PairingRequest> = requests.cloned().collect();
        pending.sort_by(|a, b| b.ts.cmp(&a.ts).then_with(|| a.request_id.cmp(&b.request_id)));
        let devices = self.book.devices().filter(|record| visible(record.device_id()));
        let mut paired: Vec<DeviceView> = devices.map(|record| self.listed(record)).collect();
        let age = |view: &DeviceView| (std::cmp::Reverse(view.approved_at_ms), view.claim.device_id.clone());
        paired.sort_by_key(age);
        MessageResult(DeviceList { pending, paired })
    }
}

impl Devices {
    fn listed(&self, record: &DeviceRecord) -> DeviceView {
        let connected = !self.gateway.connections.of_device(record.device_id()).is_empty();
        DeviceView { connected: Some(connected), ..DeviceView::from(record) }
    }
}
