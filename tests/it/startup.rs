//! How the gateway starts, what it makes for itself, and the configurations that it must not start with.

use crate::support::gateway::{TOKEN, config_with};
use crate::support::ports::free_port;
use crate::support::{Connect, Gateway, Setup, Upgrade, http};
use serde_json::{Value, json};
use std::fs;
use std::net::{Ipv6Addr, SocketAddr, TcpListener};
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
    let secret = "OPENCLAW_GATEWAY_TOKEN";
    let cases = [
        ("lan without any auth", json!({"gateway": {"bind": "lan"}}), secret),
        ("lan, auth none", lan(json!({"mode": "none"})), "set gateway.auth.mode to"),
        ("lan, token mode, empty token", lan(json!({"mode": "token", "token": ""})), secret),
        ("tailnet without auth", json!({"gateway": {"bind": "tailnet"}}), secret),
        ("custom without auth", json!({"gateway": {"bind": "custom", "customBindHost": "0.0.0.0"}}), secret),
        ("custom without an address", json!({"gateway": {"bind": "custom"}}), "gateway.customBindHost"),
        ("unknown bind", json!({"gateway": {"bind": "everywhere"}}), "gateway.bind"),
        ("token undefined", auth(json!({"mode": "token", "token": "undefined"})), "gateway.auth.token"),
        ("token null", auth(json!({"mode": "token", "token": "null"})), "gateway.auth.token"),
        ("token blank", auth(json!({"mode": "token", "token": "   "})), "gateway.auth.token"),
        ("token of the manual", auth(json!({"mode": "token", "token": "your-token"})), "gateway.auth.token"),
        ("password mode, no password", auth(json!({"mode": "password"})), "gateway.auth.password"),
        (
            "trusted-proxy with a token as well",
            auth(json!({
                "mode": "trusted-proxy", "token": "a-token-of-its-own", "trustedProxy": {"userHeader": "x-forwarded-user"},
            })),
            "gateway.auth.t",
        ),
        (
            "trusted-proxy without userHeader",
            auth(json!({"mode": "trusted-proxy", "trustedProxy": {}})),
            "gateway.auth.trustedProxy",
        ),
        (
            "funnel with token auth",
            json!({
                "gateway": {"tailscale": {"mode": "funnel"}, "auth": {"mode": "token", "token": "a-token-of-its-own"}},
            }),
            "gateway.auth.password",
        ),
        ("unknown auth mode", auth(json!({"mode": "open"})), "gateway.auth.mode"),
        ("auth mode null", auth(json!({"mode": null})), "gateway.auth.mode"),
        ("a slip in auth", auth(json!({"tokn": "a-token-of-its-own"})), "did you mean gateway.auth.token"),
        ("a slip beside auth", json!({"gateway": {"authh": {"mode": "none"}}}), "did you mean gateway.auth"),
        ("password of the manual", auth(json!({"password": "<password>"})), "gateway.auth.password"),
        ("every proxy", json!({"gateway": {"trustedProxies": ["0.0.0.0/0"]}}), "gateway.trustedProxies"),
        ("every IPv6 proxy", json!({"gateway": {"trustedProxies": ["::/0"]}}), "gateway.trustedProxies"),
        (
            "every origin",
            json!({"gateway": {"controlUi": {"allowedOrigins": ["*"]}}}),
            "gateway.controlUi.allowedOrigins",
        ),
    ];
    for (name, config, what_to_set) in cases {
        let exit = Setup::new().no_token().config(config_with(config)).refuse().await;
        assert_eq!(exit.code(), Some(78), "{name}:\n{}", exit.stderr);
        assert!(exit.stderr.contains(what_to_set), "{name}: {}", exit.stderr);
        assert!(!exit.stderr.contains("panicked"), "{name}: {}", exit.stderr);
        assert!(!exit.stdout.contains("is running"), "{name}: {}", exit.stdout);
    }
}

#[actix_web::test]
async fn flags_and_environment_open_nothing_without_a_secret_either() {
    let secret = "OPENCLAW_GATEWAY_TOKEN or OPENCLAW_GATEWAY_PASSWORD";
    for (setup, advice) in [
        (Setup::new().no_token().arg("--bind").arg("lan"), secret),
        (Setup::new().no_token().env("TIDEGATE_GATEWAY_BIND", "lan"), secret),
        (Setup::new().no_token().env("OPENCLAW_GATEWAY_BIND", "tailnet"), secret),
        (Setup::new().no_token().arg("--bind").arg("lan").arg("--auth").arg("none"), "set gateway.auth.mode"),
    ] {
        let exit = setup.refuse().await;
        assert_eq!(exit.code(), Some(78), "{}", exit.stderr);
        assert!(exit.stderr.contains(advice), "{}", exit.stderr);
    }
}

