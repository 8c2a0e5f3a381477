//! Frames between the gateway, nodes and those who call them: how large, how often, and which come first.

use crate::support::node::invoke;
use crate::support::{Connect, Gateway, Node};
use serde_json::{Value, json};

const COMMANDS: &[&str] = &["system.which", "screen.snapshot"];
/// What the hello promises, in bytes.
const MAX_PAYLOAD: usize = 26_214_400;

#[actix_web::test]
async fn params_that_do_not_fit_into_a_frame_cost_the_node_nothing() {
    let gateway = Gateway::start().await;
    let mut node = Node::approved(&gateway, COMMANDS).await;
    let mut operator = gateway.operator().await;
    let innocent = operator.ask("node.invoke", invoke(&node.id(), "system.which", json!({}))).await;
    let request = node.request().await;
    // Each quote is escaped once on its way in, and twice on its way on.
    let params = json!({"text": "\"".repeat(MAX_PAYLOAD / 4)});
    let refused = operator.refused("node.invoke", invoke(&node.id(), "system.which", params)).await;
    assert_eq!(
        (refused["code"].as_str(), refused["message"].as_str()),
        (Some("INVALID_REQUEST"), Some("params too large"))
    );
    assert_eq!(refused["details"]["nodeCommandDispatched"], false);
    node.reply(&request, json!(7)).await.unwrap();
    assert_eq!(operator.answer(&innocent).await.unwrap()["payload"], 7);
}

#[actix_web::test]
async fn a_large_result_is_told_once_and_one_that_does_not_fit_is_an_error() {
    let gateway = Gateway::start().await;
    let mut node = Node::approved(&gateway, COMMANDS).await;
    let mut operator = gateway.operator().await;
    let ask = operator.ask("node.invoke", invoke(&node.id(), "system.which", json!({}))).await;
    let request = node.request().await;
    node.reply(&request, json!("x".repeat(MAX_PAYLOAD / 2))).await.unwrap();
    let answer = operator.answer(&ask).await.unwrap();
    assert_eq!(answer["payload"].as_str().map(str::len), Some(MAX_PAYLOAD / 2));
    assert_eq!(answer["payloadJSON"], Value::Null);

    let id = "x".repeat(4096);
    let params = invoke(&node.id(), "system.which", json!({}));
    operator.send(&json!({"type": "req", "id": id, "method": "node.invoke", "params": params})).await;
    let request = node.request().await;
    node.reply(&request, json!("x".repeat(MAX_PAYLOAD - 1024))).await.unwrap();
    let error = operator.answer(&id).await.unwrap_err();
    assert_eq!(
        (&error["details"]["code"], &error["details"]["nodeCommandDispatched"]),
        (&json!("ANSWER_TOO_LARGE"), &json!(true)),
        "{error}"
    );
    operator.ok("node.list", json!({})).await;
}

#[actix_web::test]
async fn a_key_holds_across_a_restart_for_whatever_may_act() {
    let gateway = Gateway::start().await;
    let mut node = Node::approved(&gateway, COMMANDS).await;
    let mut operator = gateway.operator().await;
    let params = invoke(&node.id(), "screen.snapshot", json!({"b": 1, "a": 2}));
    let ask = operator.ask("node.invoke", params.clone()).await;
    let request = node.request().await;
    node.reply(&request, json!("shot")).await.unwrap();
    operator.answer(&ask).await.unwrap();

    let mut gateway = gateway;
    gateway.kill();
    let gateway = gateway.restart().await;
    let mut node = Node::reconnect(&gateway, node.identity, COMMANDS).await;
    let mut operator = gateway.operator().await;
    let mut again = params;
    again["params"] = json!({"a": 2, "b": 1});
    match operator.call("node.invoke", again).await {
        Ok(answer) => assert_eq!(answer["payload"], "shot"),
        // The gateway was killed before it wrote down how the call ended.
        Err(error) => assert_eq!(error["details"]["nodeError"]["code"], "OUTCOME_UNKNOWN", "{error}"),
    }
    let other = operator.ask("node.invoke", invoke(&node.id(), "system.which", json!({}))).await;
    let request = node.request().await;
    assert_eq!(request["command"], "system.which", "the other was not sent again");
    node.reply(&request, json!(1)).await.unwrap();
    operator.answer(&other).await.unwrap();
}

#[actix_web::test]
async fn a_node_hears_first_what_wakes_it() {
    let gateway = Gateway::start().await;
    let mut node = Node::connect(&gateway, COMMANDS).await;
    let first = node.socket.find("the first event", |frame| frame["type"] == "event").await;
    assert_eq!((&first["event"], &first["payload"]), (&json!("voicewake.changed"), &json!({"triggers": []})));
    assert_eq!(first.get("seq"), None);
    let second = node.socket.find("the second event", |frame| frame["type"] == "event").await;
    assert_eq!(second["event"], "voicewake.routing.changed");
    assert_eq!(second["payload"]["config"]["defaultTarget"], json!({"mode": "current"}));
}

#[actix_web::test]
async fn whoever_asks_how_the_gateway_fares_lets_all_know() {
    let gateway = Gateway::start().await;
    let mut node = Node::connect(&gateway, COMMANDS).await;
    let mut operator = gateway.operator().await;
    let nobody = Connect::cli().token(&gateway.token()).scopes(&[]).to(gateway.port).await;
    let mut nobody = nobody.session();
    operator.ok("health", json!({})).await;
    let told = operator.event("health").await;
    assert_eq!((&told["ok"], told["agents"].as_array().map(Vec::len)), (&json!(true), Some(1)));
    for told in [node.socket.event("health").await, nobody.event("health").await] {
        assert_eq!((&told["ok"], &told["agents"]), (&json!(true), &json!([])), "without details");
    }
}
