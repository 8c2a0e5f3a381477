//! A stand-in for Telegram's Bot API: long polling with real offsets, messages that are checked and kept as
//! the real one does, and every way to fail that a client must survive.
//!
//! It runs on a thread of its own, so it serves tests of any runtime, and nothing leaves loopback.

// Each test binary uses its own part of this.
#![allow(dead_code)]

mod body;
mod html;
mod methods;
mod server;
mod state;

use serde_json::{Value, json};
use state::State;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

#[allow(unused_imports)]
pub use state::{Call, Shown};

/// The bot that the fake serves.
pub const BOT_ID: i64 = 123_456;
pub const BOT_NAME: &str = "fake_oc_bot";
pub const TOKEN: &str = "123456:fake-token_for-tests-0123456789ab";

/// What goes wrong with the next call of a method.
#[derive(Debug, Clone)]
pub enum Fault {
    /// A refusal in Telegram's own form.
    Refuse { code: u16, description: &'static str },
    /// Too many requests: come back after so many seconds.
    Flood { retry_after: u64 },
    /// A page that is not JSON, as a proxy in front of Telegram would send.
    Page { code: u16 },
    /// The request is read, nothing is done, and the connection ends without a word.
    DropBefore,
    /// The request is carried out, and the connection ends without a word.
    DropAfter,
    /// Nothing is done and nothing is said until the fake is told to go on.
    Hang,
    /// The request is carried out, but nothing is said.
    HangAfter,
    /// Carried out, but answered late.
    Slow(Duration),
    /// Carried out, but answered only when the fake is told to go on.
    Held,
    /// Nothing goes wrong: the call after this one has the next fault.
    Pass,
    /// A success that cannot be read.
    Garbage,
}

/// A running fake; it ends when dropped.
pub struct FakeTelegram {
    state: Arc<Shared>,
    port: u16,
    handle: actix_web::dev::ServerHandle,
}

pub(crate) struct Shared {
    state: Mutex<State>,
    changed: tokio::sync::Notify,
}

#[allow(dead_code)]
impl FakeTelegram {
    /// Starts on a free port, with one private chat: 555, of Alice.
    pub fn start() -> Self {
        let state = Arc::new(Shared::new());
        let (port, handle) = server::start(state.clone(), 0);
        let fake = Self { state, port, handle };
        fake.add_person(555, "Alice", Some("alice"));
        fake
    }

    /// What `channels.telegram.apiRoot` should say.
    pub fn api_root(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub fn token(&self) -> &'static str {
        TOKEN
    }

    // --- the people and chats

    /// Someone who has started the bot, so that it may write to them.
    pub fn add_person(&self, id: i64, name: &str, username: Option<&str>) {
        let mut chat = json!({"id": id, "type": "private", "first_name": name});
        if let Some(username) = username {
            chat["username"] = username.into();
        }
        self.lock().chats.insert(id, chat);
    }

    pub fn add_group(&self, id: i64, title: &str) {
        self.lock().chats.insert(id, json!({"id": id, "type": "supergroup", "title": title}));
    }

    pub fn add_forum(&self, id: i64, title: &str, topics: &[i64]) {
        let chat = json!({"id": id, "type": "supergroup", "title": title, "is_forum": true});
        let mut state = self.lock();
        state.chats.insert(id, chat);
        state.topics.extend(topics.iter().map(|topic| (id, *topic)));
    }

    /// From now on the bot may not write to this chat.
    pub fn block(&self, chat: i64) {
        self.lock().blocked.insert(chat);
    }

    /// The group became a supergroup with a new id.
    pub fn migrate(&self, from: i64, to: i64) {
        let mut state = self.lock();
        state.migrated.insert(from, to);
        if let Some(mut chat) = state.chats.remove(&from) {
            chat["id"] = to.into();
            chat["type"] = "supergroup".into();
            state.chats.insert(to, chat);
        }
    }

    // --- what people do

    /// A private message; returns its update id.
    pub fn say(&self, person: i64, text: &str) -> i64 {
        self.message(person, person, json!({"text": text}))
    }

    /// A message of `person` in a chat with whatever fields it should have.
    pub fn message(&self, chat: i64, person: i64, fields: Value) -> i64 {
        let message = self.compose(chat, person, fields);
        self.update("message", message)
    }

