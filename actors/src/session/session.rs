//! One connection's protocol: challenge, `connect`, then requests until it ends.
//!
//! The socket only moves frames; this actor never waits for it, so its timers fire even when the peer stops reading.

use super::open::{Answer, Open};
use super::{Caller, FrameLimit, Outbound};
use crate::Gateway;
use crate::auth::budget::PreAuthPermit;
use crate::auth::{AuthPolicy, Peer};
use crate::devices::{Admission, Admit, DeviceRecord, IssuedToken, Refusal, TokenRecord};
use crate::nodes::{self, Newcomer, NodeDeclaration};
use crate::store::now_ms;
use actix::{
    Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Handler, MailboxError, Message, WrapFuture,
};
use futures_util::{StreamExt, stream};
use serde_json::{json, value::to_raw_value};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;
use tidegate_protocol::connect::{Challenge, ConnectParams};
use tidegate_protocol::frame::{self, FrameError, Request};
use tidegate_protocol::hello::{HelloAuth, RoleToken};
use tidegate_protocol::limits::{
    HANDSHAKE_TIMEOUT, MAX_PENDING_HANDSHAKE_FRAMES, MAX_PREAUTH_PAYLOAD, PING_INTERVAL, close,
};
use tidegate_protocol::{ErrorShape, Role};
use tokio::sync::mpsc;
use tokio::task::coop;
use tokio::time::Instant;

/// Nothing heard for so long, not even a pong: the peer is gone. At least two pings went unanswered by then.
const SILENCE: Duration = Duration::from_secs(55);

/// How long a peer may take to read the close frame before the connection is ended without it.
const GOODBYE: Duration = Duration::from_secs(2);

/// What a socket tells its session.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub enum FromSocket {
    /// A whole text message.
    Text(String),
    /// A ping or pong.
    Alive,
    /// The socket has ended.
    Gone,
}

/// See the module.
pub struct Session {
    gateway: Gateway,
    peer: Peer,
    outbound: Outbound,
    limit: FrameLimit,
    /// This socket's place among those that have not said hello.
    permit: Option<PreAuthPermit>,
    phase: Phase,
    last_heard: Instant,
    /// To [`work`], as many as [`Open`] lets be in flight.
    answers: mpsc::UnboundedSender<Answer>,
    asked: Option<mpsc::UnboundedReceiver<Answer>>,
}

enum Phase {
    /// The challenge is out, `connect` has not come.
    Challenged(Challenge),
    /// `connect` is being judged; frames behind it wait.
    Judging { waiting: Vec<String> },
    /// Hello was said.
    Open(Open),
    /// The close frame is on its way.
    Closing,
}

impl Session {
    /// A session for a socket that was just upgraded.
    pub fn new(
        gateway: Gateway,
        peer: Peer,
        outbound: Outbound,
        limit: FrameLimit,
        permit: PreAuthPermit,
    ) -> Self {
        let (answers, asked) = mpsc::unbounded_channel();
        let challenge = Challenge { nonce: uuid::Uuid::new_v4().to_string(), ts: now_ms() };
        Self {
            gateway,
            peer,
            outbound,
            limit,
            permit: Some(permit),
            phase: Phase::Challenged(challenge),
            last_heard: Instant::now(),
            answers,
            asked: Some(asked),
        }
    }

    /// Ends the connection when the peer has been silent for too long, and looks again when it may have been.
    fn mind_silence(&mut self, context: &mut Context<Self>) {
        let left = SILENCE.saturating_sub(self.last_heard.elapsed());
        if left.is_zero() {
            tracing::info!(conn = self.outbound.conn_id(), "peer went silent");
            self.outbound.kill();
            context.stop();
        } else {
            context.run_later(left, Self::mind_silence);
        }
    }

    fn close(&mut self, code: u16, reason: &str, context: &mut Context<Self>) {
        self.outbound.close(code, reason);
        self.permit = None;
        self.phase = Phase::Closing;
        context.run_later(GOODBYE, |session, context| {
            session.outbound.kill();
            context.stop();
        });
    }

