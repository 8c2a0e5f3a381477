//! The methods, as clients and nodes call them.

use super::*;
use crate::rpc::{Call, Refused, dispatch};

fn operator(scopes: &[&str]) -> Arc<Caller> {
    caller(Role::Operator, "op", None, scopes).0
}

/// Calls a method through the table; an error is its whole shape.
async fn call(gateway: &Gateway, caller: &Arc<Caller>, method: &str, params: &str) -> Result<Value, Value> {
    let params = Some(Arc::from(RawValue::from_string(params.to_owned()).unwrap()));
    let call = |method| Call {
        gateway: gateway.clone(),
        caller: Arc::clone(caller),
        method,
        id: "1".into(),
        params,
    };
    let answer = match dispatch(method, call) {
        Ok(answer) => answer.await,
        Err(Refused::Error(error) | Refused::Role(error)) => Err(error),
    };
    match answer {
        Ok(payload) => Ok(serde_json::from_str(payload.get()).unwrap()),
        Err(error) => Err(serde_json::to_value(error).unwrap()),
    }
}

fn message(answer: Result<Value, Value>) -> String {
    answer.unwrap_err()["message"].as_str().unwrap().to_owned()
}

#[actix::test]
async fn an_invoke_is_judged_before_anything_is_sent() {
    let gateway = gateway();
    let mut node = approved(&gateway, "n", "c1").await;
    let writer = operator(&["operator.write"]);
    let refused =
        async |params: Value| message(call(&gateway, &writer, "node.invoke", &params.to_string()).await);
    assert_eq!(
        refused(json!({ "nodeId": "n", "command": "system.which" })).await,
        "invalid node.invoke params: must have required property 'idempotencyKey'"
    );
    let blank = json!({ "nodeId": "n", "command": "system.which", "idempotencyKey": " " });
    assert!(refused(blank).await.contains("/idempotencyKey"));
    let unknown = json!({ "nodeId": "who", "command": "system.which", "idempotencyKey": "k" });
    assert_eq!(refused(unknown).await, "node pairing changed while invocation was active");
    let reserved = json!({ "nodeId": "n", "command": "system.execApprovals.set", "idempotencyKey": "k" });
    assert!(refused(reserved).await.ends_with("use exec.approvals.node.*"));
    for almost in ["system.which ", " system.which", "System.which", "system.which\0"] {
        let params = json!({ "nodeId": "n", "command": almost, "idempotencyKey": "k" });
        assert!(refused(params).await.contains("node command not allowed"), "{almost:?} is no such command");
    }
    let files = json!({ "nodeId": "n", "command": "fs.listDir", "idempotencyKey": "k" });
    assert_eq!(refused(files).await, "missing scope: operator.admin");
    let reader = operator(&["operator.read"]);
    let plain = json!({ "nodeId": "n", "command": "system.which", "idempotencyKey": "k" }).to_string();
    assert_eq!(
        message(call(&gateway, &reader, "node.invoke", &plain).await),
        "missing scope: operator.write"
    );
    assert!(node.is_silent());
}

