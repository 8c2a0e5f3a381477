//! The agent as a whole: a fake model, fake nodes and channels, the real store.

mod files;
mod queue;
mod scenarios;
mod tools;

use super::doors::{ChannelDoor, NodeAnswer, NodeCall, NodeDoor, NodeFailure, Sent};
use super::fake_models::{FakeModels, KEY};
use super::{Agent, Arrived, AwaitRun, RunStatus};
use crate::channels::{FetchMedia, RunProgress};
use crate::clock::now_ms;
use crate::gateway::Gateway;
use crate::inbound::{ChatKind, Inbound, OutboundMessage, Route, Sender};
use crate::settings::{Settings, SettingsHandle, StatePaths};
use crate::store::{Accepted, Arrival, Store};
use actix::{Actor, Addr};
use futures_util::future::LocalBoxFuture;
use serde_json::{Value, json};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

/// Nodes that answer as they are told, and remember what they were asked.
#[derive(Default)]
struct FakeNodes {
    answers: RefCell<HashMap<String, Result<Value, NodeFailure>>>,
    calls: RefCell<Vec<NodeCall>>,
    /// What is known of earlier calls, by their keys.
    recalled: RefCell<HashMap<String, Result<Value, NodeFailure>>>,
    /// Commands that never end.
    hang: RefCell<Vec<String>>,
    /// What the node says it is; Linux when it says nothing.
    platform: RefCell<Option<&'static str>>,
}

impl FakeNodes {
    fn answer(&self, command: &str, payload: Value) -> &Self {
        self.answers.borrow_mut().insert(command.to_owned(), Ok(payload));
        self
    }

    fn fail(&self, command: &str, message: &str, may_have_run: bool) -> &Self {
        let failure = NodeFailure { message: message.to_owned(), may_have_run };
        self.answers.borrow_mut().insert(command.to_owned(), Err(failure));
        self
    }

    /// As an official node host prepares and runs `command`.
    fn runs(&self, command: &str, output: &str, ask: &str) -> &Self {
        let plan = json!({"argv": ["/bin/sh", "-lc", command], "cwd": "/home/pi",
            "commandText": format!("/bin/sh -lc \"{command}\""), "commandPreview": command});
        let security = if ask == "off" { "full" } else { "allowlist" };
        self.answer(
            "system.run.prepare",
            json!({"plan": plan, "execPolicy": {"security": security, "ask": ask}}),
        );
        self.answer(
            "system.run",
            json!({"exitCode": 0, "success": true, "stdout": output, "stderr": "", "timedOut": false}),
        )
    }

    fn commands(&self) -> Vec<String> {
        self.calls.borrow().iter().map(|call| call.command.clone()).collect()
    }
}

impl NodeDoor for FakeNodes {
    fn list(&self) -> LocalBoxFuture<'_, Result<Vec<Value>, NodeFailure>> {
        let commands: Vec<String> =
            ["system.run", "system.run.prepare", "system.which", "camera.snap"].map(str::to_owned).to_vec();
        let platform = self.platform.borrow().unwrap_or("linux");
        let node = json!({"nodeId": "b1e1338d087dcb28", "displayName": "pi", "platform": platform, "connected": true, "commands": commands});
        Box::pin(async move { Ok(vec![node]) })
    }

    fn invoke(&self, call: NodeCall) -> LocalBoxFuture<'_, Result<NodeAnswer, NodeFailure>> {
        let hangs = self.hang.borrow().contains(&call.command);
        let approved = call.params["approved"] == true;
        let mut answer = self.answers.borrow().get(&call.command).cloned();
        if let (true, Some(Err(failure))) = (approved, &answer)
            && failure.message.contains("approval required")
        {
            answer =
                Some(Ok(json!({"exitCode": 0, "success": true, "stdout": "approved run\n", "stderr": ""})));
        }
        self.calls.borrow_mut().push(call);
        Box::pin(async move {
            if hangs {
                std::future::pending::<()>().await;
            }
            let unknown =
                NodeFailure { message: "command not declared by node".to_owned(), may_have_run: false };
            let payload = answer.unwrap_or(Err(unknown))?;
            Ok(NodeAnswer { node_id: "b1e1338d087dcb28".to_owned(), payload })
        })
    }

    fn recall(&self, call: Sent) -> LocalBoxFuture<'_, Option<Result<NodeAnswer, NodeFailure>>> {
        let outcome = self.recalled.borrow().get(&call.key).cloned();
        let node_id = call.node_id;
        Box::pin(async move { outcome.map(|outcome| outcome.map(|payload| NodeAnswer { node_id, payload })) })
    }

    fn decide(&self, request_id: String, approve: bool) -> LocalBoxFuture<'_, Result<Value, NodeFailure>> {
        Box::pin(async move { Ok(json!({"requestId": request_id, "approved": approve})) })
    }
}

#[derive(Default)]
struct FakeChannels {
    progress: RefCell<Vec<RunProgress>>,
    flushed: RefCell<usize>,
    /// What people sent, by the channel's name for it; a picture when it is not here.
    files: RefCell<HashMap<String, Vec<u8>>>,
    /// A bug in the way out.
    flush_panics: Cell<bool>,
}

impl ChannelDoor for FakeChannels {
    fn progress(&self, progress: RunProgress) {
        self.progress.borrow_mut().push(progress);
    }

