//! A node that runs on a machine of the owner's is paired without a question: its key is read there, over SSH.

use crate::support::gateway::config_with;
use crate::support::node_host::{NativeNode, ready};
use crate::support::sshd::Sshd;
use crate::support::{Connect, Gateway, Identity, Newcomer, Setup, Socket, eventually};
use serde_json::{Value, json};

/// A machine with an SSH server, and a gateway that may ask there. Both are on this machine's loopback.
struct Site {
    sshd: Sshd,
    gateway: Gateway,
    newcomer: Newcomer,
    operator: Socket,
}

impl Site {
    async fn new() -> Self {
        Self::with(|_| String::new()).await
    }

    /// The gateway's user has these lines more in their ssh config.
    async fn with(more: impl Fn(&Sshd) -> String) -> Self {
        let newcomer = Newcomer::new();
        let home = newcomer.install();
        let sshd = Sshd::with(&format!("SetEnv HOME={}", home.display())).await;
        let key = sshd.file("user_key").display().to_string();
        sshd.write_client(&key, &format!("Host 127.0.0.1\n  Port {}\n{}", sshd.port, more(&sshd)));
        let pairing = json!({"autoApproveLocal": false, "sshVerify": {"cidrs": ["127.0.0.0/8"]}});
        let config = config_with(json!({"gateway": {"nodes": {"pairing": pairing}}}));
        let path = sshd.path().into_string().unwrap();
        let gateway = Setup::new().config(config).env("PATH", path).start().await;
        let operator = gateway.operator().await;
        Self { sshd, gateway, newcomer, operator }
    }

    fn start(&mut self, official: bool) {
        let port = self.gateway.port.to_string();
        let args = ["node", "run", "--host", "127.0.0.1", "--port", &port, "--display-name", "attic"];
        let mut command =
            if official { self.newcomer.openclaw(&args) } else { self.newcomer.tidegate(&args) };
        command.env("OPENCLAW_GATEWAY_TOKEN", self.gateway.token());
        self.newcomer.start(command);
    }

    async fn joined(&mut self) -> String {
        let operator = &mut self.operator;
        eventually("the node to be connected and approved", async || {
            let list = operator.ok("node.list", json!({})).await;
            let node = list["nodes"].get(0)?.clone();
            let there = node["connected"] == true && node["approvalState"] == "approved";
            there.then(|| node["nodeId"].as_str().unwrap().to_owned())
        })
        .await
    }

    /// Asks as a node with this key until nobody looks for it any more; why not is in the log.
    async fn turned_down(&mut self, identity: &Identity) -> String {
        let mut hints = vec![];
        eventually("the proof to fail", async || {
            let connect = Connect::node(&["system.run"]).token(&self.gateway.token()).device(identity);
            let refused = connect.to(self.gateway.port).await.refusal();
            assert_eq!(refused.detail(), "PAIRING_REQUIRED", "{refused:?}");
            hints.push(refused.error["details"]["recommendedNextStep"].clone());
            hints.last().unwrap().is_null().then_some(())
        })
        .await;
        assert_eq!(hints[0], "wait_then_retry", "the first time it is looked for");
        let pending = self.operator.ok("device.pair.list", json!({})).await["pending"].clone();
        assert_eq!(pending[0]["deviceId"], identity.id(), "it waits as ever: {pending}");
        let log = self.gateway.log();
        let mut lines = log.lines().filter(|line| line.contains("was not proven over ssh"));
        let line = lines.next().unwrap_or_else(|| panic!("no reason in the log: {log}")).to_owned();
        assert!(lines.next().is_none(), "each request is tried once: {log}");
        line
    }
}

#[tokio::test]
async fn a_node_whose_key_is_found_on_its_machine_is_paired_with_its_commands() {
    let mut site = Site::new().await;
    site.start(false);
    let id = site.joined().await;
    let device = site.operator.ok("device.pair.list", json!({})).await["paired"][0].clone();
    assert_eq!((&device["deviceId"], &device["approvedVia"]), (&json!(id), &json!("ssh-verified")));
    assert_eq!(site.operator.event("node.pair.resolved").await["decision"], "approved");
}

