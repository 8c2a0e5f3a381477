//! A run that a person approved: what was approved is what runs, on that node, once.

use crate::support::gateway::{TOKEN, merge};
use crate::support::node::invoke;
use crate::support::{Connect, Gateway, Identity, Node, Socket};
use serde_json::{Value, json};

const COMMANDS: &[&str] = &["system.run", "system.which"];

/// Asks for approval of `/usr/bin/id -u` on the node and has somebody else allow it once.
async fn approve_id(gateway: &Gateway, requester: &mut Socket, node_id: &str) -> String {
    let mut owner = gateway.operator().await;
    let plan = json!({
        "argv": ["/usr/bin/id", "-u"], "cwd": "/tmp", "commandText": "/usr/bin/id -u", "commandPreview": null,
        "agentId": null, "sessionKey": null,
    });
    let ask = requester
        .ask(
            "exec.approval.request",
            json!({"nodeId": node_id, "host": "node", "systemRunPlan": plan, "env": {"A": "1"}}),
        )
        .await;
    let asked =
        owner.event_where("exec.approval.requested", |asked| asked["request"]["nodeId"] == node_id).await;
    assert_eq!(asked["request"]["systemRunPlan"]["argv"], plan["argv"]);
    let id = asked["id"].as_str().unwrap().to_owned();
    owner.ok("exec.approval.resolve", json!({"id": id, "decision": "allow-once"})).await;
    assert_eq!(requester.answer(&ask).await.unwrap()["decision"], "allow-once");
    id
}

async fn requester(gateway: &Gateway, identity: &Identity) -> Socket {
    let scopes = ["operator.read", "operator.write", "operator.approvals"];
    Connect::tui().token(TOKEN).scopes(&scopes).device(identity).to(gateway.port).await.session()
}

fn run(node_id: &str, approval: &str, extra: Value) -> Value {
    let mut params =
        json!({"command": ["/bin/rm", "-rf", "/"], "approved": true, "runId": approval, "env": {"A": "1"}});
    merge(&mut params, extra);
    invoke(node_id, "system.run", params)
}

#[actix_web::test]
async fn what_was_approved_runs_once_and_nothing_else() {
    let gateway = Gateway::start().await;
    let mut node = Node::approved(&gateway, COMMANDS).await;
    let other = Node::approved(&gateway, COMMANDS).await;
    let identity = Identity::new();
    let mut caller = requester(&gateway, &identity).await;
    let id = approve_id(&gateway, &mut caller, &node.id()).await;

    let code = async |caller: &mut Socket, params: Value| {
        caller.refused("node.invoke", params).await["details"]["code"].as_str().unwrap_or_default().to_owned()
    };
    assert_eq!(code(&mut caller, run(&other.id(), &id, json!({}))).await, "APPROVAL_NODE_MISMATCH");
    assert_eq!(
        code(&mut caller, run(&node.id(), &id, json!({"env": {"A": "2"}}))).await,
        "APPROVAL_ENV_MISMATCH"
    );
    let stranger = Identity::new();
    let mut stranger = requester(&gateway, &stranger).await;
    assert_eq!(code(&mut stranger, run(&node.id(), &id, json!({}))).await, "APPROVAL_DEVICE_MISMATCH");
    assert_eq!(code(&mut caller, run(&node.id(), "made-up", json!({}))).await, "UNKNOWN_APPROVAL_ID");

    let more = json!({
        "cwd": "/root", "needsScreenRecording": true, "suppressNotifyOnExit": true, "agentId": "other", "stdin": "x",
    });
    let ask = caller.ask("node.invoke", run(&node.id(), &id, more)).await;
    let request = node.request().await;
    let sent: Value = serde_json::from_str(request["paramsJSON"].as_str().unwrap()).unwrap();
    assert_eq!(sent["command"], json!(["/usr/bin/id", "-u"]));
    assert_eq!((&sent["cwd"], &sent["runId"]), (&json!("/tmp"), &json!(id)));
    assert_eq!((&sent["approved"], &sent["approvalDecision"]), (&json!(true), &json!("allow-once")));
    for more in ["needsScreenRecording", "suppressNotifyOnExit", "agentId", "stdin"] {
        assert!(sent.get(more).is_none(), "{more} was not approved: {sent}");
    }
    node.reply(&request, json!({"exitCode": 0})).await.unwrap();
    caller.answer(&ask).await.unwrap();

    assert_eq!(code(&mut caller, run(&node.id(), &id, json!({}))).await, "APPROVAL_REQUIRED");
}

#[actix_web::test]
async fn the_gateways_helper_may_ask_on_one_socket_and_run_on_the_next() {
    let gateway = Gateway::start().await;
    let mut node = Node::approved(&gateway, COMMANDS).await;
    let helper = |scopes: &'static [&'static str]| {
        let (connect, port) = (Connect::backend().token(TOKEN).scopes(scopes), gateway.port);
        async move { connect.to(port).await.session() }
    };
    let mut asker = helper(&["operator.approvals"]).await;
    let id = approve_id(&gateway, &mut asker, &node.id()).await;
    drop(asker);
    let run = || run(&node.id(), &id, json!({}));
    let mut writer = helper(&["operator.write"]).await;
    let refused = writer.refused("node.invoke", run()).await;
    assert_eq!(refused["details"]["code"], "APPROVAL_CLIENT_MISMATCH", "it may not approve");
    let mut owner = gateway.operator().await;
    let refused = owner.refused("node.invoke", run()).await;
    assert_eq!(refused["details"]["code"], "APPROVAL_CLIENT_MISMATCH", "it is no helper");
    let mut runner = helper(&["operator.write", "operator.approvals"]).await;
    let invocation = run();
    runner.ask("node.invoke", invocation).await;
    let request = node.request().await;
    assert!(request["paramsJSON"].as_str().unwrap().contains("/usr/bin/id"));
}

#[actix_web::test]
async fn a_plan_that_lies_about_its_command_is_shown_as_what_it_does() {
    let gateway = Gateway::start().await;
    let node = Node::approved(&gateway, COMMANDS).await;
    let mut asker = requester(&gateway, &Identity::new()).await;
    let mut owner = gateway.operator().await;
    let argv = json!(["/bin/sh", "-c", "id"]);
    for (text, preview) in [("/bin/sh -c id", "echo hi"), ("echo hi", "id"), ("echo hi", "echo hi")] {
        let plan = json!({"argv": argv, "cwd": "/tmp", "commandText": text, "commandPreview": preview});
        let request = json!({
            "nodeId": node.id(), "host": "node", "systemRunPlan": plan, "command": "echo hi", "commandArgv": ["echo", "hi"],
            "twoPhase": true,
        });
        asker.ask("exec.approval.request", request).await;
        let asked = owner.event("exec.approval.requested").await;
        assert_eq!(asked["request"]["command"], "/bin/sh -c id");
        let shown = &asked["request"]["systemRunPlan"];
        assert_eq!(
            (&shown["commandText"], &shown["commandPreview"]),
            (&json!("/bin/sh -c id"), &json!("id"))
        );
        assert!(!asked.to_string().contains("echo hi"), "{asked}");
    }
}
