//! A gateway's door without sockets: requests are classified, connects are decided, all on a real database.

mod manage;
mod pairing;
mod setup;
mod table;

use super::proof::{Identity, ProbeError};
use super::*;
use crate::auth::{AuthPolicy, RequestHead, classify};
use crate::connection::{Caller, Outbound, Outgoing, Outgoings, Registration, Ticket};
use crate::settings::{SettingsHandle, StatePaths};
use crate::store::Store;
use actix::Addr;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures_util::StreamExt;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use tidegate_protocol::Role;
use tidegate_protocol::connect::{Challenge, ConnectParams};
use tidegate_protocol::device_auth::{DeviceKey, Statement};

pub(super) const SECRET: &str = "correct horse battery staple";
pub(super) const OWN_PAGE: &str = "http://127.0.0.1:18789";

pub(super) struct Door {
    pub(super) gateway: Gateway,
    pub(super) devices: Addr<Devices>,
    /// The socket that requests arrive at.
    pub(super) local: &'static str,
}

impl Door {
    pub(super) fn open(gateway: Value) -> Self {
        let settings = serde_json::from_value(json!({"gateway": gateway})).unwrap();
        let settings = SettingsHandle::new(settings, StatePaths::new("unused"));
        Self::on(Gateway::new(settings, Store::temporary().unwrap()))
    }

    /// With a secret, on loopback.
    pub(super) fn token() -> Self {
        Self::open(json!({"auth": {"mode": "token", "token": SECRET}}))
    }

    fn on(gateway: Gateway) -> Self {
        Self::on_with(gateway, |_| Box::pin(async { Err(ProbeError::TimedOut) }))
    }

    /// With something that answers instead of ssh.
    fn on_with(gateway: Gateway, probe: Probe) -> Self {
        let devices =
            Devices::new(gateway.clone(), TokenKey::from_bytes(&[7; 32])).probing_with(probe).start();
        Self { gateway, devices, local: "127.0.0.1:18789" }
    }

    /// The same state, read by a new actor.
    pub(super) fn restarted(&self) -> Self {
        Self::on(self.gateway.clone())
    }

    pub(super) async fn knock(&self, visit: &Visit) -> Result<Admission, Knock> {
        let policy = AuthPolicy::from_settings(&self.gateway.settings.get());
        let local: std::net::SocketAddr = self.local.parse().unwrap();
        let mut headers: Vec<(&str, &[u8])> = vec![];
        if !visit.headers.iter().any(|(name, _)| *name == "host") {
            headers.push(("host", self.local.as_bytes()));
        }
        headers.extend(visit.headers.iter().map(|(name, value)| (*name, value.as_bytes())));
        let peer = classify(&RequestHead::from_iter(headers), visit.from.parse().unwrap(), local, &policy)
            .map_err(|refusal| Knock::Http(refusal.status()))?;
        let challenge = Challenge { nonce: "the-nonce".into(), ts: now_ms() };
        let params = visit.params(&challenge);
        self.devices
            .send(Admit { peer, params, challenge })
            .await
            .unwrap()
            .map_err(|r| Knock::Refused(Box::new(r)))
    }

    /// The answer in one line: what the tables compare.
    pub(super) async fn answer(&self, visit: &Visit) -> String {
        match self.knock(visit).await {
            Ok(admission) => {
                let scopes = admission.scopes.names().join(",");
                let token = if admission.device_token.is_some() { " +token" } else { "" };
                format!("hello:{scopes}{token}")
            }
            Err(Knock::Http(status)) => format!("http:{status}"),
            Err(Knock::Refused(refusal)) => refusal_line(&refusal),
        }
    }

    pub(super) async fn token_of(&self, visit: &Visit) -> String {
        let admission = self.knock(visit).await.expect("let in");
        admission.device_token.expect("a device").expose().to_owned()
    }

    pub(super) async fn request_id(&self, visit: &Visit) -> String {
        let Err(Knock::Refused(refusal)) = self.knock(visit).await else { panic!("not asked to wait") };
        let details = refusal.error.details.unwrap();
        details["requestId"].as_str().expect("a request").to_owned()
    }

