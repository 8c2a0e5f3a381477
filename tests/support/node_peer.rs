//! A gateway of a few lines that one node connects to: what a node does is seen frame by frame, and two node hosts can
//! be asked the same.

use super::patience::within;
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use std::time::{SystemTime, UNIX_EPOCH};
use tidegate_protocol::duplex::{Assembler, Received, Splitter};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{WebSocketStream, accept_async};

pub const TOKEN: &str = "tok-node-peer-91c2";

/// Listens for the node.
pub struct NodeDoor(TcpListener);

impl NodeDoor {
    pub async fn open() -> Self {
        Self(TcpListener::bind("127.0.0.1:0").await.unwrap())
    }

    pub fn port(&self) -> u16 {
        self.0.local_addr().unwrap().port()
    }

    /// Lets the first node in that comes.
    pub async fn welcome(&self) -> NodePeer {
        let (stream, _) = within("the node to connect", self.0.accept()).await.unwrap();
        let socket = accept_async(stream).await.unwrap();
        let mut peer = NodePeer { socket, id: String::new(), commands: Vec::new(), calls: 0 };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
        let nonce = uuid::Uuid::new_v4().to_string();
        peer.tell("connect.challenge", json!({"nonce": nonce, "ts": u64::try_from(now).unwrap()})).await;
        let connect = peer.hear().await;
        peer.id = connect["params"]["device"]["id"].as_str().unwrap().to_owned();
        let commands = connect["params"]["commands"].as_array().unwrap();
        peer.commands = commands.iter().map(|name| name.as_str().unwrap().to_owned()).collect();
        let hello = json!({
            "type": "hello-ok", "protocol": 4, "server": {"version": "2026.9.6", "connId": "c-1"},
            "features": {"methods": [], "events": []},
            "snapshot": {"presence": [], "health": {}, "stateVersion": {"presence": 1, "health": 1}, "uptimeMs": 1},
            "auth": {"role": "node", "scopes": []},
            "policy": {"maxPayload": 26_214_400, "maxBufferedBytes": 52_428_800, "tickIntervalMs": 600_000},
        });
        peer.answer(&connect, hello).await;
        peer
    }
}

/// A node that is connected.
pub struct NodePeer {
    socket: WebSocketStream<TcpStream>,
    pub id: String,
    /// What it declared.
    pub commands: Vec<String>,
    calls: u32,
}

impl NodePeer {
    async fn tell(&mut self, event: &str, payload: Value) {
        self.send(json!({"type": "event", "event": event, "payload": payload})).await;
    }

    async fn answer(&mut self, request: &Value, payload: Value) {
        self.send(json!({"type": "res", "id": request["id"], "ok": true, "payload": payload})).await;
    }

    async fn send(&mut self, frame: Value) {
        self.socket.send(Message::text(frame.to_string())).await.unwrap();
    }

    async fn hear(&mut self) -> Value {
        within("a frame of the node", async {
            loop {
                match self.socket.next().await.expect("the node is connected").unwrap() {
                    Message::Text(text) => return serde_json::from_str(&text).unwrap(),
                    Message::Close(frame) => panic!("the node closed: {frame:?}"),
                    _ => {}
                }
            }
        })
        .await
    }

    /// Asks for a command; what it says then is read through [`Invoke`].
    pub async fn begin(&mut self, command: &str, params: &Value) -> Invoke<'_> {
        self.calls += 1;
        let id = format!("invoke-{}", self.calls);
        let request = json!({
            "id": id, "nodeId": self.id, "command": command, "paramsJSON": params.to_string(), "timeoutMs": 60_000,
            "idempotencyKey": format!("key-{}", self.calls),
        });
        self.tell("node.invoke.request", request).await;
        Invoke { peer: self, id, seq: 0, splitter: Splitter::default(), assembler: Assembler::new(1 << 20) }
    }

    /// Asks for a command that answers without being talked to.
    pub async fn invoke(&mut self, command: &str, params: &Value) -> Outcome {
        self.begin(command, params).await.outcome().await
    }
}

/// What an invoke came to: its payload, or its error.
pub type Outcome = Result<Value, Value>;

/// What a node says of an invoke.
#[derive(Debug)]
pub enum Said {
    Ready,
    Message(Vec<u8>),
    Done(Outcome),
}

/// One invoke under way.
pub struct Invoke<'a> {
    peer: &'a mut NodePeer,
    id: String,
    seq: u64,
    splitter: Splitter,
    assembler: Assembler,
}

impl Invoke<'_> {
    /// Sends a message in frames.
    pub async fn send(&mut self, message: &[u8]) {
        let frames: Vec<String> = self.splitter.split(message).collect();
        for frame in frames {
            self.send_frame(&frame).await;
        }
    }

    pub async fn send_frame(&mut self, frame: &str) {
        let (id, node) = (self.id.clone(), self.peer.id.clone());
        let input = json!({"id": id, "nodeId": node, "seq": self.seq, "payloadJSON": frame});
        self.seq += 1;
        self.peer.tell("node.invoke.input", input).await;
    }

    pub async fn cancel(self) {
        let payload = json!({"invokeId": self.id, "nodeId": self.peer.id});
        self.peer.tell("node.invoke.cancel", payload).await;
    }

    /// The next thing that the node says of this invoke; what it says of others is passed over.
    pub async fn hear(&mut self) -> Said {
        loop {
            let request = self.peer.hear().await;
            let params = &request["params"];
            self.peer.answer(&request, json!({"ok": true})).await;
            if request["method"] == "node.invoke.result" && params["id"] == self.id {
                return Said::Done(match params["ok"].as_bool().unwrap() {
                    true => Ok(serde_json::from_str(params["payloadJSON"].as_str().unwrap()).unwrap()),
                    false => Err(params["error"].clone()),
                });
            }
            let chunk = params["chunk"].as_str().unwrap_or_default();
            if request["method"] != "node.invoke.progress"
                || params["invokeId"] != self.id
                || chunk.is_empty()
            {
                continue;
            }
            match self.assembler.take(chunk).unwrap() {
                Received::Ready => return Said::Ready,
                Received::Message(message) => return Said::Message(message),
                Received::Part => {}
            }
        }
    }

    /// Its end, whatever it says before.
    pub async fn outcome(&mut self) -> Outcome {
        loop {
            if let Said::Done(outcome) = self.hear().await {
                return outcome;
            }
        }
    }
}
