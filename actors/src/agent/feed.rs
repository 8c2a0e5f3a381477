//! Tells everyone who may know how a run comes along: operators by events, the asker's channel by progress.

use super::doors::ChannelDoor;
use super::providers::model::{AssistantMessage, text_of};
use super::tools::ToolOutcome;
use crate::channels::{Phase, RunProgress};
use crate::clock::now_ms;
use crate::events::Audience;
use crate::gateway::Gateway;
use crate::inbound::Route;
use crate::store::SessionRow;
use serde_json::{Map, Value, json};
use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;
use tidegate_protocol::Scope;
use tokio::time::Instant;

/// Text is told at most this often.
pub(super) const DELTA_EVERY: Duration = Duration::from_millis(75);

/// The capability of clients that want tool calls in full, whatever they subscribed to.
const TOOL_EVENTS: &str = "tool-events";

/// The news of one run. Cheap to clone.
#[derive(Clone)]
pub(super) struct Feed(Rc<RefCell<State>>);

struct State {
    gateway: Gateway,
    channels: Rc<dyn ChannelDoor>,
    run_id: String,
    session_key: String,
    agent_id: String,
    session_id: String,
    route: Option<Route>,
    seq: u64,
    started_at: i64,
    /// The answer's text so far.
    text: String,
    /// How much of it was told.
    told: usize,
    /// What was told before is void.
    replaced: bool,
    told_at: Option<Instant>,
    item: u32,
    /// The candidate that is being asked.
    model: (String, String),
}

/// Whose news these are.
pub(super) struct FeedOf<'a> {
    pub(super) gateway: &'a Gateway,
    pub(super) channels: Rc<dyn ChannelDoor>,
    pub(super) run_id: &'a str,
    pub(super) session: &'a SessionRow,
    pub(super) route: Option<Route>,
}

impl Feed {
    pub(super) fn new(of: FeedOf<'_>) -> Self {
        Self(Rc::new(RefCell::new(State {
            gateway: of.gateway.clone(),
            channels: of.channels,
            run_id: of.run_id.to_owned(),
            session_key: of.session.key.clone(),
            agent_id: of.session.agent_id.clone(),
            session_id: of.session.session_id.clone(),
            route: of.route,
            seq: 0,
            started_at: now_ms(),
            text: String::new(),
            told: 0,
            replaced: false,
            told_at: None,
            item: 0,
            model: (String::new(), String::new()),
        })))
    }

    pub(super) fn started_at(&self) -> i64 {
        self.0.borrow().started_at
    }

    /// A step before the model is asked.
    pub(super) fn status(&self, phase: &str) {
        let mut state = self.0.borrow_mut();
        state.agent("run_status", json!({"phase": phase}));
        state.chat("status", json!({"phase": phase}));
    }

    pub(super) fn started(&self) {
        let mut state = self.0.borrow_mut();
        let started_at = state.started_at;
        state.agent("lifecycle", json!({"phase": "start", "startedAt": started_at}));
        state.progress(Phase::Started);
    }

    /// A model is asked: its answer begins anew.
    pub(super) fn asked(&self, provider: &str, model: &str) {
        let mut state = self.0.borrow_mut();
        state.item += 1;
        state.replaced |= state.told > 0;
        (state.text, state.told) = (String::new(), 0);
        if state.model != (provider.to_owned(), model.to_owned()) || state.item > 1 {
            state.model = (provider.to_owned(), model.to_owned());
            state.agent("lifecycle", json!({"phase": "model", "provider": provider, "model": model}));
        }
    }

    /// A model failed and another one is asked.
    pub(super) fn fell_back(&self, from: &str, detail: &str) {
        let data = json!({
            "phase": "fallback_step", "fallbackStepType": "fallback_step", "fallbackStepFromModel": from,
            "fallbackStepFromFailureDetail": detail,
        });
        self.0.borrow_mut().agent("lifecycle", data);
    }

    /// More text; it is told now or with the next that comes.
    pub(super) fn text(&self, delta: &str) {
        let mut state = self.0.borrow_mut();
        state.text.push_str(delta);
        if state.told_at.is_none_or(|at| at.elapsed() >= DELTA_EVERY) {
            state.tell_text();
        }
    }

    /// Tells what is still untold.
    pub(super) fn flush(&self) {
        self.0.borrow_mut().tell_text();
    }

    /// The text of the answer so far.
    pub(super) fn partial(&self) -> String {
        self.0.borrow().text.clone()
    }

    pub(super) fn usage(&self, output_tokens: u64) {
        self.0.borrow_mut().agent("usage", json!({"outputTokens": output_tokens}));
    }

