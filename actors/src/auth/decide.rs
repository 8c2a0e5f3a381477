//! The decision on a connect, step by step: protocol, page, device proof, credential, pairing, scopes.
//!
//! Nothing here waits or writes, but for the count of wrong secrets. What has to be stored before the connect may be
//! let in is part of the answer.

use super::attempt::Attempt;
use super::credential::{Credential, Judge, Sent};
use super::limiter::Limiter;
use super::origin::PageOrigin;
use super::peer::PeerClass;
use super::policy::AuthMode;
use super::refusal::{PairingAsk, PairingReason, Refusal, SharedKind};
use crate::pairings::{DeviceBook, DeviceClaim, DeviceRecord};
use std::net::IpAddr;
use tidegate_protocol::client::{ClientId, ClientInfo, ClientMode};
use tidegate_protocol::connect::ConnectParams;
use tidegate_protocol::device_auth::{Proof, Statement};
use tidegate_protocol::hello::AuthMethod;
use tidegate_protocol::limits::{MINIMUM_PROBE_PROTOCOL, PROTOCOL_VERSION};
use tidegate_protocol::{Role, Scopes};

/// What a connect may do once it is in.
#[derive(Debug, Clone, PartialEq)]
pub struct Grant {
    pub role: Role,
    pub scopes: Scopes,
    pub method: AuthMethod,
    /// The paired device, which is shown its token.
    pub device_id: Option<String>,
}

/// A device that is to be paired, or to hold more than before.
#[derive(Debug, Clone, PartialEq)]
pub struct Pairing {
    pub claim: DeviceClaim,
    pub roles: Vec<Role>,
    pub scopes: Scopes,
    pub reason: PairingReason,
    /// Where it asked from, unless that is this machine.
    pub remote_ip: Option<String>,
    /// The machine that may be asked over SSH whether this device's key is there.
    pub provable_at: Option<IpAddr>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Decision {
    Admit(Grant),
    /// Approve without asking, store that, then let in.
    Approve {
        grant: Grant,
        pairing: Pairing,
        via: &'static str,
        consumes: Option<[u8; 32]>,
    },
    /// Refuse until an operator approves.
    Ask(Pairing),
    Refuse(Refusal),
}

/// Decides on `attempt`.
pub fn decide(attempt: &Attempt<'_>, book: &DeviceBook, limiter: &Limiter) -> Decision {
    try_decide(attempt, book, limiter).unwrap_or_else(Decision::Refuse)
}

fn try_decide(attempt: &Attempt<'_>, book: &DeviceBook, limiter: &Limiter) -> Result<Decision, Refusal> {
    let params = attempt.params;
    let role = Role::parse(params.role.as_deref().unwrap_or("operator")).ok_or_else(Refusal::invalid_role)?;
    check_protocol(params, role)?;
    check_page(attempt)?;
    let claim = proven_device(attempt, role)?;
    let device_id = claim.as_ref().map(|claim| claim.device_id.as_str());
    if device_id.is_none() {
        check_anonymous(attempt)?;
    }
    let asked = Scopes::from(params.scopes.clone());
    let judge = Judge { attempt, role, scopes: &asked, device_id, book, limiter };
    let credential = judge.credential()?;
    let visitor = Visitor { attempt, role, asked, credential };
    let decision = match claim {
        Some(claim) if !visitor.is_self_paired_helper() => visitor.with_device(claim, book),
        _ => visitor.without_device()?,
    };
    if matches!(decision, Decision::Admit(_) | Decision::Approve { .. }) {
        check_ui_build(attempt)?;
    }
    Ok(decision)
}

/// Nodes and probes may be one version behind.
fn check_protocol(params: &ConnectParams, role: Role) -> Result<(), Refusal> {
    let spans = |version: u64| params.min_protocol <= version && version <= params.max_protocol;
    let mode = params.client.mode;
    let lenient = mode == ClientMode::Probe || (role == Role::Node && mode == ClientMode::Node);
    if spans(PROTOCOL_VERSION) || (lenient && spans(MINIMUM_PROBE_PROTOCOL)) {
        Ok(())
    } else {
        Err(Refusal::protocol(params.min_protocol, params.max_protocol))
    }
}

/// Whatever sends an origin is a page and must be one of ours; what claims to run in a page must show one.
fn check_page(attempt: &Attempt<'_>) -> Result<(), Refusal> {
    match attempt.peer.page {
        PageOrigin::Own | PageOrigin::Allowed => Ok(()),
        PageOrigin::Absent if !attempt.params.client.is_browser() => Ok(()),
        PageOrigin::Absent | PageOrigin::Invalid => Err(Refusal::origin(true)),
        PageOrigin::Foreign => Err(Refusal::origin(false)),
    }
}

/// Verifies the device block, if one was sent.
fn proven_device(attempt: &Attempt<'_>, role: Role) -> Result<Option<DeviceClaim>, Refusal> {
    let params = attempt.params;
    let Some(device) = &params.device else { return Ok(None) };
    let client = &params.client;
    let statement = Statement {
        device_id: &device.id,
        client_id: client.id.as_str(),
        client_mode: client.mode.as_str(),
        role: role.as_str(),
        scopes: &params.scopes,
        signed_at_ms: device.signed_at,
        token: params.signed_token(),
        nonce: &device.nonce,
        platform: Some(&client.platform),
        device_family: client.device_family.as_deref(),
    };
    let proof = Proof { statement, public_key: &device.public_key, signature: &device.signature };
    let key = proof.verify(&attempt.challenge.nonce, attempt.now_ms).map_err(Refusal::device_proof)?;
    Ok(Some(DeviceClaim {
        device_id: key.device_id(),
        public_key: key.encode(),
        display_name: client.display_name.clone(),
        platform: client.platform.clone(),
        device_family: client.device_family.clone(),
        client_id: client.id.as_str().to_owned(),
        client_mode: client.mode.as_str().to_owned(),
        role,
    }))
}

/// A connect with neither device nor shared secret is nobody, except where none is needed.
fn check_anonymous(attempt: &Attempt<'_>) -> Result<(), Refusal> {
    let is_somebody = match &attempt.policy.mode {
        AuthMode::Token(_) | AuthMode::Password(_) => Sent::by(attempt).has_shared(),
        AuthMode::None => is_backend(&attempt.params.client) && attempt.peer.is_local_program(),
        AuthMode::TrustedProxy(_) => true,
    };
    if is_somebody { Ok(()) } else { Err(Refusal::device_identity_required(is_ui(&attempt.params.client))) }
}

fn check_ui_build(attempt: &Attempt<'_>) -> Result<(), Refusal> {
    let client = &attempt.params.client;
    match (&attempt.policy.ui_build, &client.build_id) {
        (Some(ours), Some(theirs))
            if client.id == ClientId::OpenclawControlUi && ours != theirs && theirs != "dev" =>
        {
            Err(Refusal::ui_build(ours))
        }
        _ => Ok(()),
    }
}

/// Clients that a person looks at: without a device they would act in nobody's name.
fn is_ui(client: &ClientInfo) -> bool {
    client.is_browser() || client.id == ClientId::OpenclawTui
}

fn is_backend(client: &ClientInfo) -> bool {
    client.id == ClientId::GatewayClient && client.mode == ClientMode::Backend
}

/// A connect whose credential was accepted.
struct Visitor<'a, 'b> {
    attempt: &'b Attempt<'a>,
    role: Role,
    asked: Scopes,
    credential: Credential,
}

impl Visitor<'_, '_> {
    /// The gateway's own helper on this machine needs no pairing, whether it shows a device or not.
    fn is_self_paired_helper(&self) -> bool {
        is_backend(&self.attempt.params.client)
            && self.role == Role::Operator
            && self.attempt.peer.is_local_program()
            && self.is_owner()
    }

