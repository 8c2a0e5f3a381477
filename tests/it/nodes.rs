//! What a node is asked, by whom, and what becomes of the answer.

use crate::support::gateway::TOKEN;
use crate::support::node::{approve, invoke};
use crate::support::{Connect, Gateway, Identity, Incoming, Node, Setup, eventually};
use serde_json::{Value, json};

const COMMANDS: &[&str] = &["system.which", "system.run"];

fn which() -> Value {
    json!({"bins": ["ls"]})
}

#[actix_web::test]
async fn an_invoke_goes_to_the_node_and_its_answer_comes_back() {
    let gateway = Gateway::start().await;
    let mut node = Node::approved(&gateway, COMMANDS).await;
    let mut operator = gateway.operator().await;
    let params = invoke(&node.id(), "system.which", which());
    let ask = operator.ask("node.invoke", params.clone()).await;
    let request = node.request().await;
    assert_eq!(request["nodeId"], node.id());
    assert_eq!(request["command"], "system.which");
    assert_eq!(request["idempotencyKey"], params["idempotencyKey"]);
    let sent: Value = serde_json::from_str(request["paramsJSON"].as_str().unwrap()).unwrap();
    assert_eq!(sent, which());
    assert!(request["timeoutMs"].as_u64().unwrap() <= 30_000);
    assert_eq!(node.reply(&request, json!({"bins": {"ls": "/bin/ls"}})).await.unwrap(), json!({"ok": true}));
    let answer = operator.answer(&ask).await.unwrap();
    assert_eq!(answer["ok"], true);
    assert_eq!(answer["nodeId"], node.id());
    assert_eq!(answer["command"], "system.which");
    assert_eq!(answer["payload"], json!({"bins": {"ls": "/bin/ls"}}));
    assert_eq!(answer["payloadJSON"], json!({"bins": {"ls": "/bin/ls"}}).to_string());
}

#[actix_web::test]
async fn every_form_of_a_result_is_understood() {
    let gateway = Gateway::start().await;
    let mut node = Node::approved(&gateway, COMMANDS).await;
    let mut operator = gateway.operator().await;
    let cases = [
        (json!({"payloadJSON": "{\"x\":1}"}), json!({"x": 1}), json!("{\"x\":1}")),
        (json!({"payload": {"x": 2}}), json!({"x": 2}), Value::Null),
        (json!({}), Value::Null, Value::Null),
        (json!({"payloadJSON": null, "error": null}), Value::Null, Value::Null),
        (json!({"payloadJSON": "{nope"}), json!({"payloadJSON": "{nope"}), json!("{nope")),
    ];
    for (result, payload, payload_json) in cases {
        let ask = operator.ask("node.invoke", invoke(&node.id(), "system.which", which())).await;
        let request = node.request().await;
        let mut params = json!({"id": request["id"], "nodeId": node.id(), "ok": true});
        crate::support::gateway::merge(&mut params, result.clone());
        node.socket.ok("node.invoke.result", params).await;
        let answer = operator.answer(&ask).await.unwrap();
        assert_eq!(answer["payload"], payload, "{result}");
        if !payload_json.is_null() {
            assert_eq!(answer["payloadJSON"], payload_json, "{result}");
        }
    }
}

#[actix_web::test]
async fn params_that_were_not_sent_reach_the_node_as_null() {
    let gateway = Gateway::start().await;
    let mut node = Node::approved(&gateway, COMMANDS).await;
    let mut operator = gateway.operator().await;
    let params = json!({"nodeId": node.id(), "command": "system.which", "idempotencyKey": "no-params"});
    let ask = operator.ask("node.invoke", params).await;
    let request = node.request().await;
    assert_eq!(request["paramsJSON"], Value::Null);
    node.reply(&request, json!(1)).await.unwrap();
    operator.answer(&ask).await.unwrap();
}

