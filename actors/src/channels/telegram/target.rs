//! One part of an answer, sent to its place in a chat, and what is to be done where Telegram did not take it.

use super::api::{ApiError, SentMessage};
use super::formatted::{Formatted, Style};
use super::incoming::GENERAL_TOPIC;
use super::line::{Line, Timing, chat_id};
use super::markdown;
use super::media;
use super::split::{MAX_CAPTION_UNITS, MAX_MESSAGE_UNITS, split};
use crate::inbound::OutboundMedia;
use crate::store::{OutboxRow, StoreError};
use serde_json::{Value, json};
use std::cell::Cell;
use std::time::Duration;

/// Said before what a chat may have already, when the process ended while it was on its way.
const REPEATED: &str = "↻ Sent again after a restart; you may have this already.\n\n";
/// Said before what comes to a chat because its topic is gone.
const ASTRAY: &str = "↪ The topic that this belongs to is gone, so it comes here.\n\n";
/// Refusals that are about the chat: nothing else can be said there either.
const CLOSED: [&str; 7] = [
    "chat not found",
    "peer_id_invalid",
    "chat_write_forbidden",
    "not enough rights",
    "have no rights",
    "need administrator rights",
    "topic_closed",
];

/// One message of an answer.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Part {
    Text(Formatted),
    Media(OutboundMedia),
}

/// What to do about an answer that was not delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Setback {
    /// Telegram does not have it.
    Later(Duration, String),
    /// Telegram may have it.
    Unknown(String),
    Never(String),
    /// Telegram will not take this part.
    Part(String),
    /// The topic is gone.
    NoTopic,
    /// The chat has another id now.
    Moved(i64),
    /// The gateway's own trouble.
    Store(String),
}

impl From<StoreError> for Setback {
    fn from(error: StoreError) -> Self {
        Self::Store(error.to_string())
    }
}

/// The place in a chat that the parts of an answer go to.
pub(super) struct Target<'a> {
    line: &'a Line,
    row: &'a OutboxRow,
    reply: Option<&'a str>,
    /// Its topic was found to be gone just now.
    astray: bool,
    /// What has to be said before the part was said, in a message of its own.
    pub(super) remarked: Cell<bool>,
}

impl<'a> Target<'a> {
    pub(super) fn new(line: &'a Line, row: &'a OutboxRow, reply: Option<&'a str>) -> Self {
        Self { line, row, reply, astray: false, remarked: Cell::new(false) }
    }

    /// The same with a word that it is not where it belongs.
    pub(super) fn astray(self) -> Self {
        Self { astray: true, ..self }
    }

    /// Sends one part, into the message `edits` if there is one; gives the id of the message that it is.
    pub(super) async fn send(&self, part: &Part, edits: Option<i64>) -> Result<i64, Setback> {
        match (part, edits) {
            (Part::Text(text), Some(message)) => self.turn_into(message, text).await,
            (Part::Text(text), None) => self.text(text).await,
            (Part::Media(file), _) => self.media(file).await,
        }
    }

    /// Says in the place of a part that it is missing. Where even that is refused, operators still see it.
    pub(super) async fn tell_refusal(
        &self,
        part: &Part,
        only: bool,
        why: &str,
    ) -> Result<Option<i64>, Setback> {
        let what = match part {
            Part::Text(_) if only => "the message",
            Part::Text(_) => "a part of the message",
            Part::Media(file) => file.file_name.as_deref().unwrap_or("a file"),
        };
        let mut text = Formatted::default();
        let style = Style { italic: true, ..Style::default() };
        text.push(&format!("⚠️ {what} is missing here, for Telegram refused it: {why}"), &style);
        match self.text(&text).await {
            Ok(id) => Ok(Some(id)),
            Err(Setback::Part(_) | Setback::Unknown(_)) => Ok(None),
            Err(setback) => Err(setback),
        }
    }

    fn place(&self) -> Value {
        let thread = self.row.thread.as_deref().filter(|thread| *thread != GENERAL_TOPIC.to_string());
        let thread = thread.filter(|_| !self.row.progress.off_topic);
        let mut place = Line::place(&self.row.chat, thread);
        if self.row.message.silent {
            place["disable_notification"] = true.into();
        }
        if let Some(reply) = self.reply.and_then(|reply| reply.parse::<i64>().ok()) {
            place["reply_parameters"] = json!({"message_id": reply, "allow_sending_without_reply": true});
        }
        place
    }

    /// The text behind what has to be said first. What has no room for both in `room` is sent as two messages.
    async fn introduced(&self, text: &Formatted, room: usize) -> Result<Formatted, Setback> {
        let remarks = [(self.row.progress.repeated, REPEATED), (self.astray, ASTRAY)];
        let mut introduced = Formatted::default();
        for (_, remark) in remarks.into_iter().filter(|(holds, _)| *holds) {
            introduced.push(remark, &Style { italic: true, ..Style::default() });
        }
        if introduced.is_blank() {
            return Ok(text.clone());
        }
        let alone = introduced.clone();
        for segment in &text.segments {
            introduced.push(&segment.text, &segment.style);
        }
        if split(&introduced, room).len() <= 1 {
            return Ok(introduced);
        }
        match self.put(&alone).await {
            Err(setback @ (Setback::Later(..) | Setback::Moved(_) | Setback::NoTopic)) => Err(setback),
            // Only a remark: what it is about matters more.
            _ => {
                self.remarked.set(true);
                Ok(text.clone())
            }
        }
    }

