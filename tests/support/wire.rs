//! A raw WebSocket client: any header, any frame, and every close code as it came.

use super::lan::Host;
use super::patience::within;
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::net::SocketAddr;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::{HeaderName, HeaderValue};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

/// An upgrade request before it is sent.
#[derive(Clone, Debug)]
pub struct Upgrade {
    from: Option<Host>,
    to: SocketAddr,
    path: String,
    headers: Vec<(String, String)>,
}

/// The HTTP answer that came in place of an upgrade.
#[derive(Clone, Debug)]
pub struct HttpAnswer {
    pub status: u16,
    pub body: String,
}

impl Upgrade {
    pub fn to(port: u16) -> Self {
        Self::at(SocketAddr::from(([127, 0, 0, 1], port)))
    }

    /// To a gateway at this address.
    pub fn at(to: SocketAddr) -> Self {
        Self { from: None, to, path: "/".into(), headers: Vec::new() }
    }

    /// The machine to connect from.
    pub fn from(mut self, host: &Host) -> Self {
        self.from = Some(host.clone());
        self
    }

    pub fn path(mut self, path: &str) -> Self {
        self.path = path.into();
        self
    }

    /// Adds a header; `Host` replaces the one that goes out otherwise.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    pub fn origin(self, origin: &str) -> Self {
        self.header("Origin", origin)
    }

    /// Opens the socket, or says what HTTP answered.
    pub async fn open(&self) -> Result<Socket, HttpAnswer> {
        let stream = within("a TCP connection", super::http::open(self.from.as_ref(), self.to)).await;
        let stream = stream.map_err(|error| HttpAnswer { status: 0, body: error.to_string() })?;
        let mut request = format!("ws://{}{}", self.to, self.path).into_client_request().unwrap();
        for (name, value) in &self.headers {
            let name: HeaderName = name.parse().unwrap();
            let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
            if name == "host" {
                request.headers_mut().insert(name, value);
            } else {
                request.headers_mut().append(name, value);
            }
        }
        let limits = WebSocketConfig::default().max_message_size(None).max_frame_size(None);
        match within("the upgrade", client_async_with_config(request, stream, Some(limits))).await {
            Ok((stream, _)) => Ok(Socket { stream, kept: VecDeque::new(), next_id: 0 }),
            Err(Error::Http(answer)) => Err(HttpAnswer {
                status: answer.status().as_u16(),
                body: String::from_utf8_lossy(answer.body().as_deref().unwrap_or_default()).into_owned(),
            }),
            Err(error) => Err(HttpAnswer { status: 0, body: error.to_string() }),
        }
    }
}

/// What came over a socket.
#[derive(Clone, Debug, PartialEq)]
pub enum Incoming {
    Frame(Value),
    /// The close frame; 1005 when it carried no code.
    Close {
        code: u16,
        reason: String,
    },
    /// The connection ended without a close frame.
    Gone,
}

/// One open WebSocket. Frames that a test was not waiting for are kept for later.
pub struct Socket {
    stream: WebSocketStream<TcpStream>,
    kept: VecDeque<Value>,
    next_id: u64,
}

impl Socket {
    pub async fn send(&mut self, frame: &Value) {
        self.send_text(&frame.to_string()).await;
    }

    /// Sends text as it is. A peer that has gone shows at the next read.
    pub async fn send_text(&mut self, text: &str) {
        self.send_message(Message::text(text)).await;
    }

    pub async fn send_message(&mut self, message: Message) {
        let _ = within("room to send", self.stream.send(message)).await;
    }

    /// Puts a message into the buffer without flushing it, so that several leave in one write.
    pub async fn feed_text(&mut self, text: &str) {
        let _ = within("room to send", self.stream.feed(Message::text(text))).await;
    }

    pub async fn flush(&mut self) {
        let _ = within("the flush", self.stream.flush()).await;
    }

    /// The TCP stream below, for tests that write bytes of their own.
    pub fn tcp(&mut self) -> &mut TcpStream {
        self.stream.get_mut()
    }