#[actix_web::test]
async fn a_secret_that_nobody_filled_in_starts_nothing_wherever_it_comes_from() {
    for text in [
        "${TOKEN}",
        "your-token-here",
        "<token>",
        "example",
        "secret",
        "token",
        "password",
        "false",
        "\"",
        "null",
    ] {
        for setup in [
            Setup::new().no_token().env("TIDEGATE_GATEWAY_TOKEN", text),
            Setup::new().no_token().env("OPENCLAW_GATEWAY_PASSWORD", text),
            Setup::new().no_token().arg("--token").arg(text),
            Setup::new().no_token().arg("--password").arg(text),
        ] {
            let exit = setup.refuse().await;
            assert_eq!(exit.code(), Some(78), "{text}: {}", exit.stderr);
            assert!(exit.stderr.contains("holds no real secret"), "{text}: {}", exit.stderr);
        }
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
async fn a_port_in_use_names_who_has_it() {
    let first = Gateway::start().await;
    let other = Gateway::start().await;
    let elsewhere = tempfile::tempdir().unwrap();
    let state = elsewhere.path().display().to_string();
    let port = first.port.to_string();
    let output = other.cli(&["--state-dir", &state, "gateway", "run", "--port", &port]).await;
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains(&format!("pid {}", first.pid())) && said.contains("--port"), "{said}");
}

#[actix_web::test]
async fn a_port_that_is_taken_in_one_family_starts_no_half_of_a_gateway() {
    // One that nobody has in the other family.
    let port = free_port();
    let Ok(_taken) = TcpListener::bind(("::1", port)) else { return };
    let gateway = Gateway::start().await;
    let elsewhere = tempfile::tempdir().unwrap();
    let state = elsewhere.path().display().to_string();
    let output = gateway.cli(&["--state-dir", &state, "gateway", "run", "--port", &port.to_string()]).await;
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("[::1]") && said.contains(&format!("pid {}", std::process::id())), "{said}");
    assert!(!elsewhere.path().join("tidegate.db").exists(), "it began before it had its port");
}

#[actix_web::test]
async fn by_default_only_loopback_listens_in_both_families() {
    let gateway = Gateway::start().await;
    let port = format!(":{:04X}", gateway.port);
    let listeners = |table: &str| -> Vec<String> {
        let table = fs::read_to_string(format!("/proc/{}/net/{table}", gateway.pid())).unwrap_or_default();
        let ours = table.lines().filter(|line| line.contains(&port) && line.contains(" 0A "));
        ours.map(str::to_owned).collect()
    };
    let (v4, v6) = (listeners("tcp"), listeners("tcp6"));
    assert!(v4.len() == 1 && v4[0].contains("0100007F:"), "{v4:?}");
    assert!(v6.iter().all(|line| line.contains("00000000000000000000000001000000:")), "{v6:?}");
    if TcpListener::bind(("::1", 0)).is_ok() {
        let to = SocketAddr::from((Ipv6Addr::LOCALHOST, gateway.port));
        let (hello, _) = Connect::cli().token(&gateway.token()).over(&Upgrade::at(to)).await.hello();
        assert_eq!(hello["auth"]["scopes"], json!(["operator.read"]), "a local client");
    }
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

#[actix_web::test]
async fn no_call_writes_a_configuration_that_the_next_start_refuses() {
    let gateway = Setup::new().config(config_with(json!({}))).start().await;
    let mut admin = Connect::cli().token(TOKEN).scopes(&["operator.admin"]).to(gateway.port).await.session();
    let before = std::fs::read_to_string(gateway.config_path()).unwrap();
    let tls = |mut tls: Value| {
        tls["enabled"] = json!(true);
        json!({"gateway": {"tls": tls}})
    };
    let hash = admin.ok("config.get", json!({})).await["hash"].clone();
    for (config, why) in [
        (json!({"gateway": {"bind": "custom"}}), "needs an IP address in gateway.customBindHost"),
        (json!({"gateway": {"tailscale": {"mode": "funnel"}}}), "tailscale funnel requires"),
        (tls(json!({"certPath": "/nowhere/c.pem", "autoGenerate": false})), "/nowhere/c.pem is missing"),
        (
            tls(json!({"certPath": "/etc/passwd", "keyPath": "/etc/passwd"})),
            "/etc/passwd holds no certificate",
        ),
        (tls(json!({"certPath": "/etc/passwd/c.pem"})), "can't write the TLS file /etc/passwd/c.pem"),
    ] {
        for method in ["config.patch", "config.set", "config.apply"] {
            let error = admin.refused(method, json!({"raw": config.to_string(), "baseHash": hash})).await;
            assert_eq!(error["code"], "INVALID_REQUEST", "{method} {config}: {error}");
            assert!(error["message"].as_str().unwrap().contains(why), "{method} {config}: {error}");
        }
    }
    assert_eq!(std::fs::read_to_string(gateway.config_path()).unwrap(), before);
}

#[actix_web::test]
async fn the_official_flags_that_mean_nothing_here_start_it_all_the_same() {
    let flags = [
        "--force",
        "--ws-log",
        "compact",
        "--compact",
        "--dev",
        "--raw-stream",
        "--raw-stream-path",
        "x.jsonl",
    ];
    let gateway = flags.into_iter().fold(Setup::new(), Setup::arg).start().await;
    let console = gateway.console();
    for flag in ["--force ends no process", "--ws-log has no effect", "--dev has no effect"] {
        assert!(console.contains(flag), "no word of {flag}: {console}");
    }
    let unknown = gateway.cli(&["gateway", "run", "--unheard-of"]).await;
    assert_eq!(unknown.status.code(), Some(2));
}
