//! Joining from another machine of the same network.

use crate::support::gateway::{clean_environment, config_with};
use crate::support::lan::Host;
use crate::support::official::NodeHost;
use crate::support::sshd::Sshd;
use crate::support::{Connect, Identity, Lan, Newcomer, Setup, Upgrade, eventually};
use serde_json::{Value, json};
use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::process::Stdio;

#[tokio::test]
async fn a_node_on_another_machine_joins_with_one_paste() {
    joins_from_afar(false).await;
}

#[tokio::test]
async fn a_code_carries_the_pin_of_a_gateway_with_a_certificate_of_its_own() {
    joins_from_afar(true).await;
}

async fn joins_from_afar(tls: bool) {
    let (_lan, [home, attic, shed]) = Lan::new(["home", "attic", "shed"]);
    let pairing = json!({"sshVerify": false});
    let config = config_with(json!({"gateway": {
        "bind": "lan", "tls": {"enabled": tls}, "nodes": {"pairing": pairing},
    }}));
    let gateway = Setup::new().config(config).on(&home).start().await;
    for (host, ours) in [(&attic, true), (&shed, false)] {
        let made = gateway.cli_json(&["devices", "join-code", "--json"]).await;
        let scheme = if tls { "wss" } else { "ws" };
        assert_eq!(made["gatewayUrl"], format!("{scheme}://{}:{}", home.address(), gateway.port));
        assert_eq!(made["urlSource"], "gateway.bind=lan");
        let mut newcomer = Newcomer::on(host);
        let code = made["setupCode"].as_str().unwrap();
        let paste = ["node", "run", "--pair", code];
        newcomer.start(if ours { newcomer.tidegate(&paste) } else { newcomer.openclaw(&paste) });
        let ask = async |method: &str, params: Value| {
            gateway.cli_json(&["gateway", "call", method, "--params", &params.to_string()]).await
        };
        let done = eventually("the code to be used", async || {
            let status = ask("device.pair.setupStatus", json!({"setupId": made["setupId"]})).await;
            status.get("completion").cloned()
        })
        .await;
        eventually("the node to be connected and approved", async || {
            let list = ask("node.list", json!({})).await;
            let nodes = list["nodes"].as_array().unwrap();
            let node = nodes.iter().find(|node| node["nodeId"] == done["deviceId"])?;
            (node["connected"] == true && node["approvalState"] == "approved").then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn a_node_from_a_trusted_network_is_paired_and_its_commands_still_wait() {
    let (_lan, [home, attic]) = Lan::new(["home", "attic"]);
    let pairing = json!({"autoApproveCidrs": ["192.168.77.0/24"], "sshVerify": false});
    let config = config_with(json!({"gateway": {"bind": "lan", "nodes": {"pairing": pairing}}}));
    let gateway = Setup::new().config(config).on(&home).start().await;
    let mut operator = gateway.operator().await;
    let way = Upgrade::at(home.socket_address(gateway.port)).from(&attic);
    let (node, greedy, owner) = (Identity::new(), Identity::new(), Identity::new());
    let token = gateway.token();
    let _socket = Connect::node(&["system.run"]).token(&token).device(&node).over(&way).await.session();
    assert_eq!(operator.event("node.pair.requested").await["nodeId"], node.id());
    let device = operator.ok("device.pair.list", json!({})).await["paired"][0].clone();
    assert_eq!(device["approvedVia"], "trusted-cidr");
    for (connect, who) in [
        (Connect::cli().token(&token).device(&owner), "an operator"),
        (Connect::node(&[]).scopes(&["operator.read"]).token(&token).device(&greedy), "a node with scopes"),
    ] {
        let refused = connect.over(&way).await.refusal();
        assert_eq!(refused.detail(), "PAIRING_REQUIRED", "{who}");
    }
    let elsewhere = Upgrade::at(home.socket_address(gateway.port)).from(&home);
    let refused = Connect::node(&[]).token("wrong").device(&Identity::new()).over(&elsewhere).await.refusal();
    assert_eq!(refused.detail(), "AUTH_TOKEN_MISMATCH", "the network is no credential");
}

/// By default: the only thing that the owner did is to be able to log in there.
#[tokio::test]
async fn a_node_on_a_machine_where_the_owner_can_log_in_is_paired_and_a_strangers_is_not() {
    let (_lan, [home, attic, shed]) = Lan::new(["home", "attic", "shed"]);
    let mut newcomer = Newcomer::on(&attic);
    let sshd = Sshd::with(&format!("SetEnv HOME={}", newcomer.install().display())).await;
    let _server = serve(&sshd, &attic);
    let config = config_with(json!({"gateway": {"bind": "lan"}}));
    let path = sshd.path().into_string().unwrap();
    let gateway = Setup::new().config(config).env("PATH", path).on(&home).start().await;
    let mut operator = gateway.operator().await;

    let (way, stranger) = (Upgrade::at(home.socket_address(gateway.port)), Identity::new());
    let connect = Connect::node(&["system.run"]).token(&gateway.token()).device(&stranger);
    let refused = connect.over(&way.from(&shed)).await.refusal();
    assert_eq!(refused.detail(), "PAIRING_REQUIRED");

    let (host, port) = (home.address().to_string(), gateway.port.to_string());
    let mut command = newcomer.tidegate(&["node", "run", "--host", &host, "--port", &port]);
    command.env("TIDEGATE_GATEWAY_TOKEN", gateway.token());
    newcomer.start(command);
    eventually("the node to be connected and approved", async || {
        let list = operator.ok("node.list", json!({})).await;
        let node = list["nodes"].get(0)?.clone();
        (node["connected"] == true && node["approvalState"] == "approved").then_some(())
    })
    .await;
    let devices = operator.ok("device.pair.list", json!({})).await;
    assert_eq!(devices["paired"][0]["approvedVia"], "ssh-verified");
    assert_eq!(devices["pending"][0]["deviceId"], stranger.id());
}

/// The same server on another machine; the owner's ssh knows it there.
fn serve(sshd: &Sshd, host: &Host) -> NodeHost {
    let config = fs::read_to_string(sshd.file("sshd_config")).unwrap();
    let there = config.replace("ListenAddress 127.0.0.1", &format!("ListenAddress {}", host.address()));
    fs::write(sshd.file("sshd_config_there"), there).unwrap();
    let key = fs::read_to_string(sshd.file("host_key.pub")).unwrap();
    fs::write(sshd.file("known_hosts"), format!("[{}]:{} {key}", host.address(), sshd.port)).unwrap();
    let user_key = sshd.file("user_key").display().to_string();
    sshd.write_client(&user_key, &format!("Host {}\n  Port {}", host.address(), sshd.port));
    let mut command = host.command("/usr/sbin/sshd");
    command.args(["-D", "-e", "-f"]).arg(sshd.file("sshd_config_there"));
    clean_environment(&mut command, sshd.file("").as_path());
    let log = File::create(sshd.file("log_there")).unwrap();
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).process_group(0);
    NodeHost::spawned(command.spawn().unwrap(), sshd.file("log_there"))
}
