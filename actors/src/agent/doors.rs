//! What a run needs from the rest of the gateway, small enough to be stood in for in a test.

use crate::channels::{Channels, FetchMedia, RunProgress};
use crate::gateway::Gateway;
use crate::nodes::{
    ApproveSurface, Courier, InvokeError, InvokeNode, InvokeOrigin, InvokeOutcome, ListNodes, RejectSurface,
};
use crate::supervise::Restarting;
use actix::MailboxError;
use futures_util::future::LocalBoxFuture;
use serde::Serialize;
use serde_json::Value;
use std::time::Duration;
use tidegate_protocol::lenient;
use tidegate_protocol::{ErrorShape, Scope, Scopes};

/// A command for a node, on behalf of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeCall {
    /// An id or a name.
    pub node: String,
    pub command: String,
    pub params: Value,
    pub timeout: Duration,
    /// The same key never runs a command twice, not even after a restart.
    pub key: String,
    pub session_key: String,
    pub run_id: String,
}

/// A call by what tells it from others.
#[derive(Debug, Clone, PartialEq)]
pub struct Sent {
    pub node_id: String,
    pub command: String,
    pub key: String,
    pub run_id: String,
}

/// What a node answered.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeAnswer {
    pub node_id: String,
    pub payload: Value,
}

/// Why a node did not answer.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct NodeFailure {
    pub message: String,
    /// The command may have run all the same.
    pub may_have_run: bool,
}

/// The way to the nodes.
pub trait NodeDoor {
    /// All nodes as `node.list` shows them.
    fn list(&self) -> LocalBoxFuture<'_, Result<Vec<Value>, NodeFailure>>;
    /// Runs a command on a node.
    fn invoke(&self, call: NodeCall) -> LocalBoxFuture<'_, Result<NodeAnswer, NodeFailure>>;
    /// What is known of a call that may have been sent before, whatever its params were; sends nothing. The node is
    /// named by its id.
    fn recall(&self, call: Sent) -> LocalBoxFuture<'_, Option<Result<NodeAnswer, NodeFailure>>>;
    /// Approves or rejects what a node asks to be allowed.
    fn decide(&self, request_id: String, approve: bool) -> LocalBoxFuture<'_, Result<Value, NodeFailure>>;
}

/// The way to the channels.
pub trait ChannelDoor {
    /// Tells the channel how a run comes along. News may be lost.
    fn progress(&self, progress: RunProgress);
    /// Whether there is such an account, so that what is meant for it can go out.
    fn exists(&self, channel: &str, account: &str) -> bool;
    /// Something new is in the outbox of this account.
    fn flush(&self, channel: &str, account: &str);
    /// The bytes of a file that came with a message.
    fn fetch<'a>(
        &'a self,
        channel: &'a str,
        account: &'a str,
        file: FetchMedia,
    ) -> LocalBoxFuture<'a, Result<Vec<u8>, String>>;
}

impl ChannelDoor for Channels {
    fn progress(&self, progress: RunProgress) {
        Self::progress(self, progress);
    }

    fn exists(&self, channel: &str, account: &str) -> bool {
        self.get(channel, account).is_some()
    }

    fn flush(&self, channel: &str, account: &str) {
        Self::flush(self, channel, account);
    }

    fn fetch<'a>(
        &'a self,
        channel: &'a str,
        account: &'a str,
        file: FetchMedia,
    ) -> LocalBoxFuture<'a, Result<Vec<u8>, String>> {
        Box::pin(async move {
            let fetched =
                Self::fetch(self, channel, account, file).await.map_err(|error| error.to_string())?;
            let bytes = tokio::fs::read(&fetched.path).await.map_err(|error| error.to_string());
            // It was fetched for us alone.
            if let Err(error) = tokio::fs::remove_file(&fetched.path).await {
                tracing::warn!(%error, "a fetched file could not be removed");
            }
            bytes
        })
    }
}

/// The way to the nodes through their registry.
pub(super) struct Registry {
    gateway: Gateway,
}

impl Registry {
    pub(super) fn new(gateway: Gateway) -> Self {
        Self { gateway }
    }
}