    fn exists(&self, channel: &str, _: &str) -> bool {
        channel == "telegram"
    }

    fn flush(&self, _: &str, _: &str) {
        *self.flushed.borrow_mut() += 1;
        assert!(!self.flush_panics.get(), "a bug");
    }

    fn fetch<'a>(
        &'a self,
        _: &'a str,
        _: &'a str,
        wanted: FetchMedia,
    ) -> LocalBoxFuture<'a, Result<Vec<u8>, String>> {
        let file = self.files.borrow().get(&wanted.file_id).cloned();
        Box::pin(async { Ok(file.unwrap_or_else(|| vec![0xFF, 0xD8, 0xFF, 0xE0, 1, 2, 3])) })
    }
}

/// Everything a scenario needs.
struct World {
    gateway: Gateway,
    models: FakeModels,
    nodes: Rc<FakeNodes>,
    channels: Rc<FakeChannels>,
    agent: Addr<Agent>,
    _state: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        Self::with(json!({}))
    }

    /// With more settings over those that name the fake model.
    fn with(more: Value) -> Self {
        let models = FakeModels::start();
        let mut settings = json!({
            "agents": {"defaults": {"model": {"primary": "fake/m"}}},
            "models": {"providers": {"fake": {"api": "openai-completions", "baseUrl": models.openai_url(), "apiKey": KEY}}},
        });
        merge(&mut settings, more);
        let settings: Settings = serde_json::from_value(settings).unwrap();
        let state = tempfile::tempdir().unwrap();
        let handle = SettingsHandle::new(settings, StatePaths::new(state.path()));
        let gateway = Gateway::new(handle, Store::temporary().unwrap());
        let (nodes, channels) = (Rc::new(FakeNodes::default()), Rc::new(FakeChannels::default()));
        let agent = Agent::with_doors(gateway.clone(), nodes.clone(), channels.clone()).impatient().start();
        Self { gateway, models, nodes, channels, agent, _state: state }
    }

    /// Ends the agent as a crash would, and starts another over the same store.
    async fn crash(&mut self) {
        self.agent.do_send(crate::supervise::Shutdown);
        while self.agent.connected() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let agent = Agent::with_doors(self.gateway.clone(), self.nodes.clone(), self.channels.clone());
        self.agent = agent.impatient().start();
    }

    async fn accept(&self, inbound: Inbound) -> String {
        let run_id = inbound.run_id.clone();
        let accepted =
            self.gateway.store.accept(vec![Arrival::Message(Box::new(inbound))], None).await.unwrap();
        for one in accepted {
            if let Accepted::New(row) = one {
                self.agent.do_send(Arrived(*row));
            }
        }
        run_id
    }

    async fn say(&self, text: &str) -> String {
        self.accept(message(text)).await
    }

    async fn end(&self, run_id: &str) -> RunStatus {
        let wait = AwaitRun { run_id: run_id.to_owned(), timeout: Duration::from_secs(20) };
        self.agent.send(wait).await.unwrap()
    }

    async fn ask(&self, text: &str) -> RunStatus {
        let run_id = self.say(text).await;
        self.end(&run_id).await
    }

    async fn answer(&self, text: &str) -> String {
        match self.ask(text).await {
            RunStatus::Ok { text, .. } => text,
            other => panic!("no answer: {other:?}"),
        }
    }

    async fn outbox(&self) -> Vec<OutboundMessage> {
        let read = self.gateway.store.read(|db| {
            let mut query = db.prepare("SELECT body FROM outbox ORDER BY id")?;
            let bodies: Vec<String> = query.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
            Ok(bodies)
        });
        read.await.unwrap().iter().map(|body| serde_json::from_str(body).unwrap()).collect()
    }

    /// The roles of the main session's rows.
    async fn roles(&self) -> Vec<String> {
        let session = self.gateway.store.session("agent:main:main").await.unwrap().unwrap();
        let rows = self.gateway.store.transcript(&session.session_id, 100).await.unwrap();
        rows.into_iter().map(|row| row.role).collect()
    }

    /// Waits until `ready` holds.
    async fn until(&self, what: &str, mut ready: impl FnMut(&Self) -> bool) {
        for _ in 0..2000 {
            if ready(self) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("never: {what}");
    }
}

fn merge(into: &mut Value, more: Value) {
    match (into, more) {
        (Value::Object(into), Value::Object(more)) => {
            for (key, value) in more {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, more) => *into = more,
    }
}

pub(super) fn message(text: &str) -> Inbound {
    let id = uuid::Uuid::new_v4().to_string();
    Inbound {
        channel: "telegram".into(),
        account: "default".into(),
        event_id: id.clone(),
        run_id: format!("run-{id}"),
        session_key: "agent:main:main".into(),
        route: Some(Route {
            channel: "telegram".into(),
            account: "default".into(),
            chat: "555".into(),
            thread: None,
            reply_to: None,
            kind: ChatKind::Direct,
        }),
        sender: Sender { id: "555".into(), name: Some("Ann".into()), username: None, owner: true },
        text: text.into(),
        attachments: Vec::new(),
        received_at_ms: now_ms(),
        reply_context: None,
        model: None,
        timeout_ms: None,
        thinking: None,
    }
}
