//! Approving what a node may be asked to do: a second step after the pairing of its device.
//!
//! Every change is on the disk before anybody hears of it. Changes go one after another; calls to nodes
//! never wait for them.

use super::platform::Platform;
use super::policy::CommandPolicy;
use super::table::NodeConnection;
use crate::clock::now_ms;
use crate::events::Audience;
use crate::gateway::Gateway;
use crate::pairings::{NodeRecord, PairedView, PendingView, Surface, SurfaceRequest};
use crate::store::StoreError;
use serde::Serialize;
use tidegate_protocol::limits::close;
use tidegate_protocol::{ErrorShape, Scope, Scopes};

/// A request whose node did not come back for this long is dropped.
const EXPIRES_AFTER_MS: i64 = 30 * 24 * 3600 * 1000;
/// Longest name of a node.
const LONGEST_NAME: usize = 128;

/// Payload of `node.pair.resolved`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Resolved<'a> {
    request_id: &'a str,
    node_id: &'a str,
    decision: &'static str,
    ts: i64,
}

/// `node.pair.approve`'s answer.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Approved {
    pub request_id: String,
    pub node: PairedView,
}

/// `node.pair.reject`'s answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Rejected {
    pub request_id: String,
    pub node_id: String,
}

/// `node.pair.list`'s answer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PairingList {
    pub pending: Vec<PendingView>,
    pub paired: Vec<PairedView>,
}

/// What a node's arrival asks for.
enum Wish {
    /// Nothing new.
    Nothing,
    /// It waits already.
    Waiting(SurfaceRequest),
    /// More than was approved.
    More(SurfaceRequest),
}

/// Looks at what a node declares now and lets it wait for approval where that is new or wider.
pub(super) async fn notice(gateway: &Gateway, connection: &NodeConnection) {
    let node_id = &*connection.node_id;
    let outcome = match known(gateway, node_id) {
        // The usual case, and after a restart hundreds of them at once: nothing to decide, no turn to take.
        Some((record, None)) if matches!(wish(gateway, connection, &record, None), Wish::Nothing) => {
            gateway.store.touch_node(record).await
        }
        Some(_) => decide(gateway, connection).await,
        None => Ok(()),
    };
    if let Err(error) = outcome {
        tracing::error!(node = node_id, %error, "node surface could not be stored");
    }
}

/// As [`notice`] for a node that is not connected yet, where its wish is new and an operator must decide. `true` if it
/// waits for that now.
pub(super) async fn ask_ahead(gateway: &Gateway, connection: &NodeConnection) -> bool {
    let is_new = |(record, old): (NodeRecord, Option<SurfaceRequest>)| {
        matches!(wish(gateway, connection, &record, old.as_ref()), Wish::More(_))
    };
    if !known(gateway, &connection.node_id).is_some_and(is_new) {
        return false;
    }
    let _turn = gateway.node_table.ledger().lock().await;
    let Some((record, old)) = known(gateway, &connection.node_id) else { return false };
    let Wish::More(new) = wish(gateway, connection, &record, old.as_ref()) else { return false };
    if is_granted_unasked(gateway, connection, &record) {
        // The node hears of that, which it can't before its hello.
        return false;
    }
    match ask(gateway, connection, record, old, new).await {
        Ok(()) => true,
        Err(error) => {
            tracing::error!(node = &*connection.node_id, %error, "node surface could not be stored");
            false
        }
    }
}

async fn decide(gateway: &Gateway, connection: &NodeConnection) -> Result<(), StoreError> {
    let _turn = gateway.node_table.ledger().lock().await;
    let Some((record, request)) = known(gateway, &connection.node_id) else { return Ok(()) };
    match (wish(gateway, connection, &record, request.as_ref()), request) {
        (Wish::Nothing, None) => gateway.store.touch_node(record).await,
        (Wish::Nothing, Some(unneeded)) => {
            settle(gateway, record).await?;
            resolved(gateway, &unneeded.request_id, &unneeded.node_id, "rejected");
            Ok(())
        }
        (Wish::Waiting(request), _) if is_granted_unasked(gateway, connection, &record) => {
            grant_unasked(gateway, record, request).await
        }
        (Wish::Waiting(request), _) => {
            gateway.store.save_node_request(record.clone(), request.clone()).await?;
            announce(&record, &request);
            set_request(gateway, &record.node_id, Some(request));
            Ok(())
        }
        (Wish::More(new), old) => ask(gateway, connection, record, old, new).await,
    }
}

/// Drops what waits for a node, on the disk and then in memory.
async fn settle(gateway: &Gateway, record: NodeRecord) -> Result<(), StoreError> {
    let node_id = record.node_id.clone();
    gateway.store.settle_node_request(record).await?;
    set_request(gateway, &node_id, None);
    Ok(())
}

