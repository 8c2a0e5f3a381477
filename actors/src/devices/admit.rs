//! Letting connections in: the decision, what has to be stored first, and what the connection is given.

use super::proof::Plan;
use super::{Devices, Respond, is_by_secret};
use crate::auth::Attempt;
use crate::auth::decide::{Decision, Grant, Pairing, decide};
use crate::auth::policy::SshProof;
use crate::auth::{AuthPolicy, Peer, Refusal};
use crate::clock::now_ms;
use crate::connection::Ticket;
use crate::pairings::{Approval, Change, DeviceRecord, IssuedToken, PairingRequest, TokenRecord};
use crate::secret::SecretDigest;
use actix::{Addr, AsyncContext, AtomicResponse, Context, Handler, Message};
use std::time::Instant;
use tidegate_protocol::connect::{Challenge, ConnectParams};
use tidegate_protocol::hello::AuthMethod;
use tidegate_protocol::{Role, Scopes};

/// Decide whether a connect is let in.
#[derive(Debug, Message)]
#[rtype(result = "Result<Admission, Refusal>")]
pub struct Admit {
    pub peer: Peer,
    pub params: ConnectParams,
    pub challenge: Challenge,
}

/// What a connection that was let in may do.
#[derive(Debug, Clone)]
pub struct Admission {
    pub role: Role,
    pub scopes: Scopes,
    pub method: AuthMethod,
    /// The paired device, where there is one.
    pub device: Option<DeviceRecord>,
    /// The device's token, for its hello.
    pub device_token: Option<IssuedToken>,
    pub issued_at_ms: Option<i64>,
    /// The tokens of the other roles that its setup code brought with it.
    pub other_tokens: Vec<(IssuedToken, TokenRecord)>,
    /// The setup code that it just joined with.
    pub joined_with: Option<[u8; 32]>,
    /// Whether it is on this machine, with nothing between.
    pub local: bool,
    /// Check it once the connection is listed among the live ones: it may have been revoked meanwhile.
    pub ticket: Ticket,
}

impl Handler<Admit> for Devices {
    type Result = AtomicResponse<Self, Result<Admission, Refusal>>;

    fn handle(&mut self, admit: Admit, ctx: &mut Context<Self>) -> Self::Result {
        let policy = AuthPolicy::from_settings(&self.gateway.settings.get());
        let attempt = Attempt {
            peer: &admit.peer,
            params: &admit.params,
            challenge: &admit.challenge,
            policy: &policy,
            now_ms: now_ms(),
            now: Instant::now(),
        };
        match decide(&attempt, &self.book, &self.gateway.limiter) {
            Decision::Refuse(refusal) => self.ready(Err(refusal)),
            Decision::Ask(pairing) => {
                let waits = admit.params.client.is_browser();
                self.ask(pairing, waits, policy.ssh_proof, ctx.address())
            }
            Decision::Admit(grant) => self.let_in(grant, admit),
            Decision::Approve { grant, pairing, via, consumes } => {
                self.approve_and_let_in(grant, &pairing, (via, consumes), admit)
            }
        }
    }
}

type Answer = Respond<Result<Admission, Refusal>>;

impl Devices {
    fn let_in(&mut self, grant: Grant, admit: Admit) -> Answer {
        match self.replacement_for_lost_token(&grant) {
            None => {
                let admission = self.admission(grant, &admit, None);
                self.ready(Ok(admission))
            }
            Some(change) => {
                self.store_then(change, move |devices| Ok(devices.admission(grant, &admit, None)))
            }
        }
    }

    /// A device that must be shown its token, but whose token can't be derived any more, gets a new one.
    fn replacement_for_lost_token(&self, grant: &Grant) -> Option<Change> {
        if grant.method == AuthMethod::DeviceToken {
            return None;
        }
        let record = self.book.device(grant.device_id.as_deref()?)?;
        let old = record.live_token(grant.role)?;
        if self.key.recall(record.device_id(), old).is_some() {
            return None;
        }
        let token = self.key.issue(record.device_id(), grant.role).ok()?;
        let renewed = record.rotated(grant.role, &token, old.scopes.clone(), now_ms());
        Some(Change::SaveDevice { record: Box::new(renewed), answers: None, consumes: None })
    }

