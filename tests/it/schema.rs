//! What the gateway puts on the wire, against the schema that the official clients are built from.

use crate::support::gateway::TOKEN;
use crate::support::schema::{assert_frame, assert_valid};
use crate::support::{Connect, Gateway, Identity, Node, Upgrade, http};
use serde_json::{Value, json};

#[actix_web::test]
async fn every_hello_is_complete() {
    let gateway = Gateway::start().await;
    let (device, ui, host) = (Identity::new(), Identity::new(), Identity::new());
    let own = Upgrade::to(gateway.port).origin(&format!("http://127.0.0.1:{}", gateway.port));
    let plain = Upgrade::to(gateway.port);
    let cases = [
        (Connect::cli().scopes(&["operator.admin"]), &plain),
        (Connect::backend(), &plain),
        (Connect::client("cli", "probe"), &plain),
        (Connect::cli().device(&device), &plain),
        (Connect::control_ui().device(&ui), &own),
        (Connect::node(&["system.which"]).device(&host), &plain),
    ];
    for (connect, upgrade) in cases {
        let (hello, _socket) = connect.token(TOKEN).over(upgrade).await.hello();
        assert_valid("HelloOk", &hello);
        assert_eq!(hello["protocol"], 4);
        assert_eq!(hello["policy"]["maxPayload"], 26_214_400);
        assert_eq!(hello["policy"]["maxBufferedBytes"], 52_428_800);
        assert_eq!(hello["policy"]["tickIntervalMs"], 30_000);
        assert_eq!(hello["snapshot"]["sessionDefaults"]["mainSessionKey"], "agent:main:main");
    }
}

#[actix_web::test]
async fn what_the_hello_advertises_is_there() {
    let gateway = Gateway::start().await;
    let (hello, mut admin) =
        Connect::cli().token(TOKEN).scopes(&["operator.admin"]).to(gateway.port).await.hello();
    let methods = hello["features"]["methods"].as_array().unwrap();
    for needed in [
        "chat.send",
        "chat.history",
        "health",
        "status",
        "node.list",
        "node.invoke",
        "device.pair.list",
        "sessions.list",
    ] {
        assert!(methods.contains(&json!(needed)), "{needed} is not advertised");
    }
    for method in methods {
        let method = method.as_str().unwrap();
        // Wrong params on purpose: what matters is that somebody is there to refuse them.
        let answer = admin.call(method, json!({"\u{1}nobody-knows-this": 1})).await;
        if let Err(error) = answer {
            let message = error["message"].as_str().unwrap();
            assert!(!message.starts_with("unknown method"), "{method} is advertised but unknown");
        }
    }
}

#[actix_web::test]
async fn results_are_what_the_schema_says() {
    let gateway = Gateway::start().await;
    let mut node = Node::approved(&gateway, &["system.which"]).await;
    let mut admin = gateway.operator().await;
    let cases = [
        ("channels.status", json!({}), "ChannelsStatusResult"),
        ("logs.tail", json!({}), "LogsTailResult"),
        ("agents.list", json!({}), "AgentsListResult"),
        ("models.list", json!({}), "ModelsListResult"),
        ("channels.pairing.list", json!({}), "ChannelsPairingListResult"),
        ("config.schema", json!({}), "ConfigSchemaResponse"),
    ];
    let advertised = |hello: &Value, method: &str| {
        hello["features"]["methods"].as_array().unwrap().contains(&json!(method))
    };
    let (hello, _socket) = Connect::cli().token(TOKEN).to(gateway.port).await.hello();
    for (method, params, definition) in cases {
        if advertised(&hello, method) {
            assert_valid(definition, &admin.ok(method, params).await);
        }
    }
    let event = json!({"event": "bogus", "payloadJSON": "{}"});
    assert_valid("NodeEventResult", &node.socket.ok("node.event", event).await);
    assert_valid("SkillsBinsResult", &node.socket.ok("skills.bins", json!({})).await);
}

#[actix_web::test]
async fn every_frame_of_a_session_is_what_the_schema_says() {
    let gateway = Gateway::start().await;
    let mut watcher = gateway.operator().await;
    let mut node = Node::approved(&gateway, &["system.which"]).await;
    let mut operator = gateway.operator().await;
    let invoke = crate::support::node::invoke(&node.id(), "system.which", json!({"bins": ["ls"]}));
    let ask = operator.ask("node.invoke", invoke).await;
    let request = node.request().await;
    assert_valid("NodeInvokeRequestEvent", &request);
    node.reply(&request, json!({"bins": {}})).await.unwrap();
    operator.answer(&ask).await.unwrap();
    let chat = json!({"sessionKey": "main", "message": "/help", "idempotencyKey": "schema-help"});
    operator.ok("chat.send", chat).await;
    operator.event_where("chat", |payload| payload["state"] == "final").await;
    let _ = operator.call("no.such", json!({})).await;
    watcher.ok("health", Value::Null).await;
    for socket in [&watcher, &operator, &node.socket] {
        socket.kept().for_each(assert_frame);
    }
}

#[actix_web::test]
async fn health_over_http_and_over_the_socket_agree() {
    let gateway = Gateway::start().await;
    let health = gateway.operator().await.ok("health", Value::Null).await;
    assert_eq!(health["ok"], true);
    assert_eq!(http::get(gateway.port, "/healthz").await.json()["ok"], true);
}
