//! `exec`: a command on a node. The node prepares a plan, a person approves it where the rules ask for that,
//! and exactly that plan runs.

use super::{Arguments, Outcome, ToolError, ToolOutcome, Toolbox, required, text};
use crate::agent::approvals::{Asker, Decision, EXPIRES_AFTER, Question, Verdict, Waiting};
use crate::agent::doors::NodeFailure;
use crate::clock::now_ms;
use crate::inbound::{ChatKind, OutboundMessage};
use crate::settings::tools::{ExecAsk, ExecHost, ExecSecurity};
use crate::store::{NewOutbound, enqueue};
use serde_json::{Value, json};
use std::time::Duration;

const PREPARE_TIMEOUT: Duration = Duration::from_secs(30);
const DEFAULT_TIMEOUT: u64 = 1800;
/// Seconds of the longest command, also of one without a limit.
const LONGEST: f64 = 24.0 * 3600.0;
/// The end of the key of a command that was approved: it is another call than the one that was refused before.
const APPROVED: &str = ":approved";
/// What the call may take beyond the command itself.
const SLACK: Duration = Duration::from_secs(5);

/// A command as it was asked for.
struct Wanted {
    argv: Vec<String>,
    /// The shell text, where there is one.
    raw: Option<String>,
    node: Option<String>,
    cwd: Option<String>,
    env: Option<Value>,
    timeout_ms: u64,
}

/// A command as the node prepared it.
struct Prepared {
    node_id: String,
    plan: Value,
    security: String,
    ask: String,
    may_allow_always: bool,
}

pub(super) async fn run(tools: &Toolbox<'_>, arguments: &Arguments) -> Outcome {
    let command = required(arguments, "command")?.to_owned();
    if let Some(host) = text(arguments, "host").filter(|host| !matches!(*host, "node" | "auto")) {
        return Err(ToolError::new(format!("commands run on nodes; host `{host}` is not offered")));
    }
    let argv = ["/bin/sh", "-lc", command.as_str()].map(str::to_owned).to_vec();
    execute(tools, wanted(tools, arguments, argv, Some(command), "workdir")?).await
}

/// `nodes` with `action: run`: program and arguments, without a shell.
pub(super) async fn run_argv(tools: &Toolbox<'_>, arguments: &Arguments) -> Outcome {
    let words = arguments.get("command").and_then(Value::as_array).filter(|words| !words.is_empty());
    let words =
        words.ok_or_else(|| ToolError::new("`command` is required: a list of program and arguments"))?;
    let argv: Option<Vec<String>> = words.iter().map(|word| word.as_str().map(str::to_owned)).collect();
    let argv = argv.ok_or_else(|| ToolError::new("every element of `command` must be a text"))?;
    execute(tools, wanted(tools, arguments, argv, None, "cwd")?).await
}

fn wanted(
    tools: &Toolbox<'_>,
    arguments: &Arguments,
    argv: Vec<String>,
    raw: Option<String>,
    folder: &str,
) -> Result<Wanted, ToolError> {
    let policy = &tools.settings.tools.exec;
    if policy.security() == Some(ExecSecurity::Deny) {
        return Err(ToolError::new(
            "exec denied: the gateway's configuration forbids commands (tools.exec.security)",
        ));
    }
    if matches!(policy.host, Some(ExecHost::Gateway | ExecHost::Sandbox)) {
        return Err(ToolError::new("exec denied: tools.exec.host asks for another place than a node"));
    }
    let usual = policy.timeout().map_or(DEFAULT_TIMEOUT, |time| time.as_secs().max(1)) as f64;
    let seconds = match arguments.get("timeoutSeconds").and_then(Value::as_f64) {
        Some(seconds) if seconds > 0.0 => seconds.min(LONGEST),
        Some(_) => LONGEST,
        None => usual,
    };
    let timeout_ms = seconds * 1000.0;
    Ok(Wanted {
        argv,
        raw,
        node: text(arguments, "node").map(str::to_owned).or_else(|| policy.node.clone()),
        cwd: text(arguments, folder).map(str::to_owned),
        env: arguments.get("env").filter(|env| env.as_object().is_some_and(|map| !map.is_empty())).cloned(),
        timeout_ms: timeout_ms as u64,
    })
}

