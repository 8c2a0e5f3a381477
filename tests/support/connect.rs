//! `connect` requests of every kind of client, and what became of them.

use super::identity::{Identity, PayloadVersion, Signed};
use super::wire::{HttpAnswer, Incoming, Socket, Upgrade};
use serde_json::{Value, json};

/// A `connect` request under construction. It starts as one official client sends it; a test changes what it is about.
#[derive(Clone)]
pub struct Connect<'a> {
    pub params: Value,
    identity: Option<&'a Identity>,
    version: PayloadVersion,
    /// Changes to the device block after it was signed.
    tampering: Vec<(&'static str, Value)>,
    /// Replaces the challenge's nonce or time in what is signed and sent.
    nonce: Option<String>,
    clock_skew_ms: i64,
}

/// A refusal over the WebSocket: the error response, if there was one, and how the socket closed.
#[derive(Clone, Debug)]
pub struct Refused {
    pub error: Value,
    pub code: u16,
    pub reason: String,
}

/// What a connect led to.
pub enum Outcome {
    Hello(Value, Box<Socket>),
    Refused(Refused),
    Http(HttpAnswer),
}

impl<'a> Connect<'a> {
    /// A client of this id and mode with the platform fields of the official Linux clients.
    pub fn client(id: &str, mode: &str) -> Self {
        let params = json!({
            "minProtocol": 4, "maxProtocol": 4,
            "client": {"id": id, "version": "2026.9.6", "platform": "linux", "deviceFamily": "Linux", "mode": mode},
            "role": "operator", "scopes": ["operator.read"], "caps": [],
        });
        Self {
            params,
            identity: None,
            version: PayloadVersion::V3,
            tampering: Vec::new(),
            nonce: None,
            clock_skew_ms: 0,
        }
    }

    pub fn cli() -> Self {
        Self::client("cli", "cli")
    }

    pub fn backend() -> Self {
        Self::client("gateway-client", "backend")
    }

    pub fn test() -> Self {
        Self::client("test", "test")
    }

    pub fn tui() -> Self {
        Self::client("openclaw-tui", "ui")
    }

    /// The Control UI: signs v2 and names no device family.
    pub fn control_ui() -> Self {
        let mut connect = Self::client("openclaw-control-ui", "webchat").payload_version(PayloadVersion::V2);
        let client = connect.params["client"].as_object_mut().unwrap();
        client.remove("deviceFamily");
        client.insert("platform".into(), "Linux x86_64".into());
        connect
    }

    pub fn webchat_ui() -> Self {
        Self::client("webchat-ui", "webchat")
    }

    /// A node host that declares these commands.
    pub fn node(commands: &[&str]) -> Self {
        let mut connect = Self::client("node-host", "node").role("node").scopes(&[]);
        connect.params["caps"] = json!(["system"]);
        connect.params["commands"] = json!(commands);
        connect.params["client"]["displayName"] = json!("test node");
        connect
    }

    pub fn token(self, token: &str) -> Self {
        self.auth("token", token)
    }

    pub fn auth(mut self, field: &str, secret: &str) -> Self {
        self.params["auth"][field] = json!(secret);
        self
    }

    pub fn role(self, role: &str) -> Self {
        self.set("/role", json!(role))
    }

    pub fn scopes(self, scopes: &[&str]) -> Self {
        self.set("/scopes", json!(scopes))
    }

    pub fn protocol(self, min: i64, max: i64) -> Self {
        self.set("/minProtocol", json!(min)).set("/maxProtocol", json!(max))
    }

    /// Sets the value at a JSON pointer whose parent exists.
    pub fn set(mut self, pointer: &str, value: Value) -> Self {
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        self.params.pointer_mut(parent).unwrap()[key] = value;
        self
    }

    pub fn without(mut self, key: &str) -> Self {
        self.params.as_object_mut().unwrap().remove(key);
        self
    }

    pub fn device(mut self, identity: &'a Identity) -> Self {
        self.identity = Some(identity);
        self
    }

    pub fn payload_version(mut self, version: PayloadVersion) -> Self {
        self.version = version;
        self
    }

    pub fn nonce(mut self, nonce: &str) -> Self {
        self.nonce = Some(nonce.into());
        self
    }

