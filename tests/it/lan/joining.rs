//! A laptop joins over the LAN, and finds its gateway again.

use crate::support::gateway::TOKEN;
use crate::support::node_host::NativeNode;
use crate::support::{Gateway, Host, Lan, Setup, eventually};
use serde_json::json;

/// A gateway that listens on its LAN.
pub(super) async fn gateway_on(host: &Host) -> Gateway {
    Setup::new().config(json!({"gateway": {"bind": "lan"}})).on(host).start().await
}

/// Lets a node of this name in from elsewhere, in the two steps that a person takes, and waits until it serves.
pub(super) async fn let_in(gateway: &Gateway, name: &str) {
    for (of, list) in [("devices", "list"), ("nodes", "pending")] {
        let what = format!("{name} to be among those of `{of} {list}`");
        let request = eventually(&what, async || {
            let asked = gateway.cli_json(&[of, list, "--json"]).await;
            let pending = asked.as_array().or_else(|| asked["pending"].as_array())?;
            let ask = pending.iter().find(|ask| ask["displayName"] == name)?;
            Some(ask["requestId"].as_str()?.to_owned())
        })
        .await;
        let done = gateway.cli(&[of, "approve", &request]).await;
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }
    eventually("the node to serve", async || serves(gateway, name).await.then_some(())).await;
}

/// Whether the node answers.
pub(super) async fn serves(gateway: &Gateway, name: &str) -> bool {
    let params = "{\"bins\":[\"sh\"]}";
    let args = ["nodes", "invoke", "--node", name, "--command", "system.which", "--params", params, "--json"];
    gateway.cli(&args).await.status.success()
}

#[tokio::test]
async fn a_laptop_joins_over_the_lan_once_it_is_approved() {
    let (_lan, [home, laptop]) = Lan::new(["home", "laptop"]);
    let gateway = gateway_on(&home).await;
    let (address, port) = (home.address().to_string(), gateway.port.to_string());
    let _node = NativeNode::on(&laptop, &["--host", &address, "--port", &port], TOKEN, "laptop");
    let_in(&gateway, "laptop").await;
}

#[tokio::test]
async fn a_gateway_that_gets_another_address_is_found_again_by_its_name() {
    let (_lan, [home, laptop]) = Lan::new(["home", "laptop"]);
    let gateway = gateway_on(&home).await;
    laptop.knows(&[("home.local", home.address())]);
    let port = gateway.port.to_string();
    let _node = NativeNode::on(&laptop, &["--host", "home.local", "--port", &port], TOKEN, "laptop");
    let_in(&gateway, "laptop").await;

    let new = std::net::Ipv4Addr::new(192, 168, 77, 99);
    home.drop_address(home.address());
    home.add_address(new);
    laptop.knows(&[("home.local", new)]);
    laptop.give_up_on(gateway.port);
    eventually("the laptop to serve again", async || serves(&gateway, "laptop").await.then_some(())).await;
}
