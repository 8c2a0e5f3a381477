//! Device pairing: who is let in silently, who waits, who may decide, and what a decision does to live connections.

use crate::support::gateway::{TOKEN, config_with};
use crate::support::{Connect, Gateway, Identity, Incoming, Setup, Socket, eventually, within};
use serde_json::{Value, json};

const REMOVED: &str = "device removed";

async fn without_silent_pairing() -> Gateway {
    let config = json!({"gateway": {"nodes": {"pairing": {"autoApproveLocal": false}}}});
    Setup::new().config(config_with(config)).start().await
}

/// Connects a device that must wait, and returns its request's id.
async fn pending(gateway: &Gateway, connect: Connect<'_>) -> Value {
    let refused = connect.token(TOKEN).to(gateway.port).await.refusal();
    assert_eq!(refused.detail(), "PAIRING_REQUIRED", "{refused:?}");
    refused.error["details"]["requestId"].clone()
}

/// A silently paired device: its hello and its session.
async fn paired(gateway: &Gateway, identity: &Identity, scopes: &[&str]) -> (String, Socket) {
    let connect = Connect::cli().token(TOKEN).scopes(scopes).device(identity);
    let (hello, socket) = connect.to(gateway.port).await.hello();
    (hello["auth"]["deviceToken"].as_str().unwrap().to_owned(), socket)
}

fn by_token<'a>(identity: &'a Identity, token: &str) -> Connect<'a> {
    Connect::cli().auth("deviceToken", token).device(identity)
}

#[actix_web::test]
async fn an_owner_sees_the_request_approves_it_and_the_device_gets_its_token() {
    let gateway = without_silent_pairing().await;
    let mut owner = gateway.operator().await;
    let identity = Identity::new();
    let request = pending(&gateway, Connect::cli().device(&identity)).await;
    let requested = owner.event("device.pair.requested").await;
    assert_eq!(requested["requestId"], request);
    assert_eq!(requested["deviceId"], identity.id());
    let list = owner.ok("device.pair.list", json!({})).await;
    let entry = &list["pending"][0];
    assert_eq!(entry["requestId"], request);
    assert_eq!(entry["role"], "operator");
    assert_eq!(entry["scopes"], json!(["operator.read"]));
    let approved = owner.ok("device.pair.approve", json!({"requestId": request})).await;
    assert_eq!(approved["device"]["deviceId"], identity.id());
    let resolved = owner.event("device.pair.resolved").await;
    assert_eq!(resolved["decision"], "approved");
    assert_eq!(resolved["deviceId"], identity.id());
    let (token, _socket) = paired(&gateway, &identity, &["operator.read"]).await;
    assert_eq!(token.len(), 43);
    by_token(&identity, &token).to(gateway.port).await.session();
}

#[actix_web::test]
async fn a_rejected_request_is_gone() {
    let gateway = without_silent_pairing().await;
    let mut owner = gateway.operator().await;
    let identity = Identity::new();
    let request = pending(&gateway, Connect::cli().device(&identity)).await;
    owner.ok("device.pair.reject", json!({"requestId": request})).await;
    assert_eq!(owner.event("device.pair.resolved").await["decision"], "rejected");
    let error = owner.refused("device.pair.approve", json!({"requestId": request})).await;
    assert_eq!(
        (error["code"].as_str(), error["message"].as_str()),
        (Some("INVALID_REQUEST"), Some("unknown requestId"))
    );
    let error = owner.refused("device.pair.remove", json!({"deviceId": "nobody"})).await;
    assert_eq!(error["message"], "unknown deviceId");
}

#[actix_web::test]
async fn another_wish_replaces_the_request_before_it() {
    let gateway = without_silent_pairing().await;
    let mut owner = gateway.operator().await;
    let identity = Identity::new();
    let first = pending(&gateway, Connect::cli().device(&identity)).await;
    let second = pending(&gateway, Connect::cli().scopes(&["operator.write"]).device(&identity)).await;
    assert_ne!(first, second);
    let resolved = owner.event("device.pair.resolved").await;
    assert_eq!((&resolved["requestId"], &resolved["decision"]), (&first, &json!("rejected")));
    let list = owner.ok("device.pair.list", json!({})).await;
    assert_eq!(list["pending"].as_array().unwrap().len(), 1);
}