/// Only this field: the node may have come back, or sent its statistics, while the disk was written.
fn set_request(gateway: &Gateway, node_id: &str, request: Option<SurfaceRequest>) {
    if let Some(mut known) = gateway.node_table.known_mut(node_id) {
        known.request = request;
    }
}

fn wish(
    gateway: &Gateway,
    connection: &NodeConnection,
    record: &NodeRecord,
    request: Option<&SurfaceRequest>,
) -> Wish {
    let settings = gateway.settings.get();
    let platform = Platform::of(&record.platform, record.device_family.as_deref());
    let surface = CommandPolicy(&settings.gateway.nodes).approvable(platform, &connection.declared);
    if record.approved.as_ref().is_some_and(|approved| approved.covers(&surface)) {
        return Wish::Nothing;
    }
    let now = now_ms();
    match request {
        Some(waiting) if waiting.surface.same_as(&surface) => {
            Wish::Waiting(SurfaceRequest { asked_at_ms: now, ..waiting.clone() })
        }
        _ => Wish::More(SurfaceRequest {
            request_id: uuid::Uuid::new_v4().to_string(),
            node_id: record.node_id.clone(),
            surface,
            // Only a hint for whoever decides: nothing is approved because of it.
            silent: connection.local && record.approved.is_none(),
            created_at_ms: now,
            asked_at_ms: now,
        }),
    }
}

async fn ask(
    gateway: &Gateway,
    connection: &NodeConnection,
    record: NodeRecord,
    old: Option<SurfaceRequest>,
    new: SurfaceRequest,
) -> Result<(), StoreError> {
    if is_granted_unasked(gateway, connection, &record) {
        if let Some(old) = old {
            resolved(gateway, &old.request_id, &old.node_id, "rejected");
        }
        return grant_unasked(gateway, record, new).await;
    }
    gateway.store.save_node_request(record.clone(), new.clone()).await?;
    if let Some(old) = old {
        resolved(gateway, &old.request_id, &old.node_id, "rejected");
    }
    announce(&record, &new);
    set_request(gateway, &record.node_id, Some(new.clone()));
    gateway.broadcast("node.pair.requested", &record.pending_view(&new), Audience::Scope(Scope::Pairing));
    Ok(())
}

/// Whether this node gets what it asks for without a question.
fn is_granted_unasked(gateway: &Gateway, connection: &NodeConnection, record: &NodeRecord) -> bool {
    let settings = gateway.settings.get();
    let by_settings = connection.local && settings.gateway.nodes.pairing.approve_local_surface;
    // The first only: what a node adds later is a wish like any other.
    let vouched_for = connection.vouched_for && record.approved.is_none();
    by_settings || vouched_for
}

async fn grant_unasked(
    gateway: &Gateway,
    record: NodeRecord,
    request: SurfaceRequest,
) -> Result<(), StoreError> {
    tracing::info!(node = %record.node_id, "node surface approved without asking");
    grant(gateway, record, &request.request_id, request.surface).await.map(drop)
}

/// Says in the log what the owner must type, since a newcomer looks there first.
fn announce(record: &NodeRecord, request: &SurfaceRequest) {
    tracing::warn!(
        node = record.display_name.as_deref().unwrap_or(&record.node_id),
        commands = request.surface.commands.len(),
        approve = %format_args!("tidegate nodes approve {}", request.request_id),
        "node waits for approval of its commands"
    );
}

async fn grant(
    gateway: &Gateway,
    mut record: NodeRecord,
    request_id: &str,
    surface: Surface,
) -> Result<Option<PairedView>, StoreError> {
    record.approved = Some(surface);
    record.approved_at_ms = Some(now_ms());
    gateway.store.settle_node_request(record.clone()).await?;
    if let Some(mut known) = gateway.node_table.known_mut(&record.node_id) {
        known.record.approved.clone_from(&record.approved);
        known.record.approved_at_ms = record.approved_at_ms;
        known.request = None;
    }
    resolved(gateway, request_id, &record.node_id, "approved");
    Ok(record.paired_view())
}

/// Lets a waiting surface in, if the approver holds what that takes.
pub(super) async fn approve(
    gateway: &Gateway,
    request_id: &str,
    scopes: &Scopes,
) -> Result<Approved, ErrorShape> {
    let _turn = gateway.node_table.ledger().lock().await;
    let (record, request) = waiting(gateway, request_id)?;
    if let Some(missing) = request.surface.approval_scopes().into_iter().find(|scope| !scopes.holds(scope)) {
        return Err(ErrorShape::missing_scope(missing));
    }
    let node = grant(gateway, record, request_id, request.surface).await?;
    tracing::info!(node = %request.node_id, "node surface approved");
    let node = node.ok_or_else(|| ErrorShape::unavailable("the approval was not kept"))?;
    Ok(Approved { request_id: request_id.to_owned(), node })
}