#[actix::test]
async fn an_answer_passes_through_untouched_whatever_form_it_has() {
    let gateway = gateway();
    let mut node = approved(&gateway, "n", "c1").await;
    let writer = operator(&["operator.write"]);
    let forms = [
        (r#""payload":{"big": 1.0e400,  "x":[ ]}"#, r#"{"big": 1.0e400,  "x":[ ]}"#),
        (r#""payloadJSON":"{\"a\": 1}""#, r#"{"a": 1}"#),
        (r#""payload":null,"payloadJSON":null,"error":null"#, "null"),
    ];
    for (round, (form, payload)) in forms.into_iter().enumerate() {
        let answer = start(&gateway, which("n", &format!("k{round}")));
        let id = node.request().await["id"].as_str().unwrap().to_owned();
        let result = format!(r#"{{"id":"{id}","nodeId":"n","ok":true,{form}}}"#);
        assert_eq!(
            call(&gateway, &node.caller, "node.invoke.result", &result).await,
            Ok(json!({ "ok": true }))
        );
        assert_eq!(answer.await.unwrap().unwrap().payload.get(), payload);
        let late = call(&gateway, &node.caller, "node.invoke.result", &result).await;
        assert_eq!(late, Ok(json!({ "ok": true, "ignored": true })));
        let forged = result.replace(r#""nodeId":"n""#, r#""nodeId":"other""#);
        assert_eq!(
            message(call(&gateway, &node.caller, "node.invoke.result", &forged).await),
            "nodeId mismatch"
        );
    }
    let as_operator = call(&gateway, &writer, "node.invoke.result", "{}").await;
    assert_eq!(message(as_operator), "unauthorized role: operator");
}

#[actix::test]
async fn a_node_hears_that_nobody_listens_to_its_progress() {
    let gateway = gateway();
    let mut node = approved(&gateway, "n", "c1").await;
    let call_under_way = start(&gateway, which("n", "k"));
    let request = node.request().await;
    for seq in [0, 1, u64::MAX] {
        let piece = json!({ "invokeId": request["id"], "nodeId": "n", "seq": seq, "chunk": "part" });
        let heard = call(&gateway, &node.caller, "node.invoke.progress", &piece.to_string()).await;
        assert_eq!(heard, Ok(json!({ "ok": true, "ignored": true })), "{seq}");
    }
    let forged = json!({ "invokeId": request["id"], "nodeId": "other", "seq": 0, "chunk": "x" }).to_string();
    let forged = call(&gateway, &node.caller, "node.invoke.progress", &forged).await;
    assert_eq!(message(forged), "nodeId mismatch");
    assert!(node.answer(&request, "1"));
    assert!(call_under_way.await.unwrap().is_ok());
}

#[actix::test]
async fn only_those_who_may_approve_see_what_waits() {
    let gateway = gateway();
    connect(&gateway, "n", "c1", WHICH).await;
    let reader = operator(&["operator.read"]);
    let seen = call(&gateway, &reader, "node.list", "{}").await.unwrap();
    let node = &seen["nodes"][0];
    assert_eq!(node["approvalState"], "pending-approval");
    assert_eq!((node["connected"].clone(), node["paired"].clone()), (true.into(), true.into()));
    assert_eq!(node.get("pendingRequestId"), None);
    assert_eq!(
        (&node["commands"], &node["caps"], &node["nodePluginTools"]),
        (&json!([]), &json!([]), &json!([]))
    );
    let pairing = operator(&["operator.read", "operator.pairing"]);
    let seen = call(&gateway, &pairing, "node.describe", r#"{"nodeId":"name of n"}"#).await.unwrap();
    assert_eq!(seen["pendingDeclaredCommands"], json!(["system.run", "system.which"]));
    let list = call(&gateway, &pairing, "node.pair.list", "{}").await.unwrap();
    assert_eq!(list["pending"][0]["requestId"], seen["pendingRequestId"]);
    assert_eq!(list["pending"][0]["requiredApproveScopes"], json!(["operator.pairing", "operator.admin"]));
    assert_eq!(list["paired"], json!([]));
    let request = json!({ "requestId": seen["pendingRequestId"] }).to_string();
    let denied = call(&gateway, &pairing, "node.pair.approve", &request).await.unwrap_err();
    assert_eq!(denied["details"]["missingScope"], "operator.admin");
    let rejected = call(&gateway, &pairing, "node.pair.reject", &request).await.unwrap();
    assert_eq!(rejected["nodeId"], "n");
    let again = call(&gateway, &pairing, "node.pair.reject", &request).await;
    assert_eq!(message(again), "unknown requestId");
    assert_eq!(
        message(call(&gateway, &pairing, "node.describe", r#"{"nodeId":"who"}"#).await),
        "unknown nodeId"
    );
}

#[actix::test]
async fn a_relayed_method_sends_its_one_command_and_hands_back_the_payload() {
    let gateway = gateway();
    let commands = ["fs.listDir", "system.execApprovals.get", "system.execApprovals.set"];
    let mut node = connect(&gateway, "n", "c1", &commands).await;
    approve(&gateway, "n").await;
    node.event("node.pair.resolved").await;
    let writer = operator(&["operator.write"]);
    let admin = operator(&["operator.admin"]);
    let folder = r#"{"nodeId":"n","path":"/tmp"}"#;
    assert_eq!(message(call(&gateway, &writer, "fs.listDir", folder).await), "missing scope: operator.admin");
    let cases = [
        ("fs.listDir", folder, "fs.listDir", json!({ "path": "/tmp" })),
        ("exec.approvals.node.get", r#"{"nodeId":"n"}"#, "system.execApprovals.get", json!({})),
        (
            "exec.approvals.node.set",
            r#"{"nodeId":"n","file":{"version":1},"baseHash":"h"}"#,
            "system.execApprovals.set",
            json!({ "file": { "version": 1 }, "baseHash": "h" }),
        ),
    ];
    for (method, params, command, sent) in cases {
        let (relay, asked) = (call(&gateway, &admin, method, params), async {
            let request = node.request().await;
            node.answer(&request, r#"{"from":"node"}"#);
            request
        });
        let (answer, request) = tokio::join!(relay, asked);
        assert_eq!(answer, Ok(json!({ "from": "node" })));
        assert_eq!(request["command"], command);
        assert_eq!(serde_json::from_str::<Value>(request["paramsJSON"].as_str().unwrap()).unwrap(), sent);
    }
}

#[actix::test]
async fn a_node_publishes_for_itself_and_only_what_can_be_read() {
    let gateway = gateway();
    let node = connect(&gateway, "n", "c1", WHICH).await;
    let tool = json!({ "pluginId": "p", "name": "my_tool", "description": "d", "command": "system.which", "extra": 1 });
    let tools = json!({ "tools": [tool] }).to_string();
    let kept = call(&gateway, &node.caller, "node.pluginTools.update", &tools).await.unwrap();
    assert_eq!(kept["tools"][0].get("extra"), None);
    let view = shown(&gateway, "n");
    assert_eq!(view.node_plugin_tools.unwrap()[0]["name"], "my_tool");
    for bad in ["1tool", "", "a b"] {
        let tools = json!({ "tools": [{ "pluginId": "p", "name": bad, "description": "d" }] }).to_string();
        assert!(call(&gateway, &node.caller, "node.pluginTools.update", &tools).await.is_err(), "{bad}");
    }
    let skill =
        json!({ "skills": [{ "name": "wire-skill", "description": "d", "content": "c" }] }).to_string();
    assert!(call(&gateway, &node.caller, "node.skills.update", &skill).await.is_ok());
    let bad = json!({ "skills": [{ "name": "No", "description": "d", "content": "c" }] }).to_string();
    assert!(call(&gateway, &node.caller, "node.skills.update", &bad).await.is_err());

    let waiting = call(&gateway, &node.caller, "node.runnerInventory.update", "{}").await;
    assert_eq!(waiting.as_ref().unwrap_err()["details"]["code"], "AWAITING_APPROVAL");
    let waiting = message(waiting);
    assert!(waiting.contains("run `tidegate nodes approve "), "{waiting}");
    approve(&gateway, "n").await;
    let inventory = call(&gateway, &node.caller, "node.runnerInventory.update", "{}").await;
    assert_eq!(inventory, Ok(json!({ "nodeId": "n" })));
    let drained = call(&gateway, &node.caller, "node.pending.drain", "{}").await.unwrap();
    assert_eq!((&drained["nodeId"], &drained["hasMore"]), (&json!("n"), &json!(false)));
}
