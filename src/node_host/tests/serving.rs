//! What a connected node does with what it is asked, with real processes.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{sync::watch, task::JoinHandle};

use super::super::{
    commands::Surface,
    host::Host,
    link::Link,
    session::{Over, Session},
    work::Work,
};
use crate::client::{
    Client, ConnectOptions, Credentials, DeviceIdentity,
    fake::{FakeGateway, Peer, hear, tell},
};

/// A node that is connected, seen from the gateway's side.
struct Node {
    folder: TempDir,
    peer: Peer,
    id: String,
    work: Arc<Work>,
    stop: watch::Sender<bool>,
    served: JoinHandle<Over>,
    calls: u32,
}

impl Node {
    async fn start(commands: Option<&[String]>) -> Self {
        let (gateway, endpoint) = FakeGateway::new().await;
        let welcome = tokio::spawn(async move { gateway.welcome().await });
        let folder = tempfile::tempdir().unwrap();
        let identity = Arc::new(DeviceIdentity::ephemeral().unwrap());
        let id = identity.id().to_owned();
        let options = ConnectOptions::node(endpoint, Credentials::default(), identity);
        let (client, events) = Client::connect(&options).await.unwrap();
        let link = Link::new(id.clone());
        let home = folder.path().canonicalize().unwrap();
        let host = Arc::new(Host::new(folder.path(), home.clone(), home, link.clone()));
        let surface = Surface::of(commands).unwrap();
        let work = Work::new(host, surface.clone(), id.clone());
        let (stop, mut stopped) = watch::channel(false);
        let session = Session { client, link, work: work.clone(), surface };
        let served = tokio::spawn(async move { session.serve(events, &mut stopped).await });
        Self { folder, peer: welcome.await.unwrap(), id, work, stop, served, calls: 0 }
    }

    /// With only what runs commands: such a node tells nothing about itself.
    async fn quiet() -> Self {
        let names = ["system.run", "system.run.prepare"].map(str::to_owned);
        Self::start(Some(&names)).await
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().canonicalize().unwrap().join(name)
    }

    fn approvals(&self, rules: Value) {
        let text = json!({"version": 1, "agents": {"main": rules}}).to_string();
        fs::write(self.path("exec-approvals.json"), text).unwrap();
    }

    async fn send(&mut self, command: &str, params: &Value, key: Option<&str>) -> String {
        self.calls += 1;
        let id = format!("call-{}", self.calls);
        let mut payload = json!({"id": id, "nodeId": self.id, "command": command,
            "paramsJSON": params.to_string(), "timeoutMs": 20_000});
        if let Some(key) = key {
            payload["idempotencyKey"] = json!(key);
        }
        tell(&mut self.peer, json!({"type": "event", "event": "node.invoke.request", "payload": payload}))
            .await;
        id
    }

    /// The next request of the node with this method; it is answered.
    async fn hear(&mut self, method: &str) -> Value {
        loop {
            let frame = tokio::time::timeout(Duration::from_secs(20), hear(&mut self.peer)).await.unwrap();
            tell(
                &mut self.peer,
                json!({"type": "res", "id": frame["id"], "ok": true, "payload": {"ok": true}}),
            )
            .await;
            if frame["method"] == method {
                return frame["params"].clone();
            }
        }
    }

    async fn event(&mut self, name: &str) -> Value {
        loop {
            let params = self.hear("node.event").await;
            if params["event"] == name {
                return serde_json::from_str(params["payloadJSON"].as_str().unwrap()).unwrap();
            }
        }
    }

    async fn result(&mut self, id: &str) -> Result<Value, Value> {
        let params = self.hear("node.invoke.result").await;
        assert_eq!((params["id"].as_str(), params["nodeId"].as_str()), (Some(id), Some(self.id.as_str())));
        match params["ok"].as_bool().unwrap() {
            true => Ok(serde_json::from_str(params["payloadJSON"].as_str().unwrap()).unwrap()),
            false => Err(params["error"].clone()),
        }
    }

    async fn invoke(&mut self, command: &str, params: Value) -> Result<Value, Value> {
        let id = self.send(command, &params, None).await;
        self.result(&id).await
    }

    async fn shell(&mut self, script: &str) -> Result<Value, Value> {
        self.invoke("system.run", json!({"command": ["/bin/sh", "-c", script]})).await
    }
}

