//! `node.*` for operators: looking at nodes, calling them, deciding about them.

use super::call::{Call, DEVICES, NODES, Reply, json, restarting};
use super::ids;
use super::table::Method;
use crate::clock::now_ms;
use crate::devices;
use crate::nodes::{
    ApproveSurface, Courier, DEFAULT_TIMEOUT, ForgetNode, InvokeError, InvokeNode, InvokeOrigin, NodeView,
    RejectSurface, RenameNode, pairing_list,
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::time::Duration;
use tidegate_protocol::{ErrorShape, Scope};

pub(super) const METHODS: &[Method] = &[
    Method::operator("node.list", Scope::Read, |call| Box::pin(std::future::ready(list(&call)))),
    Method::operator("node.describe", Scope::Read, |call| Box::pin(std::future::ready(describe(&call)))),
    Method::operator("node.invoke", Scope::Write, |call| Box::pin(invoke(call))).while_asked(),
    Method::operator("node.rename", Scope::Pairing, |call| Box::pin(rename(call))),
    Method::operator("node.pair.list", Scope::Pairing, |call| {
        Box::pin(std::future::ready(json(&pairing_list(&call.gateway))))
    }),
    Method::operator("node.pair.approve", Scope::Pairing, |call| Box::pin(approve(call))),
    Method::operator("node.pair.reject", Scope::Pairing, |call| Box::pin(reject(call))),
    Method::operator("node.pair.remove", Scope::Pairing, |call| Box::pin(remove(call))),
];

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct NodeParams {
    node_id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RequestParams {
    request_id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct InvokeParams {
    node_id: String,
    command: String,
    #[serde(default)]
    params: Option<Box<RawValue>>,
    #[serde(default)]
    timeout_ms: Option<u64>,
    #[serde(deserialize_with = "ids::idempotency_key")]
    idempotency_key: String,
    #[serde(default)]
    session_key: Option<String>,
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Named {
    node_id: String,
    display_name: String,
}

#[derive(Serialize)]
struct NodeList {
    ts: i64,
    nodes: Vec<NodeView>,
}

#[derive(Serialize)]
struct Described {
    ts: i64,
    #[serde(flatten)]
    node: NodeView,
}

fn list(call: &Call) -> Reply {
    let settings = call.gateway.settings.get();
    let nodes = call.gateway.node_table.views(&settings.gateway.nodes, call.caller.allows(Scope::Pairing));
    json(&NodeList { ts: now_ms(), nodes })
}

fn describe(call: &Call) -> Reply {
    let NodeParams { node_id } = call.params()?;
    let settings = call.gateway.settings.get();
    let node_id = find(call, &node_id)?;
    let pending = call.caller.allows(Scope::Pairing);
    let node =
        call.gateway.node_table.view(&node_id, &settings.gateway.nodes, pending).ok_or_else(unknown)?;
    json(&Described { ts: now_ms(), node })
}

async fn invoke(call: Call) -> Reply {
    let InvokeParams { node_id, command, params, timeout_ms, idempotency_key, session_key } =
        call.params()?;
    for (path, text) in [("/nodeId", &node_id), ("/command", &command)] {
        if text.trim().is_empty() {
            return Err(call.invalid(path, "must not have fewer than 1 characters"));
        }
    }
    let ask = InvokeNode {
        node: node_id,
        command,
        params,
        timeout: timeout_ms.filter(|ms| *ms > 0).map_or(DEFAULT_TIMEOUT, Duration::from_millis),
        idempotency_key,
        session_key,
        origin: InvokeOrigin::operator(&call.caller),
    };
    let outcome = Courier::of(&call.gateway).invoke(ask).await?;
    let answer = json(&*outcome)?;
    if call.fits(&answer) {
        return Ok(answer);
    }
    // Large output is in it twice, and once is enough.
    let answer = json(&outcome.without_text())?;
    if call.fits(&answer) { Ok(answer) } else { Err(too_large(outcome.command.clone())) }
}

fn too_large(command: String) -> ErrorShape {
    InvokeError::AnswerTooLarge { command }.into()
}

async fn rename(call: Call) -> Reply {
    let Named { node_id, display_name } = call.params()?;
    let node_id = find(&call, &node_id)?;
    let message = RenameNode { node_id: node_id.clone(), display_name: display_name.clone() };
    call.gateway.nodes.send(message).await.map_err(restarting(NODES))??;
    json(&Named { node_id, display_name: display_name.trim().to_owned() })
}

async fn approve(call: Call) -> Reply {
    let RequestParams { request_id } = call.params()?;
    let message = ApproveSurface { request_id, scopes: call.caller.scopes.clone() };
    json(&call.gateway.nodes.send(message).await.map_err(restarting(NODES))??)
}

async fn reject(call: Call) -> Reply {
    let RequestParams { request_id } = call.params()?;
    json(&call.gateway.nodes.send(RejectSurface { request_id }).await.map_err(restarting(NODES))??)
}

async fn remove(call: Call) -> Reply {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Removed {
        node_id: String,
    }
    let NodeParams { node_id } = call.params()?;
    let node_id = find(&call, &node_id)?;
    // First its key to the door, then what it was allowed behind it.
    let device = devices::ForgetNode { device_id: node_id.clone() };
    call.gateway.devices.send(device).await.map_err(restarting(DEVICES))??;
    let message = ForgetNode { node_id: node_id.clone() };
    if !call.gateway.nodes.send(message).await.map_err(restarting(NODES))?? {
        return Err(unknown());
    }
    json(&Removed { node_id })
}

/// The id of the node that the caller means.
pub(super) fn find(call: &Call, name: &str) -> Result<String, ErrorShape> {
    call.gateway.node_table.resolve(name).map_err(|error| match error {
        crate::nodes::NameError::Unknown(_) => unknown(),
        ambiguous => ErrorShape::invalid(ambiguous.to_string()),
    })
}

fn unknown() -> ErrorShape {
    ErrorShape::invalid("unknown nodeId")
}