#[actix_web::test]
async fn nobody_approves_more_than_they_hold() {
    let gateway = without_silent_pairing().await;
    let (operator, node) = (Identity::new(), Identity::new());
    let wants_admin = pending(&gateway, Connect::cli().scopes(&["operator.admin"]).device(&operator)).await;
    let wants_node = pending(&gateway, Connect::node(&["system.run"]).device(&node)).await;
    let mut pairing =
        Connect::cli().token(TOKEN).scopes(&["operator.pairing"]).to(gateway.port).await.session();
    for request in [&wants_admin, &wants_node] {
        let error = pairing.refused("device.pair.approve", json!({"requestId": request})).await;
        assert_eq!(error["code"], "INVALID_REQUEST", "{error}");
        assert_eq!(error["message"], "device pairing approval denied", "{error}");
    }
    for identity in [&operator, &node] {
        let connect = Connect::cli().token(TOKEN).device(identity);
        connect.to(gateway.port).await.refusal();
    }
}

#[actix_web::test]
async fn a_token_is_the_same_until_it_is_rotated() {
    let gateway = Gateway::start().await;
    let identity = Identity::new();
    let (first, _one) = paired(&gateway, &identity, &["operator.read"]).await;
    let (second, _two) = paired(&gateway, &identity, &["operator.read"]).await;
    assert_eq!(first, second);
    let gateway = gateway.restart().await;
    by_token(&identity, &first).to(gateway.port).await.session();
}

#[actix_web::test]
async fn rotate_revoke_and_remove_close_live_sockets_and_kill_the_token() {
    let gateway = Gateway::start().await;
    let mut owner = gateway.operator().await;
    for (method, with_role) in
        [("device.token.rotate", true), ("device.token.revoke", true), ("device.pair.remove", false)]
    {
        let identity = Identity::new();
        let (token, mut by_secret) = paired(&gateway, &identity, &["operator.read"]).await;
        let mut by_own_token = by_token(&identity, &token).to(gateway.port).await.session();
        let mut params = json!({"deviceId": identity.id()});
        if with_role {
            params["role"] = json!("operator");
        }
        let answer = owner.ok(method, params).await;
        assert!(answer.get("token").is_none(), "{method} shows another device's token: {answer}");
        for socket in [&mut by_secret, &mut by_own_token] {
            assert_eq!(
                socket.end().await,
                Incoming::Close { code: 4001, reason: REMOVED.into() },
                "{method}"
            );
        }
        let refused = by_token(&identity, &token).to(gateway.port).await.refusal();
        assert_eq!(refused.detail(), "AUTH_DEVICE_TOKEN_MISMATCH", "{method}: {refused:?}");
    }
}

#[actix_web::test]
async fn a_revocation_wins_the_race_against_requests_in_flight() {
    let gateway = Gateway::start().await;
    for _ in 0..5 {
        let identity = Identity::new();
        let (token, mut session) = paired(&gateway, &identity, &["operator.read", "operator.write"]).await;
        let mut owner = gateway.operator().await;
        let revoke =
            owner.ask("device.token.revoke", json!({"deviceId": identity.id(), "role": "operator"})).await;
        for _ in 0..50 {
            session.ask("node.list", json!({})).await;
        }
        owner.answer(&revoke).await.unwrap();
        // Once the owner was told, nothing of that device is executed any more, on any socket.
        assert_eq!(session.end().await, Incoming::Close { code: 4001, reason: REMOVED.into() });
        by_token(&identity, &token).to(gateway.port).await.refusal();
    }
}

