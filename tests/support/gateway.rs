//! The gateway as a process: started on a free port with its own state folder and a clean environment, killed with
//! its whole process group when the test ends, started again on the same state when the test asks.

use super::lan::Host;
use super::patience::eventually;
use super::ports::free_port;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde_json::{Value, json};
use std::fs::{self, File};
use std::net::SocketAddr;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use tempfile::TempDir;

/// The binary under test.
pub const TIDEGATE: &str = env!("CARGO_BIN_EXE_tidegate");

/// The shared secret of every gateway that names none.
pub const TOKEN: &str = "tok-harness-6f0c2f8d41";

/// How a gateway is to be started.
#[derive(Clone)]
pub struct Setup {
    config: Option<Value>,
    env: Vec<(String, String)>,
    args: Vec<String>,
    token: Option<String>,
    host: Option<Host>,
}

impl Default for Setup {
    fn default() -> Self {
        Self { config: None, env: Vec::new(), args: Vec::new(), token: Some(TOKEN.into()), host: None }
    }
}

impl Setup {
    pub fn new() -> Self {
        Self::default()
    }

    /// The content of the config file; without this there is none.
    pub fn config(mut self, config: Value) -> Self {
        self.config = Some(config);
        self
    }

    pub fn env(mut self, key: &str, value: impl Into<String>) -> Self {
        self.env.push((key.into(), value.into()));
        self
    }

    pub fn arg(mut self, arg: &str) -> Self {
        self.args.push(arg.into());
        self
    }

    /// No token in the environment: the config says how to authenticate, or the gateway makes a token itself.
    pub fn no_token(mut self) -> Self {
        self.token = None;
        self
    }

    /// The machine to run on: the gateway and all its commands are there.
    pub fn on(mut self, host: &Host) -> Self {
        self.host = Some(host.clone());
        self
    }

    /// Starts the gateway and waits until it is live.
    pub async fn start(self) -> Gateway {
        let mut last = String::new();
        // Another process may take the port between its choice and its use; a second port settles it.
        for _ in 0..3 {
            match self.clone().launch().live().await {
                Ok(gateway) => return gateway,
                Err(exit) if exit.port_was_taken() => last = exit.stderr,
                Err(exit) => panic!("the gateway did not start ({}):\n{}", exit.status, exit.stderr),
            }
        }
        panic!("the gateway found no free port: {last}");
    }

    /// Starts a gateway that must refuse to, and returns how it ended.
    pub async fn refuse(self) -> Exit {
        match self.launch().live().await {
            Ok(gateway) => panic!("the gateway started although it must not:\n{}", gateway.console()),
            Err(exit) => exit,
        }
    }

    /// Starts the gateway on this very port.
    pub async fn start_at(self, port: u16) -> Gateway {
        match self.launch_at(port).live().await {
            Ok(gateway) => gateway,
            Err(exit) => panic!("the gateway did not start ({}):\n{}", exit.status, exit.stderr),
        }
    }

    fn launch(self) -> Gateway {
        self.launch_at(free_port())
    }

    fn launch_at(self, port: u16) -> Gateway {
        let home = tempfile::tempdir().unwrap();
        let mut gateway = Gateway { home, port, setup: self, child: None };
        fs::create_dir_all(gateway.state()).unwrap();
        if let Some(config) = gateway.setup.config.clone() {
            gateway.write_config(&config);
        }
        gateway.spawn();
        gateway
    }
}

/// A gateway that ended by itself before it was live.
#[derive(Debug)]
pub struct Exit {
    pub status: ExitStatus,
    pub stderr: String,
    pub stdout: String,
}

impl Exit {
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }

    fn port_was_taken(&self) -> bool {
        let console = format!("{}{}", self.stderr, self.stdout).to_ascii_lowercase();
        console.contains("address already in use") || console.contains("address in use")
    }
}

/// One gateway, its state and its process.
pub struct Gateway {
    home: TempDir,
    pub port: u16,
    setup: Setup,
    child: Option<Child>,
}

impl Gateway {
    /// A gateway in token mode without a config file.
    pub async fn start() -> Self {
        Setup::new().start().await
    }

