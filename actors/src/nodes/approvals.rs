//! The seam to whoever keeps exec approvals: a run that claims an approval runs only if that keeper says so.

use super::argv::RunRefused;
use super::call::InvokeOrigin;
use serde_json::{Map, Value};
use std::future::Future;
use std::pin::Pin;

/// Answers later.
pub type Later<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Keeps the record of what people approved.
pub trait ExecApprovals: Send + Sync {
    /// Looks the approval up, compares everything it is bound to, and uses it up: asking for the same id
    /// again fails, unless the record says otherwise.
    fn consume(&self, claim: ApprovalClaim) -> Later<Result<ApprovedRun, RunRefused>>;
}

/// Somebody says that a person approved this run.
#[derive(Debug, Clone)]
pub struct ApprovalClaim {
    /// The approval's id.
    pub run_id: String,
    /// Where the program would run.
    pub node_id: String,
    /// The checked params of `system.run`, without any word about approval.
    pub params: Map<String, Value>,
    /// Who asks.
    pub origin: InvokeOrigin,
}

/// What was really approved.
#[derive(Debug, Clone, Default)]
pub struct ApprovedRun {
    /// Fields that replace the caller's: `command`, `rawCommand`, `systemRunPlan`, `cwd`, `agentId`, `sessionKey`.
    pub params: Map<String, Value>,
    /// `allow-once` or `allow-always`.
    pub decision: String,
}
