//! The floor: passes `node.invoke` to a node and its result back, and does nothing else. One thread.

use futures_util::{SinkExt, StreamExt};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};

pub const FLAG: &str = "--relay";

/// Where nodes connect: their id follows.
pub const NODE_PATH: &str = "/node/";

type Outbound = UnboundedSender<String>;

#[derive(Default)]
struct Relay {
    nodes: RefCell<HashMap<String, Outbound>>,
    /// Who asked, and under which id.
    pending: RefCell<HashMap<u64, (Outbound, String)>>,
    next: Cell<u64>,
}

#[derive(Deserialize)]
struct Frame<'a> {
    id: &'a str,
    method: &'a str,
    #[serde(borrow)]
    params: &'a RawValue,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Invoke<'a> {
    node_id: &'a str,
    command: &'a str,
    #[serde(borrow)]
    params: &'a RawValue,
}

#[derive(Deserialize)]
struct Outcome<'a> {
    id: &'a str,
    #[serde(borrow, rename = "payloadJSON")]
    payload: &'a RawValue,
}

pub fn serve(port: u16) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        let relay = Rc::new(Relay::default());
        while let Ok((stream, _)) = listener.accept().await {
            stream.set_nodelay(true).ok();
            tokio::task::spawn_local(connection(Rc::clone(&relay), stream));
        }
    });
}

#[allow(clippy::result_large_err)]
async fn connection(relay: Rc<Relay>, stream: TcpStream) {
    let mut path = String::new();
    let see = |request: &Request, response: Response| -> Result<Response, ErrorResponse> {
        path = request.uri().path().to_owned();
        Ok(response)
    };
    let Ok(socket) = tokio_tungstenite::accept_hdr_async(stream, see).await else { return };
    let (sink, mut frames) = socket.split();
    let (outbound, queue) = unbounded_channel();
    tokio::task::spawn_local(write(sink, queue));
    if let Some(node) = path.strip_prefix(NODE_PATH) {
        relay.nodes.borrow_mut().insert(node.to_owned(), outbound.clone());
    }
    while let Some(Ok(Message::Text(text))) = frames.next().await {
        if relay.pass(&text, &outbound).is_none() {
            eprintln!("the relay cannot read {text}");
        }
    }
}

async fn write(mut sink: impl SinkExt<Message> + Unpin, mut queue: UnboundedReceiver<String>) {
    while let Some(text) = queue.recv().await {
        sink.feed(Message::text(text)).await.ok();
        while let Ok(text) = queue.try_recv() {
            sink.feed(Message::text(text)).await.ok();
        }
        sink.flush().await.ok();
    }
}

impl Relay {
    fn pass(&self, text: &str, from: &Outbound) -> Option<()> {
        let frame: Frame<'_> = serde_json::from_str(text).ok()?;
        match frame.method {
            "node.invoke" => self.to_node(&frame, from),
            _ => self.back(&frame),
        }
    }

    fn to_node(&self, frame: &Frame<'_>, from: &Outbound) -> Option<()> {
        let Invoke { node_id, command, params } = serde_json::from_str(frame.params.get()).ok()?;
        let id = self.next.get();
        self.next.set(id + 1);
        self.pending.borrow_mut().insert(id, (from.clone(), frame.id.to_owned()));
        let params = serde_json::to_string(params.get()).ok()?;
        let event = format!(
            r#"{{"type":"event","event":"node.invoke.request","payload":{{"id":"{id}","nodeId":"{node_id}","command":"{command}","paramsJSON":{params}}}}}"#
        );
        self.nodes.borrow().get(node_id)?.send(event).ok()
    }

    fn back(&self, frame: &Frame<'_>) -> Option<()> {
        let Outcome { id, payload } = serde_json::from_str(frame.params.get()).ok()?;
        let (asker, request) = self.pending.borrow_mut().remove(&id.parse().ok()?)?;
        let payload: String = serde_json::from_str(payload.get()).ok()?;
        asker
            .send(format!(
                r#"{{"type":"res","id":"{request}","ok":true,"payload":{{"ok":true,"payload":{payload}}}}}"#
            ))
            .ok()
    }
}
