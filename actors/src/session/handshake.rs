//! From the first frame to the hello, or to the refusal.

use super::open::Open;
use super::session::{Phase, Session};
use crate::Gateway;
use crate::auth::AuthPolicy;
use crate::clock::now_ms;
use crate::connection::Caller;
use crate::devices::{Admission, Admit, Refusal};
use crate::nodes::{self, Newcomer, NodeDeclaration};
use crate::pairings::{DeviceRecord, IssuedToken, TokenRecord};
use actix::{ActorFutureExt, AsyncContext, Context, MailboxError, WrapFuture};
use serde_json::{json, value::to_raw_value};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;
use tidegate_protocol::connect::{Challenge, ConnectParams};
use tidegate_protocol::frame::{self, FrameError, Request};
use tidegate_protocol::hello::{HelloAuth, RoleToken};
use tidegate_protocol::limits::close;
use tidegate_protocol::{ErrorShape, Role};

impl Session {
    /// Takes the frame that must be the `connect`.
    pub(super) fn first_frame(&mut self, text: &str, challenge: Challenge, context: &mut Context<Self>) {
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

    fn refuse(&mut self, id: &str, error: &ErrorShape, code: u16, reason: &str, context: &mut Context<Self>) {
        let detail = error.detail_code().unwrap_or_default();
        tracing::info!(conn = self.outbound.conn_id(), peer = %self.peer.addr, detail, reason = error.message, "connect refused");
        let _ = self.outbound.frame(frame::response_error(id, error));
        self.close(code, reason, context);
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
