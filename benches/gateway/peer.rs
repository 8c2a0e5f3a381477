//! Sockets to the gateway, through the whole handshake, and to the relay, which has none.

use super::process::TOKEN;
use futures_util::{SinkExt, StreamExt};
use serde::Deserialize;
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Value, json};
use std::io;
use tidegate::client::{DeviceIdentity, describe};
use tidegate_protocol::client::{ClientId, ClientMode};
use tidegate_protocol::connect::{Challenge, ConnectAuth, ConnectParams};
use tidegate_protocol::frame;
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

pub type Socket = WebSocketStream<TcpStream>;

/// A frame as far as a load generator has to read it.
#[derive(Deserialize)]
pub struct Incoming<'a> {
    #[serde(borrow, rename = "type")]
    pub kind: &'a str,
    #[serde(borrow, default)]
    pub id: Option<std::borrow::Cow<'a, str>>,
    #[serde(borrow, default)]
    pub event: Option<&'a str>,
    #[serde(default)]
    pub ok: Option<bool>,
    #[serde(borrow, default)]
    pub payload: Option<&'a RawValue>,
}

pub async fn open(port: u16, path: &str) -> io::Result<Socket> {
    let stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.set_nodelay(true)?;
    let url = format!("ws://127.0.0.1:{port}{path}");
    let (socket, _) = tokio_tungstenite::client_async(url, stream).await.map_err(io::Error::other)?;
    Ok(socket)
}

pub async fn operator(port: u16) -> io::Result<Socket> {
    let scopes = ["operator.admin", "operator.read", "operator.write", "operator.pairing"];
    let mut params = params(ClientId::Cli, ClientMode::Cli, "operator");
    params.scopes = scopes.map(str::to_owned).to_vec();
    shake(open(port, "/").await?, params, None).await
}

pub async fn node(port: u16, identity: &DeviceIdentity, commands: &[&str]) -> io::Result<Socket> {
    let mut params = params(ClientId::NodeHost, ClientMode::Node, "node");
    params.commands = commands.iter().map(|&command| command.to_owned()).collect();
    params.caps = vec!["system".to_owned()];
    shake(open(port, "/").await?, params, Some(identity)).await
}

fn params(id: ClientId, mode: ClientMode, role: &str) -> ConnectParams {
    ConnectParams {
        min_protocol: 4,
        max_protocol: 4,
        client: describe(id, mode),
        caps: Vec::new(),
        commands: Vec::new(),
        permissions: Default::default(),
        path_env: None,
        computer_use: None,
        worker_runs: None,
        model_catalog: None,
        role: Some(role.to_owned()),
        scopes: Vec::new(),
        device: None,
        auth: Some(ConnectAuth { token: Some(TOKEN.to_owned()), ..ConnectAuth::default() }),
        locale: None,
        user_agent: None,
    }
}

async fn shake(
    mut socket: Socket,
    mut params: ConnectParams,
    identity: Option<&DeviceIdentity>,
) -> io::Result<Socket> {
    let hello = next(&mut socket).await?;
    let hello: Value = serde_json::from_str(&hello)?;
    let challenge: Challenge = serde_json::from_value(hello["payload"].clone())?;
    params.device = identity.map(|identity| identity.sign(&challenge, &params));
    ask(&mut socket, "connect", &serde_json::to_value(&params)?).await?;
    Ok(socket)
}

/// One call, its answer, and nothing in flight beside it.
pub async fn ask(socket: &mut Socket, method: &str, params: &Value) -> io::Result<Value> {
    let request = frame::request(method, method, Some(&to_raw_value(params)?));
    socket.send(Message::text(request)).await.map_err(io::Error::other)?;
    loop {
        let text = next(socket).await?;
        let frame: Value = serde_json::from_str(&text)?;
        if frame["id"] == method {
            return match frame["ok"] == true {
                true => Ok(frame["payload"].clone()),
                false => Err(io::Error::other(frame["error"].to_string())),
            };
        }
    }
}

/// The next text; an error when the socket ends.
pub async fn next(socket: &mut Socket) -> io::Result<String> {
    loop {
        match socket.next().await {
            Some(Ok(Message::Text(text))) => return Ok(text.as_str().to_owned()),
            Some(Ok(Message::Close(why))) => return Err(io::Error::other(format!("closed: {why:?}"))),
            Some(Ok(_)) => (),
            Some(Err(error)) => return Err(io::Error::other(error)),
            None => return Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

/// Connects a new node and has its commands approved; returns it with its id.
pub async fn approved_node(port: u16, commands: &[&str]) -> (Socket, String) {
    let identity = DeviceIdentity::ephemeral().unwrap();
    let node = node(port, &identity, commands).await.unwrap();
    let mut admin = operator(port).await.unwrap();
    for _ in 0..200 {
        let list = ask(&mut admin, "node.pair.list", &json!({})).await.unwrap();
        let mut pending = list["pending"].as_array().unwrap().iter();
        if let Some(request) = pending.find(|request| request["nodeId"] == identity.id()) {
            let id = json!({"requestId": request["requestId"]});
            ask(&mut admin, "node.pair.approve", &id).await.unwrap();
            return (node, identity.id().to_owned());
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("the node's surface never asked for approval");
}
