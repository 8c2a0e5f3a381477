//! The network fails while a node is connected: nothing hangs, nothing runs twice, and it comes back by itself.

use super::joining::{gateway_on, let_in, serves};
use crate::support::gateway::TOKEN;
use crate::support::node_host::NativeNode;
use crate::support::{Gateway, Host, Lan, eventually};
use serde_json::{Value, json};
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

struct Scene {
    _lan: Lan,
    home: Host,
    laptop: Host,
    gateway: Gateway,
    node: NativeNode,
}

impl Scene {
    async fn set() -> Self {
        let (lan, [home, laptop]) = Lan::new(["home", "laptop"]);
        let gateway = gateway_on(&home).await;
        let (address, port) = (home.address().to_string(), gateway.port.to_string());
        let node = NativeNode::on(&laptop, &["--host", &address, "--port", &port], TOKEN, "laptop");
        let_in(&gateway, "laptop").await;
        Self { _lan: lan, home, laptop, gateway, node }
    }

    fn tally(&self) -> PathBuf {
        self.node.home().canonicalize().unwrap().join("tally")
    }

    /// A command that counts how often it ran, slowly enough to be under way when the cable is cut.
    async fn begin(&self) -> (crate::support::Socket, String) {
        let mut operator = self.gateway.operator().await;
        let list = operator.ok("node.list", json!({})).await;
        let node = list["nodes"][0]["nodeId"].clone();
        let script = format!("echo begun >> {0}; sleep 2; echo done >> {0}", self.tally().display());
        let params = json!({"nodeId": node, "command": "system.run", "params": {"command": ["/bin/sh", "-c", script]},
            "timeoutMs": 100_000, "idempotencyKey": "once"});
        let id = operator.ask("node.invoke", params).await;
        eventually("the command to begin", async || {
            fs::read_to_string(self.tally()).ok().filter(|text| text.contains("begun")).map(|_| ())
        })
        .await;
        (operator, id)
    }

    /// The command ran to its end, once, and its caller heard the truth about it.
    async fn settled(&self, outcome: Result<Value, Value>) {
        eventually("the command to end", async || {
            fs::read_to_string(self.tally()).ok().filter(|text| text.contains("done")).map(|_| ())
        })
        .await;
        assert_eq!(fs::read_to_string(self.tally()).unwrap(), "begun\ndone\n");
        match outcome {
            Ok(answer) => assert_eq!(answer["payload"]["exitCode"], 0),
            Err(error) => {
                let said = error["message"].as_str().unwrap();
                assert!(said.starts_with("DISCONNECTED") || said.starts_with("TIMEOUT"), "{said}");
                assert_eq!(error["details"]["nodeCommandDispatched"], true, "{error}");
            }
        }
    }

    async fn comes_back(&self) {
        let what = "the laptop to serve again";
        eventually(what, async || serves(&self.gateway, "laptop").await.then_some(())).await;
    }
}

async fn cut_for(time: Duration) {
    let scene = Scene::set().await;
    let (mut operator, id) = scene.begin().await;
    scene.laptop.cut();
    tokio::time::sleep(time).await;
    scene.laptop.mend();
    let outcome = operator.answer(&id).await;
    scene.settled(outcome).await;
    scene.comes_back().await;
}

#[tokio::test]
async fn a_second_without_a_network_is_only_a_pause() {
    let scene = Scene::set().await;
    let (mut operator, id) = scene.begin().await;
    scene.laptop.cut();
    tokio::time::sleep(Duration::from_secs(1)).await;
    scene.laptop.mend();
    let outcome = operator.answer(&id).await;
    assert!(outcome.is_ok(), "the connection stood: {outcome:?}");
    scene.settled(outcome).await;
}

#[tokio::test]
async fn half_a_minute_without_a_network_hangs_and_doubles_nothing() {
    cut_for(Duration::from_secs(30)).await;
}

/// Five minutes are not waited for: both kernels give the connection up at once, as they do by themselves after such a
/// time, and neither can tell the other.
#[tokio::test]
async fn five_minutes_without_a_network_hang_and_double_nothing() {
    let scene = Scene::set().await;
    let (mut operator, id) = scene.begin().await;
    scene.laptop.cut();
    scene.home.give_up_on(scene.gateway.port);
    scene.laptop.give_up_on(scene.gateway.port);
    let outcome = operator.answer(&id).await;
    assert!(outcome.is_err(), "the gateway says at once that the node is gone: {outcome:?}");
    assert!(!serves(&scene.gateway, "laptop").await);
    scene.settled(outcome).await;
    scene.laptop.mend();
    scene.comes_back().await;
}