async fn execute(tools: &Toolbox<'_>, wanted: Wanted) -> Outcome {
    if let Some(outcome) = ran_before(tools, wanted.node.as_deref()).await? {
        return outcome;
    }
    let node = tools.pick_node(wanted.node.as_deref(), "system.run").await?;
    let prepared = prepare(tools, &node, &wanted).await?;
    if prepared.security == "deny" {
        return Err(ToolError::new("exec denied: the node forbids commands"));
    }
    let ask_first = prepared.ask == "always" || tools.settings.tools.exec.ask() == Some(ExecAsk::Always);
    if ask_first {
        let approval = approve(tools, &prepared, &wanted).await?;
        return launch(tools, &prepared, &wanted, Some(approval)).await;
    }
    // Whether a command is on the node's list is for the node to say: it refuses before it runs anything.
    match launch(tools, &prepared, &wanted, None).await {
        Err(ToolError::Node(failure)) if prepared.ask == "on-miss" && wants_approval(&failure) => {
            let approval = approve(tools, &prepared, &wanted).await?;
            launch(tools, &prepared, &wanted, Some(approval)).await
        }
        other => other,
    }
}

/// How the command ended, if it was sent before a restart. One that was refused for want of approval has yet to run.
async fn ran_before(tools: &Toolbox<'_>, node: Option<&str>) -> Result<Option<Outcome>, ToolError> {
    let key = tools.key("system.run");
    for key in [format!("{key}{APPROVED}"), key] {
        match tools.recall(node, "system.run", &key).await? {
            Some((_, Err(ToolError::Node(failure)))) if wants_approval(&failure) => {}
            Some((node_id, outcome)) => {
                return Ok(Some(outcome.map(|answer| report(&node_id, &answer.payload, None))));
            }
            None => {}
        }
    }
    Ok(None)
}

fn wants_approval(failure: &NodeFailure) -> bool {
    let text = failure.message.to_ascii_lowercase();
    text.contains("approval required")
        || text.contains("approval_required")
        || text.contains("allowlist miss")
}

async fn prepare(tools: &Toolbox<'_>, node: &str, wanted: &Wanted) -> Result<Prepared, ToolError> {
    let policy = &tools.settings.tools.exec;
    let security = if policy.security() == Some(ExecSecurity::Allowlist) { "allowlist" } else { "full" };
    let ask = match policy.ask() {
        Some(ExecAsk::Always) => "always",
        Some(ExecAsk::OnMiss) => "on-miss",
        _ => "off",
    };
    let mut params = json!({
        "command": wanted.argv, "security": security, "ask": ask,
        "agentId": tools.agent_id, "sessionKey": tools.inbound.session_key,
    });
    set(&mut params, "rawCommand", wanted.raw.as_ref().map(|raw| json!(raw)));
    set(&mut params, "cwd", wanted.cwd.as_ref().map(|cwd| json!(cwd)));
    let mut call = tools.node_call(node, "system.run.prepare", params, PREPARE_TIMEOUT);
    // Preparing runs nothing, so that it may be done anew after a restart.
    call.key = format!("{}:{}", call.key, tools.gateway.boot_id);
    let answer = tools.invoke(call).await?;
    let (plan, policy) = (&answer.payload["plan"], &answer.payload["execPolicy"]);
    let planned: Option<Vec<&str>> =
        plan["argv"].as_array().map(|argv| argv.iter().filter_map(Value::as_str).collect());
    if planned.is_none_or(|argv| argv.is_empty()) {
        return Err(ToolError::new("the node prepared no plan for this command"));
    }
    Ok(Prepared {
        node_id: answer.node_id,
        plan: plan.clone(),
        security: policy["security"].as_str().unwrap_or(security).to_owned(),
        ask: policy["ask"].as_str().unwrap_or(ask).to_owned(),
        may_allow_always: answer.payload["allowAlwaysCoverage"]["complete"] == true,
    })
}

