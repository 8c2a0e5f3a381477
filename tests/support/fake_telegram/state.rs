//! What the fake remembers.

use super::{BOT_ID, BOT_NAME, Fault};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::{Duration, Instant, SystemTime};

/// A call as it came in.
#[derive(Debug, Clone)]
pub struct Call {
    pub method: String,
    pub params: Map<String, Value>,
    /// Names and sizes of uploaded parts.
    pub uploads: Vec<(String, String, usize)>,
    pub at: Instant,
    /// The status that was answered; none when the connection was cut or left hanging.
    pub status: Option<u16>,
}

/// A message of the bot as people see it.
#[derive(Debug, Clone, Default)]
pub struct Shown {
    pub id: i64,
    pub chat: i64,
    pub thread: Option<i64>,
    pub reply_to: Option<i64>,
    /// "text", "photo", "document", "voice", "audio", "video".
    pub kind: String,
    /// The words (or the caption) after the markup was read.
    pub text: String,
    /// As sent.
    pub raw: String,
    pub entities: Vec<Value>,
    pub file_name: Option<String>,
    pub file: Vec<u8>,
    pub silent: bool,
    pub edits: usize,
    pub deleted: bool,
    pub markup: Option<Value>,
}

pub(crate) struct State {
    pub(crate) chats: BTreeMap<i64, Value>,
    pub(crate) topics: HashSet<(i64, i64)>,
    pub(crate) blocked: HashSet<i64>,
    pub(crate) migrated: HashMap<i64, i64>,
    pub(crate) people_messages: HashSet<(i64, i64)>,
    pub(crate) updates: Vec<Value>,
    pub(crate) allowed: Option<Vec<String>>,
    pub(crate) confirmed: Option<i64>,
    pub(crate) polls: u64,
    pub(crate) shown: Vec<Shown>,
    pub(crate) files: BTreeMap<String, (String, Vec<u8>)>,
    pub(crate) callbacks: HashSet<String>,
    pub(crate) commands: BTreeMap<String, Value>,
    pub(crate) calls: Vec<Call>,
    pub(crate) unknown_params: Vec<String>,
    pub(crate) faults: Vec<(String, Fault, usize)>,
    pub(crate) generation: u64,
    pub(crate) held: usize,
    pub(crate) webhook: bool,
    pub(crate) revoked: bool,
    next_update: i64,
    next_message: i64,
}

impl Default for State {
    fn default() -> Self {
        Self {
            chats: BTreeMap::new(),
            topics: HashSet::new(),
            blocked: HashSet::new(),
            migrated: HashMap::new(),
            people_messages: HashSet::new(),
            updates: Vec::new(),
            allowed: None,
            confirmed: None,
            polls: 0,
            shown: Vec::new(),
            files: BTreeMap::new(),
            callbacks: HashSet::new(),
            commands: BTreeMap::new(),
            calls: Vec::new(),
            unknown_params: Vec::new(),
            faults: Vec::new(),
            generation: 0,
            held: 0,
            webhook: false,
            revoked: false,
            next_update: 1000,
            next_message: 1,
        }
    }
}

/// Kinds that the Bot API sends only to those who name them.
const ONLY_ON_REQUEST: [&str; 3] = ["chat_member", "message_reaction", "message_reaction_count"];

impl State {
    pub(crate) fn next_message(&mut self) -> i64 {
        self.next_message += 1;
        self.next_message - 1
    }

    pub(crate) fn queue(&mut self, kind: &str, content: Value) -> i64 {
        let id = self.next_update;
        self.next_update += 1;
        let wanted = match &self.allowed {
            Some(kinds) if !kinds.is_empty() => kinds.iter().any(|allowed| allowed == kind),
            _ => !ONLY_ON_REQUEST.contains(&kind),
        };
        if let Some(query) = (kind == "callback_query").then(|| content["id"].as_str()).flatten() {
            self.callbacks.insert(query.to_owned());
        }
        if wanted {
            self.updates.push(json!({"update_id": id, kind: content}));
        }
        id
    }

    /// Numbers only grow: what is queued later comes after this.
    pub(crate) fn push(&mut self, update: Value) {
        let number = update["update_id"].as_i64().unwrap_or_default();
        self.next_update = self.next_update.max(number + 1);
        self.updates.push(update);
    }

    pub(crate) fn person(&self, id: i64) -> Value {
        let chat = self.chats.get(&id).cloned().unwrap_or_else(|| json!({"first_name": "Someone"}));
        let mut person =
            json!({"id": id, "is_bot": false, "first_name": chat["first_name"], "language_code": "en"});
        if let Some(username) = chat["username"].as_str() {
            person["username"] = username.into();
        }
        person
    }

    pub(crate) fn bot(&self) -> Value {
        json!({
            "id": BOT_ID, "is_bot": true, "first_name": "Fake", "username": BOT_NAME,
            "can_join_groups": true, "can_read_all_group_messages": false,
            "supports_inline_queries": false, "can_connect_to_business": false, "has_main_web_app": false,
        })
    }

    pub(crate) fn take_fault(&mut self, method: &str) -> Option<Fault> {
        let index = self.faults.iter().position(|(name, ..)| name == method || name == "*")?;
        let (_, fault, times) = &mut self.faults[index];
        let fault = fault.clone();
        if *times != usize::MAX {
            *times -= 1;
            if *times == 0 {
                self.faults.remove(index);
            }
        }
        Some(fault)
    }

    /// Updates from `offset` on; earlier ones are forgotten, as the real server does.
    pub(crate) fn updates_from(&mut self, offset: i64, limit: usize) -> Vec<Value> {
        if offset < 0 {
            let keep = usize::try_from(-offset).unwrap_or(usize::MAX).min(self.updates.len());
            self.updates.drain(..self.updates.len() - keep);
        } else if offset > 0 {
            let id = |update: &Value| update["update_id"].as_i64().unwrap_or_default();
            self.updates.retain(|update| id(update) >= offset);
            self.confirmed = self.confirmed.max(Some(offset - 1));
        }
        self.updates.iter().take(limit).cloned().collect()
    }
}

pub(crate) fn unix_now() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.unwrap_or(Duration::ZERO).as_secs()
}
