//! Who comes over the LAN: a laptop with the token, a stranger, somebody in the middle.

use crate::support::gateway::TOKEN;
use crate::support::node_host::NativeNode;
use crate::support::{Connect, Gateway, Host, Identity, Lan, Setup, Upgrade, eventually};
use serde_json::{Value, json};
use std::process::Stdio;

/// A gateway that listens on its LAN.
pub(super) async fn gateway_on(host: &Host, more: Value) -> Gateway {
    let mut config = json!({"gateway": {"bind": "lan"}});
    crate::support::gateway::merge(&mut config, more);
    Setup::new().config(config).on(host).start().await
}

pub(super) fn with_tls() -> Value {
    json!({"gateway": {"tls": {"enabled": true}}})
}

/// Lets a node of this name in from elsewhere, in the two steps that a person takes, and waits until it serves.
pub(super) async fn let_in(gateway: &Gateway, name: &str) {
    for (list, approve) in [("devices", "devices"), ("nodes", "nodes")] {
        let command = if list == "devices" { "list" } else { "pending" };
        let what = format!("{name} to ask for its {list} approval");
        let request = eventually(&what, async || {
            let asked = gateway.cli_json(&[list, command, "--json"]).await;
            let pending = asked["pending"].as_array()?;
            let ask = pending.iter().find(|ask| ask["displayName"] == name)?;
            Some(ask["requestId"].as_str()?.to_owned())
        })
        .await;
        let done = gateway.cli(&[approve, "approve", &request]).await;
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

/// What the gateway says about its certificate.
async fn fingerprint(gateway: &Gateway) -> String {
    let status = gateway.cli_json(&["gateway", "status", "--json"]).await;
    let text = status.to_string();
    let found = status.pointer("/tls/fingerprint").or_else(|| status.pointer("/gateway/tls/fingerprint"));
    found.and_then(Value::as_str).unwrap_or_else(|| panic!("no fingerprint in {text}")).to_owned()
}

#[tokio::test]
async fn a_laptop_joins_over_the_lan_once_it_is_approved() {
    let (_lan, [home, laptop]) = Lan::new(["home", "laptop"]);
    let gateway = gateway_on(&home, json!({})).await;
    let (address, port) = (home.address().to_string(), gateway.port.to_string());
    let _node = NativeNode::on(&laptop, &["--host", &address, "--port", &port], TOKEN, "laptop");
    let_in(&gateway, "laptop").await;
}

#[tokio::test]
async fn a_laptop_joins_over_tls_with_a_pin() {
    let (_lan, [home, laptop]) = Lan::new(["home", "laptop"]);
    let gateway = gateway_on(&home, with_tls()).await;
    let pin = fingerprint(&gateway).await;
    let (address, port) = (home.address().to_string(), gateway.port.to_string());
    let options = ["--host", &address, "--port", &port, "--tls-fingerprint", &pin];
    let _node = NativeNode::on(&laptop, &options, TOKEN, "laptop");
    let_in(&gateway, "laptop").await;
}

#[tokio::test]
async fn somebody_in_the_middle_with_another_certificate_is_refused() {
    let (_lan, [home, mallory, laptop]) = Lan::new(["home", "mallory", "laptop"]);
    let mut gateway = gateway_on(&home, with_tls()).await;
    let pin = fingerprint(&gateway).await;
    let (address, port) = (home.address().to_string(), gateway.port.to_string());
    let options = ["--host", &address, "--port", &port, "--tls-fingerprint", &pin];
    let mut node = NativeNode::on(&laptop, &options, TOKEN, "laptop");
    let_in(&gateway, "laptop").await;

    // Mallory takes over the gateway's address and port, with a certificate of her own.
    gateway.kill();
    home.drop_address(home.address());
    mallory.add_address(home.address());
    laptop.forget_neighbours();
    let config = json!({"gateway": {"bind": "lan", "tls": {"enabled": true}}});
    let hers = Setup::new().config(config).at_port(gateway.port).on(&mallory).start().await;
    let her_pin = fingerprint(&hers).await;
    let (status, said) = node.ended().await;
    assert_ne!(status.code(), Some(0));
    assert!(said.contains(&pin) && said.contains(&her_pin), "names both fingerprints: {said}");

    // The command line is not fooled either.
    let mut command = laptop.command(crate::support::gateway::TIDEGATE);
    let url = format!("wss://{address}:{port}");
    command.args(["health", "--url", &url, "--token", TOKEN, "--tls-fingerprint", &pin]);
    crate::support::gateway::clean_environment(&mut command, hers.home());
    let refused = command.stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && said.contains(&pin) && said.contains(&her_pin), "{said}");
}

#[tokio::test]
async fn a_stranger_gets_nowhere() {
    let (_lan, [home, stranger]) = Lan::new(["home", "stranger"]);
    let gateway = gateway_on(&home, json!({})).await;
    let door = Upgrade::at(home.socket_address(gateway.port)).from(&stranger);
    let identity = Identity::new();
    for connect in [Connect::cli(), Connect::backend(), Connect::node(&["system.run"]).device(&identity)] {
        let refused = connect.clone().token("guess").over(&door).await.refusal();
        assert_eq!((refused.detail(), refused.code), ("AUTH_TOKEN_MISMATCH", 1008));
        connect.over(&door).await.refusal();
    }
    // Even with the token, nobody from elsewhere is let in or given a scope without a person's word.
    let (hello, mut session) =
        Connect::cli().token(TOKEN).scopes(&["operator.admin"]).over(&door).await.hello();
    assert_eq!(hello["auth"]["scopes"], json!([]));
    assert_eq!(session.refused("node.list", json!({})).await["code"], "FORBIDDEN");
    let device = Connect::cli().token(TOKEN).device(&identity).over(&door).await.refusal();
    assert_eq!(device.detail(), "PAIRING_REQUIRED");
}

#[tokio::test]
async fn a_gateway_that_gets_another_address_is_found_again_by_its_name() {
    let (_lan, [home, laptop]) = Lan::new(["home", "laptop"]);
    let gateway = gateway_on(&home, json!({})).await;
    laptop.knows(&[("home.local", home.address())]);
    let port = gateway.port.to_string();
    let _node = NativeNode::on(&laptop, &["--host", "home.local", "--port", &port], TOKEN, "laptop");
    let_in(&gateway, "laptop").await;

    let new = std::net::Ipv4Addr::new(192, 168, 77, 99);
    home.add_address(new);
    home.drop_address(home.address());
    laptop.knows(&[("home.local", new)]);
    laptop.give_up_on(gateway.port);
    eventually("the laptop to serve again", async || serves(&gateway, "laptop").await.then_some(())).await;
}
