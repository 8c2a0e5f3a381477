//! Approvals of commands: asked of people, bound to exactly one command, used once.
//!
//! Plain data beside the actors. What is approved is a plan (program, arguments, folder, environment, agent,
//! session, node); whoever runs it gets the plan back and nothing else.

mod entry;
mod keeper;
#[cfg(test)]
mod tests;

use crate::clock::now_ms;
use crate::events::Audience;
use crate::gateway::Gateway;
use crate::nodes::InvokeOrigin;
use entry::{Entry, same_env};
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tidegate_protocol::Scope;
use tokio::sync::watch;

/// How long a person has to answer.
pub const EXPIRES_AFTER: Duration = Duration::from_secs(30 * 60);
/// A command that can't be shown whole is not put before a person.
const MAX_SHOWN: usize = 16 << 10;
/// Questions that may be open at the same time.
const MAX_OPEN: usize = 200;

/// All approvals. Cheap to clone.
#[derive(Clone, Default)]
pub struct Approvals(Arc<Mutex<HashMap<String, Entry>>>);

/// A person's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Decision {
    AllowOnce,
    AllowAlways,
    Deny,
}

impl Decision {
    /// Reads the word that clients send.
    pub fn parse(word: &str) -> Option<Self> {
        match word {
            "allow-once" | "once" | "allow" => Some(Self::AllowOnce),
            "allow-always" | "always" => Some(Self::AllowAlways),
            "deny" | "no" => Some(Self::Deny),
            _ => None,
        }
    }

    /// The word that clients read.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AllowOnce => "allow-once",
            Self::AllowAlways => "allow-always",
            Self::Deny => "deny",
        }
    }

    /// Whether the command may run.
    pub fn allows(self) -> bool {
        self != Self::Deny
    }
}

/// How a question ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Decided(Decision),
    Expired,
}

/// A command that somebody must agree to.
#[derive(Debug, Clone)]
pub struct Question {
    pub node_id: String,
    /// The plan as the node prepared it: `argv`, `cwd`, `commandText`, `commandPreview`, …
    pub plan: Value,
    pub env: Option<Value>,
    pub agent_id: Option<String>,
    pub session_key: Option<String>,
    pub run_id: Option<String>,
    pub tool_call_id: Option<String>,
    /// Whether `allow-always` makes sense to the node.
    pub may_allow_always: bool,
    pub security: String,
    pub ask: String,
    pub channel: Option<String>,
    /// Who asked and may therefore use the answer.
    pub asker: Asker,
    /// The id, when the asker chose one.
    pub id: Option<String>,
    pub expires_after: Duration,
}

/// Who may use an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asker {
    /// A run of the agent.
    Run(String),
    /// A paired device, over whatever connection.
    Device(String),
    /// The gateway's own helpers on this machine: they open a socket for each request, and may approve themselves.
    Helpers,
    /// One connection: holders of the shared secret without a device are told apart by nothing else.
    Connection(String),
}

impl Asker {
    /// Whoever a node is called for.
    pub fn of(origin: &InvokeOrigin) -> Self {
        match origin {
            InvokeOrigin::Agent { run_id } => Self::Run(run_id.clone()),
            InvokeOrigin::Operator { device: Some(device), .. } => Self::Device(device.clone()),
            InvokeOrigin::Operator { approving_helper: true, .. } | InvokeOrigin::Gateway => Self::Helpers,
            InvokeOrigin::Operator { conn_id, .. } => Self::Connection(conn_id.clone()),
        }
    }
}

/// Why a question was not put.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotAsked {
    #[error("the command is too long to be shown to a person whole")]
    TooLong,
    #[error("too many approvals are open")]
    TooMany,
    #[error("an approval of that id exists")]
    IdTaken,
    #[error("the plan names no program")]
    NoProgram,
}

/// Why an answer was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotResolved {
    #[error("unknown or expired approval id")]
    Unknown,
    #[error("the approval was answered already: {}", .0.as_str())]
    Already(Decision),
    #[error("this command can't be allowed for ever")]
    NotAlways,
}

/// Why an approval can't be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotUsable {
    #[error("unknown or expired approval id")]
    Unknown,
    #[error("the approval has expired")]
    Expired,
    #[error("the command is not approved")]
    Required,
    #[error("the approval belongs to another node")]
    OtherNode,
    #[error("the approval belongs to another device")]
    OtherDevice,
    #[error("the approval belongs to another environment")]
    OtherEnv,
    #[error("the approval belongs to another client")]
    OtherClient,
}