#[actix_web::test]
async fn a_nodes_error_is_told_as_it_is() {
    let gateway = Gateway::start().await;
    let mut node = Node::approved(&gateway, COMMANDS).await;
    let mut operator = gateway.operator().await;
    let ask = operator.ask("node.invoke", invoke(&node.id(), "system.which", which())).await;
    let request = node.request().await;
    node.fail(&request, "BOOM", "it broke").await.unwrap();
    let error = operator.answer(&ask).await.unwrap_err();
    assert_eq!(error["code"], "UNAVAILABLE");
    assert_eq!(error["message"], "BOOM: it broke");
    assert_eq!(error["details"]["nodeError"], json!({"code": "BOOM", "message": "it broke"}));
    assert_eq!(error["details"]["nodeCommandDispatched"], true);

    let ask = operator.ask("node.invoke", invoke(&node.id(), "system.which", which())).await;
    let request = node.request().await;
    node.socket
        .ok("node.invoke.result", json!({"id": request["id"], "nodeId": node.id(), "ok": false}))
        .await;
    let error = operator.answer(&ask).await.unwrap_err();
    assert_eq!(error["message"], "node invoke failed");
    assert_eq!(error["details"]["nodeError"], Value::Null);
}

#[actix_web::test]
async fn a_node_that_is_not_ready_is_asked_again_with_the_same_key() {
    let gateway = Gateway::start().await;
    let mut node = Node::approved(&gateway, COMMANDS).await;
    let mut operator = gateway.operator().await;
    let ask = operator.ask("node.invoke", invoke(&node.id(), "system.which", which())).await;
    let first = node.request().await;
    node.fail(&first, "NODE_NOT_READY", "later").await.unwrap();
    let second = node.request().await;
    assert_ne!(first["id"], second["id"]);
    assert_eq!(first["idempotencyKey"], second["idempotencyKey"]);
    node.reply(&second, json!({"at": "last"})).await.unwrap();
    assert_eq!(operator.answer(&ask).await.unwrap()["payload"], json!({"at": "last"}));

    let ask = operator.ask("node.invoke", invoke(&node.id(), "system.which", which())).await;
    for _ in 0..5 {
        let request = node.request().await;
        node.fail(&request, "NODE_NOT_READY", "later").await.unwrap();
    }
    let error = operator.answer(&ask).await.unwrap_err();
    assert_eq!(error["message"], "NODE_NOT_READY: later");
}

#[actix_web::test]
async fn a_deadline_ends_the_wait_and_tells_the_node() {
    let gateway = Gateway::start().await;
    let mut node = Node::approved(&gateway, COMMANDS).await;
    let mut operator = gateway.operator().await;
    let mut params = invoke(&node.id(), "system.which", which());
    params["timeoutMs"] = json!(200);
    let ask = operator.ask("node.invoke", params).await;
    let request = node.request().await;
    let error = operator.answer(&ask).await.unwrap_err();
    assert_eq!(error["code"], "UNAVAILABLE");
    assert_eq!(error["message"], "TIMEOUT: node invoke timed out");
    assert_eq!(error["details"]["nodeError"]["code"], "TIMEOUT");
    let cancel = node.socket.event("node.invoke.cancel").await;
    assert_eq!(cancel, json!({"invokeId": request["id"], "nodeId": node.id()}));
    assert_eq!(node.reply(&request, json!(1)).await.unwrap(), json!({"ok": true, "ignored": true}));
}

#[actix_web::test]
async fn a_node_that_vanishes_fails_its_calls_at_once() {
    let gateway = Gateway::start().await;
    let mut node = Node::approved(&gateway, COMMANDS).await;
    let id = node.id();
    let mut operator = gateway.operator().await;
    let ask = operator.ask("node.invoke", invoke(&id, "system.which", which())).await;
    node.request().await;
    drop(node);
    let error = operator.answer(&ask).await.unwrap_err();
    assert_eq!(error["code"], "UNAVAILABLE");
    assert_eq!(error["message"], "DISCONNECTED: node disconnected (system.which)");
    assert_eq!(error["details"]["nodeCommandDispatched"], true);
    let error = operator.refused("node.invoke", invoke(&id, "system.which", which())).await;
    assert_eq!(error["message"], "node not connected");
    assert_eq!(error["details"]["code"], "NOT_CONNECTED");
    assert_eq!(error["details"]["nodeCommandDispatched"], false);
}

