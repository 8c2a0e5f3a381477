//! Who is known, who is connected, and what is on its way. Plain data beside the registry: a registry that
//! starts anew finds every node still there.

use super::approvals::ExecApprovals;
use super::call::Outcome;
use super::calls::Calls;
use super::names::{self, Candidate, NameError};
use super::once::{Bounds, Once};
use super::platform::Platform;
use super::runs::Runs;
use crate::pairings::{NodeRecord, Surface, SurfaceRequest};
use dashmap::mapref::one::{Ref, RefMut};
use dashmap::{DashMap, Entry};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

/// Where frames for a node go: the bounded queue to its socket, or a fake in tests.
pub trait NodeSink: Send + Sync {
    /// Queues a frame; `false` when the queue is full or the socket is gone.
    fn send(&self, frame: String) -> bool;
    /// Ends the connection with a close code.
    fn close(&self, code: u16, reason: &str);
}

/// One socket of a node.
pub struct NodeConnection {
    pub node_id: Arc<str>,
    pub conn_id: Arc<str>,
    pub sink: Box<dyn NodeSink>,
    /// Everything the node said it has, tidied.
    pub declared: Surface,
    pub permissions: BTreeMap<String, bool>,
    pub path_env: Option<String>,
    pub local: bool,
    /// Whether what it first declares needs no approval of its own.
    pub vouched_for: bool,
    pub connected_at_ms: i64,
    /// Tools and skills the node publishes to the agent, as it sent them.
    pub published: Mutex<Published>,
}

/// What a node publishes besides its commands.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Published {
    pub tools: Vec<Value>,
    pub skills: Vec<Value>,
}

/// A node the gateway knows.
#[derive(Debug, Clone)]
pub struct Known {
    pub record: NodeRecord,
    pub platform: Platform,
    pub request: Option<SurfaceRequest>,
}

/// All of it. Cheap to clone.
#[derive(Clone)]
pub struct NodeTable(Arc<Tables>);

struct Tables {
    known: DashMap<String, Known>,
    /// The sockets of a node, newest last.
    live: DashMap<String, Vec<Arc<NodeConnection>>>,
    calls: Calls,
    once: Once<Outcome>,
    runs: Runs,
    approvals: RwLock<Option<Arc<dyn ExecApprovals>>>,
    /// Held while pairing changes, so that what is stored and what is in memory agree.
    ledger: tokio::sync::Mutex<()>,
    started: AtomicBool,
}

impl Default for NodeTable {
    fn default() -> Self {
        Self(Arc::new(Tables {
            known: DashMap::new(),
            live: DashMap::new(),
            calls: Calls::default(),
            once: Once::new(Bounds::default()),
            runs: Runs::default(),
            approvals: RwLock::new(None),
            ledger: tokio::sync::Mutex::new(()),
            started: AtomicBool::new(false),
        }))
    }
}

impl NodeTable {
    /// Calls that wait for a node.
    pub fn calls(&self) -> &Calls {
        &self.0.calls
    }

    /// Idempotency keys seen lately.
    pub fn once(&self) -> &Once<Outcome> {
        &self.0.once
    }

    /// Programs that nodes run for us.
    pub fn runs(&self) -> &Runs {
        &self.0.runs
    }

    /// One change of pairing at a time; calls never wait for it.
    pub(super) fn ledger(&self) -> &tokio::sync::Mutex<()> {
        &self.0.ledger
    }

    /// Whether the store was not read yet since the process started.
    pub(super) fn is_first_start(&self) -> bool {
        !self.0.started.load(Ordering::Acquire)
    }

    /// The store was read.
    pub(super) fn mark_started(&self) {
        self.0.started.store(true, Ordering::Release);
    }

    /// Says who keeps the exec approvals.
    pub fn set_approvals(&self, approvals: Arc<dyn ExecApprovals>) {
        *self.0.approvals.write().unwrap_or_else(PoisonError::into_inner) = Some(approvals);
    }

