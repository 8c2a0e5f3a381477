//! The TCP connection under a request, remembered when it was accepted.

use socket2::SockRef;
use std::any::Any;
use std::net::{Shutdown, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tidegate_actors::session::KillSwitch;

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

impl Wire {
    /// Called for each accepted connection; `None` for what is not TCP.
    pub(super) fn of(connection: &dyn Any) -> Option<Self> {
        let stream = connection.downcast_ref::<actix_web::rt::net::TcpStream>()?;
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
