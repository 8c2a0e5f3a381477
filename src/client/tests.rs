//! The client against a gateway of a few lines: it speaks just enough of the protocol to be connected to.

use std::{sync::Arc, time::Duration};

use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tidegate_protocol::{ErrorCode, Scope};
use tokio::net::TcpListener;
use tokio_tungstenite::tungstenite::Message;

use super::{
    fake::{FakeGateway, hear, tell},
    *,
};

fn options(endpoint: Endpoint) -> ConnectOptions {
    let auth = Credentials { token: Some("secret".into()), ..Default::default() };
    ConnectOptions::operator(endpoint, auth, [Scope::Read])
}

#[tokio::test]
async fn calls_are_matched_by_id_even_out_of_order() {
    let (gateway, endpoint) = FakeGateway::new().await;
    let server = tokio::spawn(async move {
        let mut peer = gateway.welcome().await;
        let (first, second) = (hear(&mut peer).await, hear(&mut peer).await);
        assert!(first["id"].as_str().unwrap().starts_with("2:"));
        for request in [second, first] {
            let payload = json!({"method": request["method"], "params": request["params"]});
            tell(&mut peer, json!({"type": "res", "id": request["id"], "ok": true, "payload": payload}))
                .await;
        }
        peer
    });
    let (client, _) = Client::connect(&options(endpoint)).await.unwrap();
    let (none, some) = (json!({}), json!({"n": 2}));
    let (one, two) = tokio::join!(client.call::<Value>("one", &none), client.call::<Value>("two", &some));
    assert_eq!(one.unwrap()["method"], "one");
    assert_eq!(two.unwrap(), json!({"method": "two", "params": {"n": 2}}));
    drop(server.await.unwrap());
}