/// Turns a waiting surface down. What was approved before stays.
pub(super) async fn reject(gateway: &Gateway, request_id: &str) -> Result<Rejected, ErrorShape> {
    let _turn = gateway.node_table.ledger().lock().await;
    let (record, request) = waiting(gateway, request_id)?;
    settle(gateway, record).await?;
    resolved(gateway, request_id, &request.node_id, "rejected");
    Ok(Rejected { request_id: request_id.to_owned(), node_id: request.node_id })
}

/// Forgets a node: nothing it says counts any more, and its sockets are closed. `false`: it was not known.
pub(super) async fn forget(gateway: &Gateway, node_id: &str) -> Result<bool, ErrorShape> {
    let _turn = gateway.node_table.ledger().lock().await;
    let table = &gateway.node_table;
    if table.known(node_id).is_none() {
        return Ok(false);
    }
    // First in memory: a call that is on its way must not win against the removal.
    table.forget(node_id);
    for socket in table.sockets(node_id) {
        table.disconnect(node_id, &socket.conn_id);
        socket.sink.close(close::DEVICE_REMOVED, "device removed");
    }
    gateway.store.delete_node(node_id).await?;
    resolved(gateway, "", node_id, "removed");
    tracing::info!(node = node_id, "node removed");
    Ok(true)
}

/// Gives a node the name that people will see.
pub(super) async fn rename(gateway: &Gateway, node_id: &str, name: &str) -> Result<(), ErrorShape> {
    let name = name.trim();
    if name.is_empty() || name.chars().count() > LONGEST_NAME || name.chars().any(char::is_control) {
        return Err(ErrorShape::invalid("displayName must be 1 to 128 readable characters"));
    }
    let _turn = gateway.node_table.ledger().lock().await;
    let (mut record, _) = known(gateway, node_id).ok_or_else(|| ErrorShape::invalid("unknown nodeId"))?;
    record.display_name = Some(name.to_owned());
    record.renamed = true;
    gateway.store.save_node(record).await?;
    if let Some(mut known) = gateway.node_table.known_mut(node_id) {
        known.record.display_name = Some(name.to_owned());
        known.record.renamed = true;
    }
    Ok(())
}

/// Drops requests whose nodes have long been away.
pub(super) async fn expire(gateway: &Gateway) {
    let _turn = gateway.node_table.ledger().lock().await;
    let before = now_ms() - EXPIRES_AFTER_MS;
    for node_id in gateway.node_table.ids() {
        let Some((record, Some(request))) = known(gateway, &node_id) else { continue };
        if request.asked_at_ms >= before || gateway.node_table.connection(&node_id).is_some() {
            continue;
        }
        if let Err(error) = settle(gateway, record).await {
            tracing::warn!(%error, "expired node request was not dropped");
            return;
        }
        resolved(gateway, &request.request_id, &node_id, "rejected");
    }
}

/// Everything that waits and everything that was approved.
pub fn list(gateway: &Gateway) -> PairingList {
    let mut list = PairingList { pending: Vec::new(), paired: Vec::new() };
    for node_id in gateway.node_table.ids() {
        let Some((record, request)) = known(gateway, &node_id) else { continue };
        list.pending.extend(request.map(|request| record.pending_view(&request)));
        list.paired.extend(record.paired_view());
    }
    list.pending.sort_by_key(|pending| std::cmp::Reverse(pending.ts));
    list
}

fn known(gateway: &Gateway, node_id: &str) -> Option<(NodeRecord, Option<SurfaceRequest>)> {
    let known = gateway.node_table.known(node_id)?;
    Some((known.record.clone(), known.request.clone()))
}

fn waiting(gateway: &Gateway, request_id: &str) -> Result<(NodeRecord, SurfaceRequest), ErrorShape> {
    let unknown = || ErrorShape::invalid("unknown requestId");
    let node_id = gateway.node_table.node_of_request(request_id).ok_or_else(unknown)?;
    match known(gateway, &node_id) {
        Some((record, Some(request))) if request.request_id == request_id => Ok((record, request)),
        _ => Err(unknown()),
    }
}

/// Tells those who may approve, and the node itself.
fn resolved(gateway: &Gateway, request_id: &str, node_id: &str, decision: &'static str) {
    let payload = Resolved { request_id, node_id, decision, ts: now_ms() };
    gateway.broadcast("node.pair.resolved", &payload, Audience::Scope(Scope::Pairing));
    for socket in gateway.node_table.sockets(node_id) {
        socket.event("node.pair.resolved", &payload);
    }
}