    /// The message alone, as an update would carry it.
    pub fn compose(&self, chat: i64, person: i64, fields: Value) -> Value {
        let mut state = self.lock();
        let id = state.next_message();
        let from = state.person(person);
        let mut message = json!({
            "message_id": id,
            "from": from,
            "chat": state.chats.get(&chat).cloned().unwrap_or_else(|| json!({"id": chat, "type": "private", "first_name": "Someone"})),
            "date": state::unix_now(),
        });
        if let (Some(message), Some(fields)) = (message.as_object_mut(), fields.as_object()) {
            message.extend(fields.clone());
        }
        state.people_messages.insert((chat, id));
        message
    }

    /// Queues an update of any kind, unless the bot asked not to get that kind.
    pub fn update(&self, kind: &str, content: Value) -> i64 {
        let id = self.lock().queue(kind, content);
        self.state.changed.notify_waiters();
        id
    }

    /// Queues an update exactly as given, with its own id.
    pub fn raw_update(&self, update: Value) {
        self.lock().push(update);
        self.state.changed.notify_waiters();
    }

    /// A file that people may send; returns its id.
    pub fn add_file(&self, name: &str, content: impl Into<Vec<u8>>) -> String {
        let mut state = self.lock();
        let id = format!("file-{}", state.files.len() + 1);
        state.files.insert(id.clone(), (name.to_owned(), content.into()));
        id
    }

    // --- what goes wrong

    /// The next call of `method` ("*" for any, "file" for a download) fails so; several add up.
    pub fn fail(&self, method: &str, fault: Fault) {
        self.lock().faults.push((method.to_owned(), fault, 1));
    }

    pub fn fail_times(&self, method: &str, fault: Fault, times: usize) {
        self.lock().faults.push((method.to_owned(), fault, times));
    }

    /// Every call fails so, until `heal`.
    pub fn fail_always(&self, method: &str, fault: Fault) {
        self.fail_times(method, fault, usize::MAX);
    }

    /// Nothing fails any more; what hung is let go without an answer.
    pub fn heal(&self) {
        let mut state = self.lock();
        state.faults.clear();
        state.generation += 1;
        drop(state);
        self.state.changed.notify_waiters();
    }

    /// Someone set a webhook: polling is a conflict until it is deleted.
    pub fn set_webhook(&self) {
        self.lock().webhook = true;
    }

    /// The token was revoked.
    pub fn revoke_token(&self) {
        self.lock().revoked = true;
    }

    pub fn restore_token(&self) {
        self.lock().revoked = false;
    }

    // --- what the bot did

    /// All calls so far, also those that failed.
    pub fn calls(&self) -> Vec<Call> {
        self.lock().calls.clone()
    }

    pub fn calls_of(&self, method: &str) -> Vec<Call> {
        self.calls().into_iter().filter(|call| call.method == method).collect()
    }

    /// What a person sees now in a chat of the bot's messages: neither deleted nor edited away.
    pub fn shown(&self, chat: i64) -> Vec<Shown> {
        let state = self.lock();
        let shown = state.shown.iter().filter(|message| message.chat == chat && !message.deleted);
        shown.cloned().collect()
    }

    pub fn shown_texts(&self, chat: i64) -> Vec<String> {
        self.shown(chat).into_iter().map(|message| message.text).collect()
    }

    /// The highest update id that the bot has confirmed, if any.
    pub fn confirmed(&self) -> Option<i64> {
        self.lock().confirmed
    }

    /// Calls that were left hanging so far, each from the moment it hung.
    pub fn held(&self) -> usize {
        self.lock().held
    }

    /// Updates that wait to be fetched or confirmed.
    pub fn waiting(&self) -> usize {
        self.lock().updates.len()
    }

    /// Parameters that the Bot API does not know and would have ignored.
    pub fn unknown_params(&self) -> Vec<String> {
        self.lock().unknown_params.clone()
    }

    /// Waits until `wanted` holds, at most `patience`.
    pub async fn wait(&self, patience: Duration, wanted: impl Fn(&Self) -> bool) -> bool {
        let end = std::time::Instant::now() + patience;
        while !wanted(self) {
            if std::time::Instant::now() > end {
                return false;
            }
            // A clock of its own: the test's may be paused.
            let (done, wake) = tokio::sync::oneshot::channel();
            std::thread::spawn(move || {
                std::thread::sleep(Duration::from_millis(10));
                done.send(()).ok();
            });
            wake.await.ok();
        }
        true
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }
}

impl Drop for FakeTelegram {
    fn drop(&mut self) {
        self.heal();
        drop(self.handle.stop(false));
    }
}

impl Shared {
    fn new() -> Self {
        Self { state: Mutex::new(State::default()), changed: tokio::sync::Notify::new() }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}