#[tokio::test]
async fn an_answer_with_half_a_character_is_read() {
    let (gateway, endpoint) = FakeGateway::new().await;
    tokio::spawn(async move {
        let mut peer = gateway.welcome().await;
        let id = hear(&mut peer).await["id"].clone();
        let frame = format!(r#"{{"type":"res","id":{id},"ok":true,"payload":{{"stdout":"a\ud83d"}}}}"#);
        peer.send(Message::text(frame)).await.unwrap();
        peer
    });
    let (client, _) = Client::connect(&options(endpoint)).await.unwrap();
    let answer = client.call::<Value>("one", &json!({})).await.unwrap();
    assert_eq!(answer, json!({"stdout": "a\u{fffd}"}));
}

#[tokio::test]
async fn the_device_signature_covers_the_challenge_and_the_token() {
    let (gateway, endpoint) = FakeGateway::new().await;
    let server = tokio::spawn(async move { gateway.meet().await.1 });
    let identity = Arc::new(DeviceIdentity::ephemeral().unwrap());
    let mut options = ConnectOptions::node(endpoint, options(Endpoint::plain("x", 1)).auth, identity.clone());
    options.timeout = Duration::from_secs(5);
    assert!(Client::connect(&options).await.is_err());
    let params = server.await.unwrap()["params"].clone();
    let device = &params["device"];
    let payload = format!("v3|{}|node-host|node|node||1795000000000|secret|n-1|linux|linux", identity.id());
    let decode = |value: &Value| URL_SAFE_NO_PAD.decode(value.as_str().unwrap()).unwrap();
    let key = UnparsedPublicKey::new(&ED25519, decode(&device["publicKey"]));
    key.verify(payload.as_bytes(), &decode(&device["signature"])).unwrap();
    assert_eq!(device["signedAt"], 1_795_000_000_000_i64);
    assert_eq!((params["minProtocol"].as_u64(), params["role"].as_str()), (Some(4), Some("node")));
}

#[tokio::test]
async fn a_refusal_keeps_the_gateways_words() {
    let (gateway, endpoint) = FakeGateway::new().await;
    tokio::spawn(async move {
        let (mut peer, connect) = gateway.meet().await;
        let error = json!({"code": "INVALID_REQUEST", "message": "unauthorized: token mismatch",
            "details": {"code": "AUTH_TOKEN_MISMATCH"}});
        tell(&mut peer, json!({"type": "res", "id": connect["id"], "ok": false, "error": error})).await;
        let _ = peer.close(None).await;
    });
    let error = Client::connect(&options(endpoint)).await.err().unwrap();
    assert_eq!(error.detail_code(), Some("AUTH_TOKEN_MISMATCH"));
    assert!(error.to_string().contains("unauthorized: token mismatch"), "{error}");
}

#[tokio::test]
async fn two_answers_to_one_call() {
    let (gateway, endpoint) = FakeGateway::new().await;
    let server = tokio::spawn(async move {
        let mut peer = gateway.welcome().await;
        for _ in 0..2 {
            let request = hear(&mut peer).await;
            let answers: &[&str] =
                if request["params"]["cached"] == true { &["ok"] } else { &["accepted", "ok"] };
            for status in answers {
                let payload = json!({"status": status});
                tell(&mut peer, json!({"type": "res", "id": request["id"], "ok": true, "payload": payload}))
                    .await;
            }
        }
        peer
    });
    let (client, _) = Client::connect(&options(endpoint)).await.unwrap();
    for (cached, early) in [(false, "accepted"), (true, "ok")] {
        let (first, later) =
            client.call_twice("agent", &json!({"cached": cached}), CALL_TIMEOUT).await.unwrap();
        assert_eq!(first.get(), format!("{{\"status\":\"{early}\"}}"));
        assert_eq!(later.wait(CALL_TIMEOUT).await.unwrap().get(), r#"{"status":"ok"}"#);
    }
    drop(server.await.unwrap());
}

#[tokio::test]
async fn the_end_fails_what_waits_and_says_why() {
    let (gateway, endpoint) = FakeGateway::new().await;
    tokio::spawn(async move {
        let mut peer = gateway.welcome().await;
        hear(&mut peer).await;
        tell(&mut peer, json!({"type": "event", "event": "shutdown", "payload": {"reason": "x"}, "seq": 1}))
            .await;
        let frame = tokio_tungstenite::tungstenite::protocol::CloseFrame {
            code: 1012.into(),
            reason: "service restart".into(),
        };
        let _ = peer.close(Some(frame)).await;
        while let Some(Ok(_)) = peer.next().await {}
    });
    let (client, mut events) = Client::connect(&options(endpoint)).await.unwrap();
    let error = client.call::<Value>("health", &json!({})).await.unwrap_err();
    assert!(
        matches!(&error, ClientError::Closed { code: 1012, reason } if reason == "service restart"),
        "{error}"
    );
    assert_eq!(events.next().await.unwrap().name, "shutdown");
    assert!(events.next().await.is_none());
    assert_eq!(client.ended().await, Ended { code: 1012, reason: "service restart".into() });
    assert!(matches!(
        client.call::<Value>("health", &json!({})).await,
        Err(ClientError::Closed { code: 1012, .. })
    ));
}

#[tokio::test]
async fn a_silent_gateway_is_left_after_two_ticks() {
    let (mut gateway, endpoint) = FakeGateway::new().await;
    gateway.tick_ms = 1; // the client takes no less than a second
    let server = tokio::spawn(async move {
        let mut peer = gateway.welcome().await;
        peer.next().await
    });
    let (client, _) = Client::connect(&options(endpoint)).await.unwrap();
    assert_eq!(client.ended().await.code, 4000);
    let Some(Ok(Message::Close(Some(frame)))) = server.await.unwrap() else { panic!("no close frame") };
    assert_eq!((u16::from(frame.code), &*frame.reason), (4000, "tick timeout"));
}

/// Sends more events than may wait.
async fn chatter(gateway: &FakeGateway) -> super::fake::Peer {
    let mut peer = gateway.welcome().await;
    for seq in 0..=connection::EVENTS_WAITING {
        tell(&mut peer, json!({"type": "event", "event": "tick", "payload": {}, "seq": seq})).await;
    }
    peer
}

#[tokio::test]
async fn whoever_lets_too_many_events_wait_is_disconnected() {
    let (gateway, endpoint) = FakeGateway::new().await;
    let server = tokio::spawn(async move { chatter(&gateway).await.next().await });
    let (client, _events) = Client::connect(&options(endpoint)).await.unwrap();
    let full = Ended { code: 1008, reason: "too many events wait to be read".into() };
    assert_eq!(client.ended().await, full);
    let Some(Ok(Message::Close(Some(frame)))) = server.await.unwrap() else { panic!("no close frame") };
    assert_eq!((u16::from(frame.code), &*frame.reason), (full.code, &*full.reason));
}

#[tokio::test]
async fn whoever_wants_no_events_may_have_any_number_of_them() {
    let (gateway, endpoint) = FakeGateway::new().await;
    let server = tokio::spawn(async move {
        let mut peer = chatter(&gateway).await;
        let request = hear(&mut peer).await;
        tell(&mut peer, json!({"type": "res", "id": request["id"], "ok": true, "payload": 1})).await;
        peer
    });
    let (client, _) = Client::connect(&options(endpoint)).await.unwrap();
    assert_eq!(client.call::<Value>("x", &json!({})).await.unwrap(), 1);
    drop(server.await.unwrap());
}

#[tokio::test]
async fn a_gateway_that_reads_nothing_is_given_up_and_its_queue_is_bounded() {
    let (gateway, endpoint) = FakeGateway::new().await;
    let server = tokio::spawn(async move { gateway.welcome().await });
    let (client, _) = Client::connect(&options(endpoint)).await.unwrap();
    let _peer = server.await.unwrap();
    let params = json!({"text": "x".repeat(900)});
    // Nothing is written meanwhile: the writer has no turn on this thread.
    let mut sent = 0;
    let full = loop {
        match client.begin("x", &params) {
            Ok(_) => sent += 900,
            Err(error) => break error,
        }
    };
    assert!(matches!(full, ClientError::Busy), "{full}");
    assert!(sent < tidegate_protocol::limits::MAX_BUFFERED_BYTES);
    tokio::time::pause();
    assert_eq!(client.ended().await, Ended { code: 1006, reason: "the gateway reads no more".into() });
}

#[tokio::test]
async fn an_oversized_request_never_leaves_and_a_late_answer_is_no_ones() {
    let (gateway, endpoint) = FakeGateway::new().await;
    let (given_up, gives_up) = tokio::sync::oneshot::channel();
    tokio::spawn(async move {
        let mut peer = gateway.welcome().await;
        let request = hear(&mut peer).await;
        gives_up.await.unwrap();
        for id in [request["id"].clone(), json!("unknown")] {
            tell(&mut peer, json!({"type": "res", "id": id, "ok": true, "payload": {}})).await;
        }
        let request = hear(&mut peer).await;
        let error =
            json!({"code": "UNAVAILABLE", "message": "later", "retryable": true, "retryAfterMs": 500});
        tell(&mut peer, json!({"type": "res", "id": request["id"], "ok": false, "error": error})).await;
        while let Some(Ok(_)) = peer.next().await {}
    });
    let (client, _) = Client::connect(&options(endpoint)).await.unwrap();
    let big = json!({"text": "x".repeat(1000)});
    let error = client.call::<Value>("big", &big).await.unwrap_err();
    assert!(matches!(error, ClientError::TooLarge { limit: 1000, .. }));
    let error = client.call_within::<Value>("slow", &json!({}), Duration::from_millis(20)).await.unwrap_err();
    assert!(matches!(error, ClientError::TimedOut { .. }));
    given_up.send(()).unwrap();
    let error = client.call::<Value>("next", &json!({})).await.unwrap_err();
    assert_eq!(error.refusal().unwrap().code, ErrorCode::Unavailable);
    assert_eq!(error.retry_after(), Some(Duration::from_millis(500)));
    assert_eq!(client.close().await.code, 1000);
}

#[tokio::test]
async fn what_is_no_gateway_is_named() {
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let error = Client::connect(&options(Endpoint::plain("127.0.0.1", closed))).await.err().unwrap();
    assert!(matches!(error, ClientError::Unreachable { .. }) && error.may_pass(), "{error}");

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let (mut socket, _) = listener.accept().await.unwrap();
        let _ = socket.read(&mut [0; 2048]).await;
        let body = r#"{"error":{"message":"websocket admission closed"}}"#;
        let head = format!("HTTP/1.1 503 Service Unavailable\r\ncontent-length: {}\r\n\r\n", body.len());
        socket.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
    });
    let error = Client::connect(&options(Endpoint::plain("127.0.0.1", port))).await.err().unwrap();
    assert!(error.to_string().contains("503"), "{error}");
}