    /// A live connection of an admitted visitor.
    pub(super) fn connect(&self, admission: &Admission, visit: &Visit) -> Live {
        let conn_id = uuid::Uuid::new_v4().to_string();
        let (outbound, outgoings) = Outbound::new(conn_id.clone(), Arc::new(|| ()));
        let caller = Arc::new(Caller {
            conn_id,
            role: admission.role,
            scopes: admission.scopes.clone(),
            client: visit.params(&Challenge { nonce: String::new(), ts: 0 }).client,
            caps: vec![],
            device_id: admission.device.as_ref().map(|record| record.device_id().to_owned()),
            local: admission.local,
            vouched_for: false,
            peer: visit.from.parse().unwrap(),
            auth_method: admission.method,
            outbound,
            connected_at_ms: 0,
            revoked: AtomicBool::new(false),
            ticket: admission.ticket.clone(),
            last_words: Default::default(),
        });
        let registration = self.gateway.connections.register(Arc::clone(&caller));
        if let Some(connection) = self.gateway.connections.get(&caller.conn_id) {
            connection.open_for_events();
        }
        Live { caller, outgoings, ticket: admission.ticket.clone(), _registration: registration }
    }

    pub(super) async fn come_in(&self, visit: &Visit) -> Live {
        let admission = self.knock(visit).await.expect("let in");
        self.connect(&admission, visit)
    }

    /// Starts the event hub, so that live connections hear events.
    pub(super) fn with_events(&self) -> &Self {
        let hub = crate::events::EventHub::new(self.gateway.connections.clone()).start();
        self.gateway.events.set(hub);
        self
    }
}

#[derive(Debug)]
pub(super) enum Knock {
    Http(u16),
    Refused(Box<Refusal>),
}

fn refusal_line(refusal: &Refusal) -> String {
    let error = serde_json::to_value(&refusal.error).unwrap();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let code = text(&error["details"]["code"]);
    let reason = [&error["details"]["authReason"], &error["details"]["reason"]].map(text).concat();
    let line = format!("{} {code} {} ({reason})", text(&error["code"]), refusal.close_code);
    line.replace("  ", " ").replace(" ()", "")
}

pub(super) struct Live {
    pub(super) caller: Arc<Caller>,
    outgoings: Outgoings,
    pub(super) ticket: Ticket,
    _registration: Registration,
}

impl Live {
    pub(super) fn rights(&self) -> CallerRights {
        CallerRights::of(&self.caller)
    }

    pub(super) fn is_ended(&self) -> bool {
        self.caller.is_revoked() && self.caller.outbound.is_closing()
    }

    /// The next event.
    pub(super) async fn event(&mut self) -> (String, Value) {
        let next = tokio::time::timeout(Duration::from_secs(5), self.outgoings.next());
        match next.await.expect("an event in time") {
            Some(Outgoing::Text(text)) => {
                let frame: Value = serde_json::from_str(&text).unwrap();
                (frame["event"].as_str().unwrap().to_owned(), frame["payload"].clone())
            }
            other => panic!("no event: {other:?}"),
        }
    }
}

/// A device's key.
pub(super) struct Key(Ed25519KeyPair);

impl Key {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self(Ed25519KeyPair::generate().unwrap()))
    }

    fn public(&self) -> DeviceKey {
        DeviceKey::from_bytes(self.0.public_key().as_ref().try_into().unwrap())
    }

    pub(super) fn id(&self) -> String {
        self.public().device_id()
    }
}

/// One connect, described by what makes it special.
#[derive(Clone)]
pub(super) struct Visit {
    from: &'static str,
    headers: Vec<(&'static str, String)>,
    client: (&'static str, &'static str),
    extra: Value,
    role: &'static str,
    scopes: Vec<String>,
    protocol: (u64, u64),
    auth: Value,
    platform: &'static str,
    key: Option<Arc<Key>>,
}

/// A client of some kind from this machine that sends nothing.
pub(super) fn visit(id: &'static str, mode: &'static str) -> Visit {
    Visit {
        from: "127.0.0.1",
        headers: vec![],
        client: (id, mode),
        extra: json!({}),
        role: "operator",
        scopes: vec!["operator.read".into()],
        protocol: (4, 4),
        auth: json!({}),
        platform: "linux",
        key: None,
    }
}

/// An operator that is no helper and no page.
pub(super) fn operator() -> Visit {
    visit("test", "test")
}

pub(super) fn cli() -> Visit {
    visit("cli", "cli")
}

pub(super) fn backend() -> Visit {
    visit("gateway-client", "backend")
}

pub(super) fn node() -> Visit {
    visit("node-host", "node").role("node").scopes(&[])
}

pub(super) fn control_ui() -> Visit {
    visit("openclaw-control-ui", "webchat")
}

pub(super) fn webchat() -> Visit {
    visit("webchat-ui", "webchat")
}

impl Visit {
    pub(super) fn from(self, from: &'static str) -> Self {
        Self { from, ..self }
    }

