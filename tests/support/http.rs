//! HTTP written by hand, for requests that no client library would send.

use super::lan::Host;
use super::patience::within;
use std::io;
use std::net::SocketAddr;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

/// An HTTP answer, or status 0 when the peer closed without one.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    /// Status line and headers, in lower case.
    pub head: String,
    pub body: String,
}

/// Sends these bytes on a connection of its own and reads the answer until the peer closes.
pub async fn raw(port: u16, bytes: &[u8]) -> Answer {
    let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    exchange(stream, bytes).await
}

/// A connection from `host`, or from this machine.
pub async fn open(host: Option<&Host>, to: SocketAddr) -> io::Result<TcpStream> {
    match host {
        Some(host) => TcpStream::from_std(host.connect(to)?),
        None => TcpStream::connect(to).await,
    }
}

/// Sends these bytes and reads the answer until the peer closes.
pub async fn exchange(mut stream: impl AsyncRead + AsyncWrite + Unpin, bytes: &[u8]) -> Answer {
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    let _ = within("the HTTP answer", stream.read_to_end(&mut answer)).await;
    parse(&String::from_utf8_lossy(&answer))
}

/// A request with these headers and no body; the connection closes after it.
pub async fn request(port: u16, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
    let mut text = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n");
    if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
        text.push_str(&format!("Host: 127.0.0.1:{port}\r\n"));
    }
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    raw(port, format!("{text}\r\n").as_bytes()).await
}

pub async fn get(port: u16, path: &str) -> Answer {
    request(port, "GET", path, &[]).await
}

impl Answer {
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("not JSON: {self:?}"))
    }
}

fn parse(text: &str) -> Answer {
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((text, ""));
    let status = head.split_whitespace().nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
    Answer { status, head: head.to_ascii_lowercase(), body: body.to_owned() }
}
