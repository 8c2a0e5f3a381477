//! Takes a call from its caller to its outcome: what may be asked, one run for one key, who waits and how long.

use super::argv::{self, CheckedRun};
use super::call::{
    InvokeNode, InvokeOrigin, LARGEST_STORED, LARGEST_STORED_FOR_OPERATORS, LONGEST_TIMEOUT, Outcome,
    StoredOutcome, fingerprint,
};
use super::error::InvokeError;
use super::names::NameError;
use super::once::{Begun, Fingerprint, Keep, Lead};
use super::policy::{self, CommandPolicy};
use super::table::{NodeConnection, NodeTable};
use crate::gateway::Gateway;
use crate::settings::SettingsHandle;
use crate::store::{Store, StoredCall};
use serde_json::value::RawValue;
use std::sync::Arc;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

/// Everything a call needs. Cheap to clone.
#[derive(Clone)]
pub struct Courier {
    pub table: NodeTable,
    pub settings: SettingsHandle,
    pub store: Store,
}

/// A call that was let through, and is not on its way yet.
pub(super) struct Errand {
    pub(super) node_id: String,
    pub(super) command: String,
    /// What to send, or why it may not be sent now: a key that was used before is answered all the same.
    pub(super) params: Result<Payload, InvokeError>,
    pub(super) deadline: Instant,
    pub(super) key: String,
    /// The key as this gateway tells callers apart.
    pub(super) once_key: String,
    pub(super) fingerprint: Fingerprint,
    pub(super) session_key: Option<String>,
    pub(super) origin: InvokeOrigin,
}

pub(super) enum Payload {
    /// Passed on as it came.
    Raw(Option<Box<RawValue>>),
    /// A program to run: checked, and completed before it is sent.
    Run(CheckedRun),
}

impl Courier {
    /// A courier of this gateway.
    pub fn of(gateway: &Gateway) -> Self {
        Self {
            table: gateway.node_table.clone(),
            settings: gateway.settings.clone(),
            store: gateway.store.clone(),
        }
    }

    /// Calls a node. Dropping the future gives the call up; see [`InvokeOrigin::patience`].
    pub async fn invoke(&self, ask: InvokeNode) -> Outcome {
        let errand = self.prepare(ask)?;
        let (command, deadline) = (errand.command.clone(), errand.deadline);
        match self.table.once().begin(&errand.once_key, errand.fingerprint) {
            Begun::First(lead, outcome) => {
                let courier = self.clone();
                tokio::spawn(courier.lead(errand, lead));
                join(outcome, None, &command).await
            }
            Begun::Running(outcome) => join(outcome, Some(deadline), &command).await,
            Begun::Done(outcome) => later(&outcome, &command),
            Begun::Forgotten => Err(InvokeError::OutcomeForgotten { command }),
            Begun::Different => Err(InvokeError::KeyReused),
        }
    }

    /// What is known of an earlier call under this key, whatever its params were. Sends nothing.
    pub async fn recall(
        &self,
        node_id: &str,
        command: &str,
        key: &str,
        origin: &InvokeOrigin,
    ) -> Option<Outcome> {
        let once_key = once_key(origin, node_id, command, key);
        match self.store.node_call(&once_key).await {
            Ok(Some(call)) => Some(ended(call, command)),
            Ok(None) => None,
            Err(error) => Some(Err(InvokeError::NotRecorded(error.to_string()))),
        }
    }

    /// Everything that can be refused at once.
    fn prepare(&self, ask: InvokeNode) -> Result<Errand, InvokeError> {
        let InvokeNode { node, command, params, timeout, idempotency_key: key, session_key, origin } = ask;
        may_ask(&origin, &command)?;
        let node_id = self.resolve(node)?;
        let fingerprint = fingerprint(params.as_deref());
        let params = self.authorize(&node_id, &command).and_then(|_| payload(&command, params));
        let once_key = once_key(&origin, &node_id, &command, &key);
        let deadline = Instant::now() + timeout.min(LONGEST_TIMEOUT);
        Ok(Errand { node_id, command, params, deadline, key, once_key, fingerprint, session_key, origin })
    }

    fn resolve(&self, name: String) -> Result<String, InvokeError> {
        self.table.resolve(&name).map_err(|error| match error {
            NameError::Unknown(name) => InvokeError::Unknown(name),
            NameError::Ambiguous { name, nodes } => InvokeError::Ambiguous { name, nodes },
        })
    }

    /// The socket that may be sent this command now.
    pub(super) fn authorize(&self, node_id: &str, command: &str) -> Result<Arc<NodeConnection>, InvokeError> {
        let known = self.table.known(node_id).ok_or_else(|| InvokeError::Unknown(node_id.to_owned()))?;
        let Some(approved) = &known.record.approved else {
            let request_id = known.request.as_ref().map(|request| request.request_id.clone());
            return Err(InvokeError::PairingChanged { request_id });
        };
        let connection = self.table.connection(node_id).ok_or(InvokeError::NotConnected)?;
        let settings = self.settings.get();
        CommandPolicy(&settings.gateway.nodes)
            .permits(&known.record.platform, known.platform, &connection.declared, approved, command)
            .map_err(|refused| InvokeError::NotAllowed { command: command.to_owned(), refused })?;
        Ok(connection)
    }

