//! Secrets stay secret, and what strangers send does not forge a log line.

use crate::support::gateway::{TOKEN, config_with};
use crate::support::{Connect, Gateway, Setup, Upgrade};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;

const BOT_TOKEN: &str = "123456:bot-secret-of-the-test";
const MODEL_KEY: &str = "sk-model-secret-of-the-test";

fn config_with_secrets() -> Value {
    config_with(json!({
        "gateway": {"auth": {"mode": "token", "token": TOKEN}},
        "channels": {"telegram": {"enabled": false, "botToken": BOT_TOKEN}},
        "models": {"providers": {"fake": {
            "baseUrl": "http://127.0.0.1:9/v1", "apiKey": MODEL_KEY, "api": "openai-completions",
            "models": [{"id": "m", "name": "m"}],
        }}},
    }))
}

fn assert_silent(place: &str, text: &str) {
    for secret in [TOKEN, BOT_TOKEN, MODEL_KEY] {
        assert!(!text.contains(secret), "{place} holds {secret}: {text}");
    }
}

#[actix_web::test]
async fn no_answer_holds_a_secret() {
    let gateway = Setup::new().no_token().config(config_with_secrets()).start().await;
    let (hello, mut admin) =
        Connect::cli().token(TOKEN).scopes(&["operator.admin"]).to(gateway.port).await.hello();
    assert_silent("hello", &hello.to_string());
    for method in [
        "config.get",
        "config.schema",
        "status",
        "health",
        "channels.status",
        "skills.status",
        "models.list",
        "system-presence",
    ] {
        let answer = admin.call(method, json!({})).await;
        assert_silent(method, &format!("{answer:?}"));
    }
}

#[actix_web::test]
async fn a_redacted_value_sent_back_keeps_the_secret() {
    let gateway = Setup::new().no_token().config(config_with_secrets()).start().await;
    let mut admin = Connect::cli().token(TOKEN).scopes(&["operator.admin"]).to(gateway.port).await.session();
    let got = admin.ok("config.get", json!({})).await;
    let mut config = got["config"].clone();
    assert!(config.to_string().contains("__OPENCLAW_REDACTED__"), "{config}");
    config["messages"] = json!({"ackReaction": "x"});
    let params = json!({"raw": config.to_string(), "baseHash": got["hash"]});
    admin.ok("config.set", params).await;
    let file = fs::read_to_string(gateway.config_path()).unwrap();
    for secret in [TOKEN, BOT_TOKEN, MODEL_KEY] {
        assert!(file.contains(secret), "the redacted copy overwrote a secret: {file}");
    }
    assert!(!file.contains("__OPENCLAW_REDACTED__"));
}

