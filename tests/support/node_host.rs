//! Node hosts as processes of their own, ours and the official one, and their way to an approved surface.

use super::gateway::{Gateway, TIDEGATE, clean_environment};
use super::{eventually, official::NodeHost};
use serde_json::json;
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use tempfile::TempDir;

/// `tidegate node run` with a home of its own.
pub struct NativeNode {
    home: TempDir,
    host: Option<NodeHost>,
    port: u16,
    token: String,
    name: String,
}

impl NativeNode {
    pub fn start(gateway: &Gateway, name: &str) -> Self {
        Self::at(gateway.port, &gateway.token(), name)
    }

    /// A node of whatever listens on this port.
    pub fn at(port: u16, token: &str, name: &str) -> Self {
        let home = tempfile::tempdir().unwrap();
        let mut node = Self { home, host: None, port, token: token.into(), name: name.into() };
        node.run();
        node
    }

    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// Its state folder.
    pub fn state(&self) -> PathBuf {
        self.home.path().join("state")
    }

    /// A `tidegate node run` with this node's state.
    pub fn command(&self) -> Command {
        let mut command = Command::new(TIDEGATE);
        command.args(["node", "run", "--host", "127.0.0.1", "--port", &self.port.to_string()]);
        command.args(["--display-name", &self.name]).current_dir(self.home.path()).stdin(Stdio::null());
        clean_environment(&mut command, self.home.path());
        command.env("TIDEGATE_STATE_DIR", self.state());
        command.env("TIDEGATE_GATEWAY_TOKEN", &self.token);
        command
    }

    /// Starts the process, with the identity that it had before if there was one.
    pub fn run(&mut self) {
        let path = self.home.path().join("node-host.log");
        let log = File::options().create(true).append(true).open(&path).unwrap();
        let mut command = self.command();
        command.stdout(log.try_clone().unwrap()).stderr(log).process_group(0);
        self.host = Some(NodeHost::spawned(command.spawn().unwrap(), path));
    }

    /// Asks the process to stop, and waits until it has.
    pub async fn stop(&mut self) -> ExitStatus {
        let mut host = self.host.take().expect("the node host runs");
        host.terminate();
        eventually("the node host to end", async || host.ended()).await
    }

    /// Ends the process as a crash would.
    pub fn kill(&mut self) {
        if let Some(mut host) = self.host.take() {
            host.kill();
        }
    }
}

/// Waits for the node of this name, approves its surface, and returns its id once its commands can be used.
pub async fn ready(gateway: &Gateway, name: &str) -> String {
    let mut operator = gateway.operator().await;
    let what = format!("the node {name} to be connected and approved");
    eventually(&what, async || {
        let list = operator.ok("node.pair.list", json!({})).await;
        for pending in list["pending"].as_array().unwrap() {
            if pending["displayName"] == name {
                let _ = operator.call("node.pair.approve", json!({"requestId": pending["requestId"]})).await;
            }
        }
        connected(&mut operator, name).await
    })
    .await
}

/// The id of the connected, approved node of this name, if there is one.
async fn connected(operator: &mut super::Socket, name: &str) -> Option<String> {
    let list = operator.ok("node.list", json!({})).await;
    let nodes = list["nodes"].as_array().unwrap();
    let node = nodes.iter().find(|node| {
        node["displayName"] == name && node["connected"] == true && node["approvalState"] == "approved"
    })?;
    Some(node["nodeId"].as_str().unwrap().to_owned())
}