#[actix_web::test]
async fn a_result_that_came_before_the_close_wins() {
    let gateway = Gateway::start().await;
    let mut operator = gateway.operator().await;
    let mut identity = Identity::new();
    for round in 0..10 {
        let mut node = Node::reconnect(&gateway, identity, COMMANDS).await;
        if round == 0 {
            approve(&gateway, &node.id()).await;
        }
        let ask = operator.ask("node.invoke", invoke(&node.id(), "system.which", which())).await;
        let request = node.request().await;
        let result = json!({"id": request["id"], "nodeId": node.id(), "ok": true, "payloadJSON": "1"});
        node.socket.ask("node.invoke.result", result).await;
        identity = node.identity;
        drop(node.socket);
        assert_eq!(operator.answer(&ask).await.unwrap()["payload"], 1, "round {round}");
    }
}

#[actix_web::test]
async fn a_late_close_of_an_old_socket_never_unregisters_the_new_one() {
    let gateway = Gateway::start().await;
    let mut operator = gateway.operator().await;
    let mut old = Node::approved(&gateway, COMMANDS).await;
    for round in 0..10 {
        let Node { identity, socket } = old;
        let mut new = Node::reconnect(&gateway, identity, COMMANDS).await;
        drop(socket);
        for _ in 0..3 {
            let ask = operator.ask("node.invoke", invoke(&new.id(), "system.which", which())).await;
            let request = new.request().await;
            new.reply(&request, json!(round)).await.unwrap();
            assert_eq!(operator.answer(&ask).await.unwrap()["payload"], round);
        }
        old = new;
    }
    let list = operator.ok("node.list", json!({})).await;
    assert_eq!(list["nodes"].as_array().unwrap().len(), 1);
    assert_eq!(list["nodes"][0]["connected"], true);
}

#[actix_web::test]
async fn another_nodes_result_is_not_taken() {
    let gateway = Gateway::start().await;
    let mut node = Node::approved(&gateway, COMMANDS).await;
    let mut forger = Node::approved(&gateway, COMMANDS).await;
    let mut operator = gateway.operator().await;
    let ask = operator.ask("node.invoke", invoke(&node.id(), "system.which", which())).await;
    let request = node.request().await;
    let forged = json!({"id": request["id"], "nodeId": node.id(), "ok": true, "payloadJSON": "\"forged\""});
    let error = forger.socket.refused("node.invoke.result", forged).await;
    assert_eq!(error["message"], "nodeId mismatch");
    let own_name =
        json!({"id": request["id"], "nodeId": forger.id(), "ok": true, "payloadJSON": "\"forged\""});
    let _ = forger.socket.call("node.invoke.result", own_name).await;
    node.reply(&request, json!("true")).await.unwrap();
    assert_eq!(operator.answer(&ask).await.unwrap()["payload"], "true");
}

#[actix_web::test]
async fn nothing_runs_before_the_surface_is_approved() {
    let gateway = Gateway::start().await;
    let mut operator = gateway.operator().await;
    let mut node = Node::connect(&gateway, COMMANDS).await;
    let requested = operator.event_where("node.pair.requested", |_| true).await;
    assert_eq!(requested["nodeId"], node.id());
    let error = operator.refused("node.invoke", invoke(&node.id(), "system.which", which())).await;
    assert_eq!(error["code"], "UNAVAILABLE");
    assert_eq!(error["details"]["code"], "PAIRING_CHANGED");
    assert_eq!(error["retryable"], true);
    let described = operator.ok("node.describe", json!({"nodeId": node.id()})).await;
    assert_eq!(described["approvalState"], "pending-approval");
    assert_eq!(described["commands"], json!([]));
    approve(&gateway, &node.id()).await;
    let resolved = node.socket.event("node.pair.resolved").await;
    assert_eq!(resolved["decision"], "approved");
    let ask = operator.ask("node.invoke", invoke(&node.id(), "system.which", which())).await;
    let request = node.request().await;
    node.reply(&request, json!(1)).await.unwrap();
    operator.answer(&ask).await.unwrap();
}

