//! The registry: nodes come and go here, and what is pending about them is decided here.
//!
//! The actor keeps nothing itself. What it knows is in [`NodeTable`](super::NodeTable) and in the store, so
//! an actor that starts anew goes on where the last one stopped.

use super::pairing::{self, Approved, Rejected};
use super::table::{NodeConnection, NodeSink, Published};
use super::view::NodeView;
use crate::clock::now_ms;
use crate::connection::{Caller, Outbound};
use crate::gateway::Gateway;
use crate::pairings::{NodeRecord, Surface};
use actix::{
    Actor, ActorContext, ActorFutureExt, AsyncContext, Context, ContextFutureSpawner, Handler, Message,
    MessageResult, ResponseFuture, WrapFuture,
};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tidegate_protocol::{ErrorShape, Scopes};

/// How often old keys and ended runs are forgotten.
const SWEEP: Duration = Duration::from_secs(30);
/// How often requests of nodes that stay away are looked at.
const EXPIRY: Duration = Duration::from_secs(3600);

/// What a node says about itself when it connects.
#[derive(Debug, Clone, Default)]
pub struct NodeDeclaration {
    pub caps: Vec<String>,
    pub commands: Vec<String>,
    pub permissions: BTreeMap<String, bool>,
    pub path_env: Option<String>,
}

/// A node's socket was taken in by [`arrive`]: see what it declares, unless that was done before.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct NodeUp {
    pub node_id: String,
    pub conn_id: String,
}

/// A node is about to hear that it is in: have what it asks for waiting by then. `false`: look again at [`NodeUp`].
#[derive(Message)]
#[rtype(result = "bool")]
struct NodeComes(Arc<NodeConnection>);

/// Every known node.
#[derive(Debug, Message)]
#[rtype(result = "Vec<NodeView>")]
pub struct ListNodes;

/// Let a waiting surface in.
#[derive(Debug, Message)]
#[rtype(result = "Result<Approved, ErrorShape>")]
pub struct ApproveSurface {
    pub request_id: String,
    /// What the approver holds.
    pub scopes: Scopes,
}

/// Turn a waiting surface down.
#[derive(Debug, Message)]
#[rtype(result = "Result<Rejected, ErrorShape>")]
pub struct RejectSurface {
    pub request_id: String,
}

/// Forget a node and close its sockets; `false` if it was not known. Its device is somebody else's.
#[derive(Debug, Message)]
#[rtype(result = "Result<bool, ErrorShape>")]
pub struct ForgetNode {
    pub node_id: String,
}

/// Give a node a name.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), ErrorShape>")]
pub struct RenameNode {
    pub node_id: String,
    pub display_name: String,
}

/// See the module.
pub struct NodeRegistry {
    gateway: Gateway,
}

impl NodeRegistry {
    /// A registry over the gateway's table and store.
    pub fn new(gateway: Gateway) -> Self {
        Self { gateway }
    }
}

crate::answers_probes!(NodeRegistry);

impl Actor for NodeRegistry {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        context.set_mailbox_capacity(1024);
        // Nothing is handled before the store was read: a node that came earlier would look like a new one.
        load(self.gateway.clone())
            .into_actor(self)
            .map(|loaded, _, context| match loaded {
                Ok(()) => (),
                Err(error) => {
                    tracing::error!(%error, "known nodes could not be read");
                    context.stop();
                }
            })
            .wait(context);
        context.run_interval(SWEEP, |registry, _| {
            registry.gateway.node_table.once().sweep();
            registry.gateway.node_table.runs().sweep();
        });
        context.run_interval(EXPIRY, |registry, context| {
            let gateway = registry.gateway.clone();
            context.spawn(async move { pairing::expire(&gateway).await }.into_actor(registry));
        });
    }
}

async fn load(gateway: Gateway) -> Result<(), crate::store::StoreError> {
    let table = &gateway.node_table;
    if table.is_first_start() {
        let lost = gateway.store.give_up_node_calls().await?;
        if lost > 0 {
            tracing::warn!(calls = lost, "node calls were on their way when the gateway stopped");
        }
    }
    let (nodes, mut requests) = gateway.store.load_nodes().await?;
    for node in nodes {
        let at = requests.iter().position(|request| request.node_id == node.node_id);
        let request = at.map(|at| requests.swap_remove(at));
        let node_id = node.node_id.clone();
        table.remember(&node_id, |_| (node, request));
    }
    table.mark_started();
    let sockets = table.all_sockets();
    // Sockets that a registry before this one took in.
    actix::spawn(async move {
        for socket in sockets {
            pairing::notice(&gateway, &socket).await;
        }
    });
    Ok(())
}

/// A node that was let in and does not know it yet.
pub struct Newcomer {
    connection: Arc<NodeConnection>,
    /// What it asks for waits on the disk.
    asked: bool,
}