    pub(super) fn tool_started(&self, id: &str, name: &str, arguments: &Map<String, Value>) {
        let mut state = self.0.borrow_mut();
        let item = json!({
            "itemId": format!("tool:{id}"), "toolCallId": id, "name": name, "kind": "tool", "phase": "start",
            "title": title(name, arguments), "status": "running", "startedAt": now_ms(),
        });
        state.agent("item", item);
        state.tool(json!({"phase": "start", "name": name, "toolCallId": id, "args": arguments}));
        state.progress(Phase::ToolStarted { name: name.to_owned() });
    }

    pub(super) fn tool_ended(
        &self,
        id: &str,
        name: &str,
        arguments: &Map<String, Value>,
        started: i64,
        outcome: &ToolOutcome,
    ) {
        let mut state = self.0.borrow_mut();
        let content = json!([{"type": "text", "text": text_of(&outcome.content)}]);
        state.tool(json!({
            "phase": "result", "name": name, "toolCallId": id, "isError": outcome.is_error,
            "result": {"content": content, "details": outcome.details},
        }));
        let status = if outcome.is_error { "failed" } else { "completed" };
        let mut item = json!({
            "itemId": format!("tool:{id}"), "toolCallId": id, "name": name, "kind": "tool", "phase": "end",
            "title": title(name, arguments), "status": status, "startedAt": started, "endedAt": now_ms(),
        });
        if outcome.is_error {
            item["error"] = outcome.details["error"].clone();
        }
        state.agent("item", item);
        if name == "exec" {
            let details = &outcome.details;
            let mut ended = json!({
                "itemId": format!("command:{id}"), "phase": "end", "title": "command", "toolCallId": id, "name": name,
                "output": details["aggregated"].as_str().map_or_else(|| text_of(&outcome.content), str::to_owned),
                "status": status,
            });
            for field in ["exitCode", "durationMs", "cwd"] {
                if !details[field].is_null() {
                    ended[field] = details[field].clone();
                }
            }
            state.agent("command_output", ended);
        }
    }

    /// A row of the transcript, for those who listen to the session.
    pub(super) fn row(&self, message_id: &str, seq: i64, message: &Value, session: &Value) {
        let state = self.0.borrow();
        let mut message = message.clone();
        message["__openclaw"] =
            json!({"runId": state.run_id, "id": message_id, "seq": seq, "recordTimestampMs": now_ms()});
        if let Some(key) = message.get("idempotencyKey").cloned() {
            message["__openclaw"]["idempotencyKey"] = key;
        }
        let payload = json!({
            "sessionKey": state.session_key, "agentId": state.agent_id, "sessionId": state.session_id,
            "message": message, "messageId": message_id, "messageSeq": seq, "session": session, "updatedAt": now_ms(),
        });
        state.gateway.broadcast("session.message", &payload, Audience::Session(state.session_key.clone()));
    }

    /// The session looks different now: `about` says why, as `reason` or `phase`.
    pub(super) fn session_changed(&self, about: (&str, &str), session: &Value) {
        let state = self.0.borrow();
        let mut payload = json!({
            "sessionKey": state.session_key, "agentId": state.agent_id, "ts": now_ms(), "session": session,
        });
        payload[about.0] = json!(about.1);
        if about.0 == "phase" {
            payload["runId"] = json!(state.run_id);
        }
        state.gateway.broadcast("sessions.changed", &payload, Audience::SessionList);
    }

    /// The run answered.
    pub(super) fn finished(&self, answer: &AssistantMessage, text: &str, tools: &[String]) {
        let mut state = self.0.borrow_mut();
        let (started_at, ended_at) = (state.started_at, now_ms());
        let stop = json!(answer.stop_reason);
        state.agent("lifecycle", json!({
            "phase": "finishing", "stopReason": stop, "aborted": false, "livenessState": "working", "endedAt": ended_at,
        }));
        state.agent("lifecycle", json!({"phase": "model", "provider": null, "model": null}));
        // A command's answer was never streamed.
        if state.text.is_empty() {
            text.clone_into(&mut state.text);
        }
        let end = json!({
            "phase": "end", "stopReason": stop, "aborted": false, "startedAt": started_at, "endedAt": ended_at,
            "terminalReply": {"disposition": "visible", "text": text},
            "terminalReceipt": {
                "runId": state.run_id, "sessionId": state.session_id, "turnId": state.run_id,
                "effective": {"provider": answer.provider, "model": answer.model},
                "successfulToolNames": tools, "terminalDisposition": "visible",
            },
            "executionSettled": true,
        });
        state.agent("lifecycle", end);
        state.tell_text();
        let message = shown(text, ended_at);
        state.chat("final", json!({"stopReason": "stop", "message": message}));
        state.progress(Phase::Finished);
    }