#[actix_web::test]
async fn logs_hold_no_secret_and_what_strangers_send_stays_on_one_line() {
    let gateway = Setup::new().env("TIDEGATE_LOG", "debug").start().await;
    let forged = "\n{\"level\":\"error\",\"message\":\"forged-line\"}";
    let escape = "\u{1b}[2J\u{1b}]0;owned\u{7}\u{202e}";
    let mut operator = gateway.operator().await;
    let _ = operator.call(&format!("no.such{forged}{escape}"), json!({})).await;
    let identity = crate::support::Identity::new();
    let hostile = format!("name{forged}{escape}");
    for pointer in ["/client/displayName", "/client/version", "/userAgent", "/locale"] {
        let connect = Connect::cli().token(TOKEN).set(pointer, json!(hostile)).device(&identity);
        let _ = connect.to(gateway.port).await;
    }
    for id in [format!("cli{forged}"), escape.to_owned()] {
        let _ = Connect::cli().set("/client/id", json!(id)).token(TOKEN).to(gateway.port).await;
    }
    let _ = Connect::cli().token("wrong").to(gateway.port).await;
    let upgrade = Upgrade::to(gateway.port)
        .header("User-Agent", "agent \u{9b}31m")
        .origin(&format!("https://evil.example/?token={TOKEN}"));
    let _ = Connect::cli().token(TOKEN).over(&upgrade).await;
    operator.ok("health", Value::Null).await;
    for (place, text) in [("log", gateway.log()), ("console", gateway.console())] {
        assert!(!text.contains(TOKEN), "the {place} holds the token");
        assert!(
            !text.contains('\u{1b}') && !text.contains('\u{202e}') && !text.contains('\u{7}'),
            "{place}: {text}"
        );
        assert!(
            text.lines().all(|line| !line.starts_with("{\"level\":\"error\",\"message\":\"forged-line")),
            "{place}: {text}"
        );
    }
    for line in gateway.log().lines() {
        serde_json::from_str::<Value>(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    }
    let tail = operator.ok("logs.tail", json!({})).await;
    assert!(!tail.to_string().contains(TOKEN));
}

#[actix_web::test]
async fn no_file_but_the_ones_for_it_holds_the_secret() {
    let gateway = Setup::new().no_token().start().await;
    let token = gateway.token();
    let mut operator = gateway.operator().await;
    let _ = operator.call("config.get", json!({})).await;
    let identity = crate::support::Identity::new();
    let connect = Connect::cli().token(&token).device(&identity);
    let (hello, _socket) = connect.to(gateway.port).await.hello();
    let device_token = hello["auth"]["deviceToken"].as_str().unwrap().to_owned();
    let mut holders = Vec::new();
    search(&gateway.state(), &[token.as_bytes(), device_token.as_bytes()], &mut holders);
    assert_eq!(holders, [gateway.state().join("gateway-token").display().to_string()]);
}

/// The files below `folder` that hold one of these.
fn search(folder: &Path, needles: &[&[u8]], holders: &mut Vec<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            search(&path, needles, holders);
        } else if let Ok(bytes) = fs::read(&path)
            && needles.iter().any(|needle| bytes.windows(needle.len()).any(|window| window == *needle))
        {
            holders.push(path.display().to_string());
        }
    }
}

#[actix_web::test]
async fn names_that_walk_out_of_the_state_are_refused() {
    let gateway = Gateway::start().await;
    let mut operator = gateway.operator().await;
    let outside = gateway.home().join("escaped");
    for key in [
        "../../escaped",
        "/etc/passwd",
        "agent:main:../../../escaped",
        "agent:../x:main",
        "a\u{0}b",
        "%2e%2e/escaped",
    ] {
        for (method, params) in [
            ("chat.send", json!({"sessionKey": key, "message": "/help", "idempotencyKey": key})),
            ("chat.history", json!({"sessionKey": key})),
            ("sessions.delete", json!({"key": key})),
        ] {
            let _ = operator.call(method, params).await;
        }
    }
    assert!(!outside.exists());
    operator.ok("health", Value::Null).await;
}

#[actix_web::test]
async fn ids_that_walk_or_never_end_are_refused() {
    let gateway = Gateway::start().await;
    let mut operator = gateway.operator().await;
    let (key, walking) = ("agent:main:main", "../../x");
    let endless = "x".repeat(100_000);
    for (method, params) in [
        (
            "chat.send",
            json!({"sessionKey": key, "sessionId": walking, "message": "/help", "idempotencyKey": "1"}),
        ),
        (
            "agent",
            json!({"sessionKey": key, "sessionId": walking, "message": "/help", "idempotencyKey": "2"}),
        ),
        ("chat.history", json!({"sessionKey": key, "sessionId": walking})),
        ("sessions.reset", json!({"key": key, "sessionId": walking})),
        ("sessions.resolve", json!({"sessionId": walking})),
        ("chat.send", json!({"sessionKey": key, "message": "/help", "idempotencyKey": endless})),
        ("chat.send", json!({"sessionKey": key, "message": "/help", "idempotencyKey": "a\u{0}b"})),
        ("send", json!({"to": "1", "message": "x", "idempotencyKey": endless})),
    ] {
        let error = operator.refused(method, params).await;
        assert_eq!(error["code"], "INVALID_REQUEST", "{method}: {error}");
        let message = error["message"].as_str().unwrap();
        assert!(message.contains("at /sessionId: ") || message.contains("at /idempotencyKey: "), "{message}");
    }
}
