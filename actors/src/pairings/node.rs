//! What the gateway remembers about a node for as long as it is paired.

use super::surface::Surface;
use serde::Serialize;
use serde_json::Value;

/// A known node, connected or not.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeRecord {
    /// The id of the node's device.
    pub node_id: String,
    /// What people call it.
    pub display_name: Option<String>,
    /// An operator chose the name: what the node calls itself no longer matters.
    pub renamed: bool,
    pub platform: String,
    pub device_family: Option<String>,
    pub version: String,
    pub client_id: String,
    pub client_mode: String,
    /// What an operator let in; `None` before the first approval.
    pub approved: Option<Surface>,
    pub approved_at_ms: Option<i64>,
    /// When the node was first seen.
    pub created_at_ms: i64,
    pub last_connected_at_ms: Option<i64>,
    pub last_seen_at_ms: i64,
    pub last_seen_reason: String,
    /// The newest `node.host.stats`, with the time it came.
    pub host_stats: Option<Value>,
}

/// A surface that waits for an operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SurfaceRequest {
    pub request_id: String,
    pub node_id: String,
    /// In the node's order, without what policy would never let through.
    pub surface: Surface,
    /// The node came in over a direct local connection.
    pub silent: bool,
    pub created_at_ms: i64,
    /// When the node last asked for it.
    pub asked_at_ms: i64,
}

/// How far a node's surface is approved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ApprovalState {
    Approved,
    PendingApproval,
    PendingReapproval,
}

/// One line of `node.pair.list`'s `pending`, and the payload of `node.pair.requested`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PendingView {
    pub request_id: String,
    pub node_id: String,
    pub client_id: String,
    pub client_mode: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub display_name: Option<String>,
    pub platform: String,
    pub version: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device_family: Option<String>,
    pub caps: Vec<String>,
    pub commands: Vec<String>,
    pub required_approve_scopes: Vec<&'static str>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub silent: bool,
    pub ts: i64,
}

/// One line of `node.pair.list`'s `paired`, and the `node` of an approval.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PairedView {
    pub node_id: String,
    pub client_id: String,
    pub client_mode: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub display_name: Option<String>,
    pub platform: String,
    pub version: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device_family: Option<String>,
    pub caps: Vec<String>,
    pub commands: Vec<String>,
    pub created_at_ms: i64,
    pub approved_at_ms: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_connected_at_ms: Option<i64>,
    pub last_seen_at_ms: i64,
    pub last_seen_reason: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_host_stats: Option<Value>,
}

impl NodeRecord {
    /// Where this node stands, given what waits.
    pub fn approval_state(&self, pending: bool) -> ApprovalState {
        match (&self.approved, pending) {
            (None, _) => ApprovalState::PendingApproval,
            (Some(_), true) => ApprovalState::PendingReapproval,
            (Some(_), false) => ApprovalState::Approved,
        }
    }

    /// The request as operators see it.
    pub fn pending_view(&self, request: &SurfaceRequest) -> PendingView {
        PendingView {
            request_id: request.request_id.clone(),
            node_id: self.node_id.clone(),
            client_id: self.client_id.clone(),
            client_mode: self.client_mode.clone(),
            display_name: self.display_name.clone(),
            platform: self.platform.clone(),
            version: self.version.clone(),
            device_family: self.device_family.clone(),
            caps: request.surface.caps.clone(),
            commands: request.surface.commands.clone(),
            required_approve_scopes: request.surface.approval_scopes(),
            silent: request.silent,
            ts: request.created_at_ms,
        }
    }

    /// The approved node as operators see it; `None` before the first approval.
    pub fn paired_view(&self) -> Option<PairedView> {
        let approved = self.approved.as_ref()?;
        Some(PairedView {
            node_id: self.node_id.clone(),
            client_id: self.client_id.clone(),
            client_mode: self.client_mode.clone(),
            display_name: self.display_name.clone(),
            platform: self.platform.clone(),
            version: self.version.clone(),
            device_family: self.device_family.clone(),
            caps: approved.caps.clone(),
            commands: approved.commands.clone(),
            created_at_ms: self.created_at_ms,
            approved_at_ms: self.approved_at_ms.unwrap_or(self.created_at_ms),
            last_connected_at_ms: self.last_connected_at_ms,
            last_seen_at_ms: self.last_seen_at_ms,
            last_seen_reason: self.last_seen_reason.clone(),
            last_host_stats: self.host_stats.clone(),
        })
    }
}