    fn approve_and_let_in(
        &mut self,
        grant: Grant,
        pairing: &Pairing,
        (via, consumes): (&'static str, Option<[u8; 32]>),
        admit: Admit,
    ) -> Answer {
        let device_id = pairing.claim.device_id.clone();
        let now_ms = now_ms();
        let answers = self.book.request_of(&device_id, now_ms).map(|asked| asked.request_id.clone());
        let approval =
            Approval { claim: &pairing.claim, roles: &pairing.roles, scopes: &pairing.scopes, via, now_ms };
        let issue = |role| self.key.issue(&device_id, role);
        let Ok(record) = DeviceRecord::approved(self.book.device(&device_id), approval, issue) else {
            return self.ready(Err(Refusal::unavailable("no random numbers for a device token")));
        };
        tracing::info!(device = %device_id, role = %grant.role, via, reason = pairing.reason.as_str(), "device paired");
        let change = Change::SaveDevice { record: Box::new(record), answers: answers.clone(), consumes };
        self.store_then(change, move |devices| {
            // A device that never had to wait is news to operators all the same, unless it is one of this machine.
            let unasked = || (via != "silent").then(|| uuid::Uuid::new_v4().to_string());
            if let Some(request_id) = answers.or_else(unasked) {
                devices.tell_resolved(&request_id, &device_id, "approved");
            }
            Ok(devices.admission(grant, &admit, consumes))
        })
    }

    /// Gives a connection what it was granted.
    fn admission(&mut self, grant: Grant, admit: &Admit, joined_with: Option<[u8; 32]>) -> Admission {
        let now_ms = now_ms();
        if let Some(device_id) = &grant.device_id {
            let by_token = grant.method == AuthMethod::DeviceToken;
            let reason = if by_token { "device-token-auth" } else { "connect" };
            self.book.seen(device_id, now_ms, reason, by_token.then_some(grant.role));
            self.unsaved.insert(device_id.clone());
        }
        let device = grant.device_id.as_deref().and_then(|id| self.book.device(id)).cloned();
        let token = device.as_ref().and_then(|record| record.live_token(grant.role));
        let device_token = device.as_ref().zip(token).and_then(|(record, token)| {
            let shown = self.key.recall(record.device_id(), token);
            shown.or_else(|| presented(admit, &token.digest).map(|text| IssuedToken::presented(text, token)))
        });
        let issued_at_ms = device_token.as_ref().and(token).map(TokenRecord::issued_at_ms);
        let other_tokens = match &device {
            Some(record) if joined_with.is_some() => self.other_tokens(record, grant.role),
            _ => vec![],
        };
        Admission {
            ticket: self.tickets.issue(grant.device_id.as_deref(), grant.role, is_by_secret(grant.method)),
            role: grant.role,
            scopes: grant.scopes,
            method: grant.method,
            device,
            device_token,
            issued_at_ms,
            other_tokens,
            joined_with,
            local: admit.peer.is_direct_local(),
        }
    }

    /// The tokens of every role but `role`.
    fn other_tokens(&self, record: &DeviceRecord, role: Role) -> Vec<(IssuedToken, TokenRecord)> {
        let others = record.roles.iter().filter(|other| **other != role);
        others
            .filter_map(|other| record.live_token(*other))
            .filter_map(|token| Some((self.key.recall(record.device_id(), token)?, token.clone())))
            .collect()
    }

    /// Puts a device on the list of those that wait, or finds it there. Whether its key can be found on its machine
    /// is tried meanwhile, where that is allowed.
    fn ask(&mut self, pairing: Pairing, ui: bool, proof: Option<SshProof>, devices: Addr<Self>) -> Answer {
        let now_ms = now_ms();
        let device_id = pairing.claim.device_id.clone();
        let record = self.book.device(&device_id);
        let asked = new_request(&pairing, record.is_some(), now_ms);
        let before = self.book.request_of(&device_id, now_ms).cloned();
        if let Some(same) = before.as_ref().filter(|before| before.includes(&asked)) {
            let same = same.clone();
            let proving = self.probes.is_under_way(&device_id) || self.prove(&same, &pairing, proof, devices);
            let refusal = pairing.refusal(self.book.device(&device_id), ui || proving, &same.request_id);
            self.book.asked_again(&device_id, now_ms);
            return self.ready(Err(refusal));
        }
        let asked = match &before {
            Some(before) if before.is_repair == asked.is_repair => merged(before, asked),
            _ => asked,
        };
        let proving = self.prove(&asked, &pairing, proof, devices);
        let refusal = pairing.refusal(self.book.device(&device_id), ui || proving, &asked.request_id);
        tracing::info!(device = %device_id, request = %asked.request_id, reason = pairing.reason.as_str(), "device asks to be paired");
        self.make_room_for_a_request();
        let change = Change::SaveRequest(Box::new(asked.clone()));
        self.store_then(change, move |devices| {
            if let Some(before) = before {
                devices.tell_resolved(&before.request_id, &before.claim.device_id, "rejected");
            }
            devices.tell_pairing("device.pair.requested", &asked, &device_id);
            Err(refusal)
        })
    }
}

impl Devices {
    /// Has the key of a waiting device looked for, where that is allowed. `true`: that is under way.
    fn prove(
        &mut self,
        asked: &PairingRequest,
        pairing: &Pairing,
        proof: Option<SshProof>,
        devices: Addr<Self>,
    ) -> bool {
        let plan = proof.zip(pairing.provable_at).and_then(|(proof, host)| Plan::new(asked, host, proof));
        plan.is_some_and(|plan| self.probes.start(plan, self.probe, devices))
    }
}

fn new_request(pairing: &Pairing, is_repair: bool, now_ms: i64) -> PairingRequest {
    PairingRequest {
        request_id: uuid::Uuid::new_v4().to_string(),
        claim: pairing.claim.clone(),
        roles: pairing.roles.clone(),
        scopes: pairing.scopes.clone(),
        remote_ip: pairing.remote_ip.clone(),
        silent: false,
        is_repair,
        ts: now_ms,
        asked_at_ms: now_ms,
    }
}

/// Several wishes of one device are answered together.
fn merged(before: &PairingRequest, asked: PairingRequest) -> PairingRequest {
    let mut roles = before.roles.clone();
    roles.extend(asked.roles.iter().filter(|role| !before.roles.contains(role)));
    PairingRequest { roles, scopes: before.scopes.union(&asked.scopes), ..asked }
}

/// The token that the connect itself showed, if it is the one with this digest.
fn presented<'a>(admit: &'a Admit, digest: &SecretDigest) -> Option<&'a str> {
    let auth = admit.params.auth.as_ref()?;
    let sent = [auth.device_token.as_deref(), auth.token.as_deref()];
    sent.into_iter().flatten().map(str::trim).find(|text| digest.is(text))
}