/// Asks the operators and waits. Gives the approval's id and the decision.
async fn approve(
    tools: &Toolbox<'_>,
    prepared: &Prepared,
    wanted: &Wanted,
) -> Result<(String, Decision), ToolError> {
    let approvals = &tools.gateway.approvals;
    let question = Question {
        node_id: prepared.node_id.clone(),
        plan: prepared.plan.clone(),
        env: wanted.env.clone(),
        agent_id: Some(tools.agent_id.to_owned()),
        session_key: Some(tools.inbound.session_key.clone()),
        run_id: Some(tools.inbound.run_id.clone()),
        tool_call_id: Some(tools.call_id.to_owned()),
        may_allow_always: prepared.may_allow_always,
        security: prepared.security.clone(),
        ask: prepared.ask.clone(),
        channel: Some(tools.inbound.channel.clone()),
        asker: Asker::Run(tools.inbound.run_id.clone()),
        id: None,
        expires_after: EXPIRES_AFTER,
    };
    let mut waiting = approvals
        .ask(tools.gateway, question)
        .map_err(|why| ToolError::new(format!("exec denied: {why}")))?;
    let _withdraw = Withdraw { tools, id: waiting.id.clone() };
    tell_the_chat(tools, prepared, &waiting).await;
    let verdict = waiting.verdict(tools.gateway).await;
    match verdict {
        Verdict::Decided(decision) if decision.allows() => Ok((waiting.id, decision)),
        Verdict::Decided(_) => Err(ToolError::new("exec denied: user-denied")),
        Verdict::Expired => Err(ToolError::new("exec denied: approval-timeout")),
    }
}

/// A question whose run was stopped is no question any more; an answered one stays as it is.
struct Withdraw<'a> {
    tools: &'a Toolbox<'a>,
    id: String,
}

impl Drop for Withdraw<'_> {
    fn drop(&mut self) {
        self.tools.gateway.approvals.withdraw(self.tools.gateway, &self.id);
    }
}

/// An owner who writes from a channel can answer there.
async fn tell_the_chat(tools: &Toolbox<'_>, prepared: &Prepared, waiting: &Waiting) {
    let Some(route) = tools.inbound.route.clone().filter(|_| tools.inbound.sender.owner) else { return };
    let Waiting { id, command, .. } = waiting;
    let always = if prepared.may_allow_always { ", `always`" } else { "" };
    let account = tools.gateway.channels.get(&route.channel, &route.account);
    // In a group a bot may see only what names it.
    let bot = account.and_then(|account| account.status().name).filter(|_| route.kind != ChatKind::Direct);
    let bot = bot.map(|name| format!("@{name}")).unwrap_or_default();
    let text = format!(
        "Approval needed to run this on a node:\n```\n{}\n```\nAnswer with `/approve{bot} {id}` and `once`{always} or `deny`.",
        command.replace("```", "'''")
    );
    let (channel, account) = (route.channel.clone(), route.account.clone());
    let outbound = NewOutbound {
        key: format!("approval:{id}"),
        route,
        run_id: Some(tools.inbound.run_id.clone()),
        message: OutboundMessage { text: Some(text), ..OutboundMessage::default() },
    };
    match tools.gateway.store.write(move |db| enqueue(db, &outbound)).await {
        Ok(_) => tools.channels.flush(&channel, &account),
        Err(error) => tracing::error!(%error, "an approval could not be announced in the chat"),
    }
}

