//! How the node registry asks whether a run was approved.

use super::{Approvals, Asker, Claim, NotUsable, Question};
use crate::nodes::{ApprovalClaim, ApprovedRun, ExecApprovals, Later, RunRefused};
use serde_json::{Map, Value, json};

impl ExecApprovals for Approvals {
    fn consume(&self, claim: ApprovalClaim) -> Later<Result<ApprovedRun, RunRefused>> {
        let asker = Asker::of(&claim.origin);
        let env = claim.params.get("env");
        let used = self.consume(Claim { id: &claim.run_id, node_id: &claim.node_id, env, asker: &asker });
        let answer = match used {
            Ok((question, decision)) => {
                Ok(ApprovedRun { params: approved_params(&question), decision: decision.as_str().to_owned() })
            }
            Err(why) => Err(refused(why, claim.run_id)),
        };
        Box::pin(async move { answer })
    }
}

fn refused(why: NotUsable, run_id: String) -> RunRefused {
    RunRefused::Approval { code: why.code().to_owned(), message: why.to_string(), run_id }
}

/// The plan as it was approved, whatever the caller wrote.
fn approved_params(question: &Question) -> Map<String, Value> {
    let plan = &question.plan;
    let raw = Some(&plan["commandPreview"]).filter(|preview| !preview.is_null());
    let raw = raw.unwrap_or(&plan["commandText"]);
    let mut params = Map::new();
    params.insert("command".to_owned(), plan["argv"].clone());
    params.insert("rawCommand".to_owned(), raw.clone());
    params.insert("systemRunPlan".to_owned(), plan.clone());
    params.insert("cwd".to_owned(), plan["cwd"].clone());
    if let Some(agent_id) = &question.agent_id {
        params.insert("agentId".to_owned(), json!(agent_id));
    }
    if let Some(session_key) = &question.session_key {
        params.insert("sessionKey".to_owned(), json!(session_key));
    }
    params.retain(|_, value| !value.is_null());
    params
}
