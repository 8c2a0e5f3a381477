//! A question as clients see it.

use super::{Question, Verdict};
use crate::clock::now_ms;
use crate::nodes::{display_argv, shell_text};
use serde_json::{Value, json};
use tokio::sync::watch;

/// How long an answer is kept, for those who ask again.
const KEEP: i64 = 15 * 60 * 1000;

/// One question with its answer.
pub(super) struct Entry {
    pub(super) question: Question,
    pub(super) created: i64,
    pub(super) expires: i64,
    pub(super) ended: Option<(Verdict, i64, String)>,
    pub(super) used: bool,
    pub(super) news: watch::Sender<Option<Verdict>>,
}

impl Entry {
    pub(super) fn is_open(&self, now: i64) -> bool {
        self.ended.is_none() && self.expires > now
    }

    pub(super) fn keep(&self, now: i64) -> bool {
        match &self.ended {
            Some((_, at, _)) => at + KEEP > now,
            None => self.expires + KEEP > now,
        }
    }

    pub(super) fn end(&mut self, verdict: Verdict, now: i64, by: &str) {
        self.ended = Some((verdict, now, by.to_owned()));
        self.news.send_replace(Some(verdict));
    }

    fn decisions(&self) -> Vec<&'static str> {
        let always = self.question.may_allow_always.then_some("allow-always");
        ["allow-once"].into_iter().chain(always).chain(["deny"]).collect()
    }

    pub(super) fn text(&self) -> String {
        argv(&self.question.plan).map(|argv| command_text(&argv)).unwrap_or_default()
    }

    /// The script of a shell, where the command is nothing but that.
    fn preview(&self) -> Option<String> {
        self.question.plan["commandPreview"].as_str().map(shown)
    }

    pub(super) fn request(&self) -> Value {
        let Question { node_id, plan, agent_id, session_key, run_id, tool_call_id, channel, .. } =
            &self.question;
        json!({
            "command": self.text(),
            "systemRunBinding": {
                "argv": plan["argv"], "cwd": plan["cwd"], "agentId": agent_id, "sessionKey": session_key, "envHash": null,
            },
            "systemRunPlan": plan,
            "cwd": plan["cwd"],
            "nodeId": node_id,
            "host": "node",
            "security": self.question.security,
            "ask": self.question.ask,
            "warningText": null,
            "allowedDecisions": self.decisions(),
            "agentId": agent_id,
            "resolvedPath": null,
            "sessionKey": session_key,
            "sessionId": null,
            "runId": run_id,
            "toolCallId": tool_call_id,
            "turnSourceChannel": channel,
            "env": self.question.env.as_ref().and_then(Value::as_object).map(|env| env.keys().cloned().collect::<Vec<_>>()),
        })
    }

    pub(super) fn row(&self, id: &str) -> Value {
        json!({
            "approvalKind": "exec", "id": id, "request": self.request(),
            "createdAtMs": self.created, "expiresAtMs": self.expires,
        })
    }

    pub(super) fn view(&self, id: &str) -> Value {
        let mut view = json!({
            "id": id,
            "status": "pending",
            "presentation": {
                "kind": "exec",
                "commandText": self.text(),
                "commandPreview": self.preview(),
                "warningText": null,
                "host": "node",
                "nodeId": self.question.node_id,
                "agentId": self.question.agent_id,
                "allowedDecisions": self.decisions(),
            },
            "urlPath": format!("/approve/{id}"),
            "createdAtMs": self.created,
            "expiresAtMs": self.expires,
        });
        match &self.ended {
            Some((Verdict::Decided(decision), at, by)) => {
                view["status"] = json!(if decision.allows() { "allowed" } else { "denied" });
                view["resolvedAtMs"] = json!(at);
                view["reason"] = json!("user");
                view["decision"] = json!(decision);
                view["resolver"] = json!({"kind": "runtime", "id": by});
            }
            Some((Verdict::Expired, at, _)) => {
                view["status"] = json!("expired");
                view["resolvedAtMs"] = json!(at);
                view["reason"] = json!("timeout");
            }
            None => {}
        }
        view
    }

    pub(super) fn session_event(&self, id: &str) -> Option<(String, Value)> {
        let key = self.question.session_key.clone()?;
        let phase = if self.ended.is_some() { "terminal" } else { "pending" };
        let payload = json!({
            "sessionKey": key, "sourceSessionKey": key, "updatedAtMs": now_ms(), "phase": phase, "approval": self.view(id),
        });
        Some((key, payload))
    }
}

pub(super) fn same_env(ours: Option<&Value>, theirs: Option<&Value>) -> bool {
    let pairs = |env: Option<&Value>| -> Vec<(String, String)> {
        let map = env.and_then(Value::as_object);
        let mut pairs: Vec<(String, String)> =
            map.into_iter().flatten().map(|(name, value)| (name.clone(), value.to_string())).collect();
        pairs.sort();
        pairs
    };
    pairs(ours) == pairs(theirs)
}

/// The program and its arguments, if the plan names any.
pub(super) fn argv(plan: &Value) -> Option<Vec<String>> {
    let words = plan["argv"].as_array().filter(|words| !words.is_empty())?;
    words.iter().map(|word| word.as_str().map(str::to_owned)).collect()
}

/// Has the plan's own texts say what its arguments do: whoever made the plan may have written anything.
pub(super) fn tell_truth(plan: &mut Value, argv: &[String]) {
    plan["commandText"] = display_argv(argv).into();
    plan["commandPreview"] = shell_text(argv).into();
}

/// What will run, as a person may look at it.
pub(super) fn command_text(argv: &[String]) -> String {
    shown(&display_argv(argv))
}

/// A command as a person may safely look at it: whole, with whatever can hide or reorder text spelt out.
fn shown(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        let hides = (c.is_control() && c != '\n' && c != '\t')
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}' | '\u{61c}');
        if hides {
            out.push_str(&format!("\\u{{{:x}}}", u32::from(c)));
        } else {
            out.push(c);
        }
    }
    out
}