/// Writes down who a node is and what it asks for, before it hears that it is in: then whoever looks because of the
/// node finds its request.
pub async fn introduce(gateway: &Gateway, caller: &Caller, declared: NodeDeclaration) -> Option<Newcomer> {
    let Some(node_id) = &caller.device_id else {
        tracing::error!(conn = caller.conn_id, "a node without a device came in");
        return None;
    };
    if caller.is_revoked() {
        return None;
    }
    let connection = Arc::new(NodeConnection {
        node_id: node_id.as_str().into(),
        conn_id: caller.conn_id.as_str().into(),
        sink: Box::new(caller.outbound.clone()),
        declared: Surface::tidy(&declared.caps, &declared.commands),
        permissions: declared.permissions,
        path_env: declared.path_env,
        local: caller.local,
        vouched_for: caller.vouched_for,
        connected_at_ms: caller.connected_at_ms,
        published: Mutex::new(Published::default()),
    });
    gateway.node_table.remember(node_id, |old| {
        let (old, request) = old.map(|old| (old.record, old.request)).unzip();
        (introduced(old, node_id, caller), request.flatten())
    });
    let asked = gateway.nodes.send(NodeComes(connection.clone())).await.unwrap_or(false);
    Some(Newcomer { connection, asked })
}

/// Takes a node's socket in, at once and whatever the registry is doing; the rest follows.
pub fn arrive(gateway: &Gateway, caller: &Caller, Newcomer { connection, asked }: Newcomer) {
    if caller.is_revoked() {
        return;
    }
    let up = NodeUp { node_id: connection.node_id.to_string(), conn_id: connection.conn_id.to_string() };
    gateway.node_table.connect(connection);
    if !asked {
        // A registry that is just starting looks at every socket by itself.
        gateway.nodes.tell(up);
    }
}

/// Forgets a node's socket, at once: what it carried fails now. A newer socket of the node stays.
pub fn leave(gateway: &Gateway, node_id: &str, conn_id: &str) {
    gateway.node_table.disconnect(node_id, conn_id);
}

impl Handler<NodeComes> for NodeRegistry {
    type Result = ResponseFuture<bool>;

    fn handle(&mut self, NodeComes(connection): NodeComes, _: &mut Self::Context) -> Self::Result {
        let gateway = self.gateway.clone();
        Box::pin(async move { pairing::ask_ahead(&gateway, &connection).await })
    }
}

impl Handler<NodeUp> for NodeRegistry {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, up: NodeUp, _: &mut Self::Context) -> Self::Result {
        let gateway = self.gateway.clone();
        Box::pin(async move {
            if let Some(connection) = gateway.node_table.socket(&up.node_id, &up.conn_id) {
                pairing::notice(&gateway, &connection).await;
            }
        })
    }
}

/// Who the node says it is; its approval and a name that an operator gave it stay.
fn introduced(old: Option<NodeRecord>, node_id: &str, caller: &Caller) -> NodeRecord {
    let now = now_ms();
    let client = &caller.client;
    let declared = NodeRecord {
        node_id: node_id.to_owned(),
        display_name: client.display_name.clone(),
        renamed: false,
        platform: client.platform.clone(),
        device_family: client.device_family.clone(),
        version: client.version.clone(),
        client_id: client.id.as_str().to_owned(),
        client_mode: client.mode.as_str().to_owned(),
        approved: None,
        approved_at_ms: None,
        created_at_ms: now,
        last_connected_at_ms: Some(now),
        last_seen_at_ms: now,
        last_seen_reason: "connect".to_owned(),
        host_stats: None,
    };
    let Some(old) = old else { return declared };
    NodeRecord {
        display_name: if old.renamed { old.display_name } else { declared.display_name },
        renamed: old.renamed,
        approved: old.approved,
        approved_at_ms: old.approved_at_ms,
        created_at_ms: old.created_at_ms,
        host_stats: old.host_stats,
        ..declared
    }
}

impl Handler<ListNodes> for NodeRegistry {
    type Result = MessageResult<ListNodes>;

    fn handle(&mut self, _: ListNodes, _: &mut Self::Context) -> Self::Result {
        let settings = self.gateway.settings.get();
        MessageResult(self.gateway.node_table.views(&settings.gateway.nodes, true))
    }
}

impl Handler<ApproveSurface> for NodeRegistry {
    type Result = ResponseFuture<Result<Approved, ErrorShape>>;

    fn handle(&mut self, ask: ApproveSurface, _: &mut Self::Context) -> Self::Result {
        let gateway = self.gateway.clone();
        Box::pin(async move { pairing::approve(&gateway, &ask.request_id, &ask.scopes).await })
    }
}

impl Handler<RejectSurface> for NodeRegistry {
    type Result = ResponseFuture<Result<Rejected, ErrorShape>>;

    fn handle(&mut self, ask: RejectSurface, _: &mut Self::Context) -> Self::Result {
        let gateway = self.gateway.clone();
        Box::pin(async move { pairing::reject(&gateway, &ask.request_id).await })
    }
}

impl Handler<ForgetNode> for NodeRegistry {
    type Result = ResponseFuture<Result<bool, ErrorShape>>;

    fn handle(&mut self, ask: ForgetNode, _: &mut Self::Context) -> Self::Result {
        let gateway = self.gateway.clone();
        Box::pin(async move { pairing::forget(&gateway, &ask.node_id).await })
    }
}

impl Handler<RenameNode> for NodeRegistry {
    type Result = ResponseFuture<Result<(), ErrorShape>>;

    fn handle(&mut self, ask: RenameNode, _: &mut Self::Context) -> Self::Result {
        let gateway = self.gateway.clone();
        Box::pin(async move { pairing::rename(&gateway, &ask.node_id, &ask.display_name).await })
    }
}

impl NodeSink for Outbound {
    fn send(&self, frame: String) -> bool {
        self.frame(frame).is_ok()
    }

    fn close(&self, code: u16, reason: &str) {
        Outbound::close(self, code, reason);
    }
}
