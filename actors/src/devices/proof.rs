//! Which devices' keys are being looked for on their own machines, and which may be.
//!
//! A node that asks from a private network is paired without a question if its key can be read, over SSH, on the very
//! machine that it asks from: whoever could log in there could as well have approved it. That somebody is reachable
//! there proves nothing; only the key does. Each request is tried once, each machine and device not too often, and
//! only few at a time.

use super::{Devices, Respond};
use crate::auth::AuthPolicy;
use crate::auth::policy::SshProof;
use crate::clock::now_ms;
use crate::pairings::{Approval, Change, DeviceRecord, PairingRequest};
use actix::{Addr, Context, Handler, Message};
use futures_util::future::LocalBoxFuture;
use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};
use tidegate_protocol::device_auth::DeviceKey;
use tidegate_protocol::{Role, Scopes};

/// Machines that are asked at one time.
const MAX_UNDER_WAY: usize = 4;
/// How long a machine that could not be asked is left alone.
const AFTER_FAILURE: Duration = Duration::from_secs(60);
/// The same after it showed another key.
const AFTER_MISMATCH: Duration = Duration::from_secs(5 * 60);
/// Machines that are remembered as left alone.
const MAX_REMEMBERED: usize = 512;

/// Reads the identities of the nodes on a machine.
pub(super) type Probe = fn(Target) -> LocalBoxFuture<'static, Result<Vec<Identity>, ProbeError>>;

/// Where to look.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Target {
    pub(super) host: IpAddr,
    pub proof: SshProof,
}

/// A node's identity as its own machine tells it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Identity {
    pub device_id: String,
    pub public_key: String,
}

/// Why a machine could not be asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum ProbeError {
    #[error("ssh could not be started: {0}")]
    NoSsh(String),
    #[error("ssh was not done in time")]
    TimedOut,
    #[error("ssh failed: {0}")]
    Failed(String),
    #[error("no node has an identity there, or its program is not found by a login shell")]
    NoIdentity,
}

/// A key to be looked for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Plan {
    target: Target,
    device_id: String,
    public_key: String,
    request_id: String,
}

/// What is under way, and what was tried not long ago.
#[derive(Default)]
pub(super) struct Probes {
    /// By device.
    under_way: HashMap<String, Plan>,
    left_alone: HashMap<(Target, String), Instant>,
    /// Requests that had their try.
    tried: HashSet<String>,
}

impl Plan {
    /// Only a node that was never here, and wants nothing else, can be proven.
    pub(super) fn new(asked: &PairingRequest, host: IpAddr, proof: SshProof) -> Option<Self> {
        let fits = !asked.is_repair && asked.roles == [Role::Node] && asked.scopes.is_empty();
        fits.then(|| Self {
            target: Target { host, proof },
            device_id: asked.claim.device_id.clone(),
            public_key: asked.claim.public_key.clone(),
            request_id: asked.request_id.clone(),
        })
    }

    fn key(&self) -> (Target, String) {
        (self.target.clone(), self.device_id.clone())
    }

    fn is_proven_by(&self, identity: &Identity) -> bool {
        let same_key = match (key(&self.public_key), key(&identity.public_key)) {
            (Some(asked), Some(found)) => asked == found,
            _ => false,
        };
        same_key && identity.device_id.trim() == self.device_id
    }
}

/// The key itself: there is more than one way to write it.
fn key(text: &str) -> Option<DeviceKey> {
    DeviceKey::decode(text.trim())
}

impl Probes {
    pub(super) fn is_under_way(&self, device_id: &str) -> bool {
        self.under_way.contains_key(device_id)
    }

    /// Starts looking, unless that was done not long ago or too much is under way. The outcome comes as [`Probed`].
    pub(super) fn start(&mut self, plan: Plan, probe: Probe, devices: Addr<Devices>) -> bool {
        let now = Instant::now();
        self.left_alone.retain(|_, until| *until > now);
        if self.is_under_way(&plan.device_id) {
            return true;
        }
        let busy = self.under_way.len() >= MAX_UNDER_WAY
            || self.left_alone.len() >= MAX_REMEMBERED
            || self.tried.len() >= MAX_REMEMBERED;
        if busy || self.tried.contains(&plan.request_id) || self.left_alone.contains_key(&plan.key()) {
            return false;
        }
        self.tried.insert(plan.request_id.clone());
        self.under_way.insert(plan.device_id.clone(), plan.clone());
        let looking = probe(plan.target.clone());
        actix::spawn(async move {
            let found = looking.await;
            // A devices actor that was restarted meanwhile knows nothing of this; the device asks again.
            devices.do_send(Probed { plan, found });
        });
        true
    }

    /// Forgets requests that are gone.
    pub(super) fn forget(&mut self, is_gone: impl Fn(&str) -> bool) {
        self.tried.retain(|request_id| !is_gone(request_id));
    }

    fn ended(&mut self, plan: &Plan, leave_alone: Option<Duration>) {
        self.under_way.remove(&plan.device_id);
        if let Some(time) = leave_alone {
            self.left_alone.insert(plan.key(), Instant::now() + time);
        }
    }
}

/// A machine was asked.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(super) struct Probed {
    plan: Plan,
    found: Result<Vec<Identity>, ProbeError>,
}

impl Handler<Probed> for Devices {
    type Result = Respond<()>;

    fn handle(&mut self, Probed { plan, found }: Probed, _: &mut Context<Self>) -> Self::Result {
        let (device, host) = (plan.device_id.as_str(), plan.target.host);
        let failure = match &found {
            Ok(identities) if identities.iter().any(|identity| plan.is_proven_by(identity)) => None,
            Ok(_) => Some((AFTER_MISMATCH, "the key that is there is another".to_owned())),
            Err(error) => Some((AFTER_FAILURE, error.to_string())),
        };
        self.probes.ended(&plan, failure.as_ref().map(|(time, _)| *time));
        if let Some((_, reason)) = failure {
            let request = plan.request_id.as_str();
            tracing::warn!(device, request, %host, reason, "node was not proven over ssh; it waits for approval");
            return self.ready(());
        }
        match self.proven(&plan) {
            Some(record) => self.pair_proven(plan, record),
            None => {
                tracing::info!(device, %host, "node was proven over ssh, but is not to be paired any more");
                self.ready(())
            }
        }
    }
}

impl Devices {
    /// The record of a proven device, if it still waits with the same request and the settings are what they were.
    fn proven(&self, plan: &Plan) -> Option<DeviceRecord> {
        let now_ms = now_ms();
        let asked = self.book.request(&plan.request_id, now_ms)?;
        let policy = AuthPolicy::from_settings(&self.gateway.settings.get());
        let now = Plan::new(asked, plan.target.host, policy.ssh_proof?)?;
        if now != *plan || self.book.device(&plan.device_id).is_some() {
            return None;
        }
        let (roles, scopes) = (&[Role::Node], &Scopes::none());
        let approval = Approval { claim: &asked.claim, roles, scopes, via: "ssh-verified", now_ms };
        let issue = |role| self.key.issue(&plan.device_id, role);
        DeviceRecord::approved(None, approval, issue).ok()
    }

    fn pair_proven(&self, plan: Plan, record: DeviceRecord) -> Respond<()> {
        tracing::info!(device = plan.device_id, host = %plan.target.host, via = "ssh-verified", "device paired");
        let answers = Some(plan.request_id.clone());
        let change = Change::SaveDevice { record: Box::new(record), answers, consumes: None };
        self.store_and(change, move |devices| {
            devices.tell_resolved(&plan.request_id, &plan.device_id, "approved");
        })
    }
}
