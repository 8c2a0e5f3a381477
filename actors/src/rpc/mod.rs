//! The methods: a table says name, who may call it, and what answers.
//!
//! The table checks role and scope; a handler only ever sees a caller who may call it.

mod agent;
mod agents;
mod audit;
mod call;
mod channels;
mod chat;
pub mod config;
mod device;
mod device_setup;
mod exec_approvals;
mod history;
mod ids;
mod logs;
mod message;
mod node;
mod node_relay;
mod node_side;
mod pace;
mod sessions;
mod status;
mod table;

pub use call::{Call, Payload, Reply, json};
pub use status::{Readiness, announce_health, health, model_configured, readiness};
pub use table::{Access, Handler, Method, Refused, advertised, dispatch};

/// Events that `hello-ok` announces.
pub const EVENTS: &[&str] = &[
    "connect.challenge",
    "tick",
    "presence",
    "health",
    "shutdown",
    "chat",
    "agent",
    "session.message",
    "session.tool",
    "session.approval",
    "sessions.changed",
    "channels.status",
    "config.changed",
    "node.pair.requested",
    "node.pair.resolved",
    "node.invoke.request",
    "node.invoke.cancel",
    "node.hostStats",
    "node.runnerInventory.changed",
    "device.pair.requested",
    "device.pair.resolved",
    "device.pair.changed",
    "device.pair.setup.completed",
    "exec.approval.requested",
    "exec.approval.resolved",
    "voicewake.changed",
    "voicewake.routing.changed",
    "outbox.unknown",
];

/// Every family, in the order that `hello-ok` lists them.
const FAMILIES: &[&[Method]] = &[
    status::METHODS,
    chat::METHODS,
    sessions::METHODS,
    agent::METHODS,
    node::METHODS,
    node_side::METHODS,
    node_relay::METHODS,
    config::METHODS,
    logs::METHODS,
    audit::METHODS,
    device::METHODS,
    device_setup::METHODS,
    channels::METHODS,
    message::METHODS,
    agents::METHODS,
    exec_approvals::METHODS,
];

fn families() -> impl Iterator<Item = &'static Method> {
    FAMILIES.iter().copied().flatten()
}