impl NodeDoor for Registry {
    fn list(&self) -> LocalBoxFuture<'_, Result<Vec<Value>, NodeFailure>> {
        Box::pin(async move {
            let views = self.gateway.nodes.send(ListNodes).await.map_err(restarting)?;
            Ok(views.iter().filter_map(|view| serde_json::to_value(view).ok()).collect())
        })
    }

    fn invoke(&self, call: NodeCall) -> LocalBoxFuture<'_, Result<NodeAnswer, NodeFailure>> {
        Box::pin(async move {
            let params = match &call.params {
                Value::Null => None,
                params => Some(serde_json::value::to_raw_value(params).map_err(unreadable)?),
            };
            let invoke = || InvokeNode {
                node: call.node.clone(),
                command: call.command.clone(),
                params: params.clone(),
                timeout: call.timeout,
                idempotency_key: call.key.clone(),
                session_key: Some(call.session_key.clone()),
                origin: InvokeOrigin::Agent { run_id: call.run_id.clone() },
            };
            let courier = Courier::of(&self.gateway);
            loop {
                // Dropping this future, as a stopped run does, gives the call up.
                match courier.invoke(invoke()).await {
                    Err(InvokeError::NotConnected) if nodes_may_come_back(&self.gateway) => {
                        tokio::time::sleep(LOOK_AGAIN).await;
                    }
                    outcome => return answer(outcome.map_err(failure)?.as_ref()),
                }
            }
        })
    }

    fn recall(&self, call: Sent) -> LocalBoxFuture<'_, Option<Result<NodeAnswer, NodeFailure>>> {
        Box::pin(async move {
            let origin = InvokeOrigin::Agent { run_id: call.run_id };
            let courier = Courier::of(&self.gateway);
            let outcome = courier.recall(&call.node_id, &call.command, &call.key, &origin).await?;
            Some(outcome.map_err(failure).and_then(|outcome| answer(&outcome)))
        })
    }

    fn decide(&self, request_id: String, approve: bool) -> LocalBoxFuture<'_, Result<Value, NodeFailure>> {
        Box::pin(async move {
            if approve {
                // The agent never holds `operator.admin`: a node that wants to run programs is let in by a person.
                let scopes =
                    Scopes::from_iter([Scope::Read, Scope::Write, Scope::Pairing].map(Scope::as_str));
                let approved = self.gateway.nodes.send(ApproveSurface { request_id, scopes }).await;
                shown(approved.map_err(restarting)?)
            } else {
                let rejected = self.gateway.nodes.send(RejectSurface { request_id }).await;
                shown(rejected.map_err(restarting)?)
            }
        })
    }
}

/// Nodes take a moment to find a gateway that was started again: a call waits so long for them after its start.
const SETTLING: Duration = Duration::from_secs(15);
/// How soon to look whether they are there.
pub(super) const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// Whether nodes that are not connected may still be on their way back.
pub(super) fn nodes_may_come_back(gateway: &Gateway) -> bool {
    gateway.started.elapsed() < SETTLING
}

fn answer(outcome: &InvokeOutcome) -> Result<NodeAnswer, NodeFailure> {
    let payload = lenient::from_str(outcome.payload.get()).map_err(unreadable)?;
    Ok(NodeAnswer { node_id: outcome.node_id.clone(), payload })
}

fn shown(answer: Result<impl Serialize, ErrorShape>) -> Result<Value, NodeFailure> {
    let answer = answer.map_err(|error| NodeFailure { message: error.message, may_have_run: false })?;
    serde_json::to_value(answer).map_err(unreadable)
}

fn restarting(_: MailboxError) -> NodeFailure {
    NodeFailure { message: Restarting("the registry of nodes").to_string(), may_have_run: false }
}

fn unreadable(error: serde_json::Error) -> NodeFailure {
    NodeFailure { message: format!("unreadable JSON: {error}"), may_have_run: false }
}

fn failure(error: InvokeError) -> NodeFailure {
    // A node that answered with an error has said what happened.
    let told = matches!(error, InvokeError::NodeFailed { .. });
    NodeFailure { may_have_run: error.may_have_run() && !told, message: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nodes::Answer;
    use serde_json::json;

    #[test]
    fn output_that_a_node_cut_within_a_character_is_read() {
        let text = r#"{"stdout":"a\ud83d"}"#.to_owned();
        let sent = Answer { ok: true, payload_json: Some(text), ..Answer::default() };
        let outcome = InvokeOutcome::of("n", "system.run", sent);
        assert_eq!(answer(&outcome).unwrap().payload, json!({"stdout": "a\u{fffd}"}));
    }
}