    pub fn home(&self) -> &Path {
        self.home.path()
    }

    pub fn state(&self) -> PathBuf {
        self.home().join("state")
    }

    pub fn config_path(&self) -> PathBuf {
        self.state().join("tidegate.json")
    }

    /// The token this gateway was started with, or the one that it made for itself.
    pub fn token(&self) -> String {
        self.setup.token.clone().unwrap_or_else(|| {
            fs::read_to_string(self.state().join("gateway-token")).unwrap().trim().to_owned()
        })
    }

    pub fn write_config(&self, config: &Value) {
        fs::write(self.config_path(), serde_json::to_string_pretty(config).unwrap()).unwrap();
    }

    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("the gateway runs").id()
    }

    /// A `tidegate` command with this gateway's state and a clean environment.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = match &self.setup.host {
            Some(host) => host.command(TIDEGATE),
            None => Command::new(TIDEGATE),
        };
        command.args(args).current_dir(self.home()).stdin(Stdio::null());
        clean_environment(&mut command, self.home());
        command.env("TIDEGATE_STATE_DIR", self.state());
        command.env("TIDEGATE_GATEWAY_PORT", self.port.to_string());
        if let Some(token) = &self.setup.token {
            command.env("TIDEGATE_GATEWAY_TOKEN", token);
        }
        command.envs(self.setup.env.iter().map(|(key, value)| (key, value)));
        command
    }

    /// Runs a `tidegate` command against this gateway to its end.
    pub async fn cli(&self, args: &[&str]) -> Output {
        let mut command = self.command(args);
        super::patience::within(
            &format!("tidegate {}", args.join(" ")),
            tokio::task::spawn_blocking(move || command.output().unwrap()),
        )
        .await
        .unwrap()
    }

    /// Runs a `tidegate` command that must succeed and returns its output as JSON.
    pub async fn cli_json(&self, args: &[&str]) -> Value {
        let output = self.cli(args).await;
        let stdout = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success(),
            "tidegate {args:?} failed: {stdout}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        serde_json::from_str(&stdout).unwrap_or_else(|_| panic!("not JSON: {stdout}"))
    }

    fn spawn(&mut self) {
        let log =
            |name: &str| File::options().create(true).append(true).open(self.home().join(name)).unwrap();
        let port = self.port.to_string();
        let mut args = vec!["gateway", "run", "--port", &port];
        args.extend(self.setup.args.iter().map(String::as_str));
        let mut command = self.command(&args);
        command.stdout(log("stdout")).stderr(log("stderr")).process_group(0);
        self.child = Some(command.spawn().unwrap());
    }

    /// Waits until the gateway is live, or returns how it ended instead.
    async fn live(mut self) -> Result<Self, Exit> {
        let mut ended = None;
        eventually("the gateway to be live or to end", async || {
            ended = self.child.as_mut().unwrap().try_wait().unwrap();
            if ended.is_some() {
                return Some(());
            }
            let local = SocketAddr::from(([127, 0, 0, 1], self.port));
            let stream = super::http::open(self.setup.host.as_ref(), local).await.ok()?;
            let health = format!("GET /healthz HTTP/1.1\r\nHost: {local}\r\nConnection: close\r\n\r\n");
            let answer = if self.serves_tls() {
                let stream = super::tls::over(stream, rustls::ALL_VERSIONS).await.ok()?.stream;
                super::http::exchange(stream, health.as_bytes()).await
            } else {
                super::http::exchange(stream, health.as_bytes()).await
            };
            (answer.status == 200).then_some(())
        })
        .await;
        match ended {
            None => Ok(self),
            Some(status) => {
                self.child = None;
                Err(Exit { status, stderr: self.read("stderr"), stdout: self.read("stdout") })
            }
        }
    }

    fn serves_tls(&self) -> bool {
        self.setup.config.as_ref().is_some_and(|config| config["gateway"]["tls"]["enabled"] == true)
    }

    /// Ends the process at once, as a crash of the machine would.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = killpg(group(&child), Signal::SIGKILL);
            let _ = child.wait();
        }
    }

    /// Asks the process to stop.
    pub fn terminate(&self) {
        let _ = nix::sys::signal::kill(group(self.child.as_ref().unwrap()), Signal::SIGTERM);
    }

    /// Waits until the process has ended by itself.
    pub async fn ended(&mut self) -> ExitStatus {
        let child = self.child.as_mut().expect("the gateway runs");
        let status = eventually("the gateway to end", async || child.try_wait().unwrap()).await;
        self.child = None;
        status
    }

    /// Starts the gateway again on the same state and port.
    pub async fn restart(self) -> Self {
        let mut gateway = self;
        gateway.kill();
        gateway.spawn();
        match gateway.live().await {
            Ok(gateway) => gateway,
            Err(exit) => panic!("the gateway did not start again ({}):\n{}", exit.status, exit.stderr),
        }
    }

    /// What the gateway printed.
    pub fn console(&self) -> String {
        format!("{}{}", self.read("stdout"), self.read("stderr"))
    }

    /// The log file, which the gateway keeps under its state.
    pub fn log(&self) -> String {
        fs::read_to_string(self.state().join("logs/gateway.log")).unwrap_or_default()
    }

    fn read(&self, name: &str) -> String {
        String::from_utf8_lossy(&fs::read(self.home().join(name)).unwrap_or_default()).into_owned()
    }

    /// A way in from the gateway's own machine.
    pub fn upgrade(&self) -> super::Upgrade {
        let upgrade = super::Upgrade::to(self.port);
        match &self.setup.host {
            Some(host) => upgrade.from(host),
            None => upgrade,
        }
    }

    /// A direct local operator session with every scope.
    pub async fn operator(&self) -> super::Socket {
        self.operator_with(&self.token()).await
    }

    /// As [`Self::operator`], with the secret from the config.
    pub async fn operator_with(&self, secret: &str) -> super::Socket {
        super::Connect::cli()
            .token(secret)
            .scopes(&[
                "operator.admin",
                "operator.read",
                "operator.write",
                "operator.approvals",
                "operator.pairing",
            ])
            .over(&self.upgrade())
            .await
            .session()
    }
}