    /// The next frame or the end, in the order of the wire.
    pub async fn read(&mut self) -> Incoming {
        if let Some(frame) = self.kept.pop_front() {
            return Incoming::Frame(frame);
        }
        within("a frame", self.read_stream()).await
    }

    async fn read_stream(&mut self) -> Incoming {
        loop {
            match self.stream.next().await {
                Some(Ok(Message::Text(text))) => {
                    return Incoming::Frame(serde_json::from_str(&text).expect("the gateway sends JSON"));
                }
                Some(Ok(Message::Close(frame))) => {
                    let (code, reason) = frame
                        .map_or((1005, String::new()), |frame| (frame.code.into(), frame.reason.to_string()));
                    return Incoming::Close { code, reason };
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Incoming::Gone,
            }
        }
    }

    /// The first frame that fits; others are kept in order. Fails the test when the socket ends first.
    pub async fn find(&mut self, what: &str, mut fits: impl FnMut(&Value) -> bool) -> Value {
        if let Some(at) = self.kept.iter().position(&mut fits) {
            return self.kept.remove(at).unwrap();
        }
        within(what, async {
            loop {
                match self.read_stream().await {
                    Incoming::Frame(frame) if fits(&frame) => return frame,
                    Incoming::Frame(frame) => self.kept.push_back(frame),
                    end => panic!("the socket ended ({end:?}) before {what}; kept: {:?}", self.kept),
                }
            }
        })
        .await
    }

    /// The payload of the next event of that name.
    pub async fn event(&mut self, name: &str) -> Value {
        let mut frame = self
            .find(&format!("event {name}"), |frame| frame["type"] == "event" && frame["event"] == name)
            .await;
        frame["payload"].take()
    }

    /// The payload of the next event of that name whose payload fits.
    pub async fn event_where(&mut self, name: &str, mut fits: impl FnMut(&Value) -> bool) -> Value {
        let mut frame = self
            .find(&format!("a fitting event {name}"), |frame| {
                frame["type"] == "event" && frame["event"] == name && fits(&frame["payload"])
            })
            .await;
        frame["payload"].take()
    }

    /// Everything that has arrived and was not asked for yet.
    pub fn kept(&self) -> impl Iterator<Item = &Value> {
        self.kept.iter()
    }

    /// Sends a request and returns its id without waiting.
    pub async fn ask(&mut self, method: &str, params: Value) -> String {
        self.next_id += 1;
        let id = format!("{}:test", self.next_id);
        let mut frame = json!({"type": "req", "id": id, "method": method});
        if !params.is_null() {
            frame["params"] = params;
        }
        self.send(&frame).await;
        id
    }

    /// The answer to a request sent before: its payload or its error.
    pub async fn answer(&mut self, id: &str) -> Result<Value, Value> {
        let mut frame = self
            .find(&format!("the answer to {id}"), |frame| frame["type"] == "res" && frame["id"] == id)
            .await;
        if frame["ok"] == true { Ok(frame["payload"].take()) } else { Err(frame["error"].take()) }
    }

    /// Sends a request and waits for its answer.
    pub async fn call(&mut self, method: &str, params: Value) -> Result<Value, Value> {
        let id = self.ask(method, params).await;
        self.answer(&id).await
    }

    /// Calls a method that must succeed.
    pub async fn ok(&mut self, method: &str, params: Value) -> Value {
        self.call(method, params).await.unwrap_or_else(|error| panic!("{method} failed: {error}"))
    }

    /// Calls a method that must be refused.
    pub async fn refused(&mut self, method: &str, params: Value) -> Value {
        match self.call(method, params).await {
            Err(error) => error,
            Ok(payload) => panic!("{method} was not refused: {payload}"),
        }
    }

    /// Reads on until the socket ends; frames on the way are dropped.
    pub async fn end(&mut self) -> Incoming {
        self.kept.clear();
        within("the socket's end", async {
            loop {
                match self.read_stream().await {
                    Incoming::Frame(_) => {}
                    end => return end,
                }
            }
        })
        .await
    }

    /// Closes the way clients do and waits until the peer is gone.
    pub async fn close(mut self) {
        let _ = self.stream.close(None).await;
        let _ = self.end().await;
    }
}