    /// The run failed; `sentence` is what the person reads.
    pub(super) fn failed(&self, sentence: &str, detail: &str) {
        let mut state = self.0.borrow_mut();
        let (started_at, ended_at) = (state.started_at, now_ms());
        let observed = json!({"provider": state.model.0, "model": state.model.1, "detail": detail});
        state.agent(
            "lifecycle",
            json!({
                "phase": "finishing", "error": sentence, "errorObservation": observed, "aborted": false,
                "livenessState": "blocked", "endedAt": ended_at,
            }),
        );
        state.agent(
            "lifecycle",
            json!({
                "phase": "error", "error": sentence, "errorObservation": observed, "aborted": false,
                "startedAt": started_at, "endedAt": ended_at, "executionSettled": true,
            }),
        );
        state.chat("error", json!({"errorMessage": sentence, "errorDetail": observed}));
        state.progress(Phase::Finished);
    }

    /// The end of a message that this run answered along with its own; the answer itself was told once.
    pub(super) fn joined(&self, run_id: &str, end: &str, fields: Value) {
        let state = self.0.borrow();
        let mut payload = json!({
            "runId": run_id, "sessionKey": state.session_key, "agentId": state.agent_id, "seq": 1, "state": end,
        });
        if let (Value::Object(payload), Value::Object(fields)) = (&mut payload, fields) {
            payload.extend(fields);
        }
        state.send("chat", &payload, Audience::Scope(Scope::Read), false);
    }

    /// The run was stopped.
    pub(super) fn aborted(&self, reason: &str) {
        let mut state = self.0.borrow_mut();
        let (started_at, ended_at) = (state.started_at, now_ms());
        let mut aborted = json!({"stopReason": reason});
        if !state.text.is_empty() {
            aborted["message"] = shown(&state.text, ended_at);
        }
        state.chat("aborted", aborted);
        state.agent(
            "lifecycle",
            json!({
                "phase": "end", "status": "cancelled", "aborted": true, "stopReason": reason,
                "startedAt": started_at, "endedAt": ended_at, "executionSettled": true,
            }),
        );
        state.progress(Phase::Finished);
    }
}

impl State {
    fn agent(&mut self, stream: &str, data: Value) {
        let payload = self.agent_payload(stream, data);
        let droppable = stream == "assistant";
        self.send("agent", &payload, Audience::Scope(Scope::Read), droppable);
    }

    /// Tool calls in full go to those who asked for them, and to the listeners of the session.
    fn tool(&mut self, data: Value) {
        let payload = self.agent_payload("tool", data);
        self.send("agent", &payload, Audience::Capable(Scope::Read, TOOL_EVENTS), false);
        let listeners = Audience::SessionWithout(self.session_key.clone(), TOOL_EVENTS);
        self.send("session.tool", &payload, listeners, false);
    }

    fn agent_payload(&mut self, stream: &str, data: Value) -> Value {
        self.seq += 1;
        json!({
            "runId": self.run_id, "stream": stream, "data": data, "sessionKey": self.session_key,
            "sessionId": self.session_id, "agentId": self.agent_id, "seq": self.seq, "ts": now_ms(), "isHeartbeat": false,
        })
    }

    fn chat(&mut self, state: &str, fields: Value) {
        let mut payload = json!({
            "runId": self.run_id, "sessionKey": self.session_key, "agentId": self.agent_id, "seq": self.seq, "state": state,
        });
        if let (Value::Object(payload), Value::Object(fields)) = (&mut payload, fields) {
            payload.extend(fields);
        }
        self.send("chat", &payload, Audience::Scope(Scope::Read), state == "delta");
    }

    fn send(&self, event: &'static str, payload: &Value, audience: Audience, droppable: bool) {
        if droppable {
            self.gateway.broadcast_droppable(event, payload, audience);
        } else {
            self.gateway.broadcast(event, payload, audience);
        }
    }

    fn tell_text(&mut self) {
        if self.told >= self.text.len() {
            return;
        }
        let delta = self.text[self.told..].to_owned();
        let mut data =
            json!({"text": self.text, "delta": delta, "itemId": format!("{}:{}", self.run_id, self.item)});
        let mut chat = json!({"deltaText": delta, "message": shown(&self.text, now_ms())});
        if std::mem::take(&mut self.replaced) {
            data["replace"] = json!(true);
            chat["replace"] = json!(true);
        }
        self.told = self.text.len();
        self.told_at = Some(Instant::now());
        self.agent("assistant", data);
        self.chat("delta", chat);
        self.progress(Phase::Draft { text: self.text.clone() });
    }

    fn progress(&self, phase: Phase) {
        if let Some(route) = self.route.clone() {
            self.channels.progress(RunProgress { route, run_id: self.run_id.clone(), phase });
        }
    }
}

fn shown(text: &str, timestamp: i64) -> Value {
    json!({"role": "assistant", "content": [{"type": "text", "text": text}], "timestamp": timestamp})
}

fn title(name: &str, arguments: &Map<String, Value>) -> String {
    let about = ["command", "action", "to"].iter().find_map(|field| arguments.get(*field)?.as_str());
    match about {
        Some(about) => super::providers::shorten(&format!("{name}: {about}"), 120),
        None => name.to_owned(),
    }
}
