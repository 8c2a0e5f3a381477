//! The first frames of a connection: every refusal with its exact code, message and close code, and what a session
//! answers to frames that are not requests.

use crate::support::gateway::TOKEN;
use crate::support::{
    Connect, Gateway, Identity, Incoming, Outcome, Refused, Setup, Socket, Upgrade, connect,
};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

async fn challenged(gateway: &Gateway) -> Socket {
    let mut socket = Upgrade::to(gateway.port).open().await.unwrap();
    socket.event("connect.challenge").await;
    socket
}

/// Sends one text as the first frame and returns how it was refused.
async fn first_frame(gateway: &Gateway, text: &str) -> Refused {
    let mut socket = challenged(gateway).await;
    socket.send_text(text).await;
    connect::outcome(socket).await.refusal()
}

fn assert_refused(refused: &Refused, code: &str, message: &str, close: u16) {
    assert_eq!(refused.error["code"], code, "{refused:?}");
    assert_eq!(refused.error["message"], message, "{refused:?}");
    assert_eq!(refused.code, close, "{refused:?}");
    assert!(message.starts_with(&refused.reason) && !refused.reason.is_empty(), "{refused:?}");
}

#[actix_web::test]
async fn the_challenge_comes_first_with_a_nonce_and_the_time() {
    let gateway = Gateway::start().await;
    let mut socket = Upgrade::to(gateway.port).open().await.unwrap();
    let Incoming::Frame(frame) = socket.read().await else { panic!("no frame") };
    assert_eq!(frame["type"], "event");
    assert_eq!(frame["event"], "connect.challenge");
    assert!(frame.get("seq").is_none());
    assert!(!frame["payload"]["nonce"].as_str().unwrap().is_empty());
    assert!(frame["payload"]["ts"].as_i64().unwrap() > 1_700_000_000_000);
}

#[actix_web::test]
async fn two_sockets_get_two_nonces() {
    let gateway = Gateway::start().await;
    let mut nonces = Vec::new();
    for _ in 0..2 {
        let mut socket = Upgrade::to(gateway.port).open().await.unwrap();
        nonces.push(socket.event("connect.challenge").await["nonce"].clone());
    }
    assert_ne!(nonces[0], nonces[1]);
}

#[actix_web::test]
async fn any_path_upgrades() {
    let gateway = Gateway::start().await;
    for path in ["/", "/ws", "/some/where?x=1"] {
        let upgrade = Upgrade::to(gateway.port).path(path);
        Connect::cli().token(TOKEN).over(&upgrade).await.session();
    }
}

#[actix_web::test]
async fn text_that_is_not_json_closes_1000_without_an_answer() {
    let gateway = Gateway::start().await;
    let refused = first_frame(&gateway, "hello").await;
    assert_eq!((refused.error, refused.code, refused.reason.as_str()), (Value::Null, 1000, ""));
}

#[actix_web::test]
async fn json_that_is_not_a_request_closes_1008_without_an_answer() {
    let gateway = Gateway::start().await;
    for text in [
        r#"{"type":"event","event":"x","payload":{}}"#,
        r#"{"type":"req","method":"connect","params":{}}"#,
        "[]",
        "null",
        "7",
    ] {
        let refused = first_frame(&gateway, text).await;
        assert_eq!(
            (refused.error, refused.code, refused.reason.as_str()),
            (Value::Null, 1008, "invalid request frame"),
            "{text}"
        );
    }
}

