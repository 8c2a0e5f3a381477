//! Node hosts as processes of their own, ours and the official one, and their way to an approved surface.

use super::eventually;
use super::gateway::{Gateway, TIDEGATE, clean_environment};
use super::lan::Host;
use super::official::{NodeHost, Official};
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
    place: Option<Host>,
    gateway: Vec<String>,
    token: String,
    name: String,
}

impl NativeNode {
    pub fn start(gateway: &Gateway, name: &str) -> Self {
        Self::at(gateway.port, &gateway.token(), name)
    }

    /// A node of whatever listens on this port.
    pub fn at(port: u16, token: &str, name: &str) -> Self {
        let gateway = ["--host", "127.0.0.1", "--port", &port.to_string()].map(str::to_owned).to_vec();
        let mut node = Self::idle(token, name, gateway);
        node.run();
        node
    }

    /// A node with these options that say where the gateway is; `token` is in its environment.
    pub fn by_options(gateway: &[&str], token: &str, name: &str) -> Self {
        let gateway = gateway.iter().map(|&option| option.to_owned()).collect();
        let mut node = Self::idle(token, name, gateway);
        node.run();
        node
    }

    /// A node on a machine of the LAN; `gateway` are the options that say where the gateway is.
    pub fn on(place: &Host, gateway: &[&str], token: &str, name: &str) -> Self {
        let gateway = gateway.iter().map(|&option| option.to_owned()).collect();
        let mut node = Self { place: Some(place.clone()), ..Self::idle(token, name, gateway) };
        node.run();
        node
    }

    fn idle(token: &str, name: &str, gateway: Vec<String>) -> Self {
        let home = tempfile::tempdir().unwrap();
        Self { home, host: None, place: None, gateway, token: token.into(), name: name.into() }
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
        let mut command = match &self.place {
            Some(place) => place.command(TIDEGATE),
            None => Command::new(TIDEGATE),
        };
        command.args(["node", "run"]).args(&self.gateway);
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

    /// How it ended by itself, and what it said until then.
    pub async fn ended(&mut self) -> (ExitStatus, String) {
        let mut host = self.host.take().expect("the node host runs");
        let status = eventually("the node host to end by itself", async || host.ended()).await;
        (status, host.log())
    }

    pub fn log(&self) -> String {
        self.host.as_ref().map(NodeHost::log).unwrap_or_default()
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

/// Approves every device that waits.
pub async fn let_devices_in(gateway: &Gateway) {
    let mut operator = gateway.operator().await;
    let devices = operator.ok("device.pair.list", json!({})).await;
    for request in devices["pending"].as_array().unwrap() {
        let _ = operator.call("device.pair.approve", json!({"requestId": request["requestId"]})).await;
    }
}

/// Starts an official node host that may have to be let in first: it does not try again by itself.
pub async fn official_node_in(gateway: &Gateway, start: impl AsyncFn() -> NodeHost) -> NodeHost {
    let mut host = start().await;
    let mut asked = false;
    eventually("the official node host to be let in", async || {
        let mut operator = gateway.operator().await;
        let nodes = operator.ok("node.list", json!({})).await;
        if nodes["nodes"].as_array().unwrap().iter().any(|node| node["connected"] == true) {
            return Some(());
        }
        let devices = operator.ok("device.pair.list", json!({})).await;
        if !asked && devices["pending"].as_array().is_some_and(|pending| !pending.is_empty()) {
            let_devices_in(gateway).await;
            host.kill();
            host = start().await;
            asked = true;
        }
        None
    })
    .await;
    host
}

/// What people ask the official command line from elsewhere, of a gateway with this node; whatever device asks for it
/// on the way is let in.
pub async fn official_commands_work(gateway: &Gateway, official: &Official, name: &str, id: &str) {
    let bins = "{\"bins\":[\"ls\"]}";
    let which = ["nodes", "invoke", "--node", name, "--command", "system.which", "--params", bins, "--json"];
    for (command, says) in [
        (&["health", "--json"][..], "\"ok\": true"),
        (&["status", "--json"], "gateway"),
        (&["nodes", "status", "--json"], id),
        (&["nodes", "list", "--json"], id),
        (&["nodes", "describe", "--node", name, "--json"], "system.which"),
        (&which, "/ls"),
        (&["logs", "--limit", "20", "--json"], "connected"),
    ] {
        let said = eventually(&format!("openclaw {command:?}"), async || {
            let output = official.run(command).await;
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            if output.status.success() && said.contains(says) {
                return Some(said);
            }
            eprintln!("openclaw {command:?}: {output:?}");
            let_devices_in(gateway).await;
            None
        })
        .await;
        assert!(!said.contains("unreachable"), "{command:?}: {said}");
    }
}

/// What the official command line can do at a loopback address that the gateway takes for a remote one: it shows no
/// device there, so it gets no scopes; the node of this id is used by the gateway's own operator.
pub async fn official_health_and_node_work(gateway: &Gateway, official: &Official, id: &str) {
    assert_eq!(official.json(&["health", "--json"]).await["ok"], true);
    official.json(&["status", "--json"]).await;
    let refused = official.run(&["nodes", "status", "--json"]).await;
    assert!(format!("{refused:?}").contains("missing scope"), "{refused:?}");
    let which = super::node::invoke(id, "system.which", json!({"bins": ["ls"]}));
    let answer = gateway.operator().await.ok("node.invoke", which).await;
    assert!(answer.to_string().contains("/ls"), "{answer}");
}