    /// Whether the connect proved to be the owner's: it knows the secret, or there is none to know.
    fn is_owner(&self) -> bool {
        matches!(self.credential, Credential::Shared(_) | Credential::NotNeeded)
    }

    fn without_device(self) -> Result<Decision, Refusal> {
        let client = &self.attempt.params.client;
        if self.role == Role::Node {
            return Err(Refusal::device_identity_required(false));
        }
        if is_ui(client) && self.credential != Credential::Proxy {
            return Err(Refusal::device_identity_required(true));
        }
        let trusted = client.is_local_helper() && self.attempt.peer.is_local_program() && self.is_owner();
        let scopes = if trusted { self.asked.clone() } else { Scopes::none() };
        Ok(Decision::Admit(Grant { role: self.role, scopes, method: self.method(), device_id: None }))
    }

    fn with_device(self, claim: DeviceClaim, book: &DeviceBook) -> Decision {
        let record = book.device(&claim.device_id);
        let grant = Grant {
            role: self.role,
            // A node holds no scopes, whatever it asks for.
            scopes: if self.role == Role::Node { Scopes::none() } else { self.asked.clone() },
            method: self.method(),
            device_id: Some(claim.device_id.clone()),
        };
        let peer = self.attempt.peer;
        let remote_ip = (!peer.is_direct_local()).then(|| peer.addr.to_string());
        let roles = vec![self.role];
        let needed = self.needs_pairing(&claim, record);
        if let Credential::Bootstrap(digest, access) = self.credential {
            // Also where nothing is needed: a code that was shown is used up.
            let reason = needed.unwrap_or(PairingReason::NotPaired);
            let (roles, scopes) = (access.roles().to_vec(), access.scopes());
            let pairing = Pairing { claim, roles, scopes, reason, remote_ip, provable_at: None };
            return Decision::Approve { grant, pairing, via: "bootstrap", consumes: Some(digest) };
        }
        let Some(reason) = needed else { return Decision::Admit(grant) };
        if self.is_tailnet_page() {
            // Its person is known by name: nothing is left to pair, and no token is given that would outlive that.
            return Decision::Admit(Grant { device_id: None, ..grant });
        }
        let via = self.approved_without_asking(reason);
        let provable_at = self.provable_at(reason);
        let pairing = Pairing { claim, roles, scopes: self.asked, reason, remote_ip, provable_at };
        match via {
            Some(via) => Decision::Approve { grant, pairing, via, consumes: None },
            None => Decision::Ask(pairing),
        }
    }

