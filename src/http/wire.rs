//! The TCP connection under a request, remembered when it was accepted.

use actix_tls::accept::rustls_0_23::TlsStream;
use actix_web::rt::net::TcpStream;
use socket2::SockRef;
use std::net::{Shutdown, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tidegate_actors::connection::KillSwitch;

/// Bytes may stay unacknowledged for so long: a peer that stopped reading is closed by the kernel, since a socket
/// actor whose peer does not read is not polled and its timers do not fire.
const USER_TIMEOUT: Duration = Duration::from_secs(30);

/// Where a connection comes from, where it arrived, and how to end it.
#[derive(Clone)]
pub(super) struct Wire {
    pub(super) from: SocketAddr,
    pub(super) at: SocketAddr,
    pub(super) kill: KillSwitch,
}

/// What requests come over: TCP, bare or under TLS.
pub(super) trait OverTcp {
    fn tcp(&self) -> &TcpStream;
}

impl OverTcp for TcpStream {
    fn tcp(&self) -> &TcpStream {
        self
    }
}

impl OverTcp for TlsStream<TcpStream> {
    fn tcp(&self) -> &TcpStream {
        self.get_ref().0
    }
}

impl Wire {
    /// Called for each connection that may bring requests; `None` if it has ended already.
    pub(super) fn of(connection: &impl OverTcp) -> Option<Self> {
        let stream = connection.tcp();
        let socket = SockRef::from(stream);
        if let Err(error) = socket.set_tcp_user_timeout(Some(USER_TIMEOUT)) {
            tracing::debug!(%error, "no user timeout on this connection");
        }
        // Frames are small and wait for each other.
        stream.set_nodelay(true).ok();
        let handle = socket.try_clone().ok()?;
        let kill: KillSwitch = Arc::new(move || {
            // It may have ended by itself.
            let _ = handle.shutdown(Shutdown::Both);
        });
        Some(Self { from: stream.peer_addr().ok()?, at: stream.local_addr().ok()?, kill })
    }
}
