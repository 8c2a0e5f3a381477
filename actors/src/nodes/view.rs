//! A node as `node.list` and the agent see it.

use super::policy::CommandPolicy;
use super::table::{Known, NodeConnection, NodeTable};
use crate::pairings::{ApprovalState, Surface};
use crate::settings::gateway::NodeSettings;
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;

/// One entry of `node.list`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeView {
    pub node_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub display_name: Option<String>,
    pub platform: String,
    pub version: String,
    pub client_id: String,
    pub client_mode: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device_family: Option<String>,
    pub caps: Vec<String>,
    /// What can be called now (or could, if it were connected): declared, approved, and inside the policy.
    pub commands: Vec<String>,
    /// Whether the node hosts agent sessions of its own: none does here.
    pub session_host: bool,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub permissions: BTreeMap<String, bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_stats: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_plugin_tools: Option<Vec<Value>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path_env: Option<String>,
    pub approval_state: ApprovalState,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pending_request_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pending_declared_caps: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pending_declared_commands: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connected_at_ms: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_connected_at_ms: Option<i64>,
    pub last_seen_at_ms: i64,
    pub last_seen_reason: String,
    pub approved_at_ms: i64,
    pub paired: bool,
    pub connected: bool,
}

impl NodeTable {
    /// Every known node. `pending`: also what waits for approval, which is for those who may approve.
    pub fn views(&self, settings: &NodeSettings, pending: bool) -> Vec<NodeView> {
        self.ids().iter().filter_map(|id| self.view(id, settings, pending)).collect()
    }

    /// One known node.
    pub fn view(&self, node_id: &str, settings: &NodeSettings, pending: bool) -> Option<NodeView> {
        let known = self.known(node_id)?.clone();
        let connection = self.connection(node_id);
        Some(view(known, connection.as_deref(), settings, pending))
    }
}

fn view(
    known: Known,
    connection: Option<&NodeConnection>,
    settings: &NodeSettings,
    pending: bool,
) -> NodeView {
    let callable = callable(&known, connection, settings);
    let approval_state = known.record.approval_state(known.request.is_some());
    let waits =
        known.request.filter(|_| pending).map(|request| (request.request_id, request.surface.sorted()));
    let (pending_request_id, pending_surface) = waits.unzip();
    let (pending_declared_caps, pending_declared_commands) =
        pending_surface.map(|surface| (surface.caps, surface.commands)).unzip();
    let record = known.record;
    NodeView {
        node_id: record.node_id,
        display_name: record.display_name,
        platform: record.platform,
        version: record.version,
        client_id: record.client_id,
        client_mode: record.client_mode,
        device_family: record.device_family,
        caps: callable.caps,
        commands: callable.commands,
        session_host: false,
        permissions: connection.map(|live| live.permissions.clone()).unwrap_or_default(),
        host_stats: record.host_stats,
        node_plugin_tools: connection.map(|live| live.published(|published| published.tools.clone())),
        path_env: connection.and_then(|live| live.path_env.clone()),
        approval_state,
        pending_request_id,
        pending_declared_caps,
        pending_declared_commands,
        connected_at_ms: connection.map(|live| live.connected_at_ms),
        last_connected_at_ms: record.last_connected_at_ms,
        last_seen_at_ms: record.last_seen_at_ms,
        last_seen_reason: record.last_seen_reason,
        approved_at_ms: record.approved_at_ms.unwrap_or(record.created_at_ms),
        paired: true,
        connected: connection.is_some(),
    }
}

/// What may be called on a node, by the same judgement that every call goes through.
fn callable(known: &Known, connection: Option<&NodeConnection>, settings: &NodeSettings) -> Surface {
    let Some(approved) = &known.record.approved else { return Surface::default() };
    let declared = connection.map_or(approved, |live| &live.declared);
    let policy = CommandPolicy(settings);
    let mut both = approved.both(declared);
    let label = &known.record.platform;
    both.commands
        .retain(|command| policy.permits(label, known.platform, declared, approved, command).is_ok());
    both
}
