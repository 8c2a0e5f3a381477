//! Strangers and floods: whatever they hold or send, the owner gets in and the gateway stays small.

use crate::support::gateway::TOKEN;
use crate::support::node::invoke;
use crate::support::{
    Connect, Gateway, Incoming, Node, Outcome, Setup, Socket, Upgrade, connect, eventually, http,
};
use serde_json::{Value, json};
use std::fs;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

/// Resident memory of the gateway in MiB.
fn rss_mib(gateway: &Gateway) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", gateway.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

async fn challenged(gateway: &Gateway) -> Socket {
    let mut socket = Upgrade::to(gateway.port).open().await.unwrap();
    socket.event("connect.challenge").await;
    socket
}

/// A client frame by hand: this first byte, this announced length, this much of the payload (masked with zeros).
fn raw_frame(first: u8, announced: u64, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match announced {
        0..126 => frame.push(0x80 | announced as u8),
        126..65_536 => {
            frame.push(0x80 | 126);
            frame.extend((announced as u16).to_be_bytes());
        }
        _ => {
            frame.push(0x80 | 127);
            frame.extend(announced.to_be_bytes());
        }
    }
    frame.extend([0; 4]);
    frame.extend(payload);
    frame
}

#[actix_web::test]
async fn a_large_first_frame_is_cut_off() {
    let gateway = Gateway::start().await;
    let mut socket = challenged(&gateway).await;
    socket.send_text(&"x".repeat(70 * 1024)).await;
    assert_closed(socket.end().await, 1009);
}

#[actix_web::test]
async fn fragments_do_not_add_up_past_the_limit() {
    let gateway = Gateway::start().await;
    let mut socket = challenged(&gateway).await;
    let part = vec![b' '; 40 * 1024];
    socket.tcp().write_all(&raw_frame(0x01, part.len() as u64, &part)).await.unwrap();
    let _ = socket.tcp().write_all(&raw_frame(0x00, part.len() as u64, &part)).await;
    assert_closed(socket.end().await, 1009);
}

#[actix_web::test]
async fn an_announced_terabyte_reserves_nothing() {
    let gateway = Gateway::start().await;
    let before = rss_mib(&gateway);
    let mut socket = challenged(&gateway).await;
    socket.tcp().write_all(&raw_frame(0x81, 1 << 40, b"{")).await.unwrap();
    assert_closed(socket.end().await, 1009);
    assert!(rss_mib(&gateway) < before + 64, "memory grew from {before} to {} MiB", rss_mib(&gateway));
}

#[actix_web::test]
async fn endless_empty_fragments_end() {
    let gateway = Gateway::start().await;
    let mut socket = challenged(&gateway).await;
    socket.tcp().write_all(&raw_frame(0x01, 0, b"")).await.unwrap();
    for _ in 0..20_000 {
        if socket.tcp().write_all(&raw_frame(0x00, 0, b"")).await.is_err() {
            break;
        }
    }
    match socket.end().await {
        Incoming::Close { code, .. } => assert!([1008, 1002, 1009].contains(&code), "{code}"),
        Incoming::Gone => {}
        Incoming::Frame(frame) => panic!("{frame}"),
    }
    gateway.operator().await.ok("health", Value::Null).await;
}

