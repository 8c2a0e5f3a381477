//! Tells the service manager that we are up, and that we still serve.

use sd_notify::NotifyState;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

pub(super) fn ready() {
    notify(&[NotifyState::Ready]);
}

pub(super) fn stopping() {
    notify(&[NotifyState::Stopping]);
}

fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!(%error, "the service manager was not told");
    }
}

/// Pings the watchdog, if the service manager set one, each time after a request to ourselves was answered: a hang
/// of the part that serves stops the pings.
pub(super) async fn watch(address: SocketAddr) {
    let Some(limit) = sd_notify::watchdog_enabled() else { return };
    let mut beat = tokio::time::interval(limit / 3);
    loop {
        beat.tick().await;
        match tokio::time::timeout(limit / 3, ask(address)).await {
            Ok(Ok(())) => notify(&[NotifyState::Watchdog]),
            Ok(Err(error)) => tracing::error!(%error, "the gateway does not answer itself"),
            Err(_) => {
                tracing::error!(patience = ?Duration::from_secs(limit.as_secs() / 3), "the gateway does not answer itself")
            }
        }
    }
}

async fn ask(address: SocketAddr) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET /healthz HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await?;
    if answer.ends_with(b"200") { Ok(()) } else { Err(std::io::Error::other("not 200")) }
}
