//! `system.execApprovals.get` and `.set`: the approvals file, seen and changed from the gateway.

use serde::Deserialize;
use serde_json::Value;

use crate::node_host::{
    approvals::{ApprovalsError, ApprovalsStore},
    failure::Failure,
};

/// Params of `system.execApprovals.set`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Params {
    file: Value,
    base_hash: Option<String>,
}

pub(super) fn get(approvals: &ApprovalsStore) -> Result<Value, Failure> {
    let snapshot = approvals.load().map_err(failure)?;
    Ok(approvals.describe(&snapshot))
}

/// Replaces the file, unless somebody else did since it was read.
pub(super) fn set(params: Params, approvals: &ApprovalsStore) -> Result<Value, Failure> {
    let snapshot = approvals.replace(params.file, params.base_hash.as_deref()).map_err(failure)?;
    tracing::info!("exec approvals replaced by an operator");
    Ok(approvals.describe(&snapshot))
}

fn failure(error: ApprovalsError) -> Failure {
    match error {
        ApprovalsError::Unusable { .. } => Failure::unavailable(error.to_string()),
        _ => Failure::invalid(error.to_string()),
    }
}