#[actix_web::test]
async fn the_first_request_must_be_connect() {
    let gateway = Gateway::start().await;
    let refused = first_frame(&gateway, r#"{"type":"req","id":"1","method":"health"}"#).await;
    assert_refused(&refused, "INVALID_REQUEST", "invalid handshake: first request must be connect", 1008);
}

#[actix_web::test]
async fn a_frame_of_64_kib_is_read_and_one_byte_more_closes_1009() {
    let gateway = Gateway::start().await;
    for (size, fits) in [(65_536, true), (65_537, false)] {
        let mut socket = challenged(&gateway).await;
        let params = Connect::cli().token(TOKEN).params;
        let mut frame = json!({"type": "req", "id": "", "method": "connect", "params": params});
        let padding = size - frame.to_string().len();
        frame["id"] = json!("x".repeat(padding));
        assert_eq!(frame.to_string().len(), size);
        socket.send(&frame).await;
        match connect::outcome(socket).await {
            Outcome::Hello(..) => assert!(fits, "{size} bytes were accepted"),
            Outcome::Refused(refused) => {
                assert!(!fits, "{size} bytes were refused: {refused:?}");
                assert_eq!((refused.error, refused.code), (Value::Null, 1009));
            }
            Outcome::Http(answer) => panic!("{answer:?}"),
        }
    }
}

#[actix_web::test]
async fn json_in_a_binary_frame_is_read_like_text() {
    let gateway = Gateway::start().await;
    let mut socket = challenged(&gateway).await;
    let frame =
        json!({"type": "req", "id": "1", "method": "connect", "params": Connect::cli().token(TOKEN).params});
    socket.send_message(Message::binary(frame.to_string())).await;
    connect::outcome(socket).await.session();
}

#[actix_web::test]
async fn connect_may_be_sent_before_the_challenge_is_read() {
    let gateway = Gateway::start().await;
    let mut socket = Upgrade::to(gateway.port).open().await.unwrap();
    let params = Connect::cli().token(TOKEN).params;
    socket.send(&json!({"type": "req", "id": "1", "method": "connect", "params": params})).await;
    connect::outcome(socket).await.session();
}

#[actix_web::test]
async fn bad_connect_params_are_named_by_their_path() {
    let gateway = Gateway::start().await;
    let good = || Connect::cli().token(TOKEN);
    let cases: Vec<(Connect<'_>, &str)> = vec![
        (good().without("client"), "must have required property 'client'"),
        (good().without("minProtocol"), "must have required property 'minProtocol'"),
        (
            good().set("/client/id", json!("nobody")),
            "at /client/id: must be equal to one of the allowed values",
        ),
        (
            good().set("/client/mode", json!("x")),
            "at /client/mode: must be equal to one of the allowed values",
        ),
        (good().set("/foo", json!(1)), "at root: unexpected property 'foo'"),
        (good().set("/client/foo", json!(1)), "at /client: unexpected property 'foo'"),
        (good().set("/auth/foo", json!(1)), "at /auth: unexpected property 'foo'"),
    ];
    for (connect, problem) in cases {
        let refused = connect.to(gateway.port).await.refusal();
        assert_refused(&refused, "INVALID_REQUEST", &format!("invalid connect params: {problem}"), 1008);
    }
}

#[actix_web::test]
async fn wrong_types_in_connect_params_are_refused() {
    let gateway = Gateway::start().await;
    let good = || Connect::cli().token(TOKEN);
    let cases = [
        good().set("/minProtocol", json!("4")),
        good().set("/client", json!("cli")),
        good().set("/client/version", json!(1)),
        good().set("/scopes", json!("operator.admin")),
        good().set("/scopes", json!([1])),
        good().set("/caps", json!({})),
        good().set("/auth", json!("secret")),
        good().set("/auth/token", json!(["secret"])),
        good().set("/device", json!({})),
        good().set("/role", json!(7)),
        good().set("/role", Value::Null),
        good().set("/auth", json!([TOKEN])),
        good().set("/auth", Value::Null),
        good().set("/auth/token", Value::Null),
        good().set("/device", Value::Null),
        good().set("/client", json!(["cli", "2026.9.6", "linux", "cli"])),
    ];
    for connect in cases {
        let refused = connect.to(gateway.port).await.refusal();
        assert_eq!(refused.error["code"], "INVALID_REQUEST", "{} {refused:?}", connect.params);
        let message = refused.error["message"].as_str().unwrap();
        assert!(message.starts_with("invalid connect params: "), "{} {refused:?}", connect.params);
        assert_eq!(refused.code, 1008, "{refused:?}");
    }
}

#[actix_web::test]
async fn a_role_that_does_not_exist_is_refused() {
    let gateway = Gateway::start().await;
    let refused = Connect::cli().token(TOKEN).role("admin").to(gateway.port).await.refusal();
    assert_refused(&refused, "INVALID_REQUEST", "invalid role", 1008);
}

#[actix_web::test]
async fn role_and_scopes_have_defaults() {
    let gateway = Gateway::start().await;
    let connect = Connect::cli().token(TOKEN).without("role").without("scopes").without("caps");
    let (hello, _socket) = connect.to(gateway.port).await.hello();
    assert_eq!(hello["auth"]["role"], "operator");
    assert_eq!(hello["auth"]["scopes"], json!([]));
}

#[actix_web::test]
async fn protocol_ranges_without_4_are_a_mismatch() {
    let gateway = Gateway::start().await;
    for (min, max) in [(3, 3), (5, 6), (99, 99), (1, 2)] {
        let refused = Connect::cli().token(TOKEN).protocol(min, max).to(gateway.port).await.refusal();
        assert_refused(&refused, "INVALID_REQUEST", "protocol mismatch", 1002);
        let details = json!({
            "code": "PROTOCOL_MISMATCH", "clientMinProtocol": min, "clientMaxProtocol": max,
            "expectedProtocol": 4, "minimumProbeProtocol": 3,
        });
        assert_eq!(refused.error["details"], details);
    }
    for (min, max) in [(4, 4), (1, 9), (3, 4)] {
        let (hello, _) = Connect::cli().token(TOKEN).protocol(min, max).to(gateway.port).await.hello();
        assert_eq!(hello["protocol"], 4);
    }
    let probe = Connect::client("cli", "probe").token(TOKEN).protocol(3, 3);
    assert_eq!(probe.to(gateway.port).await.hello().0["protocol"], 4);
}

#[actix_web::test]
async fn a_session_is_not_shaken_by_frames_that_are_not_requests() {
    let gateway = Gateway::start().await;
    let mut socket = gateway.operator().await;
    let cases = [
        (json!({"type": "event", "event": "x"}), json!("invalid"), "invalid request frame: "),
        (
            json!({"type": "req", "method": "health"}),
            json!("invalid"),
            "invalid request frame: must have required property 'id'",
        ),
        (
            json!({"type": "req", "id": 5, "method": "health"}),
            json!(5),
            "invalid request frame: at /id: must be string",
        ),
        (json!({"type": "req", "id": "a", "method": ""}), json!("a"), "invalid request frame: at /method: "),
        (
            json!({"type": "req", "id": "b", "method": "health", "zzz": 1}),
            json!("b"),
            "invalid request frame: at root: unexpected property 'zzz'",
        ),
        (
            json!({"type": "req", "id": "c", "method": "connect", "params": {}}),
            json!("c"),
            "connect is only valid as the first request",
        ),
        (
            json!({"type": "req", "id": "d", "method": "no.such", "params": {}}),
            json!("d"),
            "unknown method: no.such",
        ),
    ];
    for (frame, id, message) in cases {
        socket.send(&frame).await;
        let answer = socket.find("the refusal", |frame| frame["type"] == "res" && frame["ok"] == false).await;
        assert_eq!(answer["id"], id, "{frame} -> {answer}");
        assert_eq!(answer["error"]["code"], "INVALID_REQUEST", "{frame} -> {answer}");
        let said = answer["error"]["message"].as_str().unwrap();
        assert!(said.starts_with(message), "{frame} -> {said}");
    }
    socket.send_text("not json").await;
    socket.ok("health", Value::Null).await;
}

#[actix_web::test]
async fn null_or_missing_params_are_an_empty_object() {
    let gateway = Gateway::start().await;
    let mut socket = gateway.operator().await;
    for frame in [
        json!({"type": "req", "id": "1", "method": "node.list"}),
        json!({"type": "req", "id": "2", "method": "node.list", "params": null}),
        json!({"type": "req", "id": "3", "method": "node.list", "params": {}}),
    ] {
        socket.send(&frame).await;
        let id = frame["id"].as_str().unwrap();
        assert_eq!(socket.answer(id).await.unwrap()["nodes"], json!([]));
    }
}

#[actix_web::test]
async fn params_that_are_no_object_are_refused_by_every_method() {
    let gateway = Gateway::start().await;
    let mut session = gateway.operator().await;
    for method in
        ["health", "status", "config.get", "chat.history", "sessions.list", "node.list", "device.pair.list"]
    {
        for params in [json!(["main"]), json!([]), json!("main"), json!(7), json!(true)] {
            let refused = session.refused(method, params.clone()).await;
            let expected = format!("invalid {method} params: at root: must be object");
            assert_eq!(refused["message"], expected, "{params}");
        }
    }
    let nested = json!({"sessionKey": "main", "message": "x", "idempotencyKey": "k", "attachments": [["image", "image/png"]]});
    let refused = session.refused("chat.send", nested).await;
    assert_eq!(refused["message"], "invalid chat.send params: at /attachments/0: must be object");
}

#[actix_web::test]
async fn two_requests_with_one_id_are_both_answered() {
    let gateway = Gateway::start().await;
    let mut socket = gateway.operator().await;
    for _ in 0..2 {
        socket.send(&json!({"type": "req", "id": "same", "method": "health"})).await;
    }
    socket.answer("same").await.unwrap();
    socket.answer("same").await.unwrap();
}

#[actix_web::test]
async fn missing_params_are_named_and_unknown_ones_are_forgiven() {
    let gateway = Gateway::start().await;
    let mut socket = gateway.operator().await;
    let error = socket.refused("chat.send", json!({"sessionKey": "main", "message": "x"})).await;
    assert_eq!(error["code"], "INVALID_REQUEST");
    assert_eq!(error["message"], "invalid chat.send params: must have required property 'idempotencyKey'");
    // The official clients are newer than the published schema, and newer ones will come.
    socket.ok("node.list", json!({"fromTheFuture": 1})).await;
}

#[actix_web::test]
async fn a_scope_that_is_missing_is_named() {
    let gateway = Gateway::start().await;
    let cases = [
        (&["operator.read"][..], "node.invoke", "operator.write"),
        (&["operator.read"][..], "device.pair.list", "operator.pairing"),
        (&["operator.pairing"][..], "node.list", "operator.read"),
        (&["operator.read", "operator.write"][..], "config.patch", "operator.admin"),
        (&[][..], "node.list", "operator.read"),
    ];
    for (scopes, method, missing) in cases {
        let mut socket = Connect::cli().token(TOKEN).scopes(scopes).to(gateway.port).await.session();
        let error = socket.refused(method, json!({})).await;
        assert_eq!(error["code"], "FORBIDDEN", "{method} with {scopes:?}: {error}");
        assert_eq!(error["message"], format!("missing scope: {missing}"), "{method} with {scopes:?}");
        let details = json!({"code": "MISSING_SCOPE", "missingScope": missing, "requiredScopes": [missing]});
        assert_eq!(error["details"], details);
        socket.ok("health", Value::Null).await;
    }
}

#[actix_web::test]
async fn an_operator_may_not_call_what_only_nodes_may_and_is_cut_off_when_it_insists() {
    let gateway = Gateway::start().await;
    let mut socket = gateway.operator().await;
    let params = json!({"id": "x", "nodeId": "x", "ok": true});
    let error = socket.refused("node.invoke.result", params.clone()).await;
    assert_eq!(error["code"], "INVALID_REQUEST");
    assert_eq!(error["message"], "unauthorized role: operator");
    for _ in 0..15 {
        socket.ask("node.invoke.result", params.clone()).await;
    }
    let end = socket.end().await;
    assert_eq!(end, Incoming::Close { code: 1008, reason: "repeated unauthorized calls".into() });
}

#[actix_web::test]
async fn sixteen_frames_behind_an_unanswered_connect_close_the_socket_and_run_nothing() {
    let gateway = Gateway::start().await;
    let mut socket = challenged(&gateway).await;
    let params = Connect::cli().token(TOKEN).scopes(&["operator.admin"]).params;
    socket
        .feed_text(&json!({"type": "req", "id": "c", "method": "connect", "params": params}).to_string())
        .await;
    for n in 0..40 {
        let call =
            json!({"type": "req", "id": format!("{n}"), "method": "config.patch", "params": {"raw": "{}"}});
        socket.feed_text(&call.to_string()).await;
    }
    socket.flush().await;
    // Either the queue was full before connect was answered, or connect was answered first and every call after it.
    match connect::outcome(socket).await {
        Outcome::Refused(refused) => {
            assert_eq!((refused.code, refused.reason.as_str()), (1008, "too many pending handshake frames"));
        }
        Outcome::Hello(_, mut socket) => {
            for n in 0..40 {
                let _ = socket.answer(&n.to_string()).await;
            }
        }
        Outcome::Http(answer) => panic!("{answer:?}"),
    }
}

#[actix_web::test]
async fn an_unfinished_handshake_is_closed_1000() {
    // The default is 15 s; the bound is configurable so that a test need not sit through it.
    let gateway = Setup::new().env("OPENCLAW_HANDSHAKE_TIMEOUT_MS", "300").start().await;
    let mut socket = challenged(&gateway).await;
    assert_eq!(socket.end().await, Incoming::Close { code: 1000, reason: String::new() });
}

#[actix_web::test]
async fn seq_counts_the_broadcasts_of_each_connection_from_one() {
    let gateway = Gateway::start().await;
    for _ in 0..2 {
        let mut socket = gateway.operator().await;
        let identity = Identity::new();
        for expected in 1..=3 {
            // Each newcomer is announced to everybody.
            let newcomer = Connect::cli().token(TOKEN).device(&identity).to(gateway.port).await.session();
            let frame = socket.find("a broadcast", |frame| frame.get("seq").is_some()).await;
            assert_eq!(frame["seq"], expected, "{frame}");
            drop(newcomer);
        }
    }
}