fn group(child: &Child) -> Pid {
    Pid::from_raw(child.id().cast_signed())
}

/// Nothing of this machine's environment reaches a process under test but where to find programs; the run's mark
/// lets the end of the run see whether anything stayed behind.
pub fn clean_environment(command: &mut Command, home: &Path) {
    command
        .env_clear()
        .env("HOME", home)
        .env("TMPDIR", home)
        .env("LANG", "C.UTF-8")
        .env("RUST_BACKTRACE", "1");
    for (from, to) in [("PATH", "PATH"), ("TIDEGATE_TEST_RUN", "TIDEGATE_TEST_MARK")] {
        if let Some(value) = std::env::var_os(from) {
            command.env(to, value);
        }
    }
}

/// A config in token mode with these keys added on the top level.
pub fn config_with(extra: Value) -> Value {
    let mut config = json!({"gateway": {"mode": "local"}});
    merge(&mut config, extra);
    config
}

/// Merges `extra` into `base`, object by object; a null takes the key away.
pub fn merge(base: &mut Value, extra: Value) {
    match (base, extra) {
        (Value::Object(base), Value::Object(extra)) => {
            for (key, value) in extra {
                match value {
                    Value::Null => drop(base.remove(&key)),
                    value => merge(base.entry(key).or_insert(Value::Null), value),
                }
            }
        }
        (base, extra) => *base = extra,
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child
            && let Ok(Some(status)) = child.try_wait()
        {
            let signal = status.signal();
            eprintln!("the gateway had ended by itself: {status} (signal {signal:?})");
        }
        self.kill();
        if std::thread::panicking() {
            eprintln!("--- the gateway's console\n{}", tail(&self.console()));
            eprintln!("--- the gateway's log\n{}", tail(&self.log()));
        }
    }
}

fn tail(text: &str) -> &str {
    let skip = text.lines().count().saturating_sub(60);
    text.lines().nth(skip).map_or(text, |line| {
        let at = line.as_ptr() as usize - text.as_ptr() as usize;
        &text[at..]
    })
}
