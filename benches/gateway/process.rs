//! The servers under load, as processes of their own, and what the kernel says about them.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// As `cargo build --release` makes it, put there by the Makefile. What cargo builds for a benchmark has the features that
/// tests need too, and with them functions of other names, which the linker can't lay out.
pub const TIDEGATE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/measured/tidegate");
pub const TOKEN: &str = "tok-bench-51f0a2";

/// A process that ends with this value.
pub struct Server {
    pub port: u16,
    child: Child,
}

/// A state folder for gateways, kept from one start to the next.
pub struct State(TempDir);

impl State {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn with_config(config: &serde_json::Value) -> Self {
        let state = Self::new();
        fs::create_dir_all(state.folder()).unwrap();
        fs::write(state.folder().join("tidegate.json"), config.to_string()).unwrap();
        state
    }

    /// Starts a command on a free port with every function that it runs noted in a file, by valgrind, many times slower.
    pub fn traced(&self, trace: &Path, args: &[&str]) -> Server {
        self.traced_at(free_port(), trace, args)
    }

    pub fn traced_at(&self, port: u16, trace: &Path, args: &[&str]) -> Server {
        let plain = self.command(&[args, &["--port", &port.to_string()]].concat());
        let mut command = Command::new("valgrind");
        command.args(["--tool=callgrind", "--demangle=no"]);
        command.arg(format!("--callgrind-out-file={}", trace.display()));
        command.arg(TIDEGATE).args(plain.get_args());
        command.env_clear().envs(plain.get_envs().filter_map(|(key, value)| Some((key, value?))));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Server { port, child: command.spawn().expect("valgrind is installed") }
    }

    fn folder(&self) -> std::path::PathBuf {
        self.0.path().join("state")
    }

    /// The binary with this state and nothing of this machine's environment but where to find programs.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(TIDEGATE);
        command.args(args).env_clear().stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("HOME", self.0.path()).env("TMPDIR", self.0.path());
        command.env("TIDEGATE_STATE_DIR", self.folder()).env("TIDEGATE_GATEWAY_TOKEN", TOKEN);
        command
    }

    /// Starts a gateway on it; it may not listen yet.
    pub fn launch(&self) -> Server {
        let port = free_port();
        let mut command = self.command(&["gateway", "run", "--port", &port.to_string()]);
        Server { port, child: command.spawn().unwrap() }
    }

    /// Starts a gateway on it and waits until it listens.
    pub async fn gateway(&self) -> Server {
        self.launch().listening().await
    }

    /// Starts a node host that connects to this port.
    pub fn node_host(&self, port: u16) -> Server {
        let mut command = self.command(&["node", "run", "--host", "127.0.0.1", "--port", &port.to_string()]);
        Server { port, child: command.spawn().unwrap() }
    }
}

impl Server {
    /// The bare relay: this very program, in another role.
    pub async fn relay() -> Self {
        let port = free_port();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args([super::relay::FLAG, &port.to_string()]).stdin(Stdio::null());
        Self { port, child: command.spawn().unwrap() }.listening().await
    }

    /// Asks it to stop and waits until it has.
    pub async fn ends(&mut self) {
        let id = nix::unistd::Pid::from_raw(self.child.id().cast_signed());
        nix::sys::signal::kill(id, nix::sys::signal::Signal::SIGTERM).unwrap();
        while self.child.try_wait().unwrap().is_none() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub async fn listening(mut self) -> Self {
        let patience = Instant::now() + Duration::from_secs(30);
        while tokio::net::TcpStream::connect(("127.0.0.1", self.port)).await.is_err() {
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none() && Instant::now() < patience, "the server did not come up: {ended:?}");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        self
    }

    /// Proportional set size: what it would give back if it ended.
    pub fn pss(&self) -> u64 {
        let rollup = fs::read_to_string(self.proc("smaps_rollup")).unwrap();
        let line = rollup.lines().find(|line| line.starts_with("Pss:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
    }

    pub fn threads(&self) -> usize {
        fs::read_dir(self.proc("task")).unwrap().count()
    }

    /// CPU time of all its threads so far.
    pub fn cpu(&self) -> Duration {
        let threads = fs::read_dir(self.proc("task")).unwrap();
        let spent = threads.filter_map(|thread| {
            let text = fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()?;
            text.split_whitespace().next()?.parse::<u64>().ok()
        });
        Duration::from_nanos(spent.sum())
    }

    fn proc(&self, file: &str) -> std::path::PathBuf {
        Path::new("/proc").join(self.child.id().to_string()).join(file)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

pub fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}
