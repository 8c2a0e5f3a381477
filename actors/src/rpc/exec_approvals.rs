//! `exec.approval.*` and `approval.*`: a person's yes or no to a command.

use super::call::{Call, Reply, json};
use super::table::Method;
use crate::agent::approvals::{Asker, Decision, NotAsked, NotResolved, Question, Verdict, Waiting};
use crate::nodes::InvokeOrigin;
use serde::Deserialize;
use serde_json::{Value, json as object};
use std::time::Duration;
use tidegate_protocol::{ErrorShape, Scope};

pub(super) const METHODS: &[Method] = &[
    Method::operator("exec.approval.request", Scope::Approvals, |call| Box::pin(request(call))).while_asked(),
    Method::operator("exec.approval.waitDecision", Scope::Approvals, |call| Box::pin(wait_decision(call)))
        .while_asked(),
    Method::operator("exec.approval.resolve", Scope::Approvals, |call| Box::pin(resolve(call))),
    Method::operator("exec.approval.list", Scope::Approvals, |call| Box::pin(list(call))),
    Method::operator("exec.approval.get", Scope::Approvals, |call| Box::pin(get_exec(call))),
    Method::operator("approval.get", Scope::Approvals, |call| Box::pin(get(call))),
    Method::operator("approval.resolve", Scope::Approvals, |call| Box::pin(resolve_any(call))),
    // Clients ask for all kinds at once; commands are the only kind here.
    Method::operator("plugin.approval.list", Scope::Approvals, |_| Box::pin(none())),
    Method::operator("openclaw.approval.list", Scope::Approvals, |_| Box::pin(none())),
];

/// Nobody may hold a question open longer.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RequestParams {
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    system_run_plan: Option<Value>,
    #[serde(default)]
    env: Option<Value>,
    #[serde(default)]
    node_id: Option<String>,
    #[serde(default)]
    host: Option<String>,
    #[serde(default)]
    security: Option<String>,
    #[serde(default)]
    ask: Option<String>,
    #[serde(default)]
    agent_id: Option<String>,
    #[serde(default)]
    session_key: Option<String>,
    #[serde(default)]
    timeout_ms: Option<u64>,
    /// Answer at once, and again with the decision.
    #[serde(default)]
    two_phase: bool,
}

async fn request(call: Call) -> Reply {
    let params: RequestParams = call.params()?;
    if params.host.as_deref().is_some_and(|host| host != "node") {
        return Err(call.invalid("/host", "must be node: this gateway runs no commands itself"));
    }
    let node_id = params
        .node_id
        .filter(|id| !id.is_empty())
        .ok_or_else(|| coded("APPROVAL_NODE_REQUIRED", "nodeId is required"))?;
    let plan = params.system_run_plan.filter(Value::is_object);
    let plan =
        plan.ok_or_else(|| coded("APPROVAL_PLAN_REQUIRED", "systemRunPlan is required for host=node"))?;
    let text = |name: &str| plan[name].as_str().map(str::to_owned);
    let timeout = params.timeout_ms.map(Duration::from_millis);
    let question = Question {
        node_id,
        env: params.env.filter(|env| env.as_object().is_some_and(|map| !map.is_empty())),
        agent_id: params.agent_id.or_else(|| text("agentId")),
        session_key: params.session_key.or_else(|| text("sessionKey")),
        run_id: None,
        tool_call_id: None,
        may_allow_always: true,
        security: params.security.unwrap_or_else(|| "allowlist".to_owned()),
        ask: params.ask.unwrap_or_else(|| "on-miss".to_owned()),
        channel: None,
        asker: Asker::of(&InvokeOrigin::operator(&call.caller)),
        id: params.id.filter(|id| !id.is_empty()),
        expires_after: timeout.unwrap_or(crate::agent::approvals::EXPIRES_AFTER).min(LONGEST),
        plan,
    };
    let mut waiting = call.gateway.approvals.ask(&call.gateway, question).map_err(not_asked)?;
    if params.two_phase {
        call.interim(&json(&object!({
            "status": "accepted", "id": waiting.id, "createdAtMs": waiting.created_at_ms(), "expiresAtMs": waiting.expires_at_ms(),
        }))?);
    }
    decision(&call, &mut waiting).await
}

