//! A fake of Tailscale on one machine: the daemon with its local API on a Unix socket, the `tailscale` program that
//! talks to it, and the two ways in that Serve and Funnel open: plain HTTP on loopback ports, or, on a machine of a LAN
//! that stands for the tailnet, https on the MagicDNS name.
//!
//! Built from Tailscale's public source (`ipn/localapi`, `ipn/ipnlocal/serve.go`, `cmd/tailscale/cli/serve_v2.go`): it
//! adds the headers that the real one adds, takes out those that it takes out, refuses what it refuses, and drops a
//! foreground claim when the program that holds it is gone.

mod api;
mod certificate;
mod daemon;
mod program;
mod proxy;

use super::gateway::Setup;
use super::lan::Host;
use certificate::Certificate;
use daemon::{Daemon, Person};
use serde_json::{Value, json};
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use tempfile::TempDir;
use tokio::sync::oneshot;

/// The MagicDNS name of the machine.
pub const NAME: &str = "gateway.tail1234.ts.net";

/// Who owns the tailnet, and one of the machines of that person.
pub const OWNER: &str = "owner@example.com";
pub const LAPTOP: &str = "100.64.0.7";

/// A machine that belongs to nobody.
pub const TAGGED: &str = "100.64.0.9";

/// A fake; it ends when dropped.
pub struct FakeTailscale {
    folder: TempDir,
    daemon: Arc<Mutex<Daemon>>,
    api: Option<oneshot::Sender<()>>,
    ways_in: Vec<oneshot::Sender<()>>,
}

impl FakeTailscale {
    /// A machine that is in a tailnet with HTTPS and Funnel, with a daemon that runs.
    pub fn start() -> Self {
        let mut fake = Self::without_daemon();
        fake.start_daemon();
        fake
    }

    /// The program is there, the daemon is not yet.
    pub fn without_daemon() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let fake =
            Self { folder, daemon: Arc::new(Mutex::new(Daemon::new())), api: None, ways_in: Vec::new() };
        fake.knows(LAPTOP, OWNER, "The Owner");
        fake.daemon().people.insert(TAGGED.parse().unwrap(), Person::tagged("tag:server"));
        program::install(&fake.program(), &fake.socket());
        fake
    }

    pub fn start_daemon(&mut self) {
        self.api = Some(api::listen(&self.socket(), Arc::clone(&self.daemon)));
    }

    /// The daemon ends, and with it every connection to it. What was claimed in the foreground is not kept.
    pub fn stop_daemon(&mut self) {
        std::fs::remove_file(self.socket()).unwrap();
        self.api = None;
        if let Some(config) = self.daemon().config.as_object_mut() {
            config.remove("Foreground");
        }
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("tailscaled.sock")
    }

    /// The `tailscale` program, alone in its folder.
    pub fn program(&self) -> PathBuf {
        self.folder.path().join("bin/tailscale")
    }

    /// The gateway is told where both are, and asks the daemon by its socket.
    pub fn known_to(&self, setup: Setup) -> Setup {
        setup
            .env("TIDEGATE_TAILSCALE", self.program().to_str().unwrap())
            .env("TIDEGATE_TAILSCALE_SOCKET", self.socket().to_str().unwrap())
    }

    /// The gateway finds the program on its `PATH` and has no socket to ask.
    pub fn on_path_of(&self, setup: Setup) -> Setup {
        let folder = self.program().parent().unwrap().to_str().unwrap().to_owned();
        let path = std::env::var("PATH").unwrap_or_default();
        setup.env("PATH", format!("{folder}:{path}"))
    }

    /// This address is a machine of that person.
    pub fn knows(&self, address: &str, login: &str, name: &str) {
        self.daemon().people.insert(address.parse().unwrap(), Person::named(login, name));
    }

    pub fn forgets(&self, address: &str) {
        let address: IpAddr = address.parse().unwrap();
        self.daemon().people.remove(&address);
    }

    /// What the daemon says of itself: `Running`, `Starting`, `NeedsLogin`...
    pub fn is_in_state(&self, state: &str) {
        self.daemon().state = state.to_owned();
    }

    /// The tailnet lacks this feature: `https`, or `funnel`.
    pub fn lacks(&self, feature: &str) {
        self.daemon().capabilities.retain(|have| !have.starts_with(feature) || have.contains("://"));
    }

    /// The daemon takes changes of its configuration from nobody.
    pub fn is_read_only(&self) {
        self.daemon().read_only = true;
    }

    /// Somebody configured the port to lead there for good.
    pub fn serves_already(&self, port: u16, proxy: &str) {
        self.daemon().config = json!({
            "TCP": {port.to_string(): {"HTTPS": true}},
            "Web": {format!("{NAME}:{port}"): {"Handlers": {"/": {"Proxy": proxy}}}},
        });
    }

    /// The whole serve configuration.
    pub fn config(&self) -> Value {
        self.daemon().config.clone()
    }

    /// Where port 443 leads to on this machine, if anywhere.
    pub fn target(&self) -> Option<u16> {
        let proxy = self.daemon().handler(443).map(|handler| handler.proxy)?;
        proxy.rsplit_once(':')?.1.parse().ok()
    }

    /// Questions that the daemon was asked so far, such as `whois 100.64.0.7`.
    pub fn questions(&self, about: &str) -> usize {
        self.daemon().questions.iter().filter(|question| question.starts_with(about)).count()
    }

    /// Opens a way in for a machine of the tailnet: a loopback port that stands for https on the MagicDNS name.
    pub fn tailnet_port(&mut self, from: &str) -> u16 {
        self.way_in(from.parse().unwrap(), false)
    }

    /// As [`Self::tailnet_port`], for somebody on the internet.
    pub fn internet_port(&mut self, from: &str) -> u16 {
        self.way_in(from.parse().unwrap(), true)
    }

    fn way_in(&mut self, from: IpAddr, public: bool) -> u16 {
        let (port, stop) = proxy::listen(from, public, Arc::clone(&self.daemon));
        self.ways_in.push(stop);
        port
    }

    /// Answers https on the MagicDNS name at this machine of a LAN, where the gateway is too. Returns the file of the
    /// authority that signed the certificate, whom everybody trusts in a real tailnet.
    pub fn answers_on(&mut self, machine: &Host) -> PathBuf {
        let certificate = Certificate::new();
        let authority = self.folder.path().join("authority.pem");
        std::fs::write(&authority, certificate.authority()).unwrap();
        self.ways_in.push(proxy::listen_on(machine, &certificate, Arc::clone(&self.daemon)));
        authority
    }

    fn daemon(&self) -> MutexGuard<'_, Daemon> {
        lock(&self.daemon)
    }
}

fn lock(daemon: &Mutex<Daemon>) -> MutexGuard<'_, Daemon> {
    daemon.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Runs `serve` on a thread of its own until the sender is dropped.
fn on_a_thread(serve: impl Future<Output = ()> + Send + 'static) -> oneshot::Sender<()> {
    let (stop, stopped) = oneshot::channel::<()>();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            tokio::select! {
                () = serve => {}
                _ = stopped => {}
            }
        });
    });
    stop
}

fn executable(path: &Path, text: &str) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}