#[actix_web::test]
async fn a_wider_surface_waits_for_a_new_approval_and_the_old_commands_go_on() {
    let gateway = Gateway::start().await;
    let node = Node::approved(&gateway, &["system.which"]).await;
    let Node { identity, socket } = node;
    socket.close().await;
    let mut node = Node::reconnect(&gateway, identity, COMMANDS).await;
    let mut operator = gateway.operator().await;
    let described = eventually("the pending approval", async || {
        let described = operator.ok("node.describe", json!({"nodeId": node.id()})).await;
        (described["approvalState"] == "pending-reapproval").then_some(described)
    })
    .await;
    assert_eq!(described["commands"], json!(["system.which"]));
    let run = json!({"command": ["/bin/true"]});
    let error = operator.refused("node.invoke", invoke(&node.id(), "system.run", run.clone())).await;
    assert!(["UNAVAILABLE", "INVALID_REQUEST"].contains(&error["code"].as_str().unwrap()), "{error}");
    let ask = operator.ask("node.invoke", invoke(&node.id(), "system.which", which())).await;
    let request = node.request().await;
    assert_eq!(request["command"], "system.which", "what was refused reached the node");
    node.reply(&request, json!(1)).await.unwrap();
    operator.answer(&ask).await.unwrap();
    approve(&gateway, &node.id()).await;
    operator.ask("node.invoke", invoke(&node.id(), "system.run", run)).await;
    assert_eq!(node.request().await["command"], "system.run");
}

#[actix_web::test]
async fn a_surface_that_runs_programs_needs_an_administrator() {
    let gateway = Gateway::start().await;
    let node = Node::connect(&gateway, COMMANDS).await;
    let pairing =
        Connect::cli().token(TOKEN).scopes(&["operator.pairing", "operator.read", "operator.write"]);
    let mut pairing = pairing.to(gateway.port).await.session();
    let list = eventually("the pending surface", async || {
        let list = pairing.ok("node.pair.list", json!({})).await;
        (list["pending"] != json!([])).then_some(list)
    })
    .await;
    let pending = &list["pending"][0];
    assert_eq!(pending["nodeId"], node.id());
    assert!(pending["requiredApproveScopes"].as_array().unwrap().contains(&json!("operator.admin")));
    let error = pairing.refused("node.pair.approve", json!({"requestId": pending["requestId"]})).await;
    assert!(["FORBIDDEN", "INVALID_REQUEST"].contains(&error["code"].as_str().unwrap()), "{error}");
    let list = pairing.ok("node.pair.list", json!({})).await;
    assert_eq!(list["paired"].as_array().unwrap().iter().filter(|n| n["nodeId"] == node.id()).count(), 0);
}

#[actix_web::test]
async fn commands_that_policy_or_the_node_do_not_know_are_refused() {
    let gateway = Gateway::start().await;
    let node = Node::approved(&gateway, &["system.which", "camera.snap", "sms.send", "screen.record"]).await;
    let mut operator = gateway.operator().await;
    let opt_in = "requires explicit gateway.nodes.commands.allow opt-in";
    let unlisted = "is not in the allowlist for platform \"linux\"";
    for (command, why) in
        [("foo.bar", unlisted), ("camera.snap", opt_in), ("screen.record", opt_in), ("sms.send", opt_in)]
    {
        let error = operator.refused("node.invoke", invoke(&node.id(), command, json!({}))).await;
        assert_eq!(error["code"], "INVALID_REQUEST", "{command}: {error}");
        let message = error["message"].as_str().unwrap();
        assert!(message.starts_with(&format!("node command not allowed: \"{command}\"")), "{message}");
        assert!(command == "sms.send" || message.ends_with(why), "{message}");
        assert_eq!(error["details"], json!({"reason": "command not allowlisted", "command": command}));
    }
}

