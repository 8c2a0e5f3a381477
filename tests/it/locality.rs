//! Who counts as local: nothing that came through a browser page of another origin, a proxy, or another name.

use crate::support::gateway::{TOKEN, config_with};
use crate::support::{Connect, Gateway, Identity, Outcome, Setup, Upgrade, http};
use serde_json::json;

/// Every header that says that somebody else stands behind the peer.
const PROXY_HEADERS: &[(&str, &str)] = &[
    ("X-Forwarded-For", "203.0.113.9"),
    ("X-Forwarded-Proto", "https"),
    ("X-Forwarded-Host", "gw.example"),
    ("X-Forwarded-Port", "443"),
    ("X-Forwarded-Server", "edge"),
    ("X-Real-IP", "203.0.113.9"),
    ("Forwarded", "for=203.0.113.9"),
    ("CF-Connecting-IP", "203.0.113.9"),
    ("CF-Connecting-IPv6", "2001:db8::9"),
    ("True-Client-IP", "203.0.113.9"),
    ("X-Client-IP", "203.0.113.9"),
    ("X-Cluster-Client-IP", "203.0.113.9"),
    ("Fastly-Client-IP", "203.0.113.9"),
    ("Fly-Client-IP", "203.0.113.9"),
    ("X-Original-Forwarded-For", "203.0.113.9"),
    ("Via", "1.1 tunnel"),
    ("Tailscale-User-Login", "owner@example.com"),
    ("Tailscale-User-Name", "Owner"),
    ("Tailscale-Funnel-Request", "?1"),
    ("X_Forwarded_For", "203.0.113.9"),
    ("Forwarded-For", "203.0.113.9"),
    ("WL-Proxy-Client-IP", "203.0.113.9"),
    ("X-Originating-IP", "203.0.113.9"),
    ("X-Remote-User", "owner"),
    ("Front-End-Https", "on"),
    ("X-Real-Port", "443"),
    ("Oxy-Client-Ip", "203.0.113.9"),
    ("X-Gateway-Host", "gw.example"),
    // Nothing that is known, but no client sends it by itself.
    ("X-Request-Id", "0123456789abcdef"),
    ("Some-Tunnel", "1"),
];

fn clients() -> Vec<Connect<'static>> {
    vec![
        Connect::cli(),
        Connect::backend(),
        Connect::test(),
        Connect::tui(),
        Connect::control_ui(),
        Connect::webchat_ui(),
        Connect::node(&[]),
    ]
}

/// Refused by HTTP, or by the protocol because of the Origin.
fn assert_origin_refused(outcome: Outcome, what: &str) {
    match outcome {
        Outcome::Http(answer) => assert!([400, 403, 421].contains(&answer.status), "{what}: {answer:?}"),
        Outcome::Refused(refused) => {
            assert_eq!(refused.detail(), "CONTROL_UI_ORIGIN_NOT_ALLOWED", "{what}: {refused:?}");
            assert_eq!(refused.code, 1008, "{what}: {refused:?}");
        }
        Outcome::Hello(hello, _) => panic!("{what}: let in with {}", hello["auth"]),
    }
}

#[actix_web::test]
async fn a_page_of_another_origin_never_connects_whatever_client_it_claims_to_be() {
    let gateway = Gateway::start().await;
    let identity = Identity::new();
    for connect in clients() {
        for origin in ["https://evil.example", "http://127.0.0.1.evil.example", "file://", "http://[::1"] {
            let upgrade = Upgrade::to(gateway.port).origin(origin);
            let outcome = connect.clone().token(TOKEN).device(&identity).over(&upgrade).await;
            assert_origin_refused(outcome, &format!("{} from {origin}", connect.params["client"]["id"]));
        }
    }
}