    pub fn clock_skew_ms(mut self, skew: i64) -> Self {
        self.clock_skew_ms = skew;
        self
    }

    /// Changes a field of the device block after signing.
    pub fn tampered(mut self, field: &'static str, value: Value) -> Self {
        self.tampering.push((field, value));
        self
    }

    /// The params as they go out, signed for this challenge.
    pub fn params_for(&self, challenge: &Value) -> Value {
        let mut params = self.params.clone();
        if let Some(identity) = self.identity {
            let mut block = identity.block(&self.signed(&params, challenge, &scopes(&params)));
            for (field, value) in &self.tampering {
                block[*field] = value.clone();
            }
            params["device"] = block;
        }
        params
    }

    fn signed<'p>(&'p self, params: &'p Value, challenge: &'p Value, scopes: &'p [String]) -> Signed<'p> {
        let text = |pointer: &str| params.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        let credential = ["token", "deviceToken", "bootstrapToken"]
            .iter()
            .find_map(|field| params["auth"][*field].as_str())
            .unwrap_or_default();
        Signed {
            version: self.version,
            client_id: text("/client/id"),
            client_mode: text("/client/mode"),
            role: params["role"].as_str().unwrap_or("operator"),
            scopes,
            signed_at: challenge["ts"].as_i64().unwrap() + self.clock_skew_ms,
            token: credential,
            nonce: self.nonce.as_deref().unwrap_or_else(|| challenge["nonce"].as_str().unwrap()),
            platform: text("/client/platform"),
            device_family: text("/client/deviceFamily"),
        }
    }

    /// Connects through this upgrade.
    pub async fn over(&self, upgrade: &Upgrade) -> Outcome {
        match upgrade.open().await {
            Err(answer) => Outcome::Http(answer),
            Ok(socket) => self.on(socket).await,
        }
    }

    /// Connects to this port as a direct local client without any extra header.
    pub async fn to(&self, port: u16) -> Outcome {
        self.over(&Upgrade::to(port)).await
    }

    /// Sends the request on an open socket and reads what comes.
    pub async fn on(&self, mut socket: Socket) -> Outcome {
        let challenge = socket.event("connect.challenge").await;
        let frame = json!({"type": "req", "id": "connect", "method": "connect", "params": self.params_for(&challenge)});
        socket.send(&frame).await;
        outcome(socket).await
    }
}

fn scopes(params: &Value) -> Vec<String> {
    params["scopes"]
        .as_array()
        .map(|scopes| scopes.iter().filter_map(|scope| scope.as_str().map(str::to_owned)).collect())
        .unwrap_or_default()
}

/// Reads the answer to a first frame: a hello, or an error and the close that follows it.
pub async fn outcome(mut socket: Socket) -> Outcome {
    let mut error = Value::Null;
    for _ in 0..8 {
        match socket.read().await {
            Incoming::Frame(frame) if frame["type"] == "res" && frame["ok"] == true => {
                return Outcome::Hello(frame["payload"].clone(), Box::new(socket));
            }
            Incoming::Frame(frame) if frame["type"] == "res" => error = frame["error"].clone(),
            Incoming::Frame(_) => {}
            Incoming::Close { code, reason } => return Outcome::Refused(Refused { error, code, reason }),
            Incoming::Gone => return Outcome::Refused(Refused { error, code: 1006, reason: String::new() }),
        }
    }
    panic!("neither a hello nor a close after eight frames");
}

impl Outcome {
    /// The hello and the session, or a failed test.
    pub fn hello(self) -> (Value, Socket) {
        match self {
            Self::Hello(hello, socket) => (hello, *socket),
            Self::Refused(refused) => panic!("refused: {refused:?}"),
            Self::Http(answer) => panic!("refused by HTTP: {answer:?}"),
        }
    }

    pub fn session(self) -> Socket {
        self.hello().1
    }

    /// The refusal, or a failed test.
    pub fn refusal(self) -> Refused {
        match self {
            Self::Refused(refused) => refused,
            Self::Hello(hello, _) => panic!("let in: {}", hello["auth"]),
            Self::Http(answer) => panic!("refused by HTTP: {answer:?}"),
        }
    }
}

impl Refused {
    pub fn detail(&self) -> &str {
        self.error["details"]["code"].as_str().unwrap_or_default()
    }
}
