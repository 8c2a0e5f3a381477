//! What can be asked of a channel's account, whichever channel it is.

use crate::inbound::{MediaKind, Route};
use actix::Message;
use serde_json::Value;
use std::path::PathBuf;

/// How a run comes along, for the chat that asked.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct RunProgress {
    pub route: Route,
    pub run_id: String,
    pub phase: Phase,
}

/// A step of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Phase {
    Started,
    /// The answer so far, as Markdown. Each holds all of it, so any may be missed.
    Draft {
        text: String,
    },
    ToolStarted {
        name: String,
    },
    /// The run is over; its answer, if any, is in the outbox.
    Finished,
}

/// There is something new in the outbox.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct FlushOutbox;

/// Get a file that a person sent, into the state folder's `media`.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<FetchedMedia, FetchError>")]
pub struct FetchMedia {
    /// What the channel calls the file.
    pub file_id: String,
    pub file_name: Option<String>,
    pub mime: String,
}

/// A file that was fetched. Whoever asked for it removes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchedMedia {
    pub path: PathBuf,
    pub mime: String,
    pub size: u64,
}

/// Why a file could not be fetched; the text is fit for the model and the person.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    #[error("the file is larger than the limit of {limit_mib} MiB")]
    TooLarge { limit_mib: u64 },
    #[error("the file could not be fetched: {0}")]
    Failed(String),
    #[error("account `{0}` is not running")]
    NotRunning(String),
}

/// Something to do at once, without the outbox.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<Value, ChannelError>")]
pub struct AskAccount(pub ChannelRequest);

/// What an account can be asked to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChannelRequest {
    /// Say who you are, from the channel's server.
    Probe,
    /// Put an emoji on a message, or take it off again.
    React {
        chat: String,
        message_id: i64,
        emoji: Option<String>,
    },
    /// Change a text that was sent.
    Edit {
        chat: String,
        message_id: i64,
        text: String,
    },
    Delete {
        chat: String,
        message_id: i64,
    },
}

/// Why an account did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChannelError {
    #[error("{0}")]
    Refused(String),
    #[error("{0}")]
    Unavailable(String),
}

/// The file name ending for a kind of file that has no name.
pub(crate) fn extension(kind: MediaKind, mime: &str) -> &'static str {
    match (mime, kind) {
        ("image/png", _) => "png",
        ("image/webp", _) => "webp",
        ("image/gif", _) => "gif",
        ("audio/ogg", _) => "ogg",
        ("audio/mpeg", _) => "mp3",
        ("application/pdf", _) => "pdf",
        ("text/plain", _) => "txt",
        (_, MediaKind::Image) => "jpg",
        (_, MediaKind::Video) => "mp4",
        (_, MediaKind::Voice) => "ogg",
        (_, MediaKind::Audio) => "mp3",
        (_, MediaKind::Document) => "bin",
    }
}
