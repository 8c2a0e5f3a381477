//! A gateway of a few lines for tests: it speaks just enough of the protocol to be connected to.

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::{WebSocketStream, accept_async, tungstenite::Message};

use super::Endpoint;

pub(crate) type Peer = WebSocketStream<TcpStream>;

/// Listens on a port of its own.
pub(crate) struct FakeGateway {
    listener: TcpListener,
    pub(crate) tick_ms: u64,
}

impl FakeGateway {
    pub(crate) async fn new() -> (Self, Endpoint) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        (Self { listener, tick_ms: 30_000 }, Endpoint::plain("127.0.0.1", port))
    }

    /// Accepts a client up to its `connect`, which it returns.
    pub(crate) async fn meet(&self) -> (Peer, Value) {
        let (socket, _) = self.listener.accept().await.unwrap();
        let mut peer = accept_async(socket).await.unwrap();
        let challenge = json!({"nonce": "n-1", "ts": 1_795_000_000_000_i64, "capabilities": ["x"]});
        tell(&mut peer, json!({"type": "event", "event": "connect.challenge", "payload": challenge})).await;
        let connect = hear(&mut peer).await;
        (peer, connect)
    }

    /// Accepts a client and lets it in.
    pub(crate) async fn welcome(&self) -> Peer {
        self.welcome_with(json!({})).await.0
    }

    /// Lets a client in with more in `hello-ok.auth`; returns also the params of its `connect`.
    pub(crate) async fn welcome_with(&self, auth: Value) -> (Peer, Value) {
        let (mut peer, connect) = self.meet().await;
        let mut hello = json!({
            "type": "hello-ok", "protocol": 4, "server": {"version": "t", "connId": "c"},
            "features": {"methods": [], "events": []},
            "snapshot": {"presence": [], "health": {}, "stateVersion": {"presence": 1, "health": 1}, "uptimeMs": 1},
            "auth": {"role": "operator", "scopes": ["operator.read"]},
            "policy": {"maxPayload": 1000, "maxBufferedBytes": 2000, "tickIntervalMs": self.tick_ms},
        });
        hello["auth"].as_object_mut().unwrap().extend(auth.as_object().unwrap().clone());
        tell(&mut peer, json!({"type": "res", "id": connect["id"], "ok": true, "payload": hello})).await;
        (peer, connect["params"].clone())
    }
}

pub(crate) async fn tell(peer: &mut Peer, frame: Value) {
    peer.send(Message::text(frame.to_string())).await.unwrap();
}

/// The next frame.
pub(crate) async fn hear(peer: &mut Peer) -> Value {
    loop {
        if let Message::Text(text) = peer.next().await.unwrap().unwrap() {
            return serde_json::from_str(&text).unwrap();
        }
    }
}