async fn gone(pid: &str) -> bool {
    for _ in 0..9000 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", pid.trim()));
        if stat.is_err() || stat.is_ok_and(|text| text.contains(") Z ")) {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    false
}

async fn written(path: &Path) -> String {
    for _ in 0..9000 {
        if let Ok(text) = fs::read_to_string(path)
            && text.ends_with('\n')
        {
            return text;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{} was not written", path.display());
}

fn denied(error: Value) -> String {
    assert_eq!(error["code"], "UNAVAILABLE", "{error}");
    error["message"]
        .as_str()
        .unwrap()
        .strip_prefix("SYSTEM_RUN_DENIED: ")
        .unwrap_or_else(|| panic!("{error}"))
        .to_owned()
}

#[tokio::test]
async fn a_command_runs_and_its_end_is_told_before_its_result() {
    let mut node = Node::quiet().await;
    let script = "pwd; echo \"${LANG:-none} ${FOO:-none}\"; echo oops >&2; exit 3";
    let env = json!({"LANG": "xx", "FOO": "dropped"});
    let params = json!({"command": ["/bin/sh", "-c", script], "env": env, "runId": "r-1", "needsScreenRecording": true});
    let id = node.send("system.run", &params, None).await;
    let event = node.event("exec.finished").await;
    let folder = node.path("");
    let stdout = format!("{}\nxx none\n", folder.display().to_string().trim_end_matches('/'));
    let result = node.result(&id).await.unwrap();
    let expected = json!({"exitCode": 3, "timedOut": false, "success": false, "stdout": stdout, "stderr": "oops\n", "error": null});
    assert_eq!(result, expected);
    assert_eq!(
        (&event["runId"], &event["sessionKey"], &event["exitCode"]),
        (&json!("r-1"), &json!("node"), &json!(3))
    );
    assert_eq!(event["output"], format!("{}\noops", stdout.trim()));
    assert_eq!(event["suppressNotifyOnExit"], false);
}

#[tokio::test]
async fn what_cannot_start_or_takes_too_long_says_so() {
    let mut node = Node::quiet().await;
    let result = node.invoke("system.run", json!({"command": ["no-such-program"]})).await.unwrap();
    assert!(result["error"].as_str().unwrap().starts_with("cannot start `no-such-program`"), "{result}");
    assert_eq!((&result["success"], &result["exitCode"]), (&json!(false), &Value::Null));
    let params = json!({"command": ["/bin/sh", "-c", "echo early; sleep 60"], "timeoutMs": 300});
    let result = node.invoke("system.run", params).await.unwrap();
    assert_eq!((&result["timedOut"], &result["stdout"]), (&json!(true), &json!("early\n")));
    assert_eq!((&result["exitCode"], &result["success"]), (&json!(124), &json!(false)));
    let elsewhere = json!({"command": ["id"], "cwd": "/no/such/folder"});
    let result = node.invoke("system.run", elsewhere).await.unwrap();
    assert!(result["error"].as_str().unwrap().contains("/no/such/folder"), "{result}");
    assert_eq!((&result["success"], &result["exitCode"]), (&json!(false), &Value::Null));
    for (params, problem) in [
        (json!({"command": "id"}), "at /command: must be array"),
        (json!({"command": []}), "command required"),
        (json!({"command": ["id", 1]}), "at /command/1: must be string"),
        (json!({"command": ["id"], "rawCommand": "echo safe"}), "rawCommand"),
        (
            json!({"command": ["id"], "env": {"A": "1", "PATH": "/evil"}}),
            "SYSTEM_RUN_DENIED: environment override rejected (blocked override keys: PATH)",
        ),
    ] {
        let error = node.invoke("system.run", params).await.unwrap_err();
        assert_eq!(error["code"], "INVALID_REQUEST");
        assert!(error["message"].as_str().unwrap().contains(problem), "{error}");
    }
}

#[tokio::test]
async fn a_result_that_the_gateway_would_not_take_is_a_clear_failure() {
    let mut node = Node::quiet().await;
    let error = node.shell("head -c 3000 /dev/zero | tr '\\0' x").await.unwrap_err();
    assert_eq!(error["code"], "RESULT_TOO_LARGE", "{error}");
}

#[tokio::test]
async fn cancelling_ends_the_whole_group() {
    let mut node = Node::quiet().await;
    let pid_file = node.path("pid");
    let script = format!("sleep 300 & echo $! > {}; wait", pid_file.display());
    let id = node.send("system.run", &json!({"command": ["/bin/sh", "-c", script]}), None).await;
    let pid = written(&pid_file).await;
    let cancel = json!({"invokeId": id, "nodeId": node.id});
    tell(&mut node.peer, json!({"type": "event", "event": "node.invoke.cancel", "payload": cancel})).await;
    assert_eq!(node.result(&id).await.unwrap_err()["code"], "CANCELLED");
    assert!(gone(&pid).await);
}

#[tokio::test]
async fn stopping_ends_what_runs_and_then_the_connection() {
    let mut node = Node::quiet().await;
    let pid_file = node.path("pid");
    let script = format!("trap '' TERM; sleep 300 & echo $! > {}; wait", pid_file.display());
    node.send("system.run", &json!({"command": ["/bin/sh", "-c", script]}), None).await;
    let pid = written(&pid_file).await;
    node.stop.send(true).unwrap();
    assert!(matches!(node.served.await.unwrap(), Over::Stopped));
    node.work.stop(Duration::from_secs(10)).await;
    assert!(gone(&pid).await);
}

#[tokio::test]
async fn the_same_request_runs_once_and_is_answered_twice() {
    let mut node = Node::quiet().await;
    let file = node.path("count");
    let run =
        json!({"command": ["/bin/sh", "-c", format!("sleep 0.3; echo x >> {}; echo done", file.display())]});
    let (first, second) =
        (node.send("system.run", &run, Some("k")).await, node.send("system.run", &run, Some("k")).await);
    let mut answered = Vec::new();
    for _ in 0..2 {
        let params = node.hear("node.invoke.result").await;
        assert!(params["payloadJSON"].as_str().unwrap().contains("done"));
        answered.push(params["id"].as_str().unwrap().to_owned());
    }
    answered.sort();
    assert_eq!(answered, [first, second]);
    let third = node.send("system.run", &run, Some("k")).await;
    node.result(&third).await.unwrap();
    assert_eq!(fs::read_to_string(&file).unwrap(), "x\n");
    let other = node.send("system.run", &run, Some("another")).await;
    node.result(&other).await.unwrap();
    assert_eq!(fs::read_to_string(&file).unwrap(), "x\nx\n");
}

#[tokio::test]
async fn only_what_was_declared_is_served() {
    let mut node = Node::quiet().await;
    let error = node.invoke("fs.listDir", json!({})).await.unwrap_err();
    assert_eq!(error["code"], "INVALID_REQUEST");
    let own = std::mem::replace(&mut node.id, "somebody-else".into());
    node.send("system.run", &json!({"command": ["true"]}), None).await;
    node.id = own;
    let error = node.result("call-2").await.unwrap_err();
    assert!(error["message"].as_str().unwrap().contains("another node"));
}

#[tokio::test]
async fn a_full_node_tells_about_itself_and_serves_the_rest() {
    let mut node = Node::start(None).await;
    let stats = node.event("node.host.stats").await;
    assert!(stats["cpuCount"].as_u64().unwrap() > 0);
    let which = node.invoke("system.which", json!({"bins": ["sh", "nope-bin"]})).await.unwrap();
    assert_eq!(which["bins"].as_object().unwrap().len(), 1);
    fs::create_dir(node.path("sub")).unwrap();
    let listed = node.invoke("fs.listDir", json!({"path": "~"})).await.unwrap();
    assert_eq!(listed["entries"][0]["name"], "sub");
    let file = json!({"name": "../x.txt", "contentBase64": "aGVsbG8="});
    let first = node.send("terminal.upload", &file, Some("once")).await;
    let first = node.result(&first).await.unwrap();
    let second = node.send("terminal.upload", &file, Some("once")).await;
    assert_eq!(node.result(&second).await.unwrap(), first);
    let uploaded = Path::new(first["path"].as_str().unwrap());
    assert!(uploaded.starts_with(node.path("node-host/uploads")) && uploaded.ends_with("x.txt"));
    assert_eq!(fs::read_to_string(uploaded).unwrap(), "hello");
    let got = node.invoke("system.execApprovals.get", json!({})).await.unwrap();
    assert_eq!((&got["exists"], &got["file"]["version"]), (&json!(false), &json!(1)));
    let file = json!({"version": 1, "defaults": {"security": "deny"}});
    let set = node
        .invoke("system.execApprovals.set", json!({"file": file, "baseHash": got["hash"]}))
        .await
        .unwrap();
    assert_ne!(set["hash"], got["hash"]);
    let stale = json!({"file": file, "baseHash": got["hash"]});
    assert_eq!(node.invoke("system.execApprovals.set", stale).await.unwrap_err()["code"], "INVALID_REQUEST");
    assert!(denied(node.shell("id").await.unwrap_err()).contains("security=deny"));
}

#[tokio::test]
async fn a_refused_command_is_told_and_does_not_run() {
    let mut node = Node::quiet().await;
    let file = node.path("ran");
    let script = format!("echo x > {}", file.display());
    for (rules, reason, words) in [
        (json!({"security": "deny"}), "security=deny", "security=deny"),
        (json!({"security": "allowlist"}), "allowlist-miss", "allowlist miss"),
        (json!({"ask": "always"}), "approval-required", "approval required"),
    ] {
        node.approvals(rules);
        let id =
            node.send("system.run", &json!({"command": ["/bin/sh", "-c", script], "runId": "r"}), None).await;
        let event = node.event("exec.denied").await;
        assert_eq!((&event["reason"], &event["runId"]), (&json!(reason), &json!("r")));
        assert!(denied(node.result(&id).await.unwrap_err()).contains(words));
    }
    fs::write(node.path("exec-approvals.json"), "not json").unwrap();
    assert!(denied(node.shell(&script).await.unwrap_err()).contains("exec-approvals.json"));
    assert!(!file.exists());
}

#[tokio::test]
async fn the_allowlist_runs_the_very_file_it_matched() {
    let mut node = Node::quiet().await;
    let tool = node.path("tool");
    fs::write(&tool, "#!/bin/sh\necho \"tool $1\"\n").unwrap();
    fs::set_permissions(&tool, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    node.approvals(json!({"security": "allowlist", "allowlist": [{"pattern": tool}, {"pattern": "echo"}]}));
    let result = node.shell("./tool 'a b' && echo \"c\"").await.unwrap();
    assert_eq!(result["stdout"], "tool a b\nc\n");
    for script in ["./tool > out", "./tool; id", "./tool $(id)", "echo a & id", "sh -c 'echo a'"] {
        assert!(denied(node.shell(script).await.unwrap_err()).contains("allowlist miss"), "{script}");
    }
    let saved: Value = serde_json::from_slice(&fs::read(node.path("exec-approvals.json")).unwrap()).unwrap();
    assert!(saved["agents"]["main"]["allowlist"][0]["lastUsedAt"].is_u64());
}

#[tokio::test]
async fn what_was_approved_is_what_runs() {
    let mut node = Node::quiet().await;
    node.approvals(json!({"security": "allowlist", "ask": "on-miss"}));
    let script = node.path("work.sh");
    fs::write(&script, "echo one\n").unwrap();
    let command = json!(["/bin/sh", "-c", "sh work.sh"]);
    let prepared =
        node.invoke("system.run.prepare", json!({"command": command, "agentId": "main"})).await.unwrap();
    let plan = prepared["plan"].clone();
    assert_eq!(plan["mutableFileOperand"]["path"], json!(script));
    let approved = |change: Value| {
        let mut params = json!({"command": command, "rawCommand": "sh work.sh", "systemRunPlan": plan, "cwd": plan["cwd"],
            "agentId": "main", "runId": "r", "approved": true, "approvalDecision": "allow-once"});
        params.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        params
    };
    let result = node.invoke("system.run", approved(json!({}))).await.unwrap();
    assert_eq!(result["stdout"], "one\n");
    for change in [
        json!({"command": ["/bin/sh", "-c", "id"]}),
        json!({"cwd": "/"}),
        json!({"agentId": "other"}),
        json!({"sessionKey": "other"}),
        json!({"systemRunPlan": null}),
    ] {
        denied(node.invoke("system.run", approved(change.clone())).await.unwrap_err());
    }
    fs::write(&script, "echo two\n").unwrap();
    let error = denied(node.invoke("system.run", approved(json!({}))).await.unwrap_err());
    assert!(error.contains("work.sh changed"), "{error}");
    node.approvals(json!({"security": "deny"}));
    denied(node.invoke("system.run", approved(json!({}))).await.unwrap_err());
}

#[tokio::test]
async fn always_allowed_is_remembered_for_these_arguments_in_this_folder() {
    let mut node = Node::quiet().await;
    node.approvals(json!({"security": "allowlist", "ask": "on-miss"}));
    let command = json!(["/bin/sh", "-lc", "echo yes"]);
    let prepared = node.invoke("system.run.prepare", json!({"command": command})).await.unwrap();
    assert_eq!(prepared["allowAlwaysCoverage"]["complete"], true);
    let run = json!({"command": command, "systemRunPlan": prepared["plan"], "approved": true, "approvalDecision": "allow-always"});
    node.invoke("system.run", run).await.unwrap();
    let again = node.invoke("system.run", json!({"command": command})).await.unwrap();
    assert_eq!(again["stdout"], "yes\n");
    assert!(denied(node.shell("echo no").await.unwrap_err()).contains("approval required"));
    let elsewhere = json!({"command": command, "cwd": "/"});
    denied(node.invoke("system.run", elsewhere).await.unwrap_err());
}

#[tokio::test]
async fn output_is_streamed_while_somebody_listens() {
    let mut node = Node::quiet().await;
    let script = "for i in 1 2 3; do echo line $i; sleep 0.4; done";
    let id = node.send("system.run", &json!({"command": ["/bin/sh", "-c", script]}), None).await;
    let first = node.hear("node.invoke.progress").await;
    assert_eq!((&first["invokeId"], &first["seq"]), (&json!(id), &json!(0)));
    assert!(first["chunk"].as_str().unwrap().starts_with("line 1\n"));
    let second = node.hear("node.invoke.progress").await;
    assert_eq!(second["seq"], 1);
    assert_eq!(node.result(&id).await.unwrap()["stdout"], "line 1\nline 2\nline 3\n");
}
