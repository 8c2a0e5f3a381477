//! The supervision tree, in start order.

use crate::Gateway;
use crate::agent::{Agent, Arrived};
use crate::channels;
use crate::devices::{Devices, TokenKey};
use crate::events::EventHub;
use crate::nodes::NodeRegistry;
use crate::pulse::Pulse;
use crate::remote;
use crate::store::{FirstThreads, StoreKeeper, StoreThreads};
use crate::supervise::{ChildSpec, Intensity, Supervisor, Watched};
use actix::Addr;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// How often the parts that everything leans on are asked whether they still answer.
const PROBE: Duration = Duration::from_secs(30);

/// How long they may take: a decision of theirs may wait for the disk.
const PATIENCE: Duration = Duration::from_secs(60);

/// Starts everything. Too many failures bring it all down, and `give_up` hears why.
///
/// # Errors
/// If the key that device tokens are made with can't be read or made.
pub fn start(
    gateway: &Gateway,
    threads: StoreThreads,
    give_up: impl FnOnce(String) + Send + 'static,
) -> io::Result<(Addr<Supervisor>, Watched)> {
    let key = TokenKey::load_or_create(&gateway.settings.paths().device_token_key())?;
    let first = FirstThreads::new(threads);
    let part = || gateway.clone();

    Ok(Supervisor::new(&gateway.tree)
        .child(store(part(), first))
        .child(events(part()).at(&gateway.events).probed(PROBE, PATIENCE))
        .child(devices(part(), key).at(&gateway.devices).probed(PROBE, PATIENCE))
        .child(nodes(part()).at(&gateway.nodes).probed(PROBE, PATIENCE))
        .child(agent(part()).at(&gateway.agent).probed(PROBE, PATIENCE))
        .child(channels(gateway))
        .child(sessions().at(&gateway.sessions))
        .child(remote::branch(gateway))
        .child(pulse(part()))
        .on_give_up(give_up)
        .run())
}

fn store(gateway: Gateway, first: FirstThreads) -> ChildSpec<StoreKeeper> {
    ChildSpec::new("store", move || StoreKeeper::new(gateway.store.clone(), first.clone()))
}

fn events(gateway: Gateway) -> ChildSpec<EventHub> {
    ChildSpec::new("events", move || EventHub::new(gateway.connections.clone()))
}

fn devices(gateway: Gateway, key: TokenKey) -> ChildSpec<Devices> {
    ChildSpec::new("devices", move || Devices::new(gateway.clone(), key.clone()))
}

fn nodes(gateway: Gateway) -> ChildSpec<NodeRegistry> {
    ChildSpec::new("nodes", move || NodeRegistry::new(gateway.clone()))
}

fn agent(gateway: Gateway) -> ChildSpec<Agent> {
    ChildSpec::new("agent", move || Agent::new(gateway.clone()))
}

/// What people write goes to the agent once it is stored; an agent that is just restarting finds it there.
fn channels(gateway: &Gateway) -> ChildSpec<Supervisor> {
    let agent = gateway.agent.clone();
    channels::branch(gateway, Arc::new(move |row| agent.tell(Arrived(row))))
}

/// Connections end with their sockets and are never restarted: the peer connects again.
fn sessions() -> ChildSpec<Supervisor> {
    ChildSpec::supervisor("sessions", |sessions| sessions.stop_together().intensity(Intensity::unlimited()))
}

fn pulse(gateway: Gateway) -> ChildSpec<Pulse> {
    ChildSpec::new("pulse", move || Pulse::new(gateway.clone()))
}