async fn launch(
    tools: &Toolbox<'_>,
    prepared: &Prepared,
    wanted: &Wanted,
    approval: Option<(String, Decision)>,
) -> Outcome {
    let plan = &prepared.plan;
    let approved = approval.is_some();
    let raw = match (&wanted.raw, approved) {
        (Some(raw), true) => json!(raw),
        _ => plan["commandText"].clone(),
    };
    let mut params = json!({
        "command": plan["argv"], "rawCommand": raw, "systemRunPlan": plan, "cwd": plan["cwd"],
        "timeoutMs": wanted.timeout_ms, "agentId": tools.agent_id, "sessionKey": tools.inbound.session_key,
    });
    set(&mut params, "env", wanted.env.clone());
    match &approval {
        Some((id, decision)) => {
            set(&mut params, "runId", Some(json!(id)));
            set(&mut params, "approved", Some(json!(true)));
            set(&mut params, "approvalDecision", Some(json!(decision)));
        }
        // Stable over a restart, as everything that a once-only key stands for.
        None => set(&mut params, "runId", Some(json!(format!("{}:{}", tools.inbound.run_id, tools.call_id)))),
    }
    let timeout = Duration::from_millis(wanted.timeout_ms) + SLACK;
    let mut call = tools.node_call(&prepared.node_id, "system.run", params, timeout);
    if approved {
        call.key.push_str(APPROVED);
    }
    let started = now_ms();
    let answer = tools.invoke(call).await?;
    Ok(report(&answer.node_id, &answer.payload, Some(now_ms() - started)))
}

fn report(node_id: &str, payload: &Value, duration_ms: Option<i64>) -> ToolOutcome {
    let part = |name: &str| payload[name].as_str().unwrap_or_default();
    let (stdout, stderr) = (part("stdout"), part("stderr"));
    let mut output = stdout.to_owned();
    if !stderr.is_empty() {
        if !output.is_empty() && !output.ends_with('\n') {
            output.push('\n');
        }
        output.push_str(stderr);
    }
    let exit_code = payload["exitCode"].as_i64();
    let timed_out = payload["timedOut"] == true;
    let success = payload["success"].as_bool().unwrap_or(exit_code == Some(0) && !timed_out);
    let mut text = if output.is_empty() { "(no output)".to_owned() } else { output.clone() };
    let remark = match (timed_out, exit_code, payload["error"].as_str()) {
        (true, ..) => Some("The command ran out of time and was stopped.".to_owned()),
        (_, _, Some(error)) => Some(error.to_owned()),
        (_, Some(code), _) if code != 0 => Some(format!("(exit code {code})")),
        _ => None,
    };
    if let Some(remark) = remark {
        text.push_str(&format!("\n\n{remark}"));
    }
    let details = json!({
        "status": if success { "completed" } else { "failed" }, "exitCode": exit_code, "durationMs": duration_ms,
        "timedOut": timed_out, "aggregated": super::shortened(&output), "nodeId": node_id, "cwd": payload["cwd"],
    });
    ToolOutcome { is_error: !success, ..ToolOutcome::text(text, details) }
}

fn set(params: &mut Value, name: &str, value: Option<Value>) {
    if let (Value::Object(map), Some(value)) = (params, value) {
        map.insert(name.to_owned(), value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::providers::model::text_of;

    #[test]
    fn output_and_failure_are_told_together() {
        let outcome =
            report("n", &json!({"exitCode": 2, "success": false, "stdout": "a", "stderr": "b\n"}), Some(5));
        assert!(outcome.is_error);
        assert_eq!(text_of(&outcome.content), "a\nb\n\n\n(exit code 2)");
        let fine = report(
            "n",
            &json!({"exitCode": 0, "timedOut": false, "success": true, "stdout": "ok\n", "stderr": ""}),
            Some(5),
        );
        assert_eq!(
            (text_of(&fine.content).as_str(), fine.details["status"].as_str()),
            ("ok\n", Some("completed"))
        );
        let late =
            report("n", &json!({"exitCode": null, "timedOut": true, "stdout": "", "stderr": ""}), Some(5));
        assert!(text_of(&late.content).contains("ran out of time"));
    }

    #[test]
    fn a_refusal_for_want_of_approval_is_recognised() {
        let failure = |message: &str| NodeFailure { message: message.into(), may_have_run: false };
        assert!(wants_approval(&failure("UNAVAILABLE: SYSTEM_RUN_DENIED: approval required")));
        assert!(!wants_approval(&failure("node not connected")));
    }
}
