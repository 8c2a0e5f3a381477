//! What every actor and every method can reach.

use crate::agent::Agent;
use crate::agent::approvals::Approvals;
use crate::audit::Audit;
use crate::auth::Limiter;
use crate::auth::budget::PreAuthBudget;
use crate::channels::Channels;
use crate::connection::Connections;
use crate::devices::Devices;
use crate::events::{Audience, Broadcast, EventHub, StateVersions};
use crate::nodes::{NodeRegistry, NodeTable};
use crate::remote::Whereabouts;
use crate::remote::tailscale::Tailscale;
use crate::settings::SettingsHandle;
use crate::store::Store;
use crate::supervise::{Slot, Supervisor, TreeView};
use serde::Serialize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;
use tokio::sync::watch;

/// The gateway's parts, by reference. Cheap to clone; usable from any thread.
#[derive(Clone)]
pub struct Gateway(Arc<Parts>);

/// See [`Gateway`].
pub struct Parts {
    pub settings: SettingsHandle,
    pub store: Store,
    pub events: Slot<EventHub>,
    pub nodes: Slot<NodeRegistry>,
    pub node_table: NodeTable,
    pub devices: Slot<Devices>,
    pub agent: Slot<Agent>,
    /// Commands that wait for a person's yes, and those that got it.
    pub approvals: Approvals,
    /// Wrong secrets, counted at every door; a restart of an actor must not forget them.
    pub limiter: Limiter,
    /// Who was not let in.
    pub audit: Audit,
    /// Sockets that have not said hello.
    pub budget: PreAuthBudget,
    pub sessions: Slot<Supervisor>,
    pub channels: Channels,
    pub connections: Connections,
    /// The way in through the tailnet, if this gateway looks after one.
    pub tailscale: Tailscale,
    /// Where it is to be found, as far as is known by now.
    pub whereabouts: watch::Sender<Whereabouts>,
    pub versions: StateVersions,
    pub tree: TreeView,
    pub started: Instant,
    /// Random, one for each start of the process.
    pub boot_id: String,
    draining: AtomicBool,
}

impl Gateway {
    /// A gateway whose actors are not started yet.
    pub fn new(settings: SettingsHandle, store: Store) -> Self {
        let (node_table, approvals) = (NodeTable::default(), Approvals::default());
        node_table.set_approvals(Arc::new(approvals.clone()));
        Self(Arc::new(Parts {
            settings,
            store,
            events: Slot::default(),
            nodes: Slot::default(),
            node_table,
            devices: Slot::default(),
            agent: Slot::default(),
            approvals,
            limiter: Limiter::default(),
            audit: Audit::default(),
            budget: PreAuthBudget::default(),
            sessions: Slot::default(),
            channels: Channels::default(),
            connections: Connections::default(),
            tailscale: Tailscale::default(),
            whereabouts: watch::Sender::default(),
            versions: StateVersions::default(),
            tree: TreeView::default(),
            started: Instant::now(),
            boot_id: uuid::Uuid::new_v4().to_string(),
            draining: AtomicBool::new(false),
        }))
    }

    /// No new connections from now on: the gateway is about to stop.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Release);
    }

    /// Whether [`Gateway::drain`] was called.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// Sends an event to everyone in `audience`.
    pub fn broadcast(&self, event: &'static str, payload: &impl Serialize, audience: Audience) {
        self.publish(event, payload, audience, false);
    }

    /// As [`Gateway::broadcast`], for events that a lagging connection may miss.
    pub fn broadcast_droppable(&self, event: &'static str, payload: &impl Serialize, audience: Audience) {
        self.publish(event, payload, audience, true);
    }

    fn publish(&self, event: &'static str, payload: &impl Serialize, audience: Audience, droppable: bool) {
        match serde_json::value::to_raw_value(payload) {
            Ok(payload) => self.events.tell(Broadcast { event, payload, audience, droppable, version: None }),
            Err(error) => tracing::error!(event, %error, "an event could not be serialised"),
        }
    }
}

impl std::ops::Deref for Gateway {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}