#[actix_web::test]
async fn deep_json_is_refused_and_nothing_falls() {
    let gateway = Gateway::start().await;
    let deep = format!("{}{}", "[".repeat(30_000), "]".repeat(30_000));
    let mut socket = challenged(&gateway).await;
    socket.send_text(&deep).await;
    connect::outcome(socket).await.refusal();
    let mut session = gateway.operator().await;
    session.send_text(&format!(r#"{{"type":"req","id":"1","method":"node.list","params":{deep}}}"#)).await;
    session.ok("health", Value::Null).await;
}

#[actix_web::test]
async fn compression_is_not_negotiated() {
    let gateway = Gateway::start().await;
    let request = format!(
        "GET / HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n",
        gateway.port
    );
    let mut stream = TcpStream::connect(("127.0.0.1", gateway.port)).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    eventually("the upgrade's head", async || {
        let mut buffer = [0; 4096];
        stream.readable().await.unwrap();
        if let Ok(read) = stream.try_read(&mut buffer) {
            head.extend_from_slice(&buffer[..read]);
        }
        head.windows(4).any(|window| window == b"\r\n\r\n").then_some(())
    })
    .await;
    let head = String::from_utf8_lossy(&head).to_ascii_lowercase();
    assert!(head.starts_with("http/1.1 101"), "{head}");
    assert!(!head.contains("sec-websocket-extensions"), "{head}");
}

#[actix_web::test]
async fn a_malformed_upgrade_is_refused_by_http() {
    let gateway = Gateway::start().await;
    let base = [("Upgrade", "websocket"), ("Connection", "Upgrade")];
    let no_key = [&base[..], &[("Sec-WebSocket-Version", "13")]].concat();
    let old =
        [&base[..], &[("Sec-WebSocket-Version", "8"), ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")]]
            .concat();
    for headers in [no_key, old] {
        let answer = http::request(gateway.port, "GET", "/", &headers).await;
        assert!([400, 426].contains(&answer.status), "{answer:?}");
    }
}

#[actix_web::test]
async fn a_page_that_holds_seventy_sockets_does_not_keep_the_owner_out() {
    let gateway = Gateway::start().await;
    let mut held = Vec::new();
    for _ in 0..70 {
        let upgrade = Upgrade::to(gateway.port).origin("https://evil.example");
        if let Ok(socket) = upgrade.open().await {
            held.push(socket);
        }
    }
    for _ in 0..5 {
        gateway.operator().await.ok("health", Value::Null).await;
    }
    let output = gateway.cli(&["health", "--json"]).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    drop(held);
}

#[actix_web::test]
async fn of_seventy_idle_sockets_thirty_two_are_held_until_their_time_is_up() {
    let gateway = Gateway::start().await;
    let mut held = Vec::new();
    for _ in 0..70 {
        match Upgrade::to(gateway.port).open().await {
            Ok(socket) => held.push(socket),
            Err(answer) => assert_eq!(answer.status, 503, "{answer:?}"),
        }
    }
    assert!(held.len() <= 32, "{} unauthenticated sockets were let in", held.len());
    for mut idle in held {
        let end = idle.end().await;
        assert!(matches!(end, Incoming::Close { code: 1000, .. } | Incoming::Gone), "{end:?}");
    }
    gateway.operator().await.ok("health", Value::Null).await;
}

#[actix_web::test]
async fn idle_sockets_of_every_kind_are_closed() {
    let gateway = Setup::new().env("OPENCLAW_HANDSHAKE_TIMEOUT_MS", "500").start().await;
    let mut silent = challenged(&gateway).await;
    let mut dripping = challenged(&gateway).await;
    dripping.tcp().write_all(&raw_frame(0x81, 100, b"{")).await.unwrap();
    let mut pinging = challenged(&gateway).await;
    for _ in 0..3 {
        let _ = pinging.tcp().write_all(&raw_frame(0x89, 0, b"")).await;
    }
    for socket in [&mut silent, &mut dripping, &mut pinging] {
        let end = socket.end().await;
        assert!(matches!(end, Incoming::Close { code: 1000, .. } | Incoming::Gone), "{end:?}");
    }
}

#[actix_web::test]
async fn a_reader_that_stops_is_cut_off_and_its_memory_comes_back() {
    let gateway = Gateway::start().await;
    let mut node = Node::approved(&gateway, &["system.which"]).await;
    let id = node.id();
    let mut stalled = gateway.operator().await;
    let asks = 50;
    for _ in 0..asks {
        stalled.ask("node.invoke", invoke(&id, "system.which", json!({"bins": ["x"]}))).await;
    }
    let large = "y".repeat(2 * 1024 * 1024);
    let mut peak = 0;
    for _ in 0..asks {
        let request = node.request().await;
        node.reply(&request, json!({"large": large})).await.unwrap();
        assert_eq!(http::get(gateway.port, "/healthz").await.status, 200);
        peak = peak.max(rss_mib(&gateway));
    }
    assert!(peak < 400, "the gateway grew to {peak} MiB");
    match stalled.end().await {
        Incoming::Close { code, reason } => assert_eq!((code, reason.as_str()), (1008, "slow consumer")),
        Incoming::Gone => {}
        Incoming::Frame(frame) => panic!("{frame}"),
    }
    gateway.operator().await.ok("health", Value::Null).await;
}

#[actix_web::test]
async fn a_burst_of_requests_is_answered_to_the_last() {
    let gateway = Gateway::start().await;
    let mut session = gateway.operator().await;
    let total = 1_500;
    for n in 0..total {
        session
            .feed_text(&json!({"type": "req", "id": format!("{n}"), "method": "health"}).to_string())
            .await;
        if n % 100 == 99 {
            session.flush().await;
        }
    }
    let mut other = gateway.operator().await;
    other.ok("node.list", json!({})).await;
    for n in 0..total {
        if let Err(error) = session.answer(&n.to_string()).await {
            assert_eq!(error["code"], "UNAVAILABLE", "{error}");
            assert_eq!(error["retryable"], true, "{error}");
        }
    }
}

#[actix_web::test]
async fn what_is_sent_in_one_go_is_taken_in_that_order() {
    let gateway = Gateway::start().await;
    // The second session sends while its hello is still being judged.
    for session_key in ["after", "during"] {
        let mut session = match session_key {
            "after" => gateway.operator().await,
            _ => challenged(&gateway).await,
        };
        if session_key == "during" {
            let connect = json!({
                "minProtocol": 4, "maxProtocol": 4, "role": "operator",
                "scopes": ["operator.read", "operator.write"], "auth": {"token": TOKEN},
                "client": {"id": "cli", "version": "1", "platform": "linux", "mode": "cli"},
            });
            let frame = json!({"type": "req", "id": "connect", "method": "connect", "params": connect});
            session.feed_text(&frame.to_string()).await;
        }
        let sent: Vec<String> = (0..8).map(|n| format!("m{n}")).collect();
        for text in &sent {
            let params = json!({
                "sessionKey": session_key, "message": text, "idempotencyKey": format!("{session_key}-{text}"),
            });
            let frame = json!({"type": "req", "id": text, "method": "chat.send", "params": params});
            session.feed_text(&frame.to_string()).await;
        }
        session.flush().await;
        let mut stored: Vec<String> = Vec::new();
        eventually("all messages in the history", async || {
            let history = session.ok("chat.history", json!({"sessionKey": session_key})).await;
            let messages = history["messages"].as_array().unwrap().iter();
            let users = messages.filter(|message| message["role"] == "user");
            stored = users.map(|message| text_of(&message["content"])).collect();
            (stored.len() == sent.len()).then_some(())
        })
        .await;
        assert_eq!(stored, sent, "{session_key}");
    }
}

fn text_of(content: &Value) -> String {
    content.as_str().or(content[0]["text"].as_str()).unwrap_or_default().to_owned()
}

#[actix_web::test]
async fn forty_clients_at_once_all_get_in() {
    let gateway = Gateway::start().await;
    let connects = (0..40).map(|_| async { Connect::cli().token(TOKEN).to(gateway.port).await });
    for outcome in futures_util::future::join_all(connects).await {
        outcome.session();
    }
}

#[actix_web::test]
async fn two_hundred_resets_leave_no_trace() {
    let gateway = Gateway::start().await;
    for _ in 0..200 {
        let stream = TcpStream::connect(("127.0.0.1", gateway.port)).await.unwrap();
        let stream = socket2::Socket::from(stream.into_std().unwrap());
        stream.set_linger(Some(std::time::Duration::ZERO)).unwrap();
        drop(stream);
    }
    for _ in 0..200 {
        if let Ok(socket) = Upgrade::to(gateway.port).open().await {
            drop(socket);
        }
    }
    let mut operator = gateway.operator().await;
    operator.ok("health", Value::Null).await;
    let handles = |gateway: &Gateway| fs::read_dir(format!("/proc/{}/fd", gateway.pid())).unwrap().count();
    eventually("the sockets' handles to be closed", async || (handles(&gateway) < 100).then_some(())).await;
}

#[actix_web::test]
async fn half_sent_requests_delay_nobody() {
    let gateway = Gateway::start().await;
    let mut held = Vec::new();
    for _ in 0..30 {
        let mut stream = TcpStream::connect(("127.0.0.1", gateway.port)).await.unwrap();
        stream.write_all(b"POST /tools/invoke HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Le").await.unwrap();
        held.push(stream);
    }
    gateway.operator().await.ok("health", Value::Null).await;
    let huge = [("Content-Length", "1073741824")];
    let answer = http::request(gateway.port, "POST", "/tools/invoke", &huge).await;
    assert!([401, 403, 404, 405, 413].contains(&answer.status), "{answer:?}");
}

#[actix_web::test]
async fn a_frame_larger_than_the_policy_closes_1009() {
    let gateway = Gateway::start().await;
    let (hello, mut session) = Connect::cli().token(TOKEN).to(gateway.port).await.hello();
    let limit = hello["policy"]["maxPayload"].as_u64().unwrap();
    assert_eq!(limit, 26_214_400);
    session.tcp().write_all(&raw_frame(0x81, limit + 1, b"{")).await.unwrap();
    assert_closed(session.end().await, 1009);
}

#[actix_web::test]
async fn wrong_secrets_from_a_page_are_limited_and_the_owner_still_gets_in() {
    let gateway = Gateway::start().await;
    let upgrade = Upgrade::to(gateway.port).origin(&format!("http://127.0.0.1:{}", gateway.port));
    let guess = |secret: &'static str| Connect::webchat_ui().token(secret);
    let mut limited = false;
    for _ in 0..13 {
        match guess("guess").over(&upgrade).await {
            Outcome::Refused(refused) if refused.detail() == "AUTH_RATE_LIMITED" => limited = true,
            Outcome::Refused(_) | Outcome::Http(_) => {}
            Outcome::Hello(hello, _) => panic!("a guess was let in: {}", hello["auth"]),
        }
        if limited {
            break;
        }
    }
    assert!(limited, "thirteen guesses from a page and no limit");
    let refused = guess(TOKEN).over(&upgrade).await.refusal();
    assert_eq!(refused.detail(), "AUTH_RATE_LIMITED", "{refused:?}");
    let same_page = Upgrade::to(gateway.port).origin(&format!("http://localhost:{}", gateway.port));
    let refused = guess(TOKEN).over(&same_page).await.refusal();
    assert_eq!(refused.detail(), "AUTH_RATE_LIMITED", "another name of the same page: {refused:?}");
    Connect::cli().token(TOKEN).to(gateway.port).await.session();
}

#[actix_web::test]
async fn writes_of_the_configuration_are_limited() {
    let config = json!({"gateway": {"mode": "local"}});
    let gateway = Setup::new().config(config.clone()).start().await;
    let mut admin = gateway.operator().await;
    let mut limited = None;
    for _ in 0..40 {
        let hash = admin.ok("config.get", json!({})).await["hash"].clone();
        let params = json!({"raw": config.to_string(), "baseHash": hash});
        if let Err(error) = admin.call("config.set", params).await {
            limited = Some(error);
            break;
        }
    }
    let error = limited.expect("forty writes in a row and no limit");
    assert_eq!(error["code"], "UNAVAILABLE", "{error}");
    assert!(error["retryAfterMs"].as_u64().unwrap() > 0, "{error}");
    admin.ok("config.get", json!({})).await;
}

fn assert_closed(end: Incoming, wanted: u16) {
    match end {
        Incoming::Close { code, .. } => assert_eq!(code, wanted),
        // The kernel resets a connection that is closed with bytes unread; the close frame may be lost with it.
        Incoming::Gone => {}
        Incoming::Frame(frame) => panic!("{frame}"),
    }
}
