//! A person's yes or no to a command: what was approved is what runs, and it runs once.

use crate::support::fake_models::Answer;
use crate::support::node::invoke;
use crate::support::world::World;
use crate::support::{Connect, Node};
use serde_json::{Value, json};

const COMMANDS: &[&str] = &["system.run", "system.run.prepare", "system.which"];

fn plan(script: &str) -> Value {
    json!({
        "argv": ["/bin/sh", "-lc", script], "cwd": "/srv", "commandText": format!("/bin/sh -lc \"{script}\""),
        "commandPreview": script, "agentId": "main", "sessionKey": "agent:main:main",
    })
}

fn params_of(request: &Value) -> Value {
    serde_json::from_str(request["paramsJSON"].as_str().unwrap()).unwrap()
}

#[actix_web::test]
async fn the_agents_command_waits_for_a_person_and_then_runs_as_approved() {
    let world = World::start().await;
    let mut node = Node::approved(&world.gateway, COMMANDS).await;
    let mut operator = world.operator().await;
    let command = json!({"command": "uname -a", "node": node.id()});
    world.models.then(Answer::call("call_1", "exec", command)).then(Answer::text("it ran"));
    operator.ok("sessions.messages.subscribe", json!({"key": "main", "includeApprovals": true})).await;
    let send = json!({"sessionKey": "main", "message": "run it", "idempotencyKey": "run-1"});
    operator.ok("chat.send", send).await;

    let prepare = node.request().await;
    assert_eq!(prepare["command"], "system.run.prepare");
    let policy = json!({"security": "allowlist", "ask": "on-miss"});
    node.reply(&prepare, json!({"plan": plan("uname -a"), "execPolicy": policy})).await.unwrap();
    let first = node.request().await;
    assert!(params_of(&first).get("approved").is_none());
    node.fail(&first, "UNAVAILABLE", "SYSTEM_RUN_DENIED: approval required").await.unwrap();

    let asked = operator.event("exec.approval.requested").await;
    assert_eq!(asked["request"]["command"], "/bin/sh -lc \"uname -a\"");
    let pending = operator.event_where("session.approval", |event| event["phase"] == "pending").await;
    assert_eq!(pending["approval"]["id"], asked["id"]);
    let open = operator.ok("exec.approval.list", json!({})).await;
    assert_eq!(open.as_array().unwrap().len(), 1);
    operator.ok("exec.approval.resolve", json!({"id": asked["id"], "decision": "allow-once"})).await;
    operator.event("exec.approval.resolved").await;

    let run = node.request().await;
    let params = params_of(&run);
    assert_eq!((&params["approved"], &params["approvalDecision"]), (&json!(true), &json!("allow-once")));
    assert_eq!(
        (&params["runId"], &params["systemRunPlan"]["argv"]),
        (&asked["id"], &plan("uname -a")["argv"])
    );
    node.reply(&run, json!({"exitCode": 0, "success": true, "stdout": "Linux\n", "stderr": ""}))
        .await
        .unwrap();
    let done = operator.event_where("chat", |event| event["state"] == "final").await;
    assert!(done["message"].to_string().contains("it ran"));
    assert!(world.models.last().body.to_string().contains("Linux"));
}

#[actix_web::test]
async fn a_no_reaches_the_model_and_nothing_runs() {
    let world = World::start().await;
    let mut node = Node::approved(&world.gateway, COMMANDS).await;
    let mut operator = world.operator().await;
    world
        .models
        .then(Answer::call("call_1", "exec", json!({"command": "id", "node": node.id()})))
        .then(Answer::text("fine"));
    let send = json!({"sessionKey": "main", "message": "run it", "idempotencyKey": "run-1"});
    operator.ok("chat.send", send).await;
    let prepare = node.request().await;
    let policy = json!({"security": "full", "ask": "always"});
    node.reply(&prepare, json!({"plan": plan("id"), "execPolicy": policy})).await.unwrap();
    let asked = operator.event("exec.approval.requested").await;
    let answer = json!({"id": asked["id"], "kind": "exec", "decision": "deny"});
    let settled = operator.ok("approval.resolve", answer).await;
    assert_eq!(settled["approval"]["status"], "denied");
    operator.event_where("chat", |event| event["state"] == "final").await;
    assert!(world.models.last().body.to_string().contains("exec denied: user-denied"));
    operator.ask("node.invoke", invoke(&node.id(), "system.which", json!({"bins": ["sh"]}))).await;
    assert_eq!(node.request().await["command"], "system.which");
}