    pub(super) fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    pub(super) fn page(self, origin: &str) -> Self {
        self.header("origin", origin)
    }

    pub(super) fn role(self, role: &'static str) -> Self {
        Self { role, ..self }
    }

    pub(super) fn scopes(self, scopes: &[&str]) -> Self {
        Self { scopes: scopes.iter().map(|scope| format!("operator.{scope}")).collect(), ..self }
    }

    pub(super) fn admin(self) -> Self {
        self.scopes(&["admin"])
    }

    pub(super) fn protocol(self, min: u64, max: u64) -> Self {
        Self { protocol: (min, max), ..self }
    }

    pub(super) fn auth(self, auth: Value) -> Self {
        Self { auth, ..self }
    }

    pub(super) fn secret(self) -> Self {
        self.auth(json!({"token": SECRET}))
    }

    pub(super) fn wrong_secret(self) -> Self {
        self.auth(json!({"token": "wrong"}))
    }

    pub(super) fn device_token(self, token: &str) -> Self {
        self.auth(json!({"deviceToken": token}))
    }

    pub(super) fn platform(self, platform: &'static str) -> Self {
        Self { platform, ..self }
    }

    pub(super) fn build(self, build: &str) -> Self {
        Self { extra: json!({"buildId": build}), ..self }
    }

    pub(super) fn device(self, key: &Arc<Key>) -> Self {
        Self { key: Some(Arc::clone(key)), ..self }
    }

    pub(super) fn new_device(self) -> Self {
        self.device(&Key::new())
    }

    fn params(&self, challenge: &Challenge) -> ConnectParams {
        let (id, mode) = self.client;
        let mut client = json!({"id": id, "mode": mode, "version": "1", "platform": self.platform});
        for (name, value) in self.extra.as_object().unwrap() {
            client[name] = value.clone();
        }
        let mut params: ConnectParams = serde_json::from_value(json!({
            "minProtocol": self.protocol.0, "maxProtocol": self.protocol.1, "client": client,
            "role": self.role, "scopes": self.scopes, "auth": self.auth,
        }))
        .unwrap();
        params.device = self.key.as_ref().map(|key| self.block(key, &params, challenge));
        params
    }

    fn block(
        &self,
        key: &Key,
        params: &ConnectParams,
        challenge: &Challenge,
    ) -> tidegate_protocol::connect::DeviceBlock {
        let public = key.public();
        let device_id = public.device_id();
        let statement = Statement {
            device_id: &device_id,
            client_id: params.client.id.as_str(),
            client_mode: params.client.mode.as_str(),
            role: self.role,
            scopes: &params.scopes,
            signed_at_ms: challenge.ts,
            token: params.signed_token(),
            nonce: &challenge.nonce,
            platform: Some(&params.client.platform),
            device_family: None,
        };
        let signature = URL_SAFE_NO_PAD.encode(key.0.sign(statement.line_v3().as_bytes()));
        let (signed_at, nonce) = (challenge.ts, challenge.nonce.clone());
        tidegate_protocol::connect::DeviceBlock {
            id: device_id.clone(),
            public_key: public.encode(),
            signature,
            signed_at,
            nonce,
        }
    }
}

/// Every row of a table against one gateway.
pub(super) async fn rows(door: &Door, rows: Vec<(&str, Visit, &str)>) {
    let mut wrong = vec![];
    for (name, visit, expected) in rows {
        let answer = door.answer(&visit).await;
        if answer != expected {
            wrong.push(format!("{name}\n    expected {expected}\n    answered {answer}"));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}
