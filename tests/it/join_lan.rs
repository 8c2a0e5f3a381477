//! Joining from another machine of the same network.

use crate::support::gateway::config_with;
use crate::support::{Connect, Identity, Lan, Newcomer, Setup, Upgrade, eventually};
use serde_json::json;

#[tokio::test]
async fn a_node_on_another_machine_joins_with_one_paste() {
    let (_lan, [home, attic, shed]) = Lan::new(["home", "attic", "shed"]);
    let config = config_with(json!({"gateway": {"bind": "lan", "nodes": {"pairing": {"sshVerify": false}}}}));
    let gateway = Setup::new().config(config).on(&home).start().await;
    let mut operator = gateway.operator().await;
    for (host, ours) in [(&attic, true), (&shed, false)] {
        let made = gateway.cli_json(&["devices", "join-code", "--json"]).await;
        assert_eq!(made["gatewayUrl"], format!("ws://{}:{}", home.address(), gateway.port));
        assert_eq!(made["urlSource"], "gateway.bind=lan");
        let mut newcomer = Newcomer::on(host);
        let code = made["setupCode"].as_str().unwrap();
        let paste = ["node", "run", "--pair", code];
        newcomer.start(if ours { newcomer.tidegate(&paste) } else { newcomer.openclaw(&paste) });
        let done = operator.event("device.pair.setup.completed").await;
        assert_eq!(done["setupId"], made["setupId"]);
        eventually("the node to be connected and approved", async || {
            let list = operator.ok("node.list", json!({})).await;
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
