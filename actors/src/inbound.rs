//! A person's message on its way in, and where its answer goes.

use serde::{Deserialize, Serialize};

/// A message as the agent takes it, whichever door it came through. Stored as JSON in `ingress`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Inbound {
    /// `telegram`, `webchat`, `cli`, …
    pub channel: String,
    /// The channel's account; empty where a channel has only one.
    pub account: String,
    /// What the channel calls this message: unique within channel and account.
    pub event_id: String,
    /// The run that answers it.
    pub run_id: String,
    /// The conversation it belongs to.
    pub session_key: String,
    /// Where the answer goes through the outbox; `None` where the asker listens to events instead.
    pub route: Option<Route>,
    pub sender: Sender,
    pub text: String,
    #[serde(default)]
    pub attachments: Vec<Attachment>,
    pub received_at_ms: i64,
    /// The text this message replies to, quoted.
    #[serde(default)]
    pub reply_context: Option<String>,
    /// A model (`provider/model`) for this run alone.
    #[serde(default)]
    pub model: Option<String>,
    /// How long the run may take; the configured time when absent.
    #[serde(default)]
    pub timeout_ms: Option<u64>,
    /// How hard to think in this run; the configured level when absent.
    #[serde(default)]
    pub thinking: Option<String>,
}

#[cfg(test)]
impl Inbound {
    /// A message to the main conversation, to begin a test with.
    pub(crate) fn of_webchat(text: &str) -> Self {
        Self {
            channel: "webchat".into(),
            account: String::new(),
            event_id: "e".into(),
            run_id: "r".into(),
            session_key: "agent:main:main".into(),
            route: None,
            sender: Sender { owner: true, ..Sender::default() },
            text: text.into(),
            attachments: vec![],
            received_at_ms: 0,
            reply_context: None,
            model: None,
            timeout_ms: None,
            thinking: None,
        }
    }
}

/// Who wrote it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Sender {
    /// The channel's own id, never a name that can change.
    pub id: String,
    pub name: Option<String>,
    pub username: Option<String>,
    /// Whether this person owns the gateway: owners alone get owner-only tools.
    pub owner: bool,
}

/// A place in a channel.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Route {
    pub channel: String,
    pub account: String,
    pub chat: String,
    /// The forum topic or thread.
    #[serde(default)]
    pub thread: Option<String>,
    /// The message to reply to.
    #[serde(default)]
    pub reply_to: Option<String>,
    pub kind: ChatKind,
}

/// What kind of chat a route leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChatKind {
    Direct,
    Group,
    Topic,
}

/// A file that came with a message.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Attachment {
    pub kind: MediaKind,
    pub mime: String,
    #[serde(default)]
    pub file_name: Option<String>,
    /// Bytes, where the channel says so.
    #[serde(default)]
    pub size: Option<u64>,
    pub source: AttachmentSource,
}

/// How a file is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MediaKind {
    Image,
    Audio,
    Voice,
    Video,
    Document,
}

/// Where the bytes are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "from")]
pub enum AttachmentSource {
    /// In the message itself.
    Inline { base64: String },
    /// At the channel, to be fetched when needed.
    Channel { file_id: String },
    /// In the state folder's `media`.
    File { path: String },
}

/// An answer on its way out. Stored as JSON in `outbox`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OutboundMessage {
    /// Markdown.
    #[serde(default)]
    pub text: Option<String>,
    #[serde(default)]
    pub media: Vec<OutboundMedia>,
    #[serde(default)]
    pub reply_to: Option<String>,
    /// Without a notification sound.
    #[serde(default)]
    pub silent: bool,
}

/// A file to send.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OutboundMedia {
    pub kind: MediaKind,
    pub mime: String,
    #[serde(default)]
    pub file_name: Option<String>,
    /// In the state folder's `media`.
    pub path: String,
    #[serde(default)]
    pub caption: Option<String>,
}

/// How a run ended. Stored with its ingress row, so that asking again gives the same answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "status")]
pub enum RunOutcome {
    /// It answered.
    #[serde(rename = "ok")]
    Ok {
        text: String,
        /// Paths of files that belong to the answer.
        #[serde(default)]
        media: Vec<String>,
        /// Provider, model, usage and duration, as the `agent` method reports them.
        #[serde(default)]
        meta: serde_json::Value,
    },
    /// It failed; the message is for the person.
    #[serde(rename = "error")]
    Error { message: String },
    /// It was stopped.
    #[serde(rename = "aborted")]
    Aborted { reason: String },
}