#[actix_web::test]
async fn a_page_of_another_port_of_this_machine_is_foreign() {
    let gateway = Gateway::start().await;
    let identity = Identity::new();
    let other = crate::support::ports::free_port();
    for origin in
        [format!("http://localhost:{other}"), format!("http://127.0.0.1:{other}"), "http://localhost".into()]
    {
        let upgrade = Upgrade::to(gateway.port).origin(&origin);
        let outcome = Connect::control_ui().token(TOKEN).device(&identity).over(&upgrade).await;
        assert_origin_refused(outcome, &origin);
    }
}

#[actix_web::test]
async fn a_name_that_resolves_here_is_not_this_gateway() {
    let gateway = Gateway::start().await;
    let identity = Identity::new();
    let port = gateway.port;
    let names = [
        "evil.example",
        "printer.local",
        "somebody.tail1234.ts.net",
        "192.168.7.77",
        "10.9.8.7",
        "localhost.evil.example",
    ];
    for name in names {
        for host in [name.to_owned(), format!("{name}:{port}")] {
            let upgrade = Upgrade::to(port).header("Host", &host).origin(&format!("http://{host}"));
            for connect in [Connect::cli(), Connect::control_ui(), Connect::webchat_ui()] {
                let outcome = connect.token(TOKEN).device(&identity).over(&upgrade).await;
                assert_origin_refused(outcome, &host);
            }
        }
    }
}

#[actix_web::test]
async fn every_spelling_of_the_gateways_own_origin_is_let_in() {
    let gateway = Gateway::start().await;
    for host in ["127.0.0.1", "localhost"] {
        let identity = Identity::new();
        let authority = format!("{host}:{}", gateway.port);
        let upgrade =
            Upgrade::to(gateway.port).header("Host", &authority).origin(&format!("http://{authority}"));
        Connect::control_ui().token(TOKEN).device(&identity).over(&upgrade).await.session();
    }
}

#[actix_web::test]
async fn an_origin_that_the_owner_allowed_is_let_in_but_never_pairs_by_itself() {
    let config = json!({"gateway": {"controlUi": {"allowedOrigins": ["https://gw.example"]}}});
    let gateway = Setup::new().config(config_with(config)).start().await;
    let identity = Identity::new();
    let upgrade = Upgrade::to(gateway.port).origin("https://gw.example");
    let refused = Connect::control_ui().token(TOKEN).device(&identity).over(&upgrade).await.refusal();
    assert_eq!(refused.detail(), "PAIRING_REQUIRED", "{refused:?}");
}

#[actix_web::test]
async fn a_foreign_host_without_an_origin_gets_nothing_that_only_locals_get() {
    let gateway = Gateway::start().await;
    let identity = Identity::new();
    let upgrade = Upgrade::to(gateway.port).header("Host", "gw.example");
    match Connect::cli().token(TOKEN).device(&identity).over(&upgrade).await {
        Outcome::Http(answer) => assert!([400, 403, 421].contains(&answer.status), "{answer:?}"),
        Outcome::Refused(refused) => assert_eq!(refused.detail(), "PAIRING_REQUIRED", "{refused:?}"),
        Outcome::Hello(hello, _) => panic!("paired without a word: {}", hello["auth"]),
    }
    match Connect::cli().token(TOKEN).scopes(&["operator.admin"]).over(&upgrade).await {
        Outcome::Hello(hello, _) => assert_eq!(hello["auth"]["scopes"], json!([])),
        Outcome::Http(answer) => assert!([400, 403, 421].contains(&answer.status), "{answer:?}"),
        Outcome::Refused(_) => {}
    }
}

#[actix_web::test]
async fn every_sign_of_a_proxy_ends_local_trust() {
    let gateway = Gateway::start().await;
    for (name, value) in PROXY_HEADERS {
        let identity = Identity::new();
        let upgrade = Upgrade::to(gateway.port).header(name, value);
        match Connect::cli().token(TOKEN).device(&identity).over(&upgrade).await {
            Outcome::Http(answer) => {
                assert_eq!(answer.status, 403, "{name}: {answer:?}");
                assert!(answer.body.contains("proxy_attribution_required"), "{name}: {answer:?}");
            }
            Outcome::Refused(refused) => {
                assert_eq!(refused.detail(), "PAIRING_REQUIRED", "{name}: {refused:?}")
            }
            Outcome::Hello(hello, _) => panic!("{name}: paired without a word: {}", hello["auth"]),
        }
    }
}

