//! How the gateway starts, what it makes for itself, and the configurations that it must not start with.

use crate::support::gateway::config_with;
use crate::support::{Connect, Gateway, Setup, http};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

#[actix_web::test]
async fn a_fresh_machine_gets_a_token_of_its_own_and_is_told_what_to_do_next() {
    let gateway = Setup::new().no_token().start().await;
    let token = gateway.token();
    assert!(token.len() >= 32, "{token}");
    let console = gateway.console();
    assert!(console.contains(&format!("127.0.0.1:{}", gateway.port)), "{console}");
    for hint in ["model", "elegram", "node run"] {
        assert!(console.contains(hint), "no word about {hint}:\n{console}");
    }
    Connect::cli().token(&token).to(gateway.port).await.session();
    let gateway = gateway.restart().await;
    assert_eq!(gateway.token(), token, "the token changed with a restart");
}

#[actix_web::test]
async fn everything_under_the_state_is_for_its_owner_alone() {
    let gateway = Setup::new().no_token().start().await;
    gateway.operator().await.ok("health", Value::Null).await;
    assert_private(&gateway.state());
}

/// Files 0600, folders 0700, the whole tree. The folder itself was made by the test.
fn assert_private(folder: &Path) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let mode = fs::symlink_metadata(&path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode & 0o077, 0, "{} has mode {mode:o}", path.display());
        if path.is_dir() {
            assert_private(&path);
        }
    }
}

#[actix_web::test]
async fn an_open_or_senseless_configuration_does_not_start() {
    let auth = |auth: Value| json!({"gateway": {"auth": auth}});
    let lan = |auth: Value| json!({"gateway": {"bind": "lan", "auth": auth}});
    let cases = [
        ("lan without any auth", lan(json!({"mode": "none"}))),
        ("lan, token mode, empty token", lan(json!({"mode": "token", "token": ""}))),
        ("token undefined", auth(json!({"mode": "token", "token": "undefined"}))),
        ("token null", auth(json!({"mode": "token", "token": "null"}))),
        ("token blank", auth(json!({"mode": "token", "token": "   "}))),
        ("password mode without a password", auth(json!({"mode": "password"}))),
        (
            "trusted-proxy with a token as well",
            auth(json!({
                "mode": "trusted-proxy", "token": "a-token-of-its-own", "trustedProxy": {"userHeader": "x-forwarded-user"},
            })),
        ),
        ("trusted-proxy without userHeader", auth(json!({"mode": "trusted-proxy", "trustedProxy": {}}))),
        (
            "funnel with token auth",
            json!({
                "gateway": {"tailscale": {"mode": "funnel"}, "auth": {"mode": "token", "token": "a-token-of-its-own"}},
            }),
        ),
        ("unknown auth mode", auth(json!({"mode": "open"}))),
    ];
    for (name, config) in cases {
        let exit = Setup::new().no_token().config(config_with(config)).refuse().await;
        let wanted: &[i32] =
            if name.starts_with("token") || name.contains("as well") { &[1, 78] } else { &[78] };
        let code = exit.code().unwrap_or(-1);
        assert!(wanted.contains(&code), "{name}: exit {code}\n{}", exit.stderr);
        assert!(!exit.stderr.trim().is_empty(), "{name}: no word on why");
        assert!(!exit.stderr.contains("panicked"), "{name}: {}", exit.stderr);
    }
}

#[actix_web::test]
async fn a_refusal_names_the_key_that_is_wrong() {
    let config = config_with(json!({"gateway": {"auth": {"mode": "open"}}}));
    let exit = Setup::new().no_token().config(config).refuse().await;
    assert!(exit.stderr.contains("gateway.auth.mode"), "{}", exit.stderr);
    let config = config_with(json!({"agents": {"defaults": {"timeoutSeconds": "many"}}}));
    let exit = Setup::new().config(config).refuse().await;
    assert!(exit.stderr.contains("agents.defaults.timeoutSeconds"), "{}", exit.stderr);
}

#[actix_web::test]
async fn a_key_that_is_not_known_is_reported_and_harmless() {
    let config = config_with(json!({"gateway": {"auth": {"mode": "token"}}, "someFuture": {"thing": 1}}));
    let gateway = Setup::new().config(config).start().await;
    gateway.operator().await.ok("health", Value::Null).await;
    let said = format!("{}{}", gateway.console(), gateway.log());
    assert!(said.contains("someFuture"), "{said}");
}

#[actix_web::test]
async fn a_second_gateway_on_the_same_state_refuses_and_names_the_first() {
    let gateway = Gateway::start().await;
    let port = crate::support::ports::free_port().to_string();
    let output = gateway.cli(&["gateway", "run", "--port", &port]).await;
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains(&gateway.pid().to_string()), "{said}");
    gateway.operator().await.ok("health", Value::Null).await;
}

#[actix_web::test]
async fn by_default_only_loopback_listens() {
    let gateway = Gateway::start().await;
    let listening = fs::read_to_string(format!("/proc/{}/net/tcp", gateway.pid())).unwrap();
    let port = format!(":{:04X}", gateway.port);
    let ours: Vec<_> =
        listening.lines().filter(|line| line.contains(&port) && line.contains(" 0A ")).collect();
    assert!(!ours.is_empty(), "{listening}");
    assert!(ours.iter().all(|line| line.contains("0100007F:")), "{ours:?}");
}

#[actix_web::test]
async fn sigterm_says_goodbye_with_1012_and_exits_0() {
    let mut gateway = Gateway::start().await;
    let mut session = gateway.operator().await;
    gateway.terminate();
    let shutdown = session.event("shutdown").await;
    assert_eq!(shutdown["reason"], "gateway stopping");
    let end = session.end().await;
    let wanted = crate::support::Incoming::Close { code: 1012, reason: "service restart".into() };
    assert_eq!(end, wanted);
    assert_eq!(gateway.ended().await.code(), Some(0));
}

#[actix_web::test]
async fn a_gateway_that_was_killed_often_starts_as_if_nothing_had_been() {
    let mut gateway = Gateway::start().await;
    for _ in 0..5 {
        gateway.kill();
        gateway = gateway.restart().await;
    }
    assert_eq!(http::get(gateway.port, "/readyz").await.status, 200);
}
