//! Answers from the outbox to Telegram.
//!
//! What decides about trying again is whether Telegram can have the message already. A request that never
//! left, a 429 and a 5xx are tried again until the answer expires. A request that left and got no answer is
//! set aside as `unknown` and operators are told, for a second copy can't be told from the first; except for
//! edits, which may be repeated, so an answer that takes over its preview is never unknown. What was on its way
//! when the process was killed is sent again and says so: perhaps the request never left, and an answer that may
//! come twice is better than one that may not come at all.

use super::api::{ApiError, SentMessage};
use super::formatted::{Formatted, Style};
use super::incoming::GENERAL_TOPIC;
use super::line::{Line, Timing, chat_id};
use super::markdown;
use super::media;
use super::split::{MAX_MESSAGE_UNITS, split};
use crate::channels::TELEGRAM;
use crate::clock::now_ms;
use crate::events::Audience;
use crate::inbound::{OutboundMedia, OutboundMessage};
use crate::settings::telegram::{ReplyToMode, Streaming};
use crate::store::{OutboxRow, StoreError};
use serde_json::{Value, json};
use std::time::Duration;
use tidegate_protocol::Scope;
use tokio::time::sleep;

/// Said before what a chat may have already, when the process ended while it was on its way.
const REPEATED: &str = "↻ Sent again after a restart; you may have this already.\n\n";

/// One message of an answer.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Part {
    Text(Formatted),
    Media(OutboundMedia),
}

/// What to do about an answer that was not delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Setback {
    /// Telegram does not have it.
    Later(Duration, String),
    /// Telegram may have it.
    Unknown(String),
    Never(String),
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

/// An answer cut into messages.
pub(super) fn parts(message: &OutboundMessage, limit: usize) -> Vec<Part> {
    let text = message.text.as_deref().map(markdown::read).unwrap_or_default();
    let texts = split(&text, limit).into_iter().map(Part::Text);
    texts.chain(message.media.iter().cloned().map(Part::Media)).collect()
}

/// Delivers one claimed answer and records what became of it.
pub(super) async fn deliver(line: &Line, mut row: OutboxRow) {
    let outcome = send_all(line, &mut row).await;
    let mut failures = 0;
    // What Telegram has is not forgotten because the disk is full: the chat's next answer waits until this
    // one is on record. Should the process end before, the next start finds it and marks it.
    while let Err(error) = record(line, &row, &outcome).await {
        failures += 1;
        let pause = Timing::pause(&line.timing.network, failures);
        tracing::error!(account = line.name, key = row.key, ?pause, %error, "a delivery could not be recorded");
        line.handle.update(|status| status.last_error = Some(error.to_string()));
        sleep(pause).await;
    }
}

async fn send_all(line: &Line, row: &mut OutboxRow) -> Result<(), Setback> {
    let account = line.account();
    let limit = account.text_limit.unwrap_or(MAX_MESSAGE_UNITS).clamp(256, MAX_MESSAGE_UNITS);
    let parts = parts(&row.message, limit);
    let mut draft = Draft::take(line, row, account.streaming).await?;
    for (index, part) in parts.iter().enumerate().skip(row.progress.parts) {
        let reply = match account.reply_to_mode {
            ReplyToMode::First | ReplyToMode::Off if index > 0 => None,
            _ => row.message.reply_to.as_deref(),
        };
        let target = Target { line, row, reply, preview: account.link_preview };
        let id = match (part, draft.edits.filter(|_| index == 0)) {
            (Part::Text(text), Some(message)) => target.turn_into(message, text).await?,
            (Part::Text(text), None) => target.text(text).await?,
            (Part::Media(file), _) => target.media(file).await?,
        };
        if draft.edits == Some(id) {
            draft.used = true;
        }
        row.progress.parts = index + 1;
        row.progress.message_ids.push(id.to_string());
        row.progress.repeated = false;
        if index + 1 < parts.len() {
            line.gateway.store.outbox_progress(row.id, row.progress.clone()).await?;
        }
    }
    draft.clear_away(line, row).await;
    Ok(())
}

/// The message that showed this answer while it grew.
struct Draft {
    id: Option<i64>,
    /// To become the first part.
    edits: Option<i64>,
    used: bool,
}

