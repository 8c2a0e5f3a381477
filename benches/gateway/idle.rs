//! What a gateway and a node host hold in memory while nothing happens.

use super::bot::Bot;
use super::peer;
use super::process::{Server, State};
use super::table::{Bar, Table, mb};
use serde_json::json;
use std::time::Duration;
use tokio::time::sleep;

const SETTLE: Duration = Duration::from_secs(4);
const CONNECTIONS: usize = 500;

pub async fn measure(table: &mut Table) {
    eprintln!("idle");
    let bot = Bot::start().await;
    let account =
        json!({"enabled": true, "botToken": "123456:bench", "apiRoot": bot.root(), "dmPolicy": "pairing"});
    let config = json!({"gateway": {"mode": "local"}, "channels": {"telegram": account}});
    let state = State::with_config(&config);
    let gateway = state.gateway().await;
    assert!(bot.is_polled().await, "the gateway does not poll its bot");
    sleep(SETTLE).await;
    let pss = gateway.pss();
    let bar = Bar::below(pss as f64 / 1e6, 15.0, "MB");
    table.alone("idle gateway, Telegram on: PSS", mb(pss), Some(bar));
    table.alone("idle gateway, Telegram on: threads", gateway.threads().to_string(), None);
    node_host(table, &gateway).await;
    connections(table, &gateway).await;
}

async fn node_host(table: &mut Table, gateway: &Server) {
    let state = State::new();
    let node = state.node_host(gateway.port);
    let mut operator = peer::operator(gateway.port).await.unwrap();
    for tries in 0.. {
        let list = peer::ask(&mut operator, "node.list", &json!({})).await.unwrap();
        let mut nodes = list["nodes"].as_array().unwrap().iter();
        if nodes.any(|node| node["connected"] == true) {
            break;
        }
        assert!(tries < 300, "the node host never connected");
        sleep(Duration::from_millis(100)).await;
    }
    sleep(SETTLE).await;
    let pss = node.pss();
    table.alone("idle node host, connected: PSS", mb(pss), Some(Bar::below(pss as f64 / 1e6, 6.0, "MB")));
    table.alone("idle node host, connected: threads", node.threads().to_string(), None);
}

async fn connections(table: &mut Table, gateway: &Server) {
    let mut open = Vec::with_capacity(CONNECTIONS);
    // The first ones grow what all share.
    for _ in 0..50 {
        open.push(peer::operator(gateway.port).await.unwrap());
    }
    sleep(Duration::from_secs(1)).await;
    let before = gateway.pss();
    for _ in 0..CONNECTIONS {
        open.push(peer::operator(gateway.port).await.unwrap());
    }
    sleep(Duration::from_secs(1)).await;
    let each = gateway.pss().saturating_sub(before) / CONNECTIONS as u64;
    let case = format!("each of {CONNECTIONS} idle connections");
    table.alone(&case, format!("{:.1} KB", each as f64 / 1e3), None);
}