    fn refuse(&mut self, id: &str, error: &ErrorShape, code: u16, reason: &str, context: &mut Context<Self>) {
        let detail = error.detail_code().unwrap_or_default();
        tracing::info!(conn = self.outbound.conn_id(), peer = %self.peer.addr, detail, reason = error.message, "connect refused");
        let _ = self.outbound.frame(frame::response_error(id, error));
        self.close(code, reason, context);
    }

    fn first_frame(&mut self, text: &str, challenge: Challenge, context: &mut Context<Self>) {
        let request = match Request::parse(text) {
            Ok(request) => request,
            Err(FrameError::NotJson) => return self.close(close::NORMAL, "", context),
            Err(FrameError::NotRequest { .. }) => {
                return self.close(close::POLICY, "invalid request frame", context);
            }
        };
        if request.method != "connect" {
            let message = "invalid handshake: first request must be connect";
            return self.refuse(&request.id, &ErrorShape::invalid(message), close::POLICY, message, context);
        }
        match ConnectParams::parse(request.params.as_deref()) {
            Ok(params) => self.judge(request.id, params, challenge, context),
            Err(error) => self.refuse(&request.id, &error, close::POLICY, &error.message, context),
        }
    }

    fn judge(
        &mut self,
        id: String,
        params: ConnectParams,
        challenge: Challenge,
        context: &mut Context<Self>,
    ) {
        self.phase = Phase::Judging { waiting: Vec::new() };
        let devices = self.gateway.devices.clone();
        let (gateway, peer, asked) = (self.gateway.clone(), self.peer.clone(), params.clone());
        let answer = async move {
            let policy = AuthPolicy::from_settings(&gateway.settings.get());
            let peer = gateway.tailscale.confirmed(peer, &asked, &policy).await;
            let answer = devices.send(Admit { peer, params: asked, challenge }).await;
            if let Ok(Err(Refusal { delay: Some(delay), .. })) = &answer {
                tokio::time::sleep(*delay).await;
            }
            answer
        };
        context.spawn(answer.into_actor(self).map(move |answer, session, context| {
            session.judged(id, params, answer, context);
        }));
    }

    fn judged(
        &mut self,
        id: String,
        params: ConnectParams,
        answer: Result<Result<Admission, Refusal>, MailboxError>,
        context: &mut Context<Self>,
    ) {
        match answer {
            Ok(Ok(admission)) => self.admit(id, params, admission, context),
            Ok(Err(refusal)) => {
                if refusal.close_code != close::AGAIN {
                    let code = refusal.error.detail_code().unwrap_or("INVALID_REQUEST");
                    self.gateway.audit.refused(self.peer.addr, &params, code);
                }
                self.refuse(&id, &refusal.error, refusal.close_code, &refusal.close_reason, context);
            }
            Err(_) => {
                let error = ErrorShape::unavailable("gateway starting; retry shortly")
                    .retry_after(Duration::from_millis(500))
                    .with_details(json!({"reason": "startup-sidecars"}));
                self.refuse(&id, &error, close::AGAIN, "gateway starting", context);
            }
        }
    }