#[actix_web::test]
async fn a_revoked_device_needs_the_owner_even_with_the_secret() {
    let gateway = without_silent_pairing().await;
    let mut owner = gateway.operator().await;
    let identity = Identity::new();
    let request = pending(&gateway, Connect::cli().device(&identity)).await;
    owner.ok("device.pair.approve", json!({"requestId": request})).await;
    paired(&gateway, &identity, &["operator.read"]).await;
    owner.ok("device.token.revoke", json!({"deviceId": identity.id(), "role": "operator"})).await;
    let refused = Connect::cli().token(TOKEN).device(&identity).to(gateway.port).await.refusal();
    assert_eq!(refused.detail(), "PAIRING_REQUIRED");
    assert_eq!(refused.error["details"]["reason"], "role-upgrade");
}

#[actix_web::test]
async fn a_device_may_not_touch_the_tokens_of_others_or_grow_its_own() {
    let gateway = Gateway::start().await;
    let (admin, identity) = (Identity::new(), Identity::new());
    let (admin_token, _admin) = paired(&gateway, &admin, &["operator.admin", "operator.read"]).await;
    let (_, mut session) = paired(&gateway, &identity, &["operator.pairing"]).await;
    for params in [
        json!({"deviceId": admin.id(), "role": "operator"}),
        json!({"deviceId": identity.id(), "role": "operator", "scopes": ["operator.admin"]}),
        json!({"deviceId": identity.id(), "role": "node"}),
    ] {
        let error = session.refused("device.token.rotate", params.clone()).await;
        assert_eq!(error["code"], "INVALID_REQUEST", "{params}: {error}");
        assert_eq!(error["message"], "device token rotation denied", "{params}: {error}");
    }
    by_token(&admin, &admin_token).to(gateway.port).await.session();
}

#[actix_web::test]
async fn a_device_with_pairing_alone_sees_only_itself() {
    let gateway = Gateway::start().await;
    let (admin, identity) = (Identity::new(), Identity::new());
    paired(&gateway, &admin, &["operator.admin"]).await;
    let (_, mut session) = paired(&gateway, &identity, &["operator.pairing"]).await;
    let list = session.ok("device.pair.list", json!({})).await;
    let seen: Vec<_> =
        list["paired"].as_array().unwrap().iter().map(|device| device["deviceId"].clone()).collect();
    assert_eq!(seen, [json!(identity.id())]);
}

#[actix_web::test]
async fn scopes_of_a_session_are_what_it_asked_cut_to_what_it_may() {
    let gateway = Gateway::start().await;
    let identity = Identity::new();
    let (token, _) = paired(&gateway, &identity, &["operator.read", "operator.write"]).await;
    let (hello, _) = by_token(&identity, &token).scopes(&["operator.read"]).to(gateway.port).await.hello();
    assert_eq!(hello["auth"]["scopes"], json!(["operator.read"]));
    assert_eq!(hello["auth"]["method"], "device-token");
}

#[actix_web::test]
async fn a_new_secret_ends_the_sessions_of_the_old_one_and_leaves_device_tokens() {
    let config = |token: &str| config_with(json!({"gateway": {"auth": {"mode": "token", "token": token}}}));
    let gateway = Setup::new().no_token().config(config("first-secret-41")).start().await;
    let identity = Identity::new();
    let connect = Connect::cli().token("first-secret-41").device(&identity);
    let (hello, socket) = connect.to(gateway.port).await.hello();
    socket.close().await;
    let token = hello["auth"]["deviceToken"].as_str().unwrap();
    let mut by_device = by_token(&identity, token).to(gateway.port).await.session();
    let mut by_secret = Connect::cli().token("first-secret-41").to(gateway.port).await.session();
    gateway.write_config(&config("second-secret-42"));
    let end = within("the old secret's session to end", by_secret.end()).await;
    assert!(matches!(end, Incoming::Close { code: 4001 | 1008, .. }), "{end:?}");
    by_device.ok("health", Value::Null).await;
    Connect::cli().token("first-secret-41").to(gateway.port).await.refusal();
    eventually("the new secret to be accepted", async || {
        match Connect::cli().token("second-secret-42").to(gateway.port).await {
            crate::support::Outcome::Hello(..) => Some(()),
            _ => None,
        }
    })
    .await;
}
