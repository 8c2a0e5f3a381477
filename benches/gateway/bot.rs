//! Just enough of a Bot API for an account to be on: no message ever comes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

pub struct Bot {
    port: u16,
    polls: Arc<AtomicUsize>,
}

impl Bot {
    pub async fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let polls = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&polls);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&counter)));
            }
        });
        Self { port, polls }
    }

    pub fn root(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// True once an update poll has come in.
    pub async fn is_polled(&self) -> bool {
        for _ in 0..300 {
            if self.polls.load(Ordering::Relaxed) > 0 {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        false
    }
}

async fn serve(stream: TcpStream, polls: Arc<AtomicUsize>) -> Option<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let (mut first, mut length) = (String::new(), 0);
        stream.read_line(&mut first).await.ok().filter(|&size| size > 0)?;
        loop {
            let mut line = String::new();
            stream.read_line(&mut line).await.ok().filter(|&size| size > 0)?;
            let line = line.trim().to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse().ok()?;
            }
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await.ok()?;
        let result = answer(first.split(' ').nth(1)?, &polls).await;
        let body = format!(r#"{{"ok":true,"result":{result}}}"#);
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(format!("{head}{body}").as_bytes()).await.ok()?;
    }
}

async fn answer(path: &str, polls: &AtomicUsize) -> &'static str {
    let method = path.rsplit('/').next().unwrap_or_default().split('?').next().unwrap_or_default();
    match method {
        "getMe" => {
            r#"{"id":123456,"is_bot":true,"first_name":"Bench","username":"bench_bot","can_join_groups":true,"can_read_all_group_messages":false,"supports_inline_queries":false,"can_connect_to_business":false,"has_main_web_app":false}"#
        }
        "getUpdates" => {
            polls.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_secs(25)).await;
            "[]"
        }
        "getWebhookInfo" => r#"{"url":"","has_custom_certificate":false,"pending_update_count":0}"#,
        "getMyCommands" => "[]",
        _ => "true",
    }
}
