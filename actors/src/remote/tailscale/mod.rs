//! Tailscale Serve and Funnel: a route of our own, held for as long as the gateway runs, and who comes in by it.
//!
//! The route is a foreground claim of the `tailscale` program, so it ends with that program however the gateway
//! ends. It leads to a listener of its own: what Tailscale says of a request is believed only there.

mod claim;
mod claimant;
mod daemon;
mod facts;
mod whois;

pub use claim::ClaimError;
pub use claimant::{Claimant, claimant};
pub use daemon::DaemonError;

use crate::auth::person::Sender;
use crate::auth::tailnet::Route;
use crate::auth::{AuthPolicy, Peer, PeerClass};
use crate::settings::gateway::{TailscaleMode, TailscaleSettings};
use daemon::Daemon;
use serde::Serialize;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tidegate_protocol::Role;
use tidegate_protocol::connect::{ConnectAuth, ConnectParams};
use tokio::sync::watch;
use whois::Directory;

/// The port that Serve and Funnel use unless told otherwise. The official gateway claims no other either.
pub const HTTPS: u16 = 443;

/// What the gateway knows of Tailscale. Cheap to clone.
#[derive(Clone)]
pub struct Tailscale(Arc<Inner>);

struct Inner {
    managed: OnceLock<Managed>,
    state: watch::Sender<Exposure>,
    /// There was a route at some time.
    reached: AtomicBool,
}

/// A route that this gateway looks after.
struct Managed {
    mode: TailscaleMode,
    /// Where the route leads.
    listener: SocketAddr,
    /// How to run the program so that it ends with us: words that come before its own.
    launcher: Vec<OsString>,
    patience: Duration,
    daemon: Daemon,
    directory: Directory,
    name: OnceLock<String>,
}

/// How the route is doing, as operators see it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(tag = "state", rename_all = "lowercase")]
pub enum Exposure {
    /// Not ours to look after.
    #[default]
    Off,
    /// Being set up.
    Starting,
    /// The daemon is not ready yet.
    Waiting {
        /// What it says of itself.
        reason: String,
    },
    /// Reachable.
    Active {
        /// `https://` and the MagicDNS name, where the daemon has one.
        url: Option<String>,
    },
    /// Not reachable; tried again.
    Down { error: String },
}

impl Default for Tailscale {
    fn default() -> Self {
        Self(Arc::new(Inner {
            managed: OnceLock::new(),
            state: watch::Sender::default(),
            reached: AtomicBool::new(false),
        }))
    }
}

impl Tailscale {
    /// From now on `listener` is where the route of `settings.mode` leads. Once, before the tree starts.
    pub fn manage(&self, settings: &TailscaleSettings, listener: SocketAddr, launcher: Vec<OsString>) {
        let daemon = Daemon::new(
            settings.program.clone().map_or_else(|| PathBuf::from("tailscale"), PathBuf::from),
            settings.socket.clone().map(PathBuf::from),
        );
        let managed = Managed {
            mode: settings.mode,
            listener,
            launcher,
            patience: Duration::from_secs(settings.startup_wait_seconds),
            daemon,
            directory: Directory::default(),
            name: OnceLock::new(),
        };
        if self.0.managed.set(managed).is_ok() {
            self.0.state.send_replace(Exposure::Starting);
        }
    }

    /// Whether there is a route to look after.
    pub fn is_managed(&self) -> bool {
        self.0.managed.get().is_some()
    }

    /// The route behind a connection that arrived at `local`, if it is ours.
    pub fn route_at(&self, local: SocketAddr) -> Option<Route> {
        let managed = self.0.managed.get().filter(|managed| managed.listener == local)?;
        Some(Route { funnel: managed.mode == TailscaleMode::Funnel, name: managed.name.get().cloned() })
    }

    pub fn exposure(&self) -> Exposure {
        self.0.state.borrow().clone()
    }

    /// The address to tell people, once there is one.
    pub fn url(&self) -> Option<String> {
        match self.exposure() {
            Exposure::Active { url } => url,
            _ => None,
        }
    }

    /// `off`, `serve` or `funnel`.
    pub fn mode(&self) -> TailscaleMode {
        self.0.managed.get().map_or(TailscaleMode::Off, |managed| managed.mode)
    }

    /// Resolves once it is clear how the route is doing, if only that the daemon has to be waited for.
    pub async fn first_word(&self) -> Exposure {
        let mut state = self.0.state.subscribe();
        let clear = state.wait_for(|state| *state != Exposure::Starting).await;
        clear.map(|state| state.clone()).unwrap_or_default()
    }

    /// Resolves with the reason if the first attempt ends without a route; never after it had one.
    pub async fn refused(&self) -> String {
        let mut state = self.0.state.subscribe();
        let settled = |state: &Exposure| matches!(state, Exposure::Active { .. } | Exposure::Down { .. });
        if let Ok(state) = state.wait_for(settled).await
            && let Exposure::Down { error } = &*state
            && !self.was_reached()
        {
            return error.clone();
        }
        std::future::pending().await
    }

    /// Asks the daemon whether a name that came with a request belongs to its address, where the answer matters.
    pub async fn confirmed(&self, mut peer: Peer, params: &ConnectParams, policy: &AuthPolicy) -> Peer {
        let PeerClass::TailscaleServe { sender: Sender::Claimed(claimed) } = &peer.class else { return peer };
        let operator =
            params.role.as_deref().and_then(Role::parse).unwrap_or(Role::Operator) == Role::Operator;
        // Whoever sends a secret is judged by that.
        let asks_by_name =
            policy.allow_tailscale && operator && !params.auth.as_ref().is_some_and(has_secret);
        let Some(managed) = self.0.managed.get().filter(|_| asks_by_name) else { return peer };
        if let Some(user) = managed.directory.confirm(&managed.daemon, peer.addr, claimed).await {
            tracing::info!(login = user.login, peer = %peer.addr, "tailnet user confirmed");
            peer.class = PeerClass::TailscaleServe { sender: Sender::Confirmed(user) };
        }
        peer
    }

    /// Whether there was a route at some time.
    fn was_reached(&self) -> bool {
        self.0.reached.load(Ordering::Acquire)
    }

    fn note(&self, exposure: Exposure) {
        if matches!(exposure, Exposure::Active { .. }) {
            self.0.reached.store(true, Ordering::Release);
        }
        self.0.state.send_replace(exposure);
    }
}

fn has_secret(auth: &ConnectAuth) -> bool {
    [&auth.token, &auth.password].into_iter().flatten().any(|secret| !secret.trim().is_empty())
}
