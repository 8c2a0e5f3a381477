//! The audit log: who was not let in.

use crate::support::{Connect, Gateway, Identity};
use serde_json::{Value, json};

fn rows(audit: &Value) -> Vec<(String, String, i64)> {
    let text = |event: &Value, key: &str| event[key].as_str().unwrap().to_owned();
    let events = audit["events"].as_array().unwrap();
    let mut rows: Vec<_> = events
        .iter()
        .map(|event| (text(event, "clientId"), text(event, "code"), event["tries"].as_i64().unwrap()))
        .collect();
    rows.sort();
    rows
}

#[actix_web::test]
async fn failed_tries_are_kept_without_what_was_tried() {
    let mut gateway = Gateway::start().await;
    let (first, second) = ("a-first-guess-9911", "a-second-guess-2277");
    for guess in [first, second] {
        Connect::cli().token(guess).to(gateway.port).await.refusal();
    }
    Connect::node(&[]).token(&gateway.token()).to(gateway.port).await.refusal();
    Connect::cli().token(&gateway.token()).to(gateway.port).await.session();
    let expected = [
        ("cli".to_owned(), "AUTH_TOKEN_MISMATCH".to_owned(), 2),
        ("node-host".to_owned(), "DEVICE_IDENTITY_REQUIRED".to_owned(), 1),
    ];
    let audit = gateway.cli_json(&["audit", "--json"]).await;
    assert_eq!(rows(&audit), expected, "{audit}");
    assert_eq!(audit["events"][0]["address"], "127.0.0.1");
    let plain = gateway.cli(&["audit"]).await;
    let plain = String::from_utf8_lossy(&plain.stdout).into_owned();
    assert!(plain.contains("AUTH_TOKEN_MISMATCH") && plain.contains("127.0.0.1"), "{plain}");

    // What nobody asked for yet is written when the gateway stops.
    Connect::webchat_ui().token(first).to(gateway.port).await.refusal();
    gateway.terminate();
    gateway.ended().await;
    let database = std::fs::read(gateway.state().join("tidegate.db")).unwrap();
    let gateway = gateway.restart().await;
    let audit = gateway.cli_json(&["audit", "--json"]).await;
    assert_eq!(rows(&audit).len(), 3, "{audit}");
    for secret in [first, second, &gateway.token()] {
        assert!(!audit.to_string().contains(secret), "{audit}");
        assert!(!database.windows(secret.len()).any(|bytes| bytes == secret.as_bytes()), "in the database");
    }
}

#[actix_web::test]
async fn pages_of_the_audit_log_follow_each_other() {
    let gateway = Gateway::start().await;
    for connect in [Connect::cli(), Connect::backend(), Connect::test()] {
        connect.to(gateway.port).await.refusal();
    }
    let mut seen = Vec::new();
    let mut operator = gateway.operator().await;
    let mut params = json!({"limit": 1});
    for _ in 0..3 {
        let page = operator.ok("audit.access.list", params).await;
        seen.push(page["events"][0]["clientId"].clone());
        params = json!({"limit": 1, "cursor": page["nextCursor"]});
    }
    assert_eq!(seen, ["test", "gateway-client", "cli"]);
    for wrong in [json!({"limit": 0}), json!({"limit": 501}), json!({"cursor": "x"}), json!({"kind": "x"})] {
        assert_eq!(operator.refused("audit.access.list", wrong).await["code"], "INVALID_REQUEST");
    }
}

#[actix_web::test]
async fn only_operators_who_may_read_see_it() {
    let gateway = Gateway::start().await;
    let identity = Identity::new();
    let mut nobody =
        Connect::cli().token(&gateway.token()).scopes(&[]).device(&identity).to(gateway.port).await.session();
    let refused = nobody.refused("audit.access.list", json!({})).await;
    assert_eq!(refused["details"]["code"], "MISSING_SCOPE", "{refused}");
}
