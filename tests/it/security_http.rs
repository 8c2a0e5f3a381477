//! What plain HTTP gives away to those who try: nothing.

use crate::support::gateway::TOKEN;
use crate::support::{Connect, Gateway, Upgrade, eventually, http, within};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
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

/// Sends this on a connection of its own, and more of the same kind of bytes for as long as they are taken. The answer
/// is all that came until the end.
async fn until_the_end(port: u16, head: &str, more: &[u8]) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    let (mut reader, mut writer) = stream.split();
    let mut answer = Vec::new();
    let drip = async {
        while !more.is_empty() && writer.write_all(more).await.is_ok() {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        std::future::pending().await
    };
    within("the end of the connection", async {
        tokio::select! {
            _ = reader.read_to_end(&mut answer) => (),
            () = drip => (),
        }
    })
    .await;
    String::from_utf8_lossy(&answer).to_ascii_lowercase()
}

#[actix_web::test]
async fn no_unread_body_keeps_a_connection() {
    let gateway = Gateway::start().await;
    let chunked = "POST /x HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n";
    let huge = "POST /x HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1073741824\r\n\r\n";
    let probe = "GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n";
    let megabyte = vec![b'x'; 1024 * 1024];
    for (head, more) in [
        (chunked, &b""[..]),
        (chunked, b"1\r\nx\r\n"),
        (huge, b""),
        (huge, &megabyte),
        (probe, b"1\r\nx\r\n"),
    ] {
        let answer = until_the_end(gateway.port, head, more).await;
        // The answer may be lost to a sender that does not stop: the kernel resets the connection.
        assert!(more.len() > 1000 || answer.contains("connection: close"), "{head}: {answer}");
        assert!(answer.matches("http/1.1 ").count() <= 1, "{head}: {answer}");
    }
}

#[actix_web::test]
async fn a_connection_serves_one_request() {
    let gateway = Gateway::start().await;
    let healthz = "GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n";
    for second in ["", "GET /healthz HT", "\r\n"] {
        let answer = until_the_end(gateway.port, &format!("{healthz}{second}"), b"").await;
        assert!(answer.starts_with("http/1.1 200") && answer.contains("connection: close"), "{answer}");
    }
}

#[actix_web::test]
async fn an_upgrade_that_is_not_quite_one_is_answered_400_and_once() {
    let gateway = Gateway::start().await;
    let port = gateway.port;
    let (key, version) = ("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", "Sec-WebSocket-Version: 13\r\n");
    let other_key = "Sec-WebSocket-Key: AQIDBAUGBwgJCgsMDQ4PEA==\r\n";
    let hidden = "0\r\n\r\nGET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n";
    for (http, headers, body) in [
        ("1.1", format!("{key}{version}Transfer-Encoding: chunked\r\n"), hidden),
        ("1.1", format!("{key}{version}Content-Length: 5\r\n"), hidden),
        ("1.1", format!("{key}Sec-WebSocket-Version: 8\r\n"), ""),
        ("1.1", format!("{key}{version}Sec-WebSocket-Version: 8\r\n"), ""),
        ("1.1", format!("{key}{other_key}{version}"), ""),
        ("1.1", format!("Sec-WebSocket-Key: x\r\n{version}"), ""),
        ("1.1", format!("Sec-WebSocket-Key: AQID\r\n{version}"), ""),
        ("1.0", format!("{key}{version}"), ""),
    ] {
        let head = format!(
            "GET / HTTP/{http}\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             {headers}\r\n{body}"
        );
        let answer = until_the_end(port, &head, b"").await;
        assert!(answer.starts_with(&format!("http/{http} 400")), "{head}: {answer}");
        assert_eq!(answer.matches("http/1.").count(), 1, "{head}: {answer}");
    }
    let no_body = Upgrade::to(port).header("Content-Length", "0").open().await;
    assert!(no_body.is_ok(), "a length of nothing is no body");
}

#[actix_web::test]
async fn a_line_of_the_head_ends_as_the_protocol_says() {
    let gateway = Gateway::start().await;
    for head in [
        "GET /healthz HTTP/1.1\nHost: 127.0.0.1\n\n",
        "GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\nX: y\r\n\r\n",
        "GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\n",
    ] {
        let answer = until_the_end(gateway.port, head, b"").await;
        assert!(answer.is_empty() || answer.starts_with("http/1.1 400"), "{head:?}: {answer}");
    }
}

#[actix_web::test]
async fn only_the_owner_is_told_what_answers_here() {
    let gateway = Gateway::start().await;
    assert!(http::get(gateway.port, "/").await.body.contains("Tidegate"));
    for header in [("Host", "evil.example"), ("Origin", "https://evil.example")] {
        for path in ["/", "/readyz", "/startupz", "/healthz", "/nowhere"] {
            let answer = http::request(gateway.port, "GET", path, &[header]).await;
            let told = format!("{}{}", answer.head, answer.body).to_ascii_lowercase();
            assert!(
                !told.contains("tidegate") && !told.contains("version\""),
                "{path} {header:?}: {answer:?}"
            );
        }
    }
}

#[actix_web::test]
async fn nobody_is_told_to_go_on_and_refused_afterwards() {
    let gateway = Gateway::start().await;
    for path in ["/hooks/agent", "/healthz", "/"] {
        let headers = [("Content-Length", "1073741824"), ("Expect", "100-continue")];
        let answer = http::request(gateway.port, "POST", path, &headers).await;
        assert_eq!(answer.status, 417, "{path}: {answer:?}");
    }
}

#[actix_web::test]
async fn what_is_no_http_makes_one_line_and_no_error() {
    let gateway = Gateway::start().await;
    for _ in 0..5 {
        let answer = http::raw(gateway.port, b"GET / HTTP/1.1\r\nbad header\r\n\r\n").await;
        assert_eq!(answer.status, 400, "{answer:?}");
    }
    eventually("the line", async || gateway.log().contains("not HTTP").then_some(())).await;
    let log = gateway.log();
    assert_eq!(log.matches("not HTTP").count(), 1, "{log}");
    assert!(!log.contains("actix_http"), "{log}");
}