impl Draft {
    async fn take(line: &Line, row: &OutboxRow, mode: Streaming) -> Result<Self, Setback> {
        let Some(run_id) = row.run_id.as_deref().filter(|_| row.is_answer()) else {
            return Ok(Self { id: None, edits: None, used: false });
        };
        let shown = line.previews.close(run_id).await;
        let id = match shown {
            Some(id) => Some(id),
            None => line.gateway.store.draft(TELEGRAM, &line.name, run_id).await?,
        };
        Ok(Self { id, edits: id.filter(|_| mode != Streaming::Progress), used: row.progress.parts > 0 })
    }

    async fn clear_away(self, line: &Line, row: &OutboxRow) {
        let (Some(id), Some(run_id)) = (self.id, row.run_id.as_deref()) else { return };
        if !self.used {
            let params = json!({"chat_id": chat_id(&row.chat), "message_id": id});
            if let Err(error) = line.call::<bool>("deleteMessage", &params).await {
                tracing::debug!(account = line.name, %error, "a preview could not be deleted");
            }
        }
        if let Err(error) = line.gateway.store.forget_draft(TELEGRAM, &line.name, run_id).await {
            tracing::debug!(account = line.name, %error, "a preview could not be forgotten");
        }
    }
}

struct Target<'a> {
    line: &'a Line,
    row: &'a OutboxRow,
    reply: Option<&'a str>,
    preview: bool,
}

