//! What the agent is told and asked.

use crate::inbound::RunOutcome;
use crate::store::IngressRow;
use actix::Message;
use serde_json::Value;
use std::time::Duration;

/// A message is in the store and waits for an answer.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Arrived(pub IngressRow);

/// Whether one more call of `agent` may wait in this conversation.
#[derive(Debug, Message)]
#[rtype(result = "bool")]
pub struct HasRoom {
    pub session_key: String,
}

/// Stop what runs and what waits: of one session, or one run.
#[derive(Debug, Clone, Message)]
#[rtype(result = "AbortOutcome")]
pub struct AbortRuns {
    pub session_key: Option<String>,
    pub run_id: Option<String>,
    /// Shown to clients as `stopReason`.
    pub reason: &'static str,
}

/// What was stopped. The `aborted` events were sent before this is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AbortOutcome {
    pub aborted: bool,
    pub run_ids: Vec<String>,
}

/// Wait for the end of a run, whether it waits, runs, or ended before the last restart.
#[derive(Debug, Clone, Message)]
#[rtype(result = "RunStatus")]
pub struct AwaitRun {
    pub run_id: String,
    pub timeout: Duration,
}

/// How a run stands.
#[derive(Debug, Clone, PartialEq)]
pub enum RunStatus {
    Ok {
        text: String,
        media: Vec<String>,
        meta: Value,
    },
    Error {
        message: String,
    },
    Aborted,
    /// It goes on; the asker's time is up.
    Timeout,
    /// Nobody ever heard of it.
    Unknown,
}

impl From<RunOutcome> for RunStatus {
    fn from(outcome: RunOutcome) -> Self {
        match outcome {
            RunOutcome::Ok { text, media, meta } => Self::Ok { text, media, meta },
            RunOutcome::Error { message } => Self::Error { message },
            RunOutcome::Aborted { .. } => Self::Aborted,
        }
    }
}

/// The runs that go on and wait now.
#[derive(Debug, Message)]
#[rtype(result = "AgentLoad")]
pub struct ListRuns;

/// See [`ListRuns`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AgentLoad {
    /// Run id and session key.
    pub running: Vec<(String, String)>,
    pub waiting: usize,
}
