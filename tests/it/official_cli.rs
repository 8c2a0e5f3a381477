//! The official CLI, unmodified, against this gateway: what people type must go on working.

use crate::support::node::invoke;
use crate::support::node_host::ready;
use crate::support::official::Official;
use crate::support::world::{OWNER, World};
use crate::support::{Connect, Gateway, Identity, Node, Setup};
use serde_json::{Value, json};

#[actix_web::test]
async fn health_status_and_probes() {
    let gateway = Gateway::start().await;
    let official = Official::of(&gateway);
    assert_eq!(official.json(&["health", "--json"]).await["ok"], true);
    official.ok(&["health"]).await;
    official.json(&["status", "--json"]).await;
    let status = official.ok(&["status", "--deep"]).await;
    assert!(!status.contains("unreachable"), "{status}");
    let health = official.json(&["gateway", "call", "health", "--json"]).await;
    assert_eq!(health["ok"], true);
    let probe = official.json(&["gateway", "probe", "--json"]).await;
    assert_eq!(probe["ok"], true, "{probe}");
    let status = official.json(&["gateway", "status", "--json"]).await;
    assert_eq!(status["rpc"]["ok"], true, "{status}");
    let unknown = official.run(&["gateway", "call", "no.such.method", "--json"]).await;
    assert!(!unknown.status.success());
    assert!(format!("{unknown:?}").contains("unknown method"), "{unknown:?}");
}

#[actix_web::test]
async fn a_wrong_token_is_explained() {
    let gateway = Gateway::start().await;
    let official = Official::with_token(&gateway, "not-the-token");
    let refused = official.run(&["health"]).await;
    assert!(!refused.status.success());
    assert!(format!("{refused:?}").contains("token mismatch"), "{refused:?}");
}

#[actix_web::test]
async fn nodes_from_pending_to_invoked_and_renamed() {
    let gateway = Gateway::start().await;
    let official = Official::of(&gateway);
    let _host = official.node_host("garage");
    let pending = loop_pending(&official).await;
    let request = pending["requestId"].as_str().unwrap().to_owned();
    official.ok(&["nodes", "approve", &request]).await;
    let id = ready(&gateway, "garage").await;

    let status = official.json(&["nodes", "status", "--json"]).await;
    assert_eq!(status["nodes"][0]["nodeId"], id, "{status}");
    let list = official.ok(&["nodes", "list"]).await;
    assert!(list.contains("garage"), "{list}");
    let described = official.json(&["nodes", "describe", "--node", "garage", "--json"]).await;
    assert!(described.to_string().contains("system.which"), "{described}");
    let which = [
        "nodes",
        "invoke",
        "--node",
        "garage",
        "--command",
        "system.which",
        "--params",
        "{\"bins\":[\"ls\"]}",
        "--json",
    ];
    let answer = official.json(&which).await;
    assert!(answer.to_string().contains("/ls"), "{answer}");
    official.ok(&["nodes", "rename", "--node", "garage", "--name", "shed"]).await;
    let answer = official
        .json(&[
            "nodes",
            "invoke",
            "--node",
            "shed",
            "--command",
            "system.which",
            "--params",
            "{\"bins\":[\"ls\"]}",
            "--json",
        ])
        .await;
    assert!(answer.to_string().contains("/ls"), "{answer}");
}

/// Asks for pending node requests until there is one.
async fn loop_pending(official: &Official) -> Value {
    for _ in 0..30 {
        let pending = official.json(&["nodes", "pending", "--json"]).await;
        let first =
            pending.as_array().or(pending["pending"].as_array()).and_then(|list| list.first().cloned());
        if let Some(entry) = first {
            return entry;
        }
    }
    panic!("the node host never asked");
}

#[actix_web::test]
async fn devices_listed_and_approved() {
    let config = json!({"gateway": {"nodes": {"pairing": {"autoApproveLocal": false}}}});
    let gateway = Setup::new().config(config).start().await;
    let official = Official::of(&gateway);
    let node = Identity::new();
    let connect = Connect::node(&["system.which"]).token(&gateway.token()).device(&node);
    let refused = connect.to(gateway.port).await.refusal();
    let request = refused.error["details"]["requestId"].as_str().unwrap().to_owned();
    let list = official.json(&["devices", "list", "--json"]).await;
    assert_eq!(list["pending"][0]["requestId"], request, "{list}");
    official.ok(&["devices", "approve", &request]).await;
    connect.to(gateway.port).await.session();
    let list = official.json(&["devices", "list", "--json"]).await;
    assert_eq!(list["paired"][0]["deviceId"], node.id(), "{list}");
    let nothing = official.run(&["devices", "approve", "--latest"]).await;
    assert!(!nothing.status.success());
}

#[actix_web::test]
async fn channels_logs_agent_and_message() {
    let world = World::start().await;
    let official = Official::beside(&world);
    let channels = official.json(&["channels", "status", "--json"]).await;
    assert!(channels.to_string().contains("telegram"), "{channels}");
    let logs = official.ok(&["logs", "--plain", "--limit", "50"]).await;
    assert!(!logs.trim().is_empty());
    let answer =
        official.json(&["agent", "--agent", "main", "--message", "SAY from-the-agent", "--json"]).await;
    assert!(answer.to_string().contains("from-the-agent"), "{answer}");
    let owner = OWNER.to_string();
    let message = [
        "message",
        "send",
        "--channel",
        "telegram",
        "--target",
        &owner,
        "--message",
        "hello from the command line",
        "--json",
    ];
    official.ok(&message).await;
    world.shown(OWNER, "hello from the command line").await;
    assert_eq!(world.count(OWNER, "hello from the command line"), 1);
}

#[actix_web::test]
async fn a_call_with_params_reaches_a_node() {
    let gateway = Gateway::start().await;
    let official = Official::of(&gateway);
    let mut node = Node::approved(&gateway, &["system.which"]).await;
    let params = invoke(&node.id(), "system.which", json!({"bins": ["ls"]})).to_string();
    let call = ["gateway", "call", "node.invoke", "--params", &params, "--json"];
    let answering = async {
        let request = node.request().await;
        node.reply(&request, json!({"bins": {"ls": "/bin/ls"}})).await.unwrap();
    };
    let (answer, ()) = futures_util::join!(official.json(&call), answering);
    assert_eq!(answer["payload"]["bins"]["ls"], "/bin/ls", "{answer}");
}