/// A gateway behind TLS with the certificate of the test data; answers one client.
async fn tls_gateway() -> (Endpoint, Pin) {
    let certificate = CertificateDer::from_pem_slice(include_bytes!("testdata/certificate.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_slice(include_bytes!("testdata/key.pem")).unwrap();
    let pin = Pin::of(&certificate);
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (socket, _) = listener.accept().await.unwrap();
        let Ok(stream) = acceptor.accept(socket).await else { return };
        let mut peer = tokio_tungstenite::accept_async(stream).await.unwrap();
        // Not the protocol: being understood as the wrong answer shows that the stream works.
        use futures_util::SinkExt;
        peer.send(Message::text(r#"{"type":"event","event":"hello"}"#)).await.unwrap();
        while let Some(Ok(_)) = peer.next().await {}
    });
    (Endpoint { tls: true, pin: Some(pin), ..Endpoint::plain("127.0.0.1", port) }, pin)
}

#[tokio::test]
async fn only_the_pinned_certificate_is_accepted() {
    let (endpoint, _) = tls_gateway().await;
    let error = Client::connect(&options(endpoint)).await.err().unwrap();
    assert!(error.to_string().contains("challenge"), "{error}");

    let (mut endpoint, pin) = tls_gateway().await;
    endpoint.pin = Some(Pin::of(b"another"));
    let error = Client::connect(&options(endpoint)).await.err().unwrap();
    assert!(matches!(&error, ClientError::WrongPin { found, .. } if *found == pin.to_string()), "{error}");
    assert!(!error.may_pass());

    let (mut endpoint, pin) = tls_gateway().await;
    endpoint.pin = None;
    let error = Client::connect(&options(endpoint)).await.err().unwrap();
    assert!(matches!(&error, ClientError::NoPin { found, .. } if *found == pin.to_string()), "{error}");
}
