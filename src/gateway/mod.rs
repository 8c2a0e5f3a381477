//! The gateway process: lock, store, tree, listeners, signals, and an orderly end.

pub mod claim_launcher;
mod holder;
mod listen;
mod lock;
mod watchdog;

#[cfg(test)]
pub(crate) use lock::held;
pub use lock::{LockError, LockHolder, holder, is_own_port, own_port};

use crate::config::{self, Running};
use crate::http::{self, Listening};
use crate::tls::{Pin, ServerTls, TlsError, TlsFiles};
use lock::StateLock;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;
use tidegate_actors::events::Audience;
use tidegate_actors::remote::tailscale::Exposure;
use tidegate_actors::settings::gateway::TailscaleMode;
use tidegate_actors::settings::{Settings, StatePaths};
use tidegate_actors::store::{Store, StoreError};
use tidegate_actors::supervise::{StopAll, Supervisor};
use tidegate_actors::{Gateway, root, rpc};
use tidegate_protocol::limits::close;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

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
    Tls(#[from] TlsError),
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
    /// The host has no such address.
    #[error("could not listen on {address}: this host has no such address")]
    NoSuchAddress {
        /// The address.
        address: SocketAddr,
    },
    #[error("the runtime failed: {0}")]
    Io(#[from] std::io::Error),
    /// The way in through the tailnet that was asked for can't be had.
    #[error("{0}")]
    Tailscale(String),
    /// The supervision tree gave up.
    #[error("too many failures: {0}")]
    GaveUp(String),
}

/// Where clients can connect.
pub struct Serving {
    pub addresses: Vec<SocketAddr>,
    /// Fingerprint of the certificate, with TLS.
    pub pin: Option<Pin>,
    /// Whether the tailnet can connect too.
    pub tailnet: Exposure,
}

/// Runs a gateway until a signal ends it. `serving` is called once clients can connect and it is clear whether the
/// tailnet can.
///
/// # Errors
/// If it can't start, or its tree gave up.
pub fn run(running: Running, serving: impl FnOnce(&Serving) + 'static) -> Result<(), GatewayError> {
    let mut lock = StateLock::take(running.settings.paths().root())?;
    let tls = tls(&running)?;
    running.reloader.check_with(start_check);
    let listeners = listen::bind(&running.settings.get().gateway)?;
    if let Some(listener) = listeners.first() {
        lock.listens_on(listener.local_addr()?.port())?;
    }
    let (store, threads) = Store::open(&running.settings.paths().database())?;
    let gateway = Gateway::new(running.settings.clone(), store);
    let routed = bind_routed(&gateway)?;
    actix_web::rt::System::new().block_on(async move {
        let (gave_up, mut failure) = oneshot::channel();
        let (root, _watched) = root::start(&gateway, threads, move |reason| {
            let _ = gave_up.send(reason);
        })?;
        // Nobody is served by a gateway that can't be reached as its owner asked. A daemon that is still starting is
        // no reason to keep those on this machine waiting.
        let tailnet = gateway.tailscale.first_word().await;
        if let Exposure::Down { error } = tailnet {
            stop_tree(&root).await;
            return Err(GatewayError::Tailscale(error));
        }
        let addresses: Vec<SocketAddr> =
            listeners.iter().map(TcpListener::local_addr).collect::<Result<_, _>>()?;
        let listening = listeners.into_iter().map(|listener| Listening { listener, tls: tls.clone() });
        // Tailscale has ended TLS before it comes to us.
        let routed = routed.map(|listener| Listening { listener, tls: None });
        let server = http::serve(&gateway, listening.chain(routed).collect())?;
        let handle = server.handle();
        actix_web::rt::spawn(server);
        actix_web::rt::spawn(running.reloader.run());
        actix_web::rt::spawn(rpc::config::announce_changes(gateway.clone()));
        let pin = tls.as_ref().map(ServerTls::pin);
        gateway.whereabouts.send_modify(|known| known.listening.clone_from(&addresses));
        if let Some(tls) = &tls {
            let whereabouts = gateway.whereabouts.clone();
            let served = tls.clone();
            let shown = move |pin: Pin| {
                whereabouts.send_modify(|known| {
                    (known.tls_sha256, known.tls_self_made) = (Some(pin.hex()), served.is_self_made());
                });
            };
            shown(tls.pin());
            actix_web::rt::spawn(tls.clone().keep_fresh(gateway.settings.clone(), shown));
        }
        if let Some(&address) = addresses.first() {
            actix_web::rt::spawn(watchdog::watch(address, tls));
        }
        let clients = Serving { addresses, pin, tailnet };
        serving(&clients);
        let Serving { addresses, pin, .. } = clients;
        let addresses = addresses.iter().map(SocketAddr::to_string).collect::<Vec<_>>().join(", ");
        let tls = pin.map_or_else(|| "off".to_owned(), |pin| pin.to_string());
        tracing::info!(addresses, tls, version = tidegate_actors::VERSION, "listening");
        watchdog::ready();

        let failed = tokio::select! {
            name = terminated() => {
                tracing::info!(signal = name?, "stopping");
                None
            }
            reason = &mut failure => {
                Some(GatewayError::GaveUp(reason.unwrap_or_else(|_| "the tree ended".to_owned())))
            }
            // Whoever asked for this way in must not believe that there is one.
            reason = gateway.tailscale.refused() => Some(GatewayError::Tailscale(reason)),
        };
        watchdog::stopping();
        farewell(&gateway).await;
        handle.stop(true).await;
        if let Err(error) = gateway.audit.flush(&gateway.store).await {
            tracing::warn!(%error, "the audit log could not be written");
        }
        stop_tree(&root).await;
        tracing::info!("stopped");
        failed.map_or(Ok(()), Err)
    })
}

/// What a start with these settings would say of the files that they name.
fn start_check(settings: &Settings, paths: &StatePaths) -> Result<(), config::ConfigError> {
    let tls = &settings.gateway.tls;
    if tls.enabled {
        TlsFiles::of(tls, paths).check()?;
    }
    Ok(())
}

/// The TLS that this configuration asks for.
fn tls(running: &Running) -> Result<Option<ServerTls>, GatewayError> {
    let settings = running.settings.get();
    let tls = &settings.gateway.tls;
    let open = || ServerTls::open(TlsFiles::of(tls, running.settings.paths()));
    Ok(tls.enabled.then(open).transpose()?)
}

/// The listener of the Tailscale route, if there is to be one: on loopback, apart from the one that others know.
fn bind_routed(gateway: &Gateway) -> Result<Option<TcpListener>, GatewayError> {
    let settings = gateway.settings.get();
    let tailscale = &settings.gateway.tailscale;
    if tailscale.mode == TailscaleMode::Off {
        return Ok(None);
    }
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    listener.set_nonblocking(true)?;
    gateway.tailscale.manage(tailscale, listener.local_addr()?, claim_launcher::launcher());
    Ok(Some(listener))
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