async fn decision(call: &Call, waiting: &mut Waiting) -> Reply {
    let decided = match waiting.verdict(&call.gateway).await {
        Verdict::Decided(decision) => Some(decision),
        Verdict::Expired => None,
    };
    json(&object!({
        "id": waiting.id, "decision": decided, "createdAtMs": waiting.created_at_ms(), "expiresAtMs": waiting.expires_at_ms(),
    }))
}

#[derive(Deserialize)]
struct IdParams {
    id: String,
}

async fn wait_decision(call: Call) -> Reply {
    let IdParams { id } = call.params()?;
    let mut waiting = call.gateway.approvals.listen(&id).ok_or_else(not_found)?;
    decision(&call, &mut waiting).await
}

#[derive(Deserialize)]
struct ResolveParams {
    id: String,
    decision: String,
}

async fn resolve(call: Call) -> Reply {
    let params: ResolveParams = call.params()?;
    settle(&call, &params)?;
    json(&object!({"ok": true}))
}

async fn resolve_any(call: Call) -> Reply {
    #[derive(Deserialize)]
    struct Params {
        kind: String,
        #[serde(flatten)]
        rest: ResolveParams,
    }
    let Params { kind, rest } = call.params()?;
    if kind != "exec" {
        return Err(not_found());
    }
    let approval = settle(&call, &rest)?;
    json(&object!({"applied": true, "approval": approval}))
}

fn settle(call: &Call, params: &ResolveParams) -> Result<Value, ErrorShape> {
    let decision = match params.decision.as_str() {
        "allow-once" | "allow-always" | "deny" => Decision::parse(&params.decision),
        _ => None,
    };
    let decision =
        decision.ok_or_else(|| call.invalid("/decision", "must be allow-once, allow-always or deny"))?;
    let client = &call.caller.client;
    let by = client.display_name.as_deref().unwrap_or(client.id.as_str());
    call.gateway.approvals.resolve(&call.gateway, &params.id, decision, by).map_err(|why| match why {
        NotResolved::Unknown => not_found(),
        NotResolved::Already(_) => coded("APPROVAL_ALREADY_RESOLVED", &why.to_string()),
        NotResolved::NotAlways => coded("APPROVAL_DECISION_NOT_ALLOWED", &why.to_string()),
    })
}

async fn list(call: Call) -> Reply {
    json(&call.gateway.approvals.list())
}

async fn get(call: Call) -> Reply {
    let IdParams { id } = call.params()?;
    let approval = call.gateway.approvals.get(&id).ok_or_else(not_found)?;
    json(&object!({"approval": approval}))
}

async fn get_exec(call: Call) -> Reply {
    let IdParams { id } = call.params()?;
    let approval = call
        .gateway
        .approvals
        .get(&id)
        .filter(|approval| approval["status"] == "pending")
        .ok_or_else(not_found)?;
    let shown = &approval["presentation"];
    json(&object!({
        "id": id, "commandText": shown["commandText"], "commandPreview": shown["commandPreview"],
        "allowedDecisions": shown["allowedDecisions"], "host": shown["host"], "nodeId": shown["nodeId"],
        "agentId": shown["agentId"], "expiresAtMs": approval["expiresAtMs"],
    }))
}

async fn none() -> Reply {
    json(&Vec::<Value>::new())
}

fn not_found() -> ErrorShape {
    ErrorShape::invalid("unknown or expired approval id").with_details(object!({
        "reason": "APPROVAL_NOT_FOUND",
        "remediation": "Request the action again; pending approvals end with their time and with a restart.",
    }))
}

fn not_asked(why: NotAsked) -> ErrorShape {
    let code = match why {
        NotAsked::TooLong => "APPROVAL_COMMAND_TOO_LONG",
        NotAsked::TooMany => return ErrorShape::unavailable(why.to_string()).retryable(),
        NotAsked::IdTaken => "APPROVAL_ID_TAKEN",
        NotAsked::NoProgram => "APPROVAL_PLAN_REQUIRED",
    };
    coded(code, &why.to_string())
}

fn coded(code: &str, message: &str) -> ErrorShape {
    ErrorShape::invalid(message).with_details(object!({"code": code, "reason": code}))
}