    /// The Control UI in the browser of somebody whom Tailscale names.
    fn is_tailnet_page(&self) -> bool {
        self.credential == Credential::Tailnet && self.attempt.params.client.id == ClientId::OpenclawControlUi
    }

    fn needs_pairing(&self, claim: &DeviceClaim, record: Option<&DeviceRecord>) -> Option<PairingReason> {
        let Some(record) = record else { return Some(PairingReason::NotPaired) };
        if !record.claim.is_same_kind(claim) {
            Some(PairingReason::MetadataUpgrade)
        } else if record.live_token(self.role).is_none() {
            Some(PairingReason::RoleUpgrade)
        } else if self.role == Role::Operator && !record.scopes.covers(&self.asked) {
            Some(PairingReason::ScopeUpgrade)
        } else {
            None
        }
    }

    fn approved_without_asking(&self, reason: PairingReason) -> Option<&'static str> {
        let new_node = self.is_new_node(reason);
        let harmless = match reason {
            PairingReason::NotPaired => new_node || self.role == Role::Operator,
            PairingReason::ScopeUpgrade => self.role == Role::Operator,
            // Another kind of machine, or a role that was never given or was taken away: a person decides.
            PairingReason::RoleUpgrade | PairingReason::MetadataUpgrade => false,
        };
        let at_home = self.attempt.policy.auto_approve_local && self.is_at_home();
        if !self.is_owner() {
            None
        } else if harmless && at_home {
            Some("silent")
        } else {
            (new_node && self.is_from_node_network()).then_some("trusted-cidr")
        }
    }

    fn is_new_node(&self, reason: PairingReason) -> bool {
        self.role == Role::Node && reason == PairingReason::NotPaired && self.asked.is_empty()
    }

    /// Only for a node that was never here and wants no scopes, with nothing between it and the gateway.
    fn provable_at(&self, reason: PairingReason) -> Option<IpAddr> {
        let Attempt { peer, policy, .. } = self.attempt;
        let direct = peer.page == PageOrigin::Absent
            && matches!(peer.class, PeerClass::DirectLocal | PeerClass::DirectRemote);
        let eligible = direct && self.is_owner() && self.is_new_node(reason);
        let proof = policy.ssh_proof.as_ref().filter(|_| eligible)?;
        proof.reaches(peer.addr).then(|| peer.addr.to_canonical())
    }

    /// On this machine, and either no page at all or a page of ours that says so.
    fn is_at_home(&self) -> bool {
        let peer = self.attempt.peer;
        let honest_page = peer.page == PageOrigin::Own && self.attempt.params.client.is_browser();
        peer.is_local_program() || (peer.is_direct_local() && honest_page)
    }

    fn is_from_node_network(&self) -> bool {
        let Attempt { peer, policy, .. } = self.attempt;
        peer.page == PageOrigin::Absent
            && matches!(peer.class, PeerClass::DirectLocal | PeerClass::DirectRemote)
            && policy.auto_approve_nodes.iter().any(|network| network.contains(peer.addr))
    }

    fn method(&self) -> AuthMethod {
        match self.credential {
            Credential::Shared(SharedKind::Token) => AuthMethod::Token,
            Credential::Shared(SharedKind::Password) => AuthMethod::Password,
            Credential::NotNeeded => AuthMethod::None,
            Credential::DeviceToken => AuthMethod::DeviceToken,
            Credential::Bootstrap(..) => AuthMethod::BootstrapToken,
            Credential::Proxy => AuthMethod::TrustedProxy,
            Credential::Tailnet => AuthMethod::Tailscale,
        }
    }
}

impl Pairing {
    /// The refusal that goes with a pending request.
    /// `wait`: the client should ask again by itself.
    pub fn refusal(&self, record: Option<&DeviceRecord>, wait: bool, request_id: &str) -> Refusal {
        let ask = PairingAsk {
            reason: self.reason,
            device_id: &self.claim.device_id,
            role: self.claim.role,
            scopes: &self.scopes,
            approved: record.map(|record| (record.roles.as_slice(), &record.scopes)),
            wait,
        };
        Refusal::pairing_required(&ask, request_id)
    }
}