    fn admit(
        &mut self,
        id: String,
        params: ConnectParams,
        admission: Admission,
        context: &mut Context<Self>,
    ) {
        let caller = Arc::new(Caller {
            conn_id: self.outbound.conn_id().to_owned(),
            role: admission.role,
            scopes: admission.scopes.clone(),
            client: params.client.clone(),
            caps: params.caps.clone(),
            device_id: admission.device.as_ref().map(|device| device.device_id().to_owned()),
            local: admission.local,
            vouched_for: admission.device.as_ref().is_some_and(DeviceRecord::is_vouched_for),
            peer: self.peer.addr,
            auth_method: admission.method,
            outbound: self.outbound.clone(),
            connected_at_ms: now_ms(),
            revoked: AtomicBool::new(false),
            ticket: admission.ticket,
            last_words: Default::default(),
        });
        let auth = HelloAuth {
            role: admission.role,
            scopes: admission.scopes,
            method: Some(admission.method),
            issued_at_ms: admission.issued_at_ms,
            device_token: admission.device_token.map(|token| token.expose().to_owned()),
            device_tokens: admission.other_tokens.iter().map(role_token).collect(),
        };
        // Registered before the hello goes out, so that a revocation from now on finds it.
        let open = Open::new(&self.gateway, Arc::clone(&caller), admission.joined_with);
        if caller.is_revoked() {
            return self.close(close::DEVICE_REMOVED, "device removed", context);
        }
        let gateway = self.gateway.clone();
        let hello = async move {
            let newcomer = introduce(&gateway, &caller, params).await;
            (super::hello::hello(&gateway, &caller, auth).await, newcomer)
        };
        context.spawn(hello.into_actor(self).map(
            move |(hello, newcomer), session, context| match to_raw_value(&hello) {
                Ok(hello) => session.greet(&id, &hello, newcomer, open, context),
                Err(error) => {
                    tracing::error!(%error, "hello could not be serialised");
                    session.close(close::AGAIN, "gateway error", context);
                }
            },
        ));
    }

    fn greet(
        &mut self,
        id: &str,
        hello: &serde_json::value::RawValue,
        newcomer: Option<Newcomer>,
        mut open: Open,
        context: &mut Context<Self>,
    ) {
        let waiting = match &mut self.phase {
            Phase::Judging { waiting } => std::mem::take(waiting),
            // It was closed while it was being judged.
            Phase::Challenged(_) | Phase::Open(_) | Phase::Closing => return,
        };
        self.limit.raise();
        self.permit = None;
        let _ = self.outbound.frame(frame::response_ok(id, hello));
        open.announce(newcomer);
        self.phase = Phase::Open(open);
        for text in waiting {
            self.request(&text, context);
        }
    }

    fn request(&mut self, text: &str, context: &mut Context<Self>) {
        let Phase::Open(open) = &mut self.phase else { return };
        let request = match Request::parse(text) {
            Ok(request) => request,
            // Ignored, as the official gateway does.
            Err(FrameError::NotJson) => return,
            Err(error @ FrameError::NotRequest { .. }) => {
                let message = error.to_string();
                let FrameError::NotRequest { id, .. } = error else { return };
                let answer = frame::response_error_raw_id(id.as_deref(), &ErrorShape::invalid(message));
                let _ = self.outbound.frame(answer);
                return;
            }
        };
        match open.start(request) {
            Ok(Some(answer)) => {
                // Its other end is dropped with the context only.
                let _ = self.answers.send(answer);
            }
            Ok(None) => (),
            Err(reason) => self.close(close::POLICY, reason, context),
        }
    }
}

/// Works on requests at the same time, but begins them in the order they were sent, and goes on with them in the order
/// that what they waited for came. A context does neither: it polls what is spawned in any order. Nor would a budget
/// that runs out between two of them.
async fn work(mut asked: mpsc::UnboundedReceiver<Answer>) {
    let asked = stream::poll_fn(move |context| asked.poll_recv(context));
    asked.for_each_concurrent(None, coop::unconstrained).await;
}

/// Whether one more frame may wait for the judgement.
fn may_wait(waiting: &[String], next: &str) -> bool {
    let bytes: usize = waiting.iter().map(String::len).sum();
    waiting.len() < MAX_PENDING_HANDSHAKE_FRAMES && bytes + next.len() <= MAX_PREAUTH_PAYLOAD
}

