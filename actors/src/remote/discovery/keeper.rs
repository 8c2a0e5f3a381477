//! Starts and stops the beacon as the settings and the listeners say.

use super::Announcement;
use super::beacon::Beacon;
use crate::Gateway;
use crate::supervise::{ChildSpec, Intensity, Slot, StartChild, StopChild, Supervisor};
use actix::{Actor, AsyncContext, Context, WrapFuture};

const BEACON: &str = "mdns";

/// The branch of the tree that lets the gateway be found.
pub fn branch(gateway: &Gateway) -> ChildSpec<Supervisor> {
    let slot = Slot::default();
    let (gateway, supervisor) = (gateway.clone(), slot.clone());
    let furnish = move |branch: Supervisor| {
        let (gateway, supervisor) = (gateway.clone(), supervisor.clone());
        let keeper = move || Keeper { gateway: gateway.clone(), supervisor: supervisor.clone() };
        // A network that carries no multicast is no reason to stop the gateway: back-off alone slows the tries.
        branch.intensity(Intensity::unlimited()).child(ChildSpec::new("keeper", keeper))
    };
    ChildSpec::supervisor("discovery", furnish).at(&slot)
}

struct Keeper {
    gateway: Gateway,
    supervisor: Slot<Supervisor>,
}

impl Actor for Keeper {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        let keeping = keep(self.gateway.clone(), self.supervisor.clone());
        context.spawn(keeping.into_actor(self));
    }
}

async fn keep(gateway: Gateway, supervisor: Slot<Supervisor>) {
    let (mut settings, mut known) = (gateway.settings.subscribe(), gateway.whereabouts.subscribe());
    // What an earlier keeper started is not known here.
    stop(&supervisor).await;
    let mut running = None;
    loop {
        let wanted = Announcement::on_lan(&settings.borrow_and_update(), &known.borrow_and_update());
        if wanted != running {
            stop(&supervisor).await;
            if let Some(announcement) = wanted.clone() {
                start(&supervisor, announcement).await;
            }
            running = wanted;
        }
        let changed = tokio::select! {
            changed = settings.changed() => changed,
            changed = known.changed() => changed,
        };
        if changed.is_err() {
            return;
        }
    }
}

async fn start(supervisor: &Slot<Supervisor>, announcement: Announcement) {
    let beacon = ChildSpec::new(BEACON, move || Beacon::new(announcement.clone())).drains();
    match supervisor.send(StartChild::new(beacon)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::error!(%error, "the beacon did not start"),
        Err(error) => tracing::error!(%error, "the beacon did not start"),
    }
}

async fn stop(supervisor: &Slot<Supervisor>) {
    let _ = supervisor.send(StopChild { name: BEACON.to_owned() }).await;
}