    async fn text(&self, text: &Formatted) -> Result<i64, Setback> {
        self.put(&self.introduced(text, MAX_MESSAGE_UNITS).await?).await
    }

    async fn put(&self, text: &Formatted) -> Result<i64, Setback> {
        let send = |params: Value| async move { self.line.call::<SentMessage>("sendMessage", &params).await };
        let mut params = self.place();
        self.line.leave_links(&mut params);
        let sent = with_markup(params, text, send).await;
        sent.map(|sent| sent.message_id).map_err(|error| self.setback(error, false))
    }

    /// Makes the preview's message the answer. Safe to repeat.
    async fn turn_into(&self, message: i64, text: &Formatted) -> Result<i64, Setback> {
        let mut params = json!({"chat_id": chat_id(&self.row.chat), "message_id": message});
        self.line.leave_links(&mut params);
        let edit = |params: Value| async move { self.line.call::<Value>("editMessageText", &params).await };
        match with_markup(params, text, edit).await {
            Ok(_) => Ok(message),
            Err(error) if error.says("message is not modified") => Ok(message),
            // The person deleted it, it is too old, or Telegram has another reason.
            Err(error) if error.code() == Some(400) => self.text(text).await,
            Err(error) => Err(self.setback(error, true)),
        }
    }

    async fn media(&self, file: &OutboundMedia) -> Result<i64, Setback> {
        let mut caption = file.caption.as_deref().map(markdown::read).unwrap_or_default();
        if let Some(problem) =
            media::problem(&self.line.media_folder(), file, self.line.account().media_max_bytes).await
        {
            let note = &Style { italic: true, ..Style::default() };
            caption.push(if caption.is_blank() { "" } else { "\n" }, &Style::default());
            caption.push(&problem, note);
            return self.text(&caption).await;
        }
        let caption = self.introduced(&caption, MAX_CAPTION_UNITS).await?;
        match media::send(self.line, self.place(), file, &caption).await {
            Ok(sent) => Ok(sent.message_id),
            Err(error) => Err(self.setback(error, false)),
        }
    }

    fn setback(&self, error: ApiError, repeatable: bool) -> Setback {
        let pause = || Timing::pause(&self.line.timing.delivery, self.row.attempts);
        let text = error.to_string();
        match error {
            ApiError::NoAnswer(_) if !repeatable => Setback::Unknown(text),
            ApiError::NotSent(_) | ApiError::NoAnswer(_) | ApiError::Server { .. } => {
                Setback::Later(pause(), text)
            }
            ApiError::Refused { migrate_to: Some(to), .. } => Setback::Moved(to),
            ApiError::Refused { code: 429, .. } => {
                Setback::Later(error.retry_after().unwrap_or_default().max(pause()), text)
            }
            // The token is being changed, or a proxy is in the way: the answer is not to blame.
            ApiError::Refused { code: 401 | 404 | 407 | 408 | 421 | 425, .. } => {
                Setback::Later(pause(), text)
            }
            _ if !self.row.progress.off_topic && error.says("message thread not found") => Setback::NoTopic,
            ApiError::Refused { code: 400 | 413, .. } if !CLOSED.iter().any(|words| error.says(words)) => {
                Setback::Part(text)
            }
            ApiError::Refused { .. } => Setback::Never(text),
        }
    }
}

/// Sends HTML, or the words alone when Telegram can't read the HTML.
async fn with_markup<T, F: Future<Output = Result<T, ApiError>>>(
    mut params: Value,
    text: &Formatted,
    send: impl Fn(Value) -> F,
) -> Result<T, ApiError> {
    params["text"] = text.html().into();
    params["parse_mode"] = "HTML".into();
    match send(params.clone()).await {
        Err(error) if error.says("can't parse entities") => {
            tracing::warn!(%error, "telegram could not read a message's markup; sending it plain");
            params["text"] = text.plain().into();
            if let Some(params) = params.as_object_mut() {
                params.remove("parse_mode");
            }
            send(params).await
        }
        other => other,
    }
}

/// Changes a text that was sent.
pub(super) async fn edit(line: &Line, chat: &str, message_id: i64, text: &str) -> Result<Value, ApiError> {
    let params = json!({"chat_id": chat_id(chat), "message_id": message_id});
    let text = split(&markdown::read(text), MAX_MESSAGE_UNITS).into_iter().next().unwrap_or_default();
    let send = |params: Value| async move { line.call::<Value>("editMessageText", &params).await };
    with_markup(params, &text, send).await
}