    /// Who keeps the exec approvals.
    pub fn approvals(&self) -> Option<Arc<dyn ExecApprovals>> {
        self.0.approvals.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes a socket in; it becomes the one that calls go to.
    pub fn connect(&self, connection: Arc<NodeConnection>) {
        let mut sockets = self.0.live.entry(connection.node_id.to_string()).or_default();
        if !sockets.iter().any(|known| known.conn_id == connection.conn_id) {
            sockets.push(connection);
        }
    }

    /// Forgets one socket, whichever came after it, and fails what it carried. `true` if it was there.
    pub fn disconnect(&self, node_id: &str, conn_id: &str) -> bool {
        let mut found = false;
        if let Some(mut sockets) = self.0.live.get_mut(node_id) {
            let before = sockets.len();
            sockets.retain(|socket| &*socket.conn_id != conn_id);
            found = sockets.len() < before;
        }
        self.0.live.remove_if(node_id, |_, sockets| sockets.is_empty());
        // After the socket has left the table: a call that registers later sees that it is gone.
        self.0.calls.disconnect(conn_id);
        found
    }

    /// The newest socket of a node.
    pub fn connection(&self, node_id: &str) -> Option<Arc<NodeConnection>> {
        self.0.live.get(node_id)?.last().cloned()
    }

    /// One particular socket, if it is still there.
    pub fn socket(&self, node_id: &str, conn_id: &str) -> Option<Arc<NodeConnection>> {
        self.0.live.get(node_id)?.iter().find(|socket| &*socket.conn_id == conn_id).cloned()
    }

    /// Every socket of a node.
    pub fn sockets(&self, node_id: &str) -> Vec<Arc<NodeConnection>> {
        self.0.live.get(node_id).map(|sockets| sockets.clone()).unwrap_or_default()
    }

    /// Every socket of every node.
    pub fn all_sockets(&self) -> Vec<Arc<NodeConnection>> {
        self.0.live.iter().flat_map(|sockets| sockets.value().clone()).collect()
    }

    /// A known node.
    pub fn known(&self, node_id: &str) -> Option<Ref<'_, String, Known>> {
        self.0.known.get(node_id)
    }

    /// A known node, to change it. Never held across an await.
    pub fn known_mut(&self, node_id: &str) -> Option<RefMut<'_, String, Known>> {
        self.0.known.get_mut(node_id)
    }

    /// Writes down a node in one step: what `write` is given is what it replaces.
    pub fn remember(
        &self,
        node_id: &str,
        write: impl FnOnce(Option<Known>) -> (NodeRecord, Option<SurfaceRequest>),
    ) {
        let place = self.0.known.entry(node_id.to_owned());
        let old = match &place {
            Entry::Occupied(place) => Some(place.get().clone()),
            Entry::Vacant(_) => None,
        };
        let (record, request) = write(old);
        let platform = Platform::of(&record.platform, record.device_family.as_deref());
        place.insert(Known { record, platform, request });
    }

    /// Forgets a node.
    pub fn forget(&self, node_id: &str) -> Option<Known> {
        self.0.known.remove(node_id).map(|(_, known)| known)
    }

    /// The ids of all known nodes: connected ones first, then by name and id.
    pub fn ids(&self) -> Vec<String> {
        let mut ids: Vec<(bool, Option<String>, String)> = self
            .0
            .known
            .iter()
            .map(|entry| {
                let away = !self.0.live.contains_key(entry.key());
                (away, entry.record.display_name.as_deref().map(str::to_lowercase), entry.key().clone())
            })
            .collect();
        ids.sort_unstable();
        ids.into_iter().map(|(_, _, id)| id).collect()
    }

    /// The node that holds a pending request.
    pub fn node_of_request(&self, request_id: &str) -> Option<String> {
        let asks =
            |known: &Known| known.request.as_ref().is_some_and(|request| request.request_id == request_id);
        self.0.known.iter().find(|entry| asks(entry.value())).map(|entry| entry.key().clone())
    }

    /// The id of the node that a person means.
    pub fn resolve(&self, name: &str) -> Result<String, NameError> {
        if self.0.known.contains_key(name) {
            return Ok(name.to_owned());
        }
        let nodes: Vec<(String, Option<String>, bool)> = self
            .0
            .known
            .iter()
            .map(|entry| {
                let live = self.0.live.contains_key(entry.key());
                (entry.key().clone(), entry.record.display_name.clone(), live)
            })
            .collect();
        let candidates: Vec<Candidate<'_>> = nodes
            .iter()
            .map(|(node_id, display_name, connected)| Candidate {
                node_id,
                display_name: display_name.as_deref(),
                connected: *connected,
            })
            .collect();
        names::resolve(name, &candidates).map(str::to_owned)
    }
}

impl NodeConnection {
    /// Looks at, or changes, what the node publishes.
    pub fn published<R>(&self, look: impl FnOnce(&mut Published) -> R) -> R {
        look(&mut self.published.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Sends an event to this socket alone.
    pub fn event<T: serde::Serialize>(&self, event: &'static str, payload: &T) -> bool {
        event_frame(event, payload).is_some_and(|frame| self.sink.send(frame))
    }
}

/// The text of an event for one socket: no sequence number.
pub(super) fn event_frame<T: serde::Serialize>(event: &'static str, payload: &T) -> Option<String> {
    #[derive(serde::Serialize)]
    struct Frame<'a, T> {
        r#type: &'static str,
        event: &'static str,
        payload: &'a T,
    }
    let frame = serde_json::to_string(&Frame { r#type: "event", event, payload });
    frame.inspect_err(|error| tracing::error!(%error, event, "event could not be written as json")).ok()
}