#[actix_web::test]
async fn a_command_that_the_owner_denied_is_refused_even_when_approved() {
    let config =
        json!({"gateway": {"nodes": {"commands": {"deny": ["system.run"], "allow": ["camera.snap"]}}}});
    let gateway = Setup::new().config(config).start().await;
    let mut node = Node::approved(&gateway, &["system.which", "system.run", "camera.snap"]).await;
    let mut operator = gateway.operator().await;
    let error =
        operator.refused("node.invoke", invoke(&node.id(), "system.run", json!({"command": ["id"]}))).await;
    assert_eq!(error["code"], "INVALID_REQUEST", "{error}");
    let ask = operator.ask("node.invoke", invoke(&node.id(), "camera.snap", json!({}))).await;
    let request = node.request().await;
    assert_eq!(request["command"], "camera.snap");
    node.reply(&request, json!(1)).await.unwrap();
    operator.answer(&ask).await.unwrap();
}

#[actix_web::test]
async fn a_nodes_approvals_file_is_out_of_reach_of_a_plain_invoke() {
    let gateway = Gateway::start().await;
    let commands = ["system.which", "system.execApprovals.get", "system.execApprovals.set"];
    let mut node = Node::approved(&gateway, &commands).await;
    let mut operator = gateway.operator().await;
    for command in &commands[1..] {
        let error = operator.refused("node.invoke", invoke(&node.id(), command, json!({}))).await;
        assert_eq!(error["code"], "INVALID_REQUEST", "{error}");
        let slash = format!("/invoke {} {command} {{}}", node.id());
        let said = gateway.cli(&["agent", "--message", &slash]).await;
        assert_eq!(said.status.code(), Some(1));
        let said = String::from_utf8_lossy(&said.stderr).into_owned();
        assert!(said.contains("can't be called through node.invoke"), "{said}");
    }
    assert_next_is_which(&gateway, &mut node).await;
}

#[actix_web::test]
async fn an_argv_that_is_not_a_list_of_strings_never_reaches_the_node() {
    let gateway = Gateway::start().await;
    let mut node = Node::approved(&gateway, COMMANDS).await;
    let mut operator = gateway.operator().await;
    for command in [json!("id"), json!([]), json!([1]), json!({}), json!(["id", null]), Value::Null] {
        let params = invoke(&node.id(), "system.run", json!({"command": command}));
        let error = operator.refused("node.invoke", params).await;
        assert_eq!(error["code"], "INVALID_REQUEST", "{command}: {error}");
    }
    assert_next_is_which(&gateway, &mut node).await;
}

#[actix_web::test]
async fn a_text_that_differs_from_the_argv_never_reaches_the_node() {
    let gateway = Gateway::start().await;
    let mut node = Node::approved(&gateway, COMMANDS).await;
    let mut operator = gateway.operator().await;
    for params in [
        json!({"command": ["sh", "-c", "id"], "rawCommand": "echo safe"}),
        json!({"command": ["echo", "safe "], "rawCommand": "echo safe"}),
        json!({"rawCommand": "id"}),
    ] {
        let error = operator.refused("node.invoke", invoke(&node.id(), "system.run", params.clone())).await;
        assert_eq!(error["code"], "INVALID_REQUEST", "{params}: {error}");
    }
    assert_next_is_which(&gateway, &mut node).await;
}

