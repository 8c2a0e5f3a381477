//! A connection that said hello: its registration, its requests, and what its end means for others.

use crate::Gateway;
use crate::connection::{Caller, Registration, presence};
use crate::devices::CodeDelivered;
use crate::events::{Audience, Broadcast};
use crate::nodes::{self, Newcomer};
use crate::rpc::{self, Call, Refused};
use serde_json::json;
use serde_json::value::to_raw_value;
use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use tidegate_protocol::frame::{self, Request};
use tidegate_protocol::limits::MAX_PAYLOAD;
use tidegate_protocol::{ErrorShape, Role};

/// Requests of one connection that may be worked on at a time.
const MAX_IN_FLIGHT: usize = 256;

/// Their params together may have this many bytes, unless there is only one.
const MAX_IN_FLIGHT_BYTES: usize = 64 * 1024 * 1024;

/// Calls that the role forbids, before the connection is closed.
const MAX_MISUSE: u32 = 10;

pub(super) type Answer = Pin<Box<dyn Future<Output = ()>>>;

pub(super) struct Open {
    gateway: Gateway,
    caller: Arc<Caller>,
    announced: bool,
    /// The setup code that it came in with.
    joined_with: Option<[u8; 32]>,
    in_flight: Rc<InFlight>,
    misuse: u32,
    _registration: Registration,
}

#[derive(Default)]
struct InFlight {
    requests: Cell<usize>,
    bytes: Cell<usize>,
}

impl Open {
    pub(super) fn new(gateway: &Gateway, caller: Arc<Caller>, joined_with: Option<[u8; 32]>) -> Self {
        let registration = gateway.connections.register(Arc::clone(&caller));
        Self {
            gateway: gateway.clone(),
            caller,
            announced: false,
            joined_with,
            in_flight: Rc::default(),
            misuse: 0,
            _registration: registration,
        }
    }

    /// The hello is out: events may follow, and others hear of it.
    pub(super) fn announce(&mut self, newcomer: Option<Newcomer>) {
        self.announced = true;
        if self.caller.role == Role::Node {
            self.tell_wake_words();
        }
        if let Some(connection) = self.gateway.connections.get(&self.caller.conn_id) {
            connection.open_for_events();
        }
        let client = self.caller.client.id.as_str();
        tracing::info!(conn = self.caller.conn_id, client, role = %self.caller.role, peer = %self.caller.peer, "connected");
        if let Some(newcomer) = newcomer {
            nodes::arrive(&self.gateway, &self.caller, newcomer);
        }
        if let Some(code) = self.joined_with.take() {
            self.gateway.devices.tell(CodeDelivered(code));
        }
        self.presence_changed();
    }

    /// What a node hears first: there are no wake words, and what is said goes where it always goes.
    fn tell_wake_words(&self) {
        let routing =
            json!({"version": 1, "defaultTarget": {"mode": "current"}, "routes": [], "updatedAtMs": 0});
        for (event, payload) in [
            ("voicewake.changed", json!({"triggers": []})),
            ("voicewake.routing.changed", json!({"config": routing})),
        ] {
            if let Ok(payload) = to_raw_value(&payload) {
                self.caller.push(event, &payload);
            }
        }
    }

    fn presence_changed(&self) {
        if self.caller.device_id.is_none() {
            return;
        }
        let version = self.gateway.versions.presence_changed();
        let entries = presence(&self.gateway.connections, &self.gateway.boot_id);
        if let Ok(payload) = to_raw_value(&json!({"presence": entries})) {
            let (event, audience) = ("presence", Audience::All);
            self.gateway.events.tell(Broadcast {
                event,
                payload,
                audience,
                droppable: true,
                version: Some(version),
            });
        }
    }

    /// Starts a request; the future sends its answer. `Ok(None)` when it was answered at once.
    ///
    /// # Errors
    /// The reason to close the connection with.
    pub(super) fn start(&mut self, request: Request) -> Result<Option<Answer>, &'static str> {
        let Request { id, method, params } = request;
        if self.caller.is_revoked() {
            // It has no rights any more, and is about to hear so.
            return Ok(None);
        }
        if method == "connect" {
            self.respond_error(&id, &ErrorShape::invalid("connect is only valid as the first request"));
            return Ok(None);
        }
        let Some(place) = self.take_place(params.as_ref().map_or(0, |params| params.get().len())) else {
            let error = ErrorShape::unavailable("too many requests at once on this connection")
                .retry_after(std::time::Duration::from_millis(250));
            self.respond_error(&id, &error);
            return Ok(None);
        };
        let id: Arc<str> = id.into();
        let call = |method| Call {
            gateway: self.gateway.clone(),
            caller: Arc::clone(&self.caller),
            method,
            id: Arc::clone(&id),
            params: params.map(Arc::from),
        };
        match rpc::dispatch(&method, call) {
            Ok(answer) => Ok(Some(respond(Arc::clone(&self.caller), id, answer, place))),
            Err(Refused::Error(error)) => {
                self.respond_error(&id, &error);
                Ok(None)
            }
            Err(Refused::Role(error)) => {
                self.respond_error(&id, &error);
                self.misuse += 1;
                if self.misuse >= MAX_MISUSE { Err("repeated unauthorized calls") } else { Ok(None) }
            }
        }
    }

    fn respond_error(&self, id: &str, error: &ErrorShape) {
        let _ = self.caller.outbound.frame(frame::response_error(id, error));
    }

    fn take_place(&self, bytes: usize) -> Option<Place> {
        let flight = &self.in_flight;
        let crowded = flight.requests.get() >= MAX_IN_FLIGHT
            || (flight.requests.get() > 0 && flight.bytes.get() + bytes > MAX_IN_FLIGHT_BYTES);
        if crowded {
            return None;
        }
        flight.requests.set(flight.requests.get() + 1);
        flight.bytes.set(flight.bytes.get() + bytes);
        Some(Place { flight: Rc::clone(flight), bytes })
    }
}

fn respond(
    caller: Arc<Caller>,
    id: Arc<str>,
    answer: impl Future<Output = rpc::Reply> + 'static,
    place: Place,
) -> Answer {
    Box::pin(async move {
        let answer = answer.await;
        drop(place);
        // A revocation wins over whatever was in flight.
        if !caller.is_revoked() {
            let mut text = match answer {
                Ok(payload) => frame::response_ok(&id, &payload),
                Err(error) => frame::response_error(&id, &error),
            };
            if text.len() > MAX_PAYLOAD {
                text = frame::response_error(&id, &too_large());
            }
            let _ = caller.outbound.frame(text);
        }
    })
}

fn too_large() -> ErrorShape {
    ErrorShape::unavailable("the answer does not fit into a frame; ask for less")
        .with_details(json!({"code": "ANSWER_TOO_LARGE"}))
}

/// One request in flight, until dropped.
struct Place {
    flight: Rc<InFlight>,
    bytes: usize,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.flight.requests.set(self.flight.requests.get() - 1);
        self.flight.bytes.set(self.flight.bytes.get() - self.bytes);
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        tracing::info!(conn = self.caller.conn_id, "disconnected");
        self.gateway.connections.forget(&self.caller.conn_id);
        if self.caller.role == Role::Node
            && let Some(node_id) = &self.caller.device_id
        {
            nodes::leave(&self.gateway, node_id, &self.caller.conn_id);
        }
        if self.announced {
            self.presence_changed();
        }
    }
}