#[actix_web::test]
async fn the_documented_proxy_headers_are_refused_by_http_even_with_the_secret() {
    let gateway = Gateway::start().await;
    for (name, value) in &PROXY_HEADERS[..7] {
        let bearer = format!("Bearer {TOKEN}");
        let headers = [(*name, *value), ("Authorization", bearer.as_str())];
        let answer = http::request(gateway.port, "GET", "/sessions/main/history", &headers).await;
        assert!([403, 404].contains(&answer.status), "{name}: {answer:?}");
        let upgrade = Upgrade::to(gateway.port).header(name, value);
        match upgrade.open().await {
            Err(answer) => assert_eq!(answer.status, 403, "{name}: {answer:?}"),
            Ok(_) => panic!("{name}: upgraded"),
        }
    }
}

#[actix_web::test]
async fn a_foreign_host_sees_no_details() {
    let gateway = Gateway::start().await;
    for path in ["/healthz", "/readyz", "/startupz"] {
        let answer = http::request(gateway.port, "GET", path, &[("Host", "evil.example")]).await;
        for detail in ["uptimeMs", "version", "failing", "eventLoop", "telegram"] {
            assert!(!answer.body.contains(detail), "{path} tells {detail}: {answer:?}");
        }
    }
}

#[actix_web::test]
async fn the_health_routes_answer() {
    let gateway = Gateway::start().await;
    for path in ["/healthz", "/health"] {
        let answer = http::get(gateway.port, path).await;
        assert_eq!((answer.status, answer.json()), (200, json!({"ok": true, "status": "live"})), "{path}");
    }
    for path in ["/readyz", "/ready"] {
        let answer = http::get(gateway.port, path).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.json()["ready"], true, "{path}");
    }
    let answer = http::request(gateway.port, "POST", "/healthz", &[("Content-Length", "0")]).await;
    assert_eq!(answer.status, 405, "{answer:?}");
    assert!(answer.head.contains("allow: get, head"), "{answer:?}");
    assert!(answer.head.contains("x-content-type-options: nosniff"), "{answer:?}");
    assert!(answer.head.contains("referrer-policy: no-referrer"), "{answer:?}");
}

#[actix_web::test]
async fn no_answer_lets_a_foreign_page_read_it() {
    let gateway = Gateway::start().await;
    for path in ["/healthz", "/readyz", "/", "/tools/invoke"] {
        for method in ["GET", "POST", "OPTIONS"] {
            let headers = [("Origin", "https://evil.example"), ("Content-Length", "0")];
            let answer = http::request(gateway.port, method, path, &headers).await;
            assert!(!answer.head.contains("access-control-allow-origin"), "{method} {path}: {answer:?}");
        }
    }
}

#[actix_web::test]
async fn requests_that_smuggle_or_relay_are_refused() {
    let gateway = Gateway::start().await;
    let port = gateway.port;
    let requests: [&[u8]; 7] = [
        b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n",
        b"POST /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n0\r\n\r\n",
        b"POST /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 4\r\nContent-Length: 5\r\nConnection: close\r\n\r\nabcde",
        b"CONNECT 127.0.0.1:9 HTTP/1.1\r\nHost: 127.0.0.1:9\r\nConnection: close\r\n\r\n",
        b"TRACE /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n",
        b"GET http://127.0.0.1:9/healthz HTTP/1.1\r\nHost: 127.0.0.1:9\r\nConnection: close\r\n\r\n",
        b"GET /healthz\r\n\r\n",
    ];
    for bytes in requests {
        let answer = http::raw(port, bytes).await;
        let text = String::from_utf8_lossy(bytes);
        assert!(!(200..300).contains(&answer.status), "{text} -> {answer:?}");
    }
    assert_eq!(http::get(port, "/healthz").await.status, 200);
}