impl Actor for Session {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        if let Phase::Challenged(challenge) = &self.phase
            && let Ok(payload) = to_raw_value(challenge)
        {
            let _ = self.outbound.event("connect.challenge", &payload);
        }
        context.run_later(HANDSHAKE_TIMEOUT, |session, context| {
            if matches!(session.phase, Phase::Challenged(_) | Phase::Judging { .. }) {
                session.close(close::NORMAL, "", context);
            }
        });
        if let Some(asked) = self.asked.take() {
            context.spawn(work(asked).into_actor(self));
        }
        context.run_interval(PING_INTERVAL, |session, _| session.outbound.ping());
        self.mind_silence(context);
    }
}

impl Handler<FromSocket> for Session {
    type Result = ();

    fn handle(&mut self, news: FromSocket, context: &mut Self::Context) {
        self.last_heard = Instant::now();
        let text = match news {
            FromSocket::Text(text) => text,
            FromSocket::Alive => return,
            FromSocket::Gone => return context.stop(),
        };
        match &mut self.phase {
            Phase::Challenged(challenge) => {
                let challenge = challenge.clone();
                self.first_frame(&text, challenge, context);
            }
            Phase::Judging { waiting } if may_wait(waiting, &text) => waiting.push(text),
            Phase::Judging { .. } => {
                self.close(close::POLICY, "too many pending handshake frames", context);
            }
            Phase::Open(_) => self.request(&text, context),
            Phase::Closing => (),
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // However it ended, the socket must not outlive it.
        if !self.outbound.is_closing() {
            self.outbound.close(close::NORMAL, "");
        }
    }
}

/// What a node declares is on record before it hears that it is in.
async fn introduce(gateway: &Gateway, caller: &Caller, params: ConnectParams) -> Option<Newcomer> {
    if caller.role != Role::Node {
        return None;
    }
    let declared = NodeDeclaration {
        caps: params.caps,
        commands: params.commands,
        permissions: params.permissions,
        path_env: params.path_env,
    };
    nodes::introduce(gateway, caller, declared).await
}

fn role_token((token, record): &(IssuedToken, TokenRecord)) -> RoleToken {
    RoleToken {
        device_token: token.expose().to_owned(),
        role: record.role,
        scopes: record.scopes.clone(),
        issued_at_ms: record.issued_at_ms(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::budget::PreAuthBudget;
    use crate::auth::origin::PageOrigin;
    use crate::auth::peer::PeerClass;
    use crate::auth::proxy::ProxyUser;
    use crate::settings::{Settings, SettingsHandle, StatePaths};
    use crate::store::Store;
    use std::sync::atomic::Ordering;

    #[actix::test]
    async fn a_silent_peer_is_gone_within_a_minute_of_its_last_word_whenever_that_was() {
        let paths = StatePaths::new("unused");
        let gateway =
            Gateway::new(SettingsHandle::new(Settings::default(), paths), Store::temporary().unwrap());
        let peer = Peer {
            addr: "127.0.0.1".parse().unwrap(),
            class: PeerClass::DirectLocal,
            page: PageOrigin::Absent,
            user: ProxyUser::NotAsked,
            origin: None,
            host: None,
            user_agent: None,
        };
        let permit = PreAuthBudget::default().enter(&peer).await.unwrap();
        let killed = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&killed);
        let (outbound, _outgoings) =
            Outbound::new("c1".into(), Arc::new(move || flag.store(true, Ordering::Release)));
        let mut session = Session::new(gateway, peer, outbound, FrameLimit::default(), permit);
        // Neither in a handshake nor in need of a caller.
        session.phase = Phase::Closing;
        tokio::time::pause();
        session.last_heard = Instant::now();
        let session = session.start();
        // Just too late for one look of a clock that looks with the pings.
        for _ in 0..3 {
            tokio::time::sleep(Duration::from_secs(31)).await;
            session.send(FromSocket::Alive).await.unwrap();
        }
        tokio::time::sleep(Duration::from_secs(50)).await;
        assert!(!killed.load(Ordering::Acquire), "two pings may go unanswered");
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert!(killed.load(Ordering::Acquire), "a minute of silence");
    }
}
