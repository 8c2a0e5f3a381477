//! Nodes as the rest of the gateway meets them: a real registry, a real store, and sockets played by hand.

mod calls;
mod pairing;
mod wire;

use super::*;
use crate::connection::{Caller, KillSwitch, Outbound, Outgoing, Outgoings};
use crate::gateway::Gateway;
use crate::settings::{Settings, SettingsHandle, StatePaths};
use crate::store::Store;
use actix::Actor;
use futures_util::StreamExt;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tidegate_protocol::hello::AuthMethod;
use tidegate_protocol::{Role, Scopes};

const WHICH: &[&str] = &["system.which", "system.run"];

fn gateway_on(store: Store) -> Gateway {
    let gateway = Gateway::new(SettingsHandle::new(Settings::default(), StatePaths::new("unused")), store);
    let registry = NodeRegistry::new(gateway.clone()).start();
    gateway.nodes.set(registry);
    gateway
}

fn gateway() -> Gateway {
    gateway_on(Store::temporary().unwrap())
}

/// A node's end of a socket.
struct Socket {
    node_id: String,
    conn_id: String,
    caller: Arc<Caller>,
    frames: Outgoings,
    gateway: Gateway,
}

/// A caller and what is sent to it.
fn caller(role: Role, conn_id: &str, device_id: Option<&str>, scopes: &[&str]) -> (Arc<Caller>, Outgoings) {
    let kill: KillSwitch = Arc::new(|| ());
    let (outbound, frames) = Outbound::new(conn_id.into(), kill);
    let client = json!({
        "id": if role == Role::Node { "node-host" } else { "cli" }, "version": "1", "platform": "linux",
        "deviceFamily": "Linux", "mode": if role == Role::Node { "node" } else { "cli" },
        "displayName": device_id.map(|id| format!("name of {id}")),
    });
    let caller = Caller {
        conn_id: conn_id.into(),
        role,
        scopes: scopes.iter().copied().collect(),
        client: serde_json::from_value(client).unwrap(),
        caps: vec!["system".into()],
        device_id: device_id.map(str::to_owned),
        local: true,
        vouched_for: false,
        peer: "127.0.0.1".parse().unwrap(),
        auth_method: AuthMethod::Token,
        outbound,
        connected_at_ms: 1,
        revoked: false.into(),
        ticket: Default::default(),
        last_words: Default::default(),
    };
    (Arc::new(caller), frames)
}

async fn connect(gateway: &Gateway, node_id: &str, conn_id: &str, commands: &[&str]) -> Socket {
    let (caller, frames) = caller(Role::Node, conn_id, Some(node_id), &[]);
    let declared = NodeDeclaration {
        caps: caller.caps.clone(),
        commands: commands.iter().map(|name| (*name).to_owned()).collect(),
        ..NodeDeclaration::default()
    };
    let newcomer = introduce(gateway, &caller, declared).await.unwrap();
    arrive(gateway, &caller, newcomer);
    // Handled twice: when this is answered, the first time is over.
    gateway.nodes.send(NodeUp { node_id: node_id.into(), conn_id: conn_id.into() }).await.unwrap();
    Socket { node_id: node_id.into(), conn_id: conn_id.into(), caller, frames, gateway: gateway.clone() }
}

async fn approve(gateway: &Gateway, node_id: &str) {
    let pending = pairing_list(gateway).pending;
    let request_id = pending.iter().find(|pending| pending.node_id == node_id).unwrap().request_id.clone();
    let scopes: Scopes = ["operator.admin"].into_iter().collect();
    gateway.nodes.send(ApproveSurface { request_id, scopes }).await.unwrap().unwrap();
}

async fn approved(gateway: &Gateway, node_id: &str, conn_id: &str) -> Socket {
    let mut socket = connect(gateway, node_id, conn_id, WHICH).await;
    approve(gateway, node_id).await;
    assert_eq!(socket.event("node.pair.resolved").await["decision"], "approved");
    socket
}

impl Socket {
    /// The next frame, which must be this event.
    async fn event(&mut self, name: &str) -> Value {
        let next = tokio::time::timeout(Duration::from_secs(20), self.frames.next()).await;
        let Ok(Some(Outgoing::Text(text))) = next else { panic!("no {name}, but {next:?}") };
        let frame: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(frame["event"], name, "{frame}");
        assert_eq!(frame.get("seq"), None);
        frame["payload"].clone()
    }

    async fn request(&mut self) -> Value {
        self.event("node.invoke.request").await
    }

    fn is_silent(&mut self) -> bool {
        futures_util::FutureExt::now_or_never(self.frames.next()).is_none()
    }

    fn answer(&self, request: &Value, payload_json: &str) -> bool {
        let answer = Answer { ok: true, payload_json: Some(payload_json.into()), ..Answer::default() };
        self.gateway.node_table.calls().complete(request["id"].as_str().unwrap(), &self.node_id, answer)
    }

    fn fail(&self, request: &Value, code: &str) {
        let error = NodeError { code: Some(code.into()), message: Some("said the node".into()) };
        let answer = Answer { error: Some(error), ..Answer::default() };
        self.gateway.node_table.calls().complete(request["id"].as_str().unwrap(), &self.node_id, answer);
    }

    fn close(self) {
        leave(&self.gateway, &self.node_id, &self.conn_id);
    }
}

fn ask(node: &str, command: &str, params: Value, key: &str) -> InvokeNode {
    InvokeNode {
        node: node.into(),
        command: command.into(),
        params: Some(RawValue::from_string(params.to_string()).unwrap()),
        timeout: DEFAULT_TIMEOUT,
        idempotency_key: key.into(),
        session_key: None,
        origin: InvokeOrigin::Operator {
            scopes: ["operator.write"].into_iter().collect(),
            device: None,
            conn_id: "operator".into(),
            approving_helper: false,
        },
    }
}

fn shown(gateway: &Gateway, node_id: &str) -> NodeView {
    gateway.node_table.view(node_id, &gateway.settings.get().gateway.nodes, true).unwrap()
}

fn which(node: &str, key: &str) -> InvokeNode {
    ask(node, "system.which", json!({ "bins": ["ls"] }), key)
}

fn start(gateway: &Gateway, ask: InvokeNode) -> tokio::task::JoinHandle<Outcome> {
    let courier = Courier::of(gateway);
    tokio::spawn(async move { courier.invoke(ask).await })
}