#[actix_web::test]
async fn a_caller_cannot_approve_its_own_command() {
    let gateway = Gateway::start().await;
    let mut node = Node::approved(&gateway, COMMANDS).await;
    let mut operator = gateway.operator().await;
    for extra in [
        json!({"approved": true}),
        json!({"approved": true, "approvalDecision": "allow-always", "runId": "made-up"}),
        json!({"approvalDecision": "allow-once"}),
    ] {
        let mut params = json!({"command": ["id"]});
        crate::support::gateway::merge(&mut params, extra.clone());
        let ask = operator.ask("node.invoke", invoke(&node.id(), "system.run", params)).await;
        // Either the gateway refuses, or what reaches the node no longer says that anybody approved.
        operator.ask("node.invoke", invoke(&node.id(), "system.which", which())).await;
        let mut request = node.request().await;
        if request["command"] == "system.run" {
            let sent: Value = serde_json::from_str(request["paramsJSON"].as_str().unwrap()).unwrap();
            assert!(sent.get("approved").is_none(), "{extra}: {sent}");
            assert!(sent.get("approvalDecision").is_none(), "{extra}: {sent}");
            node.reply(&request, json!(1)).await.unwrap();
            request = node.request().await;
        } else {
            assert_eq!(operator.answer(&ask).await.unwrap_err()["code"], "INVALID_REQUEST");
        }
        node.reply(&request, json!(1)).await.unwrap();
    }
}

#[actix_web::test]
async fn one_idempotency_key_runs_a_command_once() {
    let gateway = Gateway::start().await;
    let mut node = Node::approved(&gateway, COMMANDS).await;
    let mut operator = gateway.operator().await;
    let mut second = gateway.operator().await;
    let params = invoke(&node.id(), "system.run", json!({"command": ["/bin/true"]}));
    let first_ask = operator.ask("node.invoke", params.clone()).await;
    let request = node.request().await;
    let twin = second.ask("node.invoke", params.clone()).await;
    node.reply(&request, json!({"run": 1})).await.unwrap();
    assert_eq!(operator.answer(&first_ask).await.unwrap()["payload"], json!({"run": 1}));
    assert_eq!(second.answer(&twin).await.unwrap()["payload"], json!({"run": 1}));
    assert_eq!(operator.ok("node.invoke", params.clone()).await["payload"], json!({"run": 1}));
    let mut other = params.clone();
    other["params"] = json!({"command": ["/bin/false"]});
    let error = operator.refused("node.invoke", other).await;
    assert_eq!(error["code"], "INVALID_REQUEST", "the key stands for another command: {error}");
    assert_next_is_which(&gateway, &mut node).await;
}

#[actix_web::test]
async fn a_key_is_remembered_across_a_restart() {
    let gateway = Gateway::start().await;
    let mut node = Node::approved(&gateway, COMMANDS).await;
    let mut operator = gateway.operator().await;
    let params = invoke(&node.id(), "system.run", json!({"command": ["/bin/true"]}));
    let ask = operator.ask("node.invoke", params.clone()).await;
    let request = node.request().await;
    node.reply(&request, json!({"run": 1})).await.unwrap();
    operator.answer(&ask).await.unwrap();

    let cut_short = invoke(&node.id(), "system.run", json!({"command": ["/bin/sleep", "1"]}));
    operator.ask("node.invoke", cut_short.clone()).await;
    node.request().await;

    let gateway = gateway.restart().await;
    let mut node = Node::reconnect(&gateway, node.identity, COMMANDS).await;
    let mut operator = gateway.operator().await;
    let again = operator.call("node.invoke", params).await;
    assert!(again.as_ref().map_or(true, |answer| answer["payload"] == json!({"run": 1})), "{again:?}");
    let again = operator.refused("node.invoke", cut_short).await;
    assert_eq!(again["details"]["nodeCommandDispatched"], true, "its outcome is unknown: {again}");
    assert_next_is_which(&gateway, &mut node).await;
}

