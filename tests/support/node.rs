//! A node that a test plays by hand: paired, its surface approved, its invokes answered one by one.

use super::{Connect, Gateway, Identity, Socket, eventually};
use serde_json::{Value, json};

/// A connected node and the key that it is known by.
pub struct Node {
    pub identity: Identity,
    pub socket: Socket,
}

impl Node {
    /// Connects a new device as a node that declares these commands; its surface is not approved yet.
    pub async fn connect(gateway: &Gateway, commands: &[&str]) -> Self {
        Self::reconnect(gateway, Identity::new(), commands).await
    }

    /// Connects a known device.
    pub async fn reconnect(gateway: &Gateway, identity: Identity, commands: &[&str]) -> Self {
        let connect = Connect::node(commands).token(&gateway.token()).device(&identity);
        let socket = connect.to(gateway.port).await.session();
        Self { identity, socket }
    }

    /// A node whose declared commands an administrator approved.
    pub async fn approved(gateway: &Gateway, commands: &[&str]) -> Self {
        let mut node = Self::connect(gateway, commands).await;
        approve(gateway, &node.id()).await;
        node.socket.event("node.pair.resolved").await;
        node
    }

    pub fn id(&self) -> String {
        self.identity.id()
    }

    /// The next invoke that the gateway hands over.
    pub async fn request(&mut self) -> Value {
        self.socket.event("node.invoke.request").await
    }

    /// Answers an invoke with a payload; returns what the gateway said to it.
    pub async fn reply(&mut self, request: &Value, payload: Value) -> Result<Value, Value> {
        let params = json!({
            "id": request["id"], "nodeId": request["nodeId"], "ok": true, "payloadJSON": payload.to_string(),
        });
        self.socket.call("node.invoke.result", params).await
    }

    /// Answers an invoke with an error.
    pub async fn fail(&mut self, request: &Value, code: &str, message: &str) -> Result<Value, Value> {
        let params = json!({
            "id": request["id"], "nodeId": request["nodeId"], "ok": false,
            "error": {"code": code, "message": message},
        });
        self.socket.call("node.invoke.result", params).await
    }
}

/// Approves the pending surface of this node, as soon as there is one.
pub async fn approve(gateway: &Gateway, node_id: &str) -> Value {
    let mut operator = gateway.operator().await;
    let request = eventually("the node's pending surface", async || {
        let list = operator.ok("node.pair.list", json!({})).await;
        let pending = list["pending"].as_array().unwrap().iter().find(|entry| entry["nodeId"] == node_id);
        pending.map(|entry| entry["requestId"].clone())
    })
    .await;
    operator.ok("node.pair.approve", json!({"requestId": request})).await
}

/// The params of a `node.invoke` with an idempotency key of its own.
pub fn invoke(node_id: &str, command: &str, params: Value) -> Value {
    json!({
        "nodeId": node_id, "command": command, "params": params,
        "idempotencyKey": uuid::Uuid::new_v4().to_string(),
    })
}
