//! What happens by the clock: ticks, health pictures, housekeeping.

use crate::Gateway;
use crate::agent;
use crate::audit;
use crate::clock::now_ms;
use crate::events::Audience;
use crate::rpc;
use actix::{Actor, AsyncContext, Context, WrapFuture};
use serde_json::json;
use std::time::Duration;
use tidegate_protocol::limits::TICK_INTERVAL;

const HEALTH_INTERVAL: Duration = Duration::from_secs(60);
const HOUSEKEEPING_INTERVAL: Duration = Duration::from_secs(3600);

/// See the module.
pub struct Pulse {
    gateway: Gateway,
}

impl Pulse {
    /// The pulse of a gateway.
    pub fn new(gateway: Gateway) -> Self {
        Self { gateway }
    }
}

impl Actor for Pulse {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        context.run_interval(TICK_INTERVAL, |pulse, _| {
            pulse.gateway.broadcast_droppable("tick", &json!({"ts": now_ms()}), Audience::All);
        });
        context.run_interval(HEALTH_INTERVAL, |pulse, context| {
            context.spawn(rpc::announce_health(pulse.gateway.clone()).into_actor(pulse));
        });
        context.run_interval(audit::FLUSH_INTERVAL, |pulse, context| {
            context.spawn(write_audit(pulse.gateway.clone()).into_actor(pulse));
        });
        context.run_interval(HOUSEKEEPING_INTERVAL, |pulse, context| {
            context.spawn(keep_house(pulse.gateway.clone()).into_actor(pulse));
        });
    }
}

async fn write_audit(gateway: Gateway) {
    if let Err(error) = gateway.audit.flush(&gateway.store).await {
        tracing::warn!(%error, "the audit log could not be written");
    }
}

async fn keep_house(gateway: Gateway) {
    if let Err(error) = gateway.store.prune_ingress().await {
        tracing::warn!(%error, "old messages could not be removed");
    }
    if let Err(error) = gateway.store.prune_outbox().await {
        tracing::warn!(%error, "old answers could not be removed");
    }
    if let Err(error) = gateway.store.prune_node_calls().await {
        tracing::warn!(%error, "old node calls could not be removed");
    }
    agent::prune_media(&gateway.settings).await;
}