#[actix_web::test]
async fn a_node_may_not_call_what_operators_may_and_is_cut_off_when_it_insists() {
    let gateway = Gateway::start().await;
    let mut node = Node::approved(&gateway, COMMANDS).await;
    for method in ["node.list", "chat.send", "config.get", "device.pair.list"] {
        let error = node.socket.refused(method, json!({})).await;
        assert_eq!(error["code"], "INVALID_REQUEST");
        assert_eq!(error["message"], "unauthorized role: node", "{method}");
    }
    node.socket.ok("health", Value::Null).await;
    for _ in 0..15 {
        node.socket.ask("node.invoke", json!({})).await;
    }
    let end = node.socket.end().await;
    assert_eq!(end, Incoming::Close { code: 1008, reason: "repeated unauthorized calls".into() });
}

#[actix_web::test]
async fn a_nodes_events_are_answered_by_what_they_are() {
    let gateway = Gateway::start().await;
    let mut node = Node::approved(&gateway, COMMANDS).await;
    let stats = json!({
        "cpuCount": 2, "loadAverage": [0.1, 0.2, 0.3], "memoryTotalBytes": 8, "memoryFreeBytes": 4,
        "diskTotalBytes": 10, "diskAvailableBytes": 5,
    });
    let cases = [
        (
            "bogus",
            json!({}),
            json!({"ok": true, "event": "bogus", "handled": false, "reason": "unsupported_event"}),
        ),
        (
            "node.host.stats",
            stats,
            json!({"ok": true, "event": "node.host.stats", "handled": true, "reason": "updated"}),
        ),
    ];
    for (event, payload, answer) in cases {
        let params = json!({"event": event, "payloadJSON": payload.to_string()});
        assert_eq!(node.socket.ok("node.event", params).await, answer);
    }
    let mut operator = gateway.operator().await;
    let described = operator.ok("node.describe", json!({"nodeId": node.id()})).await;
    assert_eq!(described["hostStats"]["cpuCount"], 2);
}

#[actix_web::test]
async fn a_node_keeps_the_name_it_was_given() {
    let gateway = Gateway::start().await;
    let node = Node::approved(&gateway, COMMANDS).await;
    let mut operator = gateway.operator().await;
    operator.ok("node.rename", json!({"nodeId": node.id(), "displayName": "kitchen pi"})).await;
    let gateway = gateway.restart().await;
    let mut operator = gateway.operator().await;
    let list = operator.ok("node.list", json!({})).await;
    assert_eq!(list["nodes"][0]["displayName"], "kitchen pi");
    assert_eq!(list["nodes"][0]["connected"], false);
}

#[actix_web::test]
async fn a_removed_node_is_cut_off_and_its_token_is_dead() {
    let gateway = Gateway::start().await;
    let identity = Identity::new();
    let connect = Connect::node(COMMANDS).token(TOKEN).device(&identity);
    let (hello, mut socket) = connect.to(gateway.port).await.hello();
    approve(&gateway, &identity.id()).await;
    let mut operator = gateway.operator().await;
    operator.ok("node.pair.remove", json!({"nodeId": identity.id()})).await;
    assert_eq!(socket.end().await, Incoming::Close { code: 4001, reason: "device removed".into() });
    let token = hello["auth"]["deviceToken"].as_str().unwrap();
    let connect = Connect::node(COMMANDS).auth("deviceToken", token).device(&identity);
    assert_eq!(connect.to(gateway.port).await.refusal().detail(), "AUTH_DEVICE_TOKEN_MISMATCH");
}

/// The next thing that reaches the node is a plain `system.which`: nothing that was refused came before it.
async fn assert_next_is_which(gateway: &Gateway, node: &mut Node) {
    let mut operator = gateway.operator().await;
    let ask = operator.ask("node.invoke", invoke(&node.id(), "system.which", which())).await;
    let request = node.request().await;
    assert_eq!(request["command"], "system.which", "something refused reached the node: {request}");
    node.reply(&request, json!(1)).await.unwrap();
    operator.answer(&ask).await.unwrap();
}
