//! What plain HTTP gives away to those who try: nothing.

use crate::support::gateway::TOKEN;
use crate::support::{Connect, Gateway, http, within};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

/// Routes that other gateways guard, and that must not open here by accident.
const GUARDED: [&str; 14] = [
    "/tools/invoke",
    "/sessions/main/history",
    "/sessions/main/kill",
    "/hooks/agent",
    "/hooks/wake",
    "/v1/models",
    "/v1/chat/completions",
    "/v1/responses",
    "/api/sessions",
    "/api/channels/default",
    "/avatar/main",
    "/plugins/canvas/a2ui",
    "/__openclaw__/canvas/index.html",
    "/control-ui-config.json",
];

fn is_closed_door(status: u16) -> bool {
    status == 0 || (400..500).contains(&status)
}

/// Other ways to write a path, some of which decode to it on the way to a handler.
fn spellings(path: &str) -> Vec<String> {
    let inner = path.trim_start_matches('/');
    let first = inner.chars().next().map(|letter| format!("%{:02x}", u32::from(letter))).unwrap_or_default();
    let double = first.replace('%', "%25");
    let rest: String = inner.chars().skip(1).collect();
    vec![
        path.to_owned(),
        format!("//{inner}"),
        format!("/./{inner}"),
        format!("/x/../{inner}"),
        format!("/%2e/{inner}"),
        format!("/x/%2e%2e/{inner}"),
        format!("/{first}{rest}"),
        format!("/{double}{rest}"),
        format!("/{}", inner.replace('/', "%2f")),
        format!("/{}", inner.replace('/', "%252F")),
        format!("/{}", inner.replace('/', "\\")),
        format!("{path};v=1"),
        format!("{path}."),
        format!("{path}/"),
        format!("{path}%00"),
        format!("{path}?token={TOKEN}"),
        path.to_ascii_uppercase(),
    ]
}

#[actix_web::test]
async fn no_spelling_of_a_path_opens_a_door() {
    let gateway = Gateway::start().await;
    for path in GUARDED.iter().flat_map(|path| spellings(path)) {
        for method in ["GET", "POST"] {
            let answer = http::request(gateway.port, method, &path, &[("Content-Length", "0")]).await;
            assert!(is_closed_door(answer.status), "{method} {path}: {answer:?}");
        }
    }
}

#[actix_web::test]
async fn no_stray_credential_opens_a_door() {
    let gateway = Gateway::start().await;
    let basic = format!("Basic {TOKEN}");
    let odd = format!("Token {TOKEN}");
    let cookie = format!("token={TOKEN}; session={TOKEN}");
    let credentials = [("Authorization", basic.as_str()), ("Authorization", &odd), ("Cookie", &cookie)];
    for path in GUARDED {
        for credential in credentials {
            let answer = http::request(gateway.port, "GET", path, &[credential]).await;
            assert!(is_closed_door(answer.status), "{path} with {credential:?}: {answer:?}");
        }
    }
}

#[actix_web::test]
async fn a_page_that_posts_a_form_changes_nothing() {
    let gateway = Gateway::start().await;
    for kind in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"] {
        for path in GUARDED {
            let headers =
                [("Origin", "https://evil.example"), ("Content-Type", kind), ("Content-Length", "0")];
            let answer = http::request(gateway.port, "POST", path, &headers).await;
            assert!(is_closed_door(answer.status), "{path} {kind}: {answer:?}");
            assert!(!answer.head.contains("access-control-allow-origin"), "{path} {kind}: {answer:?}");
        }
    }
}

#[actix_web::test]
async fn no_path_reaches_a_file() {
    let gateway = Gateway::start().await;
    for prefix in ["", "/assets", "/media", "/fonts", "/healthz"] {
        for climb in ["../", "..%2f", "%2e%2e/", "%2e%2e%2f", "..%5c", "..%252f", "....//", "..;/"] {
            for file in ["etc/passwd", "gateway-token", "device-token.key", "tidegate.json"] {
                let path = format!("{prefix}/{}{file}", climb.repeat(8));
                let answer = http::request(gateway.port, "GET", &path, &[]).await;
                assert!(is_closed_door(answer.status), "{path}: {answer:?}");
                assert!(!answer.body.contains("root:") && !answer.body.contains(TOKEN), "{path}: {answer:?}");
            }
        }
    }
}

#[actix_web::test]
async fn a_huge_body_is_refused_by_its_announcement() {
    let gateway = Gateway::start().await;
    for path in ["/hooks/agent", "/tools/invoke", "/healthz", "/"] {
        let answer = http::request(gateway.port, "POST", path, &[("Content-Length", "1073741824")]).await;
        assert!((400..500).contains(&answer.status), "{path}: {answer:?}");
    }
}

#[actix_web::test]
async fn a_connection_that_says_nothing_is_closed() {
    let gateway = Gateway::start().await;
    let mut silent = TcpStream::connect(("127.0.0.1", gateway.port)).await.unwrap();
    let mut answer = Vec::new();
    let _ = within("the end of a silent connection", silent.read_to_end(&mut answer)).await;
    assert!(!String::from_utf8_lossy(&answer).contains("200 OK"));
    Connect::cli().token(TOKEN).to(gateway.port).await.session();
}

#[actix_web::test]
async fn every_answer_says_that_no_page_may_frame_or_run_it() {
    let gateway = Gateway::start().await;
    for path in ["/", "/healthz", "/readyz", "/nowhere"] {
        let answer = http::get(gateway.port, path).await;
        let head = answer.head.to_ascii_lowercase();
        for part in ["frame-ancestors 'none'", "nosniff", "no-referrer", "x-frame-options: deny"] {
            assert!(head.contains(part), "{path} lacks {part}: {head}");
        }
    }
}

#[actix_web::test]
async fn a_request_that_leaves_open_whom_it_means_is_refused() {
    let gateway = Gateway::start().await;
    let port = gateway.port;
    for head in [
        format!("GET /healthz HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nHost: evil.example\r\n"),
        "GET /healthz HTTP/1.1\r\n".to_owned(),
        format!("GET http://evil.example/healthz HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"),
    ] {
        let answer = http::raw(port, format!("{head}Connection: close\r\n\r\n").as_bytes()).await;
        assert_eq!(answer.status, 400, "{head}: {answer:?}");
    }
}
