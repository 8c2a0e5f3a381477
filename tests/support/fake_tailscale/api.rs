//! The fake daemon's local API: HTTP on a Unix socket, one request a connection.

use super::daemon::Daemon;
use super::{lock, on_a_thread};
use serde_json::{Value, json};
use std::path::Path;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::oneshot;

/// Starts to accept at once; ends when the sender is dropped.
pub(super) fn listen(socket: &Path, daemon: Arc<Mutex<Daemon>>) -> oneshot::Sender<()> {
    let listener = std::os::unix::net::UnixListener::bind(socket).unwrap();
    listener.set_nonblocking(true).unwrap();
    on_a_thread(async move {
        let listener = UnixListener::from_std(listener).unwrap();
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer(stream, Arc::clone(&daemon)));
        }
    })
}

struct Request {
    method: String,
    path: String,
    query: String,
    host: String,
    if_match: String,
    body: String,
}

struct Answer {
    status: u16,
    etag: Option<String>,
    body: String,
}

impl Answer {
    fn json(body: &Value) -> Self {
        Self { status: 200, etag: None, body: body.to_string() }
    }

    fn text(status: u16, body: &str) -> Self {
        Self { status, etag: None, body: format!("{body}\n") }
    }
}

async fn answer(mut stream: UnixStream, daemon: Arc<Mutex<Daemon>>) {
    let Some(request) = read(&mut stream).await else { return };
    if request.path == "watch-ipn-bus" && request.host == "local-tailscaled.sock" {
        return watch(stream, daemon).await;
    }
    let Answer { status, etag, body } = judge(&request, &mut lock(&daemon));
    let etag = etag.map_or(String::new(), |etag| format!("Etag: {etag}\r\n"));
    let length = body.len();
    let head = format!("HTTP/1.1 {status} X\r\n{etag}Content-Length: {length}\r\nConnection: close\r\n\r\n");
    let _ = stream.write_all(format!("{head}{body}").as_bytes()).await;
}

fn judge(request: &Request, daemon: &mut Daemon) -> Answer {
    if request.host != "local-tailscaled.sock" {
        return Answer::text(403, "invalid localapi request");
    }
    let argument = |name: &str| {
        let mut pairs = request.query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.find(|(have, _)| *have == name).map(|(_, value)| value.replace("%3A", ":"))
    };
    match (request.method.as_str(), request.path.as_str()) {
        ("GET", "status") => {
            daemon.questions.push("status".to_owned());
            Answer::json(&daemon.status())
        }
        ("GET", "whois") => {
            let Some(address) = argument("addr") else {
                return Answer::text(400, "missing 'addr' parameter");
            };
            daemon.questions.push(format!("whois {address}"));
            let bare = address.parse().or_else(|_| address.parse().map(|it: std::net::SocketAddr| it.ip()));
            match bare.map(|address| daemon.whois(address)) {
                Ok(Some(answer)) => Answer::json(&answer),
                Ok(None) => Answer::text(404, "no match for IP:port"),
                Err(_) => Answer::text(400, "invalid 'addr' parameter"),
            }
        }
        ("GET", "serve-config") => Answer { etag: Some(daemon.etag()), ..Answer::json(&daemon.config) },
        ("POST", "serve-config") => take_config(request, daemon),
        _ => Answer::text(404, "404 not found"),
    }
}

fn take_config(request: &Request, daemon: &mut Daemon) -> Answer {
    if daemon.read_only {
        return Answer::text(403, "serve config denied");
    }
    if !request.if_match.is_empty() && request.if_match != daemon.etag() {
        return Answer::text(412, "etag mismatch");
    }
    let Ok(config) = serde_json::from_str(&request.body) else {
        return Answer::text(500, r#"{"error":"decoding config"}"#);
    };
    match daemon.set_config(config) {
        Ok(()) => Answer::text(200, ""),
        Err(why) => Answer::text(500, &json!({"error": why}).to_string()),
    }
}

/// Says the session's name, then nothing; the session lasts as long as the connection.
async fn watch(mut stream: UnixStream, daemon: Arc<Mutex<Daemon>>) {
    let session = lock(&daemon).new_session();
    let line = format!("{}\n", json!({"SessionID": session}));
    let head = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{line}\r\n", line.len());
    if stream.write_all(head.as_bytes()).await.is_ok() {
        let _ = stream.read(&mut [0; 1]).await;
    }
    lock(&daemon).end_session(&session);
}

async fn read(stream: &mut UnixStream) -> Option<Request> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break at;
        }
        (stream.read_buf(&mut bytes).await.ok()? > 0).then_some(())?;
    };
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let header = |name: &str| {
        let mut lines = head.lines().skip(1).filter_map(|line| line.split_once(": "));
        lines.find(|(have, _)| have.eq_ignore_ascii_case(name)).map_or("", |(_, value)| value).to_owned()
    };
    let length: usize = header("content-length").parse().unwrap_or(0);
    while bytes.len() < end + 4 + length {
        (stream.read_buf(&mut bytes).await.ok()? > 0).then_some(())?;
    }
    let mut words = head.lines().next()?.split(' ');
    let (method, target) = (words.next()?.to_owned(), words.next()?);
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    Some(Request {
        method,
        path: path.strip_prefix("/localapi/v0/")?.to_owned(),
        query: query.to_owned(),
        host: header("host"),
        if_match: header("if-match"),
        body: String::from_utf8_lossy(&bytes[end + 4..]).into_owned(),
    })
}
