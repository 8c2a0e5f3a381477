//! The last part of a call's way: completed, framed, sent to the node, and sent again while the node is not ready.

use super::approvals::ApprovalClaim;
use super::argv::{self, CheckedRun, RunRefused};
use super::call::{InvokeOutcome, Outcome};
use super::calls::{Answer, End};
use super::courier::{Courier, Errand, Payload};
use super::error::{InvokeError, is_not_ready};
use super::table::{NodeConnection, event_frame};
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use std::sync::Arc;
use std::time::Duration;
use tidegate_protocol::limits::MAX_PAYLOAD;
use tokio::time::{Instant, timeout_at};

/// A node that is not ready yet is asked again after these pauses.
const SECOND_TRIES: [Duration; 4] = [
    Duration::from_millis(100),
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_millis(1000),
];

/// What is left of a caller's words beside an approval: its id, the variables, which were compared with the approved
/// ones, and how long to wait.
const UNBOUND: [&str; 3] = ["runId", "env", "timeoutMs"];

/// Payload of `node.invoke.request`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Request<'a> {
    id: &'a str,
    node_id: &'a str,
    command: &'a str,
    #[serde(rename = "paramsJSON")]
    params_json: Option<&'a str>,
    timeout_ms: u64,
    idempotency_key: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    session_key: Option<&'a str>,
}

impl Courier {
    /// Sends the call, again and again while the node is not ready.
    pub(super) async fn send(&self, mut errand: Errand) -> Outcome {
        let mut running = None;
        let params = match std::mem::replace(&mut errand.params, Ok(Payload::Raw(None)))? {
            Payload::Raw(params) => params,
            Payload::Run(run) => {
                let (params, run_id) = self.complete(&errand, run).await?;
                let session_key = argv::text(&params, "sessionKey").or_else(|| errand.session_key.clone());
                running = Some(self.table.runs().begin(&errand.node_id, &run_id, session_key));
                Some(raw(&Value::Object(params))?)
            }
        };
        let params = params.as_deref().map(RawValue::get);
        let mut pauses = SECOND_TRIES.into_iter();
        let outcome = loop {
            match self.attempt(&errand, params).await {
                Err(InvokeError::NodeFailed { error }) if is_not_ready(error.as_ref()) => {
                    let next = pauses.next().map(|pause| Instant::now() + pause);
                    match next.filter(|at| *at < errand.deadline) {
                        Some(at) => tokio::time::sleep_until(at).await,
                        None => break Err(InvokeError::NodeFailed { error }),
                    }
                }
                other => break other,
            }
        };
        drop(running);
        outcome
    }

    /// One frame to the node, and what comes of it.
    async fn attempt(&self, errand: &Errand, params: Option<&str>) -> Outcome {
        let connection = self.authorize(&errand.node_id, &errand.command)?;
        let left = errand.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(InvokeError::TimedOut { dispatched: false });
        }
        let id = uuid::Uuid::new_v4().to_string();
        let (node, conn) = (Arc::clone(&connection.node_id), Arc::clone(&connection.conn_id));
        let mut ticket = self.table.calls().open(id.clone(), node, conn);
        // A socket that closed before the call was registered will not fail it.
        if self.table.socket(&errand.node_id, &connection.conn_id).is_none() {
            return Err(InvokeError::NotConnected);
        }
        let request = Request {
            id: &id,
            node_id: &errand.node_id,
            command: &errand.command,
            params_json: params,
            timeout_ms: u64::try_from(left.as_millis()).unwrap_or(u64::MAX).max(1),
            idempotency_key: &errand.key,
            session_key: errand.session_key.as_deref(),
        };
        let frame = event_frame("node.invoke.request", &request).ok_or(InvokeError::Busy)?;
        // A larger one would cost the node its connection, and every other call on it its answer.
        if frame.len() > MAX_PAYLOAD {
            return Err(InvokeError::ParamsTooLarge);
        }
        if !connection.sink.send(frame) {
            return Err(InvokeError::Busy);
        }
        let mut recall = Recall { connection: &connection, invoke_id: &id, armed: true };
        let end = timeout_at(errand.deadline, &mut ticket.end).await;
        recall.armed = end.is_err();
        match end {
            Ok(Ok(End::Answered(answer))) => judge(errand, answer),
            Ok(Ok(End::Disconnected) | Err(_)) => {
                Err(InvokeError::Disconnected { command: errand.command.clone() })
            }
            Err(_) => Err(InvokeError::TimedOut { dispatched: true }),
        }
    }

    /// Adds what a run needs: its id, and what a person really approved.
    async fn complete(
        &self,
        errand: &Errand,
        run: CheckedRun,
    ) -> Result<(Map<String, Value>, String), InvokeError> {
        let CheckedRun { mut params, claims_approval } = run;
        let run_id = argv::text(&params, "runId").unwrap_or_else(|| uuid::Uuid::new_v4().to_string());
        if claims_approval {
            self.use_approval(errand, &run_id, &mut params).await?;
        }
        if errand.command == "system.run" {
            params.insert("runId".to_owned(), run_id.clone().into());
        }
        Ok((params, run_id))
    }

    async fn use_approval(
        &self,
        errand: &Errand,
        run_id: &str,
        params: &mut Map<String, Value>,
    ) -> Result<(), InvokeError> {
        let keeper = self.table.approvals().ok_or_else(|| RunRefused::unknown_approval(run_id))?;
        let claim = ApprovalClaim {
            run_id: run_id.to_owned(),
            node_id: errand.node_id.clone(),
            params: params.clone(),
            origin: errand.origin.clone(),
        };
        let approved = timeout_at(errand.deadline, keeper.consume(claim))
            .await
            .map_err(|_| InvokeError::TimedOut { dispatched: false })??;
        params.retain(|key, _| UNBOUND.contains(&key.as_str()));
        params.extend(approved.params);
        argv::check_program(&errand.command, params)?;
        params.insert("approved".to_owned(), true.into());
        params.insert("approvalDecision".to_owned(), approved.decision.into());
        Ok(())
    }
}

/// Tells the node to stop, unless the call ended.
struct Recall<'a> {
    connection: &'a NodeConnection,
    invoke_id: &'a str,
    armed: bool,
}

impl Drop for Recall<'_> {
    fn drop(&mut self) {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Cancel<'a> {
            invoke_id: &'a str,
            node_id: &'a str,
        }
        if self.armed {
            let cancel = Cancel { invoke_id: self.invoke_id, node_id: &self.connection.node_id };
            self.connection.event("node.invoke.cancel", &cancel);
        }
    }
}

fn judge(errand: &Errand, answer: Answer) -> Outcome {
    if !answer.ok {
        return Err(InvokeError::NodeFailed { error: answer.error });
    }
    Ok(Arc::new(InvokeOutcome::of(&errand.node_id, &errand.command, answer)))
}

fn raw(value: &Value) -> Result<Box<RawValue>, InvokeError> {
    serde_json::value::to_raw_value(value).map_err(|error| InvokeError::NotRecorded(error.to_string()))
}
