//! From an open socket to `hello-ok`: challenge, signed `connect`, answer.

use std::{sync::Arc, time::Duration};

use futures_util::{SinkExt, StreamExt};
use serde_json::value::{RawValue, to_raw_value};
use tidegate_protocol::{
    ErrorShape, Role, Scope, Scopes,
    client::{ClientId, ClientInfo, ClientMode},
    connect::{Challenge, ConnectAuth, ConnectParams},
    frame,
    hello::HelloOk,
    limits::PROTOCOL_VERSION,
};
use tokio_tungstenite::tungstenite::Message;
use uuid::Uuid;

use super::{ClientError, DeviceIdentity, Endpoint, incoming::Incoming, transport, transport::Socket};

/// How long the whole way to `hello-ok` may take.
const HANDSHAKE: Duration = Duration::from_secs(15);

/// Everything that a connection announces.
#[derive(Debug, Clone)]
pub struct ConnectOptions {
    pub endpoint: Endpoint,
    pub client: ClientInfo,
    pub role: Role,
    pub scopes: Scopes,
    pub caps: Vec<String>,
    /// Commands a node serves.
    pub commands: Vec<String>,
    pub path_env: Option<String>,
    pub auth: ConnectAuth,
    /// Signs the challenge; without one the gateway knows no device.
    pub identity: Option<Arc<DeviceIdentity>>,
    /// From the first packet to `hello-ok`.
    pub timeout: Duration,
}

impl ConnectOptions {
    /// An operator as the command line is one.
    pub fn operator(endpoint: Endpoint, auth: ConnectAuth, scopes: impl IntoIterator<Item = Scope>) -> Self {
        Self {
            endpoint,
            client: describe(ClientId::Cli, ClientMode::Cli),
            role: Role::Operator,
            scopes: scopes.into_iter().map(Scope::as_str).collect(),
            caps: Vec::new(),
            commands: Vec::new(),
            path_env: None,
            auth,
            identity: None,
            timeout: HANDSHAKE,
        }
    }

    /// A node host with its identity; what it serves is added by the caller.
    pub fn node(endpoint: Endpoint, auth: ConnectAuth, identity: Arc<DeviceIdentity>) -> Self {
        Self {
            client: describe(ClientId::NodeHost, ClientMode::Node),
            role: Role::Node,
            identity: Some(identity),
            ..Self::operator(endpoint, auth, [])
        }
    }

    fn params(&self, challenge: &Challenge) -> ConnectParams {
        let ConnectAuth { token, bootstrap_token, device_token, password, .. } = &self.auth;
        for secret in [token, bootstrap_token, device_token, password].into_iter().flatten() {
            tidegate_actors::redaction::hide(secret);
        }
        let mut params = ConnectParams {
            min_protocol: PROTOCOL_VERSION,
            max_protocol: PROTOCOL_VERSION,
            client: self.client.clone(),
            caps: self.caps.clone(),
            commands: self.commands.clone(),
            permissions: Default::default(),
            path_env: self.path_env.clone(),
            computer_use: None,
            worker_runs: None,
            model_catalog: None,
            role: Some(self.role.as_str().to_owned()),
            scopes: self.scopes.names().to_vec(),
            device: None,
            auth: (self.auth != ConnectAuth::default()).then(|| self.auth.clone()),
            locale: None,
            user_agent: None,
        };
        params.device = self.identity.as_ref().map(|identity| identity.sign(challenge, &params));
        params
    }
}

/// This program on this machine, as `connect` describes a client.
pub fn describe(id: ClientId, mode: ClientMode) -> ClientInfo {
    ClientInfo {
        id,
        display_name: None,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        build_id: None,
        platform: std::env::consts::OS.to_owned(),
        device_family: Some(device_family().to_owned()),
        model_identifier: None,
        time_zone: None,
        mode,
        instance_id: None,
    }
}

fn device_family() -> &'static str {
    match std::env::consts::OS {
        "macos" => "Mac",
        "linux" => "Linux",
        other => other,
    }
}

/// Opens a connection up to `hello-ok`.
pub(super) async fn shake(options: &ConnectOptions) -> Result<(Socket, HelloOk), ClientError> {
    let work = async {
        let mut socket = transport::open(&options.endpoint).await?;
        let challenge = challenge(&mut socket).await?;
        let hello = connect(&mut socket, options, &challenge).await?;
        Ok((socket, hello))
    };
    tokio::time::timeout(options.timeout, work).await.unwrap_or_else(|_| {
        Err(ClientError::TimedOut { method: "connect".to_owned(), after: options.timeout })
    })
}

async fn challenge(socket: &mut Socket) -> Result<Challenge, ClientError> {
    let text = next_text(socket).await?;
    match Incoming::parse(&text) {
        Some(Incoming::Event(event)) if event.name == "connect.challenge" => event.payload(),
        _ => Err(shape("it did not begin with a challenge")),
    }
}

async fn connect(
    socket: &mut Socket,
    options: &ConnectOptions,
    challenge: &Challenge,
) -> Result<HelloOk, ClientError> {
    let id = format!("1:{}", Uuid::new_v4());
    let params = to_raw_value(&options.params(challenge)).map_err(shape)?;
    let request = frame::request(&id, "connect", Some(&params));
    socket.send(Message::text(request)).await.map_err(transport::ended)?;
    loop {
        let text = next_text(socket).await?;
        if let Some(Incoming::Response(response)) = Incoming::parse(&text)
            && response.id == id
        {
            return answer(response.outcome);
        }
    }
}

fn answer(outcome: Result<Box<RawValue>, Box<ErrorShape>>) -> Result<HelloOk, ClientError> {
    let payload = outcome.map_err(ClientError::Refused)?;
    let hello: HelloOk = serde_json::from_str(payload.get()).map_err(shape)?;
    if let Some(token) = &hello.auth.device_token {
        tidegate_actors::redaction::hide(token);
    }
    if hello.protocol != PROTOCOL_VERSION {
        return Err(shape(format!("it answered with protocol {}", hello.protocol)));
    }
    Ok(hello)
}

async fn next_text(socket: &mut Socket) -> Result<String, ClientError> {
    loop {
        match socket.next().await {
            Some(Ok(Message::Text(text))) => return Ok(text.as_str().to_owned()),
            Some(Ok(Message::Close(frame))) => {
                let (code, reason) = frame
                    .map_or((1005, String::new()), |frame| (frame.code.into(), frame.reason.to_string()));
                return Err(ClientError::Closed { code, reason });
            }
            Some(Ok(_)) => (),
            Some(Err(error)) => return Err(transport::ended(error)),
            None => return Err(ClientError::Closed { code: 1006, reason: String::new() }),
        }
    }
}

fn shape(problem: impl std::fmt::Display) -> ClientError {
    ClientError::Shape { method: "connect".to_owned(), problem: problem.to_string() }
}