    /// Runs the call for everybody who asked for it.
    async fn lead(self, errand: Errand, lead: Lead<Outcome>) {
        let patience = errand.origin.patience();
        let command = errand.command.clone();
        let outcome = tokio::select! {
            outcome = self.carry(errand) => outcome,
            () = lead.abandoned(patience) => Err(InvokeError::OutcomeUnknown { command }),
        };
        let keep = match &outcome {
            Ok(answer) => Keep::Outcome(answer.weight()),
            Err(error) if error.may_have_run() => Keep::Outcome(error.to_string().len()),
            Err(_) => Keep::Nothing,
        };
        lead.finish(outcome, keep);
    }

    async fn carry(&self, errand: Errand) -> Outcome {
        let by_agent = matches!(errand.origin, InvokeOrigin::Agent { .. });
        if !by_agent && policy::only_looks(&errand.command) {
            return self.send(errand).await;
        }
        if let Err(refused) = &errand.params {
            let known = self.recall(&errand.node_id, &errand.command, &errand.key, &errand.origin).await;
            return known.unwrap_or_else(|| Err(refused.clone()));
        }
        let key = errand.once_key.clone();
        let command = errand.command.clone();
        if let Some(known) = self.record(&errand).await? {
            return known;
        }
        let outcome = self.send(errand).await;
        let ran = outcome.as_ref().err().is_none_or(InvokeError::may_have_run);
        let largest = if by_agent { LARGEST_STORED } else { LARGEST_STORED_FOR_OPERATORS };
        let stored = ran.then(|| serde_json::to_string(&StoredOutcome::of(&outcome, largest)).ok()).flatten();
        let store = self.store.clone();
        let storing = async move {
            if let Err(error) = store.finish_node_call(&key, stored).await {
                // The caller has its outcome; a repetition after a crash will hear that it is unknown.
                tracing::warn!(%error, command, "outcome of a node call was not stored");
            }
        };
        // A person need not wait for the disk; a run of the agent may be replayed and ask again.
        if by_agent {
            storing.await
        } else {
            drop(tokio::spawn(storing))
        }
        outcome
    }

    /// Records a durable call before it is sent. `Some`: it was sent before, and this is how it ended.
    async fn record(&self, errand: &Errand) -> Result<Option<Outcome>, InvokeError> {
        let print = hex(&errand.fingerprint);
        let recording = self.store.begin_node_call(&errand.once_key, &print);
        match timeout_at(errand.deadline, recording).await {
            Err(_) => Err(InvokeError::TimedOut { dispatched: false }),
            Ok(Err(error)) => Err(InvokeError::NotRecorded(error.to_string())),
            Ok(Ok(StoredCall::New)) => Ok(None),
            Ok(Ok(call)) => Ok(Some(ended(call, &errand.command))),
        }
    }
}

/// The key as this gateway tells callers apart.
fn once_key(origin: &InvokeOrigin, node_id: &str, command: &str, key: &str) -> String {
    [origin.key_scope().as_str(), node_id, command, key].join("\n")
}

fn payload(command: &str, params: Option<Box<RawValue>>) -> Result<Payload, InvokeError> {
    if argv::runs_programs(command) {
        return Ok(Payload::Run(argv::check(command, params.as_deref().map(RawValue::get))?));
    }
    Ok(Payload::Raw(params))
}

/// How a call ended that was recorded before.
fn ended(call: StoredCall, command: &str) -> Outcome {
    match call {
        StoredCall::Different => Err(InvokeError::KeyReused),
        StoredCall::Done(text) => match serde_json::from_str::<StoredOutcome>(&text) {
            Ok(stored) => stored.restore(command),
            Err(_) => Err(InvokeError::OutcomeForgotten { command: command.to_owned() }),
        },
        StoredCall::New | StoredCall::Unknown => {
            Err(InvokeError::OutcomeUnknown { command: command.to_owned() })
        }
    }
}

fn may_ask(origin: &InvokeOrigin, command: &str) -> Result<(), InvokeError> {
    if *origin == InvokeOrigin::Gateway {
        return Ok(());
    }
    if policy::is_reserved(command) {
        return Err(InvokeError::Reserved(command.to_owned()));
    }
    if policy::needs_admin(command) && !origin.is_admin() {
        return Err(InvokeError::MissingScope("operator.admin"));
    }
    Ok(())
}

/// Waits for a call that somebody leads; a caller that joined keeps its own deadline.
async fn join(
    mut outcome: watch::Receiver<Option<Arc<Outcome>>>,
    deadline: Option<Instant>,
    command: &str,
) -> Outcome {
    let waiting = outcome.wait_for(Option::is_some);
    let ended = match deadline {
        Some(deadline) => {
            timeout_at(deadline, waiting).await.map_err(|_| InvokeError::TimedOut { dispatched: true })?
        }
        None => waiting.await,
    };
    match ended.as_deref() {
        Ok(Some(outcome)) => (**outcome).clone(),
        _ => Err(InvokeError::OutcomeUnknown { command: command.to_owned() }),
    }
}

/// What somebody learns who asks after the call ended.
fn later(outcome: &Outcome, command: &str) -> Outcome {
    match outcome {
        Ok(answer) => Ok(Arc::clone(answer)),
        Err(error) => Err(error.for_later_callers(command)),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