impl NotUsable {
    /// The code that clients look at.
    pub fn code(self) -> &'static str {
        match self {
            Self::Unknown => "UNKNOWN_APPROVAL_ID",
            Self::Expired => "APPROVAL_EXPIRED",
            Self::Required => "APPROVAL_REQUIRED",
            Self::OtherNode => "APPROVAL_NODE_MISMATCH",
            Self::OtherDevice => "APPROVAL_DEVICE_MISMATCH",
            Self::OtherEnv => "APPROVAL_ENV_MISMATCH",
            Self::OtherClient => "APPROVAL_CLIENT_MISMATCH",
        }
    }
}

/// Something that is about to run and says that it was approved.
#[derive(Debug, Clone, Copy)]
pub struct Claim<'a> {
    pub id: &'a str,
    pub node_id: &'a str,
    pub env: Option<&'a Value>,
    pub asker: &'a Asker,
}

/// The one who waits for an answer.
pub struct Waiting {
    pub id: String,
    /// What people are shown.
    pub command: String,
    created: i64,
    expires: i64,
    news: watch::Receiver<Option<Verdict>>,
}

impl Approvals {
    /// Puts a question before the operators.
    ///
    /// # Errors
    /// When it can't be shown or too many are open.
    pub fn ask(&self, gateway: &Gateway, mut question: Question) -> Result<Waiting, NotAsked> {
        let argv = entry::argv(&question.plan).ok_or(NotAsked::NoProgram)?;
        entry::tell_truth(&mut question.plan, &argv);
        let command = entry::command_text(&argv);
        if command.len() > MAX_SHOWN {
            return Err(NotAsked::TooLong);
        }
        let id = question.id.clone().unwrap_or_else(|| uuid::Uuid::new_v4().to_string());
        let created = now_ms();
        let expires = created + i64::try_from(question.expires_after.as_millis()).unwrap_or(i64::MAX / 2);
        let (news, listener) = watch::channel(None);
        let entry = Entry { question, created, expires, ended: None, used: false, news };
        let (requested, session) = (entry.row(&id), entry.session_event(&id));
        {
            let mut entries = self.lock();
            entries.retain(|_, entry| entry.keep(created));
            if entries.contains_key(&id) {
                return Err(NotAsked::IdTaken);
            }
            if entries.values().filter(|entry| entry.is_open(created)).count() >= MAX_OPEN {
                return Err(NotAsked::TooMany);
            }
            entries.insert(id.clone(), entry);
        }
        gateway.broadcast("exec.approval.requested", &requested, Audience::Scope(Scope::Approvals));
        tell_session(gateway, session);
        Ok(Waiting { id, command, created, expires, news: listener })
    }

    /// Takes a person's answer. The same answer again is fine.
    ///
    /// # Errors
    /// When there is nothing to answer.
    pub fn resolve(
        &self,
        gateway: &Gateway,
        id: &str,
        decision: Decision,
        by: &str,
    ) -> Result<Value, NotResolved> {
        let now = now_ms();
        let (view, resolved, session) = {
            let mut entries = self.lock();
            let entry = entries.get_mut(id).ok_or(NotResolved::Unknown)?;
            match entry.ended {
                Some((Verdict::Decided(earlier), ..)) if earlier == decision => return Ok(entry.view(id)),
                Some((Verdict::Decided(earlier), ..)) => return Err(NotResolved::Already(earlier)),
                Some((Verdict::Expired, ..)) => return Err(NotResolved::Unknown),
                None if entry.expires <= now => return Err(NotResolved::Unknown),
                None => {}
            }
            if decision == Decision::AllowAlways && !entry.question.may_allow_always {
                return Err(NotResolved::NotAlways);
            }
            entry.end(Verdict::Decided(decision), now, by);
            let resolved = json!({"id": id, "decision": decision, "resolvedBy": by, "ts": now, "request": entry.request()});
            (entry.view(id), resolved, entry.session_event(id))
        };
        gateway.broadcast("exec.approval.resolved", &resolved, Audience::Scope(Scope::Approvals));
        tell_session(gateway, session);
        Ok(view)
    }

