//! `tidegate node run` as a process: what it runs, what it refuses, how it ends and comes back.

use crate::support::node_host::{NativeNode, ready};
use crate::support::{Gateway, Socket, eventually};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;

struct Pair {
    gateway: Gateway,
    node: NativeNode,
    operator: Socket,
    id: String,
    keys: u32,
}

impl Pair {
    async fn start() -> Self {
        let gateway = Gateway::start().await;
        let node = NativeNode::start(&gateway, "kitchen");
        let id = ready(&gateway, "kitchen").await;
        let operator = gateway.operator().await;
        Self { gateway, node, operator, id, keys: 0 }
    }

    fn params(&mut self, command: &str, params: Value) -> Value {
        self.keys += 1;
        json!({"nodeId": self.id, "command": command, "params": params, "timeoutMs": 30_000,
            "idempotencyKey": format!("key-{}", self.keys)})
    }

    async fn run(&mut self, params: Value) -> Result<Value, Value> {
        let params = self.params("system.run", params);
        self.operator.call("node.invoke", params).await.map(|answer| answer["payload"].clone())
    }

    fn approvals(&self, file: &Value) {
        fs::write(self.node.state().join("exec-approvals.json"), file.to_string()).unwrap();
    }
}

fn is_running(pid: &str) -> bool {
    fs::read_to_string(format!("/proc/{}/stat", pid.trim())).is_ok_and(|stat| !stat.contains(") Z "))
}

async fn written(path: &Path) -> String {
    eventually("the command to begin", async || {
        fs::read_to_string(path).ok().filter(|text| text.ends_with('\n'))
    })
    .await
}

#[tokio::test]
async fn a_command_runs_where_and_how_it_is_told() {
    let mut pair = Pair::start().await;
    let folder = pair.node.home().canonicalize().unwrap();
    let script = "pwd; echo \"$LANG ${TIDEGATE_GATEWAY_TOKEN:-hidden}\"; exit 4";
    let run = |env: Value| json!({"command": ["/bin/sh", "-c", script], "cwd": folder, "env": env});
    let done = pair.run(run(json!({"LANG": "xx"}))).await.unwrap();
    assert_eq!(done["stdout"], format!("{}\nxx hidden\n", folder.display()));
    assert_eq!((&done["exitCode"], &done["success"]), (&json!(4), &json!(false)));
    let refused = pair.run(run(json!({"LANG": "xx", "BASH_ENV": "/evil.sh"}))).await.unwrap_err();
    assert!(refused.to_string().contains("(blocked override keys: BASH_ENV)"), "{refused}");
    let done = pair
        .run(json!({"command": ["/bin/sh", "-c", "echo early; sleep 60"], "timeoutMs": 400}))
        .await
        .unwrap();
    assert_eq!((&done["timedOut"], &done["stdout"]), (&json!(true), &json!("early\n")));
    let done = pair.run(json!({"command": ["/bin/sh", "-c", "yes | head -c 1000000"]})).await.unwrap();
    let stdout = done["stdout"].as_str().unwrap();
    assert!(stdout.len() < 300_000 && stdout.contains("truncated"), "{} bytes", stdout.len());
}

#[tokio::test]
async fn the_approvals_of_the_machine_hold_and_can_be_changed_from_the_gateway() {
    let mut pair = Pair::start().await;
    let id = pair.id.clone();
    let list = json!([{"pattern": "echo"}]);
    pair.approvals(&json!({"version": 1, "agents": {"*": {"security": "allowlist", "allowlist": list}}}));
    assert_eq!(pair.run(json!({"command": ["echo", "yes"]})).await.unwrap()["stdout"], "yes\n");
    let refused = pair.run(json!({"command": ["id"]})).await.unwrap_err();
    assert!(refused["message"].as_str().unwrap().contains("SYSTEM_RUN_DENIED: allowlist miss"), "{refused}");
    let got = pair.operator.ok("exec.approvals.node.get", json!({"nodeId": id})).await;
    let closed = json!({"version": 1, "defaults": {"security": "deny"}});
    let set = json!({"nodeId": id, "file": closed, "baseHash": got["hash"]});
    pair.operator.ok("exec.approvals.node.set", set.clone()).await;
    pair.operator.refused("exec.approvals.node.set", set).await;
    let refused = pair.run(json!({"command": ["echo", "no"]})).await.unwrap_err();
    assert!(refused["message"].as_str().unwrap().contains("SYSTEM_RUN_DENIED"), "{refused}");
    let saved = fs::read_to_string(pair.node.state().join("exec-approvals.json")).unwrap();
    assert!(saved.contains("deny"), "{saved}");
}

#[tokio::test]
async fn stopping_the_host_ends_what_it_runs_and_leaves_nothing_behind() {
    let mut pair = Pair::start().await;
    let file = pair.node.home().join("pid");
    let script = format!("trap '' TERM; sleep 300 & echo $! > {}; wait", file.display());
    let params = pair.params("system.run", json!({"command": ["/bin/sh", "-c", script]}));
    let asked = pair.operator.ask("node.invoke", params).await;
    let pid = written(&file).await;
    assert!(pair.node.stop().await.success());
    pair.operator.answer(&asked).await.unwrap_err();
    eventually("the command to be gone", async || (!is_running(&pid)).then_some(())).await;
    let list = pair.operator.ok("node.list", json!({})).await;
    assert_eq!(list["nodes"][0]["connected"], false);
}

#[tokio::test]
async fn a_node_comes_back_to_a_gateway_that_was_killed() {
    let mut pair = Pair::start().await;
    pair.gateway = pair.gateway.restart().await;
    assert_eq!(ready(&pair.gateway, "kitchen").await, pair.id);
    pair.operator = pair.gateway.operator().await;
    assert_eq!(pair.run(json!({"command": ["echo", "back"]})).await.unwrap()["stdout"], "back\n");
}

#[tokio::test]
async fn a_second_host_with_the_same_identity_is_told_so() {
    let pair = Pair::start().await;
    let mut command = pair.node.command();
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    assert!(!output.status.success());
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(words.contains("another node host") && words.contains("process"), "{words}");
}

#[tokio::test]
async fn a_url_and_a_token_on_the_command_line_are_enough_and_never_logged() {
    let gateway = Gateway::start().await;
    let url = format!("ws://127.0.0.1:{}", gateway.port);
    let mut node = NativeNode::by_options(&["--url", &url, "--token", &gateway.token()], "wrong", "kitchen");
    ready(&gateway, "kitchen").await;
    assert!(!node.log().contains(&gateway.token()), "{}", node.log());
    node.kill();
    let mut node = NativeNode::by_options(&["--url", &url], &gateway.token(), "pantry");
    let (status, said) = node.ended().await;
    assert_eq!(status.code(), Some(2), "{said}");
    assert!(said.contains("pass --token or --password with --url"), "{said}");
}

#[tokio::test]
async fn only_the_chosen_commands_are_declared() {
    let gateway = Gateway::start().await;
    let mut node = NativeNode::start(&gateway, "kitchen");
    node.kill();
    let mut command = node.command();
    command.args(["--commands", "system.which,fs.listDir"]);
    let mut child =
        command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().unwrap();
    let mut operator = gateway.operator().await;
    let declared = eventually("the narrowed request", async || {
        let list = operator.ok("node.pair.list", json!({})).await;
        let pending = list["pending"].as_array().unwrap().last()?.clone();
        (pending["commands"].as_array().unwrap().len() == 2).then(|| pending["commands"].clone())
    })
    .await;
    assert_eq!(declared, json!(["fs.listDir", "system.which"]));
    child.kill().unwrap();
    child.wait().unwrap();
}