#[tokio::test]
async fn an_ssh_config_made_for_a_person_changes_nothing() {
    let mut site = Site::with(|sshd| {
        let socket = sshd.file("mux");
        format!(
            "  RemoteCommand echo hello\n  RequestTTY force\n  ControlMaster auto\n  ControlPersist yes\n  \
             ControlPath {}\n  LogLevel QUIET",
            socket.display()
        )
    })
    .await;
    site.start(false);
    site.joined().await;
    assert!(!site.sshd.file("mux").exists(), "no connection stays open behind it");
}

#[tokio::test]
async fn the_official_node_host_is_proven_the_same_way() {
    let mut site = Site::new().await;
    site.start(true);
    site.joined().await;
    let device = site.operator.ok("device.pair.list", json!({})).await["paired"][0].clone();
    assert_eq!(device["approvedVia"], "ssh-verified");
}

#[tokio::test]
async fn another_key_than_the_one_that_is_there_waits_for_a_person() {
    let mut site = Site::new().await;
    site.start(false);
    site.joined().await;
    let reason = site.turned_down(&Identity::new()).await;
    assert!(reason.contains("the key that is there is another"), "{reason}");
}

#[tokio::test]
async fn a_machine_that_is_no_node_proves_nothing() {
    let mut site = Site::new().await;
    let reason = site.turned_down(&Identity::new()).await;
    assert!(reason.contains("no node has an identity there"), "{reason}");
}

#[tokio::test]
async fn a_machine_whose_host_key_is_not_known_is_not_asked() {
    let mut site = Site::new().await;
    site.sshd.know_nobody();
    let reason = site.turned_down(&Identity::new()).await;
    assert!(reason.contains("ssh failed: Host key verification failed"), "{reason}");
}

#[tokio::test]
async fn a_machine_that_is_not_there_or_lets_nobody_in_proves_nothing() {
    let mut site = Site::new().await;
    let key = site.sshd.file("other_key").display().to_string();
    site.sshd.write_client(&key, &format!("Host 127.0.0.1\n  Port {}", site.sshd.port));
    let reason = site.turned_down(&Identity::new()).await;
    assert!(reason.contains("Permission denied"), "{reason}");
    let mut site = Site::new().await;
    site.sshd.stop();
    let reason = site.turned_down(&Identity::new()).await;
    assert!(reason.contains("Connection refused"), "{reason}");
}

#[tokio::test]
async fn an_operator_is_never_looked_for() {
    let mut site = Site::new().await;
    let identity = Identity::new();
    let refused =
        Connect::cli().token(&site.gateway.token()).device(&identity).to(site.gateway.port).await.refusal();
    assert_eq!(refused.detail(), "PAIRING_REQUIRED");
    assert_eq!(refused.error["details"]["recommendedNextStep"], Value::Null);
    site.operator.event("device.pair.requested").await;
    assert!(!site.sshd.log().contains("Accepted"), "{}", site.sshd.log());
}

#[tokio::test]
async fn an_identity_is_shown_on_one_line_but_never_made() {
    let newcomer = Newcomer::new();
    let show = || newcomer.tidegate(&["node", "identity", "--json"]);
    for _ in 0..2 {
        let output = newcomer.run(show()).await;
        assert_eq!(output.status.code(), Some(1), "asking makes no node of a machine");
    }
    let gateway = Gateway::start().await;
    let mut node = NativeNode::start(&gateway, "attic");
    let id = ready(&gateway, "attic").await;
    node.kill();
    let mut command = newcomer.tidegate(&["node", "identity", "--json"]);
    command.env("TIDEGATE_STATE_DIR", node.state());
    let text = String::from_utf8(newcomer.run(command).await.stdout).unwrap();
    assert_eq!(text.lines().count(), 1, "{text}");
    let identity: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&identity["deviceId"], identity.as_object().unwrap().len()), (&json!(id), 2));
    assert_eq!(identity["publicKey"].as_str().unwrap().len(), 43);
}
