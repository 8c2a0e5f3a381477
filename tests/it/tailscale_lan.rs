//! A tailnet of several machines: https on the MagicDNS name, as clients see it. Only the tunnel under it is missing.

use crate::support::fake_tailscale::{FakeTailscale, NAME, OWNER};
use crate::support::gateway::config_with;
use crate::support::node_host::{official_commands_work, official_node_in, ready};
use crate::support::official::Official;
use crate::support::{Gateway, Host, Lan, Setup, eventually};
use serde_json::json;
use std::net::Ipv4Addr;
use std::path::PathBuf;

/// A gateway with a Serve route, and a machine of its owner's that knows it by name.
struct Tailnet {
    gateway: Gateway,
    authority: PathBuf,
    laptop: Host,
    _fake: FakeTailscale,
    _lan: Lan,
}

impl Tailnet {
    async fn new() -> Self {
        let (lan, [home, laptop]) = Lan::in_network(Ipv4Addr::new(100, 64, 0, 0), ["home", "laptop"]);
        let mut fake = FakeTailscale::start();
        fake.knows(&laptop.address().to_string(), OWNER, "The Owner");
        let authority = fake.answers_on(&home);
        laptop.knows(&[(NAME, home.address())]);
        let config = config_with(json!({"gateway": {"tailscale": {"mode": "serve"}}}));
        let gateway = fake.known_to(Setup::new().config(config).on(&home)).start().await;
        eventually("the route", async || fake.target()).await;
        Self { gateway, authority, laptop, _fake: fake, _lan: lan }
    }
}

#[tokio::test]
async fn the_official_clients_work_on_the_magicdns_name() {
    let tailnet = Tailnet::new().await;
    let gateway = &tailnet.gateway;
    let official = Official::remote(&format!("wss://{NAME}"), &gateway.token())
        .on(&tailnet.laptop)
        .trusting(&tailnet.authority);
    let start = async || official.node_host_over_tls(NAME, 443, "attic");
    let _node = official_node_in(gateway, start).await;
    let id = ready(gateway, "attic").await;
    official_commands_work(gateway, &official, "attic", &id).await;
}
