//! Methods that relay one fixed command to a node: `fs.listDir`, `exec.approvals.node.*`.

use super::call::{Call, Reply};
use super::table::Method;
use crate::nodes::{Courier, DEFAULT_TIMEOUT, InvokeNode, InvokeOrigin};
use serde::Deserialize;
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Value, json};
use tidegate_protocol::{ErrorShape, Scope};

pub(super) const METHODS: &[Method] = &[
    Method::operator("fs.listDir", Scope::Write, |call| Box::pin(list_dir(call))).while_asked(),
    Method::operator("exec.approvals.node.get", Scope::Admin, |call| Box::pin(get_approvals(call)))
        .while_asked(),
    Method::operator("exec.approvals.node.set", Scope::Admin, |call| Box::pin(set_approvals(call))),
];

async fn list_dir(call: Call) -> Reply {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Params {
        #[serde(default)]
        path: Option<String>,
        #[serde(default)]
        node_id: Option<String>,
    }
    let Params { path, node_id } = call.params()?;
    let Some(node_id) = node_id else {
        return Err(
            call.invalid("/nodeId", "is required: this gateway does not list folders of its own host")
        );
    };
    let params = path.map_or_else(|| json!({}), |path| json!({ "path": path }));
    let caller = &call.caller;
    let origin = InvokeOrigin::operator(caller);
    relay(&call, node_id, "fs.listDir", params, origin).await
}

async fn get_approvals(call: Call) -> Reply {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Params {
        node_id: String,
    }
    let Params { node_id } = call.params()?;
    relay(&call, node_id, "system.execApprovals.get", json!({}), InvokeOrigin::Gateway).await
}

async fn set_approvals(call: Call) -> Reply {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Params {
        node_id: String,
        file: Box<RawValue>,
        #[serde(default)]
        base_hash: Option<String>,
    }
    let Params { node_id, file, base_hash } = call.params()?;
    let mut params = json!({ "file": serde_json::from_str::<Value>(file.get()).unwrap_or_default() });
    if let Some(base_hash) = base_hash {
        params["baseHash"] = base_hash.into();
    }
    relay(&call, node_id, "system.execApprovals.set", params, InvokeOrigin::Gateway).await
}

async fn relay(call: &Call, node: String, command: &str, params: Value, origin: InvokeOrigin) -> Reply {
    let params = to_raw_value(&params).map_err(|error| ErrorShape::invalid(error.to_string()))?;
    let ask = InvokeNode {
        node,
        command: command.to_owned(),
        params: Some(params),
        timeout: DEFAULT_TIMEOUT,
        idempotency_key: uuid::Uuid::new_v4().to_string(),
        session_key: None,
        origin,
    };
    Ok(Courier::of(&call.gateway).invoke(ask).await?.payload.clone())
}