impl Target<'_> {
    fn place(&self) -> Value {
        let thread = self.row.thread.as_deref().filter(|thread| *thread != GENERAL_TOPIC.to_string());
        let mut place = Line::place(&self.row.chat, thread);
        if self.row.message.silent {
            place["disable_notification"] = true.into();
        }
        if let Some(reply) = self.reply.and_then(|reply| reply.parse::<i64>().ok()) {
            place["reply_parameters"] = json!({"message_id": reply, "allow_sending_without_reply": true});
        }
        place
    }

    fn marked(&self, text: &Formatted) -> Formatted {
        let mut marked = Formatted::default();
        if self.row.progress.repeated {
            marked.push(REPEATED, &Style { italic: true, ..Style::default() });
        }
        for segment in &text.segments {
            marked.push(&segment.text, &segment.style);
        }
        marked
    }

    async fn text(&self, text: &Formatted) -> Result<i64, Setback> {
        let text = self.marked(text);
        let send = |params: Value| async move { self.line.call::<SentMessage>("sendMessage", &params).await };
        let mut params = self.place();
        if !self.preview {
            params["link_preview_options"] = json!({"is_disabled": true});
        }
        let sent = with_markup(params, &text, send).await;
        sent.map(|sent| sent.message_id).map_err(|error| self.setback(error, false))
    }

    /// Makes the preview's message the answer. Safe to repeat.
    async fn turn_into(&self, message: i64, text: &Formatted) -> Result<i64, Setback> {
        let mut params = json!({"chat_id": chat_id(&self.row.chat), "message_id": message});
        if !self.preview {
            params["link_preview_options"] = json!({"is_disabled": true});
        }
        let edit = |params: Value| async move { self.line.call::<Value>("editMessageText", &params).await };
        match with_markup(params, text, edit).await {
            Ok(_) => Ok(message),
            Err(error) if error.says("message is not modified") => Ok(message),
            // The person deleted it, or it is too old.
            Err(error) if error.says("message to edit not found") || error.says("can't be edited") => {
                self.text(text).await
            }
            Err(error) => Err(self.setback(error, true)),
        }
    }

    async fn media(&self, file: &OutboundMedia) -> Result<i64, Setback> {
        let mut caption = self.marked(&file.caption.as_deref().map(markdown::read).unwrap_or_default());
        if let Some(problem) =
            media::problem(&self.line.media_folder(), file, self.line.account().media_max_bytes).await
        {
            let note = &Style { italic: true, ..Style::default() };
            caption.push(if caption.is_blank() { "" } else { "\n" }, &Style::default());
            caption.push(&problem, note);
            return self.text(&caption).await;
        }
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
                Setback::Later(error.retry_after().unwrap_or_else(pause), text)
            }
            // The token is being changed, or a proxy is in the way: the answer is not to blame.
            ApiError::Refused { code: 401 | 404 | 407 | 408 | 421 | 425, .. } => {
                Setback::Later(pause(), text)
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

async fn record(line: &Line, row: &OutboxRow, outcome: &Result<(), Setback>) -> Result<(), StoreError> {
    match outcome {
        Ok(()) => delivered(line, row).await,
        Err(setback) => set_back(line, row, setback.clone()).await,
    }
}

async fn delivered(line: &Line, row: &OutboxRow) -> Result<(), StoreError> {
    line.gateway.store.outbox_sent(row.id, row.progress.clone()).await?;
    line.handle.update(|status| {
        status.last_outbound_at = Some(now_ms());
        status.last_transport_activity_at = Some(now_ms());
    });
    media::clear(line, &row.message.media).await;
    Ok(())
}

async fn set_back(line: &Line, row: &OutboxRow, setback: Setback) -> Result<(), StoreError> {
    let store = &line.gateway.store;
    let (pause, error) = match setback {
        Setback::Unknown(error) => return give_up(line, row, "unknown", error).await,
        Setback::Never(error) => return give_up(line, row, "failed", error).await,
        Setback::Later(pause, error) => (pause, error),
        Setback::Store(error) => (Duration::from_secs(1), error),
        Setback::Moved(to) => {
            tracing::info!(account = line.name, chat = row.chat, to, "the chat goes on under another id");
            store.move_chat(TELEGRAM, &line.name, &row.chat, &to.to_string()).await?;
            (Duration::ZERO, "the chat moved".to_owned())
        }
    };
    tracing::warn!(account = line.name, key = row.key, attempts = row.attempts, ?pause, %error, "answer not delivered yet");
    let pause = i64::try_from(pause.as_millis()).unwrap_or(i64::MAX);
    store.outbox_progress(row.id, row.progress.clone()).await?;
    store.outbox_retry(row.id, now_ms().saturating_add(pause), error).await
}

/// Records that nobody will try again, and tells operators.
pub(super) async fn give_up(
    line: &Line,
    row: &OutboxRow,
    state: &'static str,
    error: String,
) -> Result<(), StoreError> {
    tracing::error!(account = line.name, chat = row.chat, key = row.key, state, %error, "answer not delivered");
    let store = &line.gateway.store;
    store.outbox_give_up(row.id, state, error.clone()).await?;
    count_losses(line).await?;
    if state == "unknown" {
        let payload = json!({
            "channel": TELEGRAM, "accountId": line.name, "chatId": row.chat, "threadId": row.thread,
            "key": row.key, "runId": row.run_id, "error": error, "ts": now_ms(),
        });
        line.gateway.broadcast("outbox.unknown", &payload, Audience::Scope(Scope::Read));
    } else {
        media::clear(line, &row.message.media).await;
    }
    Ok(())
}

/// Brings the numbers that operators see up to date.
pub(super) async fn count_losses(line: &Line) -> Result<(), StoreError> {
    let (unknown, failed) = line.gateway.store.outbox_losses(TELEGRAM, &line.name).await?;
    line.handle.update(|status| {
        status.unknown_deliveries = unknown;
        status.failed_deliveries = failed;
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inbound::MediaKind;

    #[test]
    fn a_long_answer_with_a_file_becomes_several_messages_in_order() {
        let file = OutboundMedia {
            kind: MediaKind::Image,
            mime: "image/png".into(),
            file_name: None,
            path: "/x.png".into(),
            caption: None,
        };
        let text = Some("word ".repeat(1000));
        let message = OutboundMessage { text, media: vec![file.clone()], ..OutboundMessage::default() };
        let parts = parts(&message, MAX_MESSAGE_UNITS);
        assert_eq!(parts.len(), 3);
        assert_eq!(parts[2], Part::Media(file));
    }

    #[test]
    fn an_answer_of_nothing_has_no_parts() {
        let message = OutboundMessage { text: Some("  \n ".into()), ..OutboundMessage::default() };
        assert!(parts(&message, MAX_MESSAGE_UNITS).is_empty());
    }
}