#[actix_web::test]
async fn an_operators_approval_is_bound_to_its_plan_and_used_once() {
    let world = World::start().await;
    let mut node = Node::approved(&world.gateway, COMMANDS).await;
    let (mut asker, mut owner) = (world.operator().await, world.operator().await);
    let request = json!({
        "systemRunPlan": plan("echo approved"), "nodeId": node.id(), "host": "node", "twoPhase": true, "id": "approval-1",
    });
    let ask = asker.ask("exec.approval.request", request).await;
    assert_eq!(asker.answer(&ask).await.unwrap()["status"], "accepted");
    owner.event("exec.approval.requested").await;

    let node_id = node.id();
    let run = |env: Option<Value>| {
        let mut params =
            json!({"command": ["/bin/sh", "-c", "rm -rf /"], "approved": true, "runId": "approval-1"});
        if let Some(env) = env {
            params["env"] = env;
        }
        invoke(&node_id, "system.run", params)
    };
    let early = asker.refused("node.invoke", run(None)).await;
    assert_eq!(early["details"]["code"], "APPROVAL_REQUIRED");
    owner.ok("exec.approval.resolve", json!({"id": "approval-1", "decision": "allow-once"})).await;
    assert_eq!(asker.answer(&ask).await.unwrap()["decision"], "allow-once");
    let other_env = asker.refused("node.invoke", run(Some(json!({"LD_PRELOAD": "x"})))).await;
    assert_eq!(other_env["details"]["code"], "APPROVAL_ENV_MISMATCH");

    let not_theirs = owner.refused("node.invoke", run(None)).await;
    assert_eq!(not_theirs["details"]["code"], "APPROVAL_CLIENT_MISMATCH", "another connection used it");

    let invocation = run(None);
    let invoked = asker.ask("node.invoke", invocation).await;
    let sent = node.request().await;
    assert_eq!(
        params_of(&sent)["command"],
        plan("echo approved")["argv"],
        "another command ran than was approved"
    );
    node.reply(&sent, json!({"exitCode": 0})).await.unwrap();
    asker.answer(&invoked).await.unwrap();
    let again = asker.refused("node.invoke", run(None)).await;
    assert_eq!(again["details"]["code"], "APPROVAL_REQUIRED");
}

#[actix_web::test]
async fn what_is_unknown_or_without_the_scope_is_refused() {
    let world = World::start().await;
    let mut operator = world.operator().await;
    let unknown = operator.refused("exec.approval.resolve", json!({"id": "nope", "decision": "deny"})).await;
    assert_eq!(unknown["details"]["reason"], "APPROVAL_NOT_FOUND");
    let no_plan = operator
        .refused("exec.approval.request", json!({"nodeId": "x", "host": "node", "command": "id"}))
        .await;
    assert_eq!(no_plan["details"]["code"], "APPROVAL_PLAN_REQUIRED");
    let here = json!({"host": "gateway", "command": "id", "nodeId": "x", "systemRunPlan": plan("id")});
    operator.refused("exec.approval.request", here).await;
    let writer = Connect::cli().token(&world.gateway.token()).scopes(&["operator.write"]);
    let mut writer = writer.to(world.gateway.port).await.session();
    let refused =
        writer.refused("exec.approval.resolve", json!({"id": "nope", "decision": "allow-once"})).await;
    assert_eq!(refused["code"], "FORBIDDEN");
}
