//! Tells the service manager that we are up, and that we still serve.

use crate::client::{self, Endpoint};
use crate::tls::ServerTls;
use sd_notify::NotifyState;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
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
pub(super) async fn watch(address: SocketAddr, tls: Option<ServerTls>) {
    let Some(limit) = sd_notify::watchdog_enabled() else { return };
    let mut beat = tokio::time::interval(limit / 3);
    loop {
        beat.tick().await;
        match tokio::time::timeout(limit / 3, ask(address, tls.as_ref())).await {
            Ok(Ok(())) => notify(&[NotifyState::Watchdog]),
            Ok(Err(error)) => tracing::error!(%error, "the gateway does not answer itself"),
            Err(_) => {
                tracing::error!(patience = ?Duration::from_secs(limit.as_secs() / 3), "the gateway does not answer itself")
            }
        }
    }
}

async fn ask(address: SocketAddr, tls: Option<&ServerTls>) -> io::Result<()> {
    let stream = TcpStream::connect(address).await?;
    let Some(tls) = tls else { return ask_over(stream, address).await };
    let endpoint = Endpoint::at(address).secured(Some(tls.pin()));
    let stream = client::secure(&endpoint, stream).await.map_err(io::Error::other)?;
    ask_over(stream, address).await
}

async fn ask_over(mut stream: impl AsyncRead + AsyncWrite + Unpin, address: SocketAddr) -> io::Result<()> {
    let request = format!("GET /healthz HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await?;
    if answer.ends_with(b"200") { Ok(()) } else { Err(io::Error::other("not 200")) }
}
