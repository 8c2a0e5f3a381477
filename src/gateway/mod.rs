//! The gateway process: lock, store, tree, listeners, signals, and an orderly end.

mod lock;
mod watchdog;

pub use lock::{LockError, holder};

use crate::config::{self, Running, addresses_of};
use crate::http;
use lock::StateLock;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::time::Duration;
use tidegate_actors::events::Audience;
use tidegate_actors::store::{Store, StoreError};
use tidegate_actors::supervise::{StopAll, Supervisor};
use tidegate_actors::{Gateway, root, rpc};
use tidegate_protocol::limits::close;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 1024;

/// Time for the last frames to go out before the listeners close.
const FAREWELL: Duration = Duration::from_millis(300);

/// All children together may take so long to stop.
const STOP_LIMIT: Duration = Duration::from_secs(20);

/// Why a gateway did not start, or did not go on.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    #[error(transparent)]
    Config(#[from] config::ConfigError),
    #[error(transparent)]
    Lock(#[from] LockError),
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The address can't be listened on.
    #[error("could not listen on {address}: {reason}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What the system said, and what to do.
        reason: String,
    },
    #[error("the runtime failed: {0}")]
    Io(#[from] std::io::Error),
    /// The supervision tree gave up.
    #[error("too many failures: {0}")]
    GaveUp(String),
}

/// Runs a gateway until a signal ends it. `listening` is called once clients can connect.
///
/// # Errors
/// If it can't start, or its tree gave up.
pub fn run(running: Running, listening: impl FnOnce(&[SocketAddr]) + 'static) -> Result<(), GatewayError> {
    let _lock = StateLock::take(running.settings.paths().root())?;
    let listeners = bind(&running)?;
    let (store, threads) = Store::open(&running.settings.paths().database())?;
    let gateway = Gateway::new(running.settings.clone(), store);
    actix_web::rt::System::new().block_on(async move {
        let (gave_up, mut failure) = oneshot::channel();
        let (root, _watched) = root::start(&gateway, threads, move |reason| {
            let _ = gave_up.send(reason);
        })?;
        let addresses: Vec<SocketAddr> =
            listeners.iter().map(TcpListener::local_addr).collect::<Result<_, _>>()?;
        let server = http::serve(&gateway, listeners)?;
        let handle = server.handle();
        actix_web::rt::spawn(server);
        actix_web::rt::spawn(running.reloader.run());
        actix_web::rt::spawn(rpc::config::announce_changes(gateway.clone()));
        if let Some(&address) = addresses.first() {
            actix_web::rt::spawn(watchdog::watch(address));
        }
        listening(&addresses);
        tracing::info!(?addresses, version = tidegate_actors::VERSION, "listening");
        watchdog::ready();

        let failed = tokio::select! {
            name = terminated() => {
                tracing::info!(signal = name?, "stopping");
                None
            }
            reason = &mut failure => Some(reason.unwrap_or_else(|_| "the tree ended".to_owned())),
        };
        watchdog::stopping();
        farewell(&gateway).await;
        handle.stop(true).await;
        stop_tree(&root).await;
        tracing::info!("stopped");
        failed.map_or(Ok(()), |reason| Err(GatewayError::GaveUp(reason)))
    })
}

/// Everything that this configuration listens on, bound before anything else starts.
fn bind(running: &Running) -> Result<Vec<TcpListener>, GatewayError> {
    let settings = running.settings.get();
    let port = settings.gateway.port();
    let addresses = addresses_of(&settings.gateway)?;
    addresses.into_iter().map(|ip| bind_one(ip, port)).collect()
}

fn bind_one(ip: IpAddr, port: u16) -> Result<TcpListener, GatewayError> {
    let address = SocketAddr::new(ip, port);
    let listen = || -> std::io::Result<TcpListener> {
        let socket = socket2::Socket::new(
            socket2::Domain::for_address(address),
            socket2::Type::STREAM,
            Some(socket2::Protocol::TCP),
        )?;
        // A restart must not wait for the last connections of the process before it to time out.
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        socket.set_nonblocking(true)?;
        Ok(socket.into())
    };
    listen().map_err(|error| {
        let reason = match error.kind() {
            std::io::ErrorKind::AddrInUse => {
                "the port is in use; stop the program that has it, or choose another with --port".to_owned()
            }
            std::io::ErrorKind::PermissionDenied => {
                "not permitted; choose a port above 1023 with --port".to_owned()
            }
            _ => error.to_string(),
        };
        GatewayError::Bind { address, reason }
    })
}

async fn terminated() -> std::io::Result<&'static str> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => Ok("SIGTERM"),
        _ = interrupt.recv() => Ok("SIGINT"),
    }
}

/// No new connections; those that are there hear why they end.
async fn farewell(gateway: &Gateway) {
    gateway.drain();
    gateway.broadcast("shutdown", &serde_json::json!({"reason": "gateway stopping"}), Audience::All);
    // The hub hands it on in its own turn; the close must come after it.
    tokio::time::sleep(FAREWELL / 3).await;
    for connection in gateway.connections.all() {
        connection.caller.outbound.close(close::RESTART, "service restart");
    }
    tokio::time::sleep(FAREWELL).await;
}

async fn stop_tree(root: &actix::Addr<Supervisor>) {
    if tokio::time::timeout(STOP_LIMIT, root.send(StopAll)).await.is_err() {
        tracing::error!("some parts did not stop in time");
    }
}