    /// Uses an approval up and gives the plan that was approved, with the decision.
    ///
    /// # Errors
    /// When it was not approved, not for this, or used already.
    pub fn consume(&self, claim: Claim<'_>) -> Result<(Question, Decision), NotUsable> {
        let mut entries = self.lock();
        let entry = entries.get_mut(claim.id).ok_or(NotUsable::Unknown)?;
        let question = &entry.question;
        if question.node_id != claim.node_id {
            return Err(NotUsable::OtherNode);
        }
        match (&question.asker, claim.asker) {
            (ours, theirs) if ours == theirs => {}
            (Asker::Device(_), _) => return Err(NotUsable::OtherDevice),
            _ => return Err(NotUsable::OtherClient),
        }
        if !same_env(question.env.as_ref(), claim.env) {
            return Err(NotUsable::OtherEnv);
        }
        let decision = match entry.ended {
            Some((Verdict::Decided(decision), ..)) if decision.allows() && !entry.used => decision,
            Some((Verdict::Expired, ..)) => return Err(NotUsable::Expired),
            None if entry.expires <= now_ms() => return Err(NotUsable::Expired),
            _ => return Err(NotUsable::Required),
        };
        entry.used = true;
        Ok((entry.question.clone(), decision))
    }

    /// The open questions, as `exec.approval.list` shows them.
    pub fn list(&self) -> Vec<Value> {
        let now = now_ms();
        let entries = self.lock();
        let mut open: Vec<(&String, &Entry)> =
            entries.iter().filter(|(_, entry)| entry.is_open(now)).collect();
        open.sort_by_key(|(_, entry)| entry.created);
        open.into_iter().map(|(id, entry)| entry.row(id)).collect()
    }

    /// The open questions of a session, as `session.approval` shows them.
    pub fn of_session(&self, key: &str) -> Vec<Value> {
        let now = now_ms();
        let entries = self.lock();
        let of_session = |entry: &Entry| entry.question.session_key.as_deref() == Some(key);
        let open = entries.iter().filter(|(_, entry)| entry.is_open(now) && of_session(entry));
        open.map(|(id, entry)| entry.view(id)).collect()
    }

    /// One question, open or answered lately.
    pub fn get(&self, id: &str) -> Option<Value> {
        self.lock().get(id).map(|entry| entry.view(id))
    }

    /// Listens for the answer to a question.
    pub fn listen(&self, id: &str) -> Option<Waiting> {
        let entries = self.lock();
        let entry = entries.get(id)?;
        Some(Waiting {
            id: id.to_owned(),
            command: entry.text(),
            created: entry.created,
            expires: entry.expires,
            news: entry.news.subscribe(),
        })
    }

    fn expire(&self, gateway: &Gateway, id: &str) {
        let session = {
            let mut entries = self.lock();
            match entries.get_mut(id) {
                Some(entry) if entry.ended.is_none() => {
                    entry.end(Verdict::Expired, now_ms(), "");
                    entry.session_event(id)
                }
                _ => return,
            }
        };
        tell_session(gateway, session);
    }

    /// Closes a question whose asker has gone.
    pub fn withdraw(&self, gateway: &Gateway, id: &str) {
        self.expire(gateway, id);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    /// Waits for the answer, at most until the question expires.
    pub async fn verdict(&mut self, gateway: &Gateway) -> Verdict {
        let left = u64::try_from(self.expires - now_ms()).unwrap_or(0);
        let answered = async {
            loop {
                if let Some(verdict) = *self.news.borrow_and_update() {
                    return verdict;
                }
                if self.news.changed().await.is_err() {
                    return Verdict::Expired;
                }
            }
        };
        match tokio::time::timeout(Duration::from_millis(left), answered).await {
            Ok(verdict) => verdict,
            Err(_) => {
                gateway.approvals.expire(gateway, &self.id);
                Verdict::Expired
            }
        }
    }

    /// When the question was put, in ms since the epoch.
    pub fn created_at_ms(&self) -> i64 {
        self.created
    }

    /// When the question closes, in ms since the epoch.
    pub fn expires_at_ms(&self) -> i64 {
        self.expires
    }
}

fn tell_session(gateway: &Gateway, event: Option<(String, Value)>) {
    if let Some((key, payload)) = event {
        gateway.broadcast("session.approval", &payload, Audience::Session(key));
    }
}
