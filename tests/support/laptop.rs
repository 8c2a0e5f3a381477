//! A machine that reaches gateways through an SSH server.

use super::gateway::{TIDEGATE, clean_environment};
use super::official::NodeHost;
use super::sshd::is_alive;
use super::{Sshd, eventually, within};
use serde_json::Value;
use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use tempfile::TempDir;

/// A machine that reaches gateways through this server only: its own home, state and `ssh`.
pub struct Laptop<'a> {
    pub home: TempDir,
    pub sshd: &'a Sshd,
}

impl<'a> Laptop<'a> {
    pub fn new(sshd: &'a Sshd) -> Self {
        let laptop = Self { home: tempfile::tempdir().unwrap(), sshd };
        fs::create_dir_all(laptop.state()).unwrap();
        laptop
    }

    pub fn with_config(sshd: &'a Sshd, config: &Value) -> Self {
        let laptop = Self::new(sshd);
        fs::write(laptop.state().join("tidegate.json"), config.to_string()).unwrap();
        laptop
    }

    pub fn state(&self) -> PathBuf {
        self.home.path().join("state")
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(TIDEGATE);
        command.args(args).current_dir(self.home.path()).stdin(Stdio::null()).process_group(0);
        clean_environment(&mut command, self.home.path());
        command.env("TIDEGATE_STATE_DIR", self.state()).env("PATH", self.sshd.path());
        command
    }

    pub async fn run(&self, args: &[&str]) -> Output {
        finish(self.command(args)).await
    }

    pub async fn ok(&self, args: &[&str]) -> String {
        let output = self.run(args).await;
        assert!(output.status.success(), "tidegate {args:?}: {}", said(&output));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    pub async fn json(&self, args: &[&str]) -> Value {
        let args = [args, &["--json"][..]].concat();
        serde_json::from_str(&self.ok(&args).await).unwrap()
    }

    pub async fn fails(&self, args: &[&str]) -> (i32, String) {
        refused(self.command(args)).await
    }

    /// Starts a command that stays, with its output in a file.
    pub fn start(&self, args: &[&str]) -> NodeHost {
        let path = self.home.path().join("console");
        let console = File::options().create(true).append(true).open(&path).unwrap();
        let mut command = self.command(args);
        command.stdout(console.try_clone().unwrap()).stderr(console);
        NodeHost::spawned(command.spawn().unwrap(), path)
    }

    /// Processes that were started from this home, whoever their parent is now.
    pub fn processes(&self) -> Vec<String> {
        let mark = format!("HOME={}\0", self.home.path().display());
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let Ok(pid) = entry.file_name().to_string_lossy().parse::<u32>() else { continue };
            let read = |name: &str| fs::read(entry.path().join(name)).unwrap_or_default();
            if contains(&read("environ"), mark.as_bytes()) && is_alive(pid) {
                found.push(String::from_utf8_lossy(&read("cmdline")).replace('\0', " "));
            }
        }
        found
    }

    pub async fn is_quiet(&self) {
        eventually("every process of the command to be gone", async || {
            self.processes().is_empty().then_some(())
        })
        .await;
    }
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

async fn finish(mut command: Command) -> Output {
    within(
        &format!("{command:?}"),
        tokio::task::spawn_blocking(move || command.stdin(Stdio::null()).output().unwrap()),
    )
    .await
    .unwrap()
}

/// Runs a command that must fail: its exit code and what it said.
pub async fn refused(command: Command) -> (i32, String) {
    let shown = format!("{command:?}");
    let output = finish(command).await;
    assert!(!output.status.success(), "{shown} succeeded: {}", said(&output));
    (output.status.code().unwrap(), said(&output))
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// `ssh -N -L` by hand, until it is dropped.
pub struct ByHand(pub Child);

impl ByHand {
    pub async fn open(sshd: &Sshd, from: &str, to: u16) -> Self {
        let forward = format!("{from}:127.0.0.1:{to}");
        let tunnel = Self(sshd.ssh(&["-N", "-L", &forward]).stderr(Stdio::null()).spawn().unwrap());
        eventually("the tunnel to stand", async || std::net::TcpStream::connect(from).ok()).await;
        tunnel
    }
}

impl Drop for ByHand {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
