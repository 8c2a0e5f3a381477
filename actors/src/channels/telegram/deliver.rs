//! Answers from the outbox to Telegram.
//!
//! What decides about trying again is whether Telegram can have the message already. A request that never
//! left, a 429 and a 5xx are tried again until the answer expires. A request that left and got no answer is
//! set aside as `unknown` and operators are told, for a second copy can't be told from the first; except for
//! edits, which may be repeated, so an answer that takes over its preview is never unknown. What was on its way
//! when the process was killed is sent again and says so: perhaps the request never left, and an answer that may
//! come twice is better than one that may not come at all.
//!
//! A part that Telegram refuses is left out, and the person is told in its place; the rest goes on. An answer whose
//! topic is gone goes to the chat itself.

use super::api::{ApiError, SentMessage};
use super::formatted::{Formatted, Style};
use super::incoming::GENERAL_TOPIC;
use super::line::{Line, Timing, chat_id};
use super::markdown;
use super::media;
use super::split::{MAX_CAPTION_UNITS, MAX_MESSAGE_UNITS, split};
use crate::channels::TELEGRAM;
use crate::clock::now_ms;
use crate::events::Audience;
use crate::inbound::{OutboundMedia, OutboundMessage};
use crate::settings::telegram::{ReplyToMode, Streaming};
use crate::store::{OutboxRow, StoreError};
use serde_json::{Value, json};
use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;
use tidegate_protocol::Scope;
use tokio::time::sleep;

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
enum Setback {
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

/// An answer cut into messages.
pub(super) fn parts(message: &OutboundMessage, limit: usize) -> Vec<Part> {
    let text = message.text.as_deref().map(markdown::read).unwrap_or_default();
    let texts = split(&text, limit).into_iter().map(Part::Text);
    texts.chain(message.media.iter().cloned().map(Part::Media)).collect()
}

/// Delivers one claimed answer and records what became of it.
pub(super) async fn deliver(line: &Arc<Line>, mut row: OutboxRow) {
    let mut draft = Draft::default();
    let outcome = send_all(line, &mut row, &mut draft).await;
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
    if draft.over {
        // The chat's next answer need not wait for that.
        let line = Arc::clone(line);
        actix::spawn(async move { draft.clear_away(&line, &row).await });
    }
}

async fn send_all(line: &Line, row: &mut OutboxRow, draft: &mut Draft) -> Result<(), Setback> {
    let account = line.account();
    let limit = account.text_limit.unwrap_or(MAX_MESSAGE_UNITS).clamp(256, MAX_MESSAGE_UNITS);
    // Whatever the settings say by now: a part that was sent is cut off where it was then.
    let limit = *row.progress.limit.get_or_insert(limit);
    let parts = parts(&row.message, limit);
    *draft = Draft::take(line, row, account.streaming).await?;
    for (index, part) in parts.iter().enumerate().skip(row.progress.parts) {
        let reply_to = row.message.reply_to.clone();
        let reply = match account.reply_to_mode {
            ReplyToMode::First | ReplyToMode::Off if index > 0 => None,
            _ => reply_to.as_deref(),
        };
        let mut target = Target::new(line, row, reply);
        let mut sent = target.send(part, draft.edits.filter(|_| index == 0)).await;
        if sent == Err(Setback::NoTopic) {
            row.progress.off_topic = true;
            target = Target { astray: true, ..Target::new(line, row, reply) };
            sent = target.send(part, None).await;
        }
        if target.remarked.get() {
            row.progress.repeated = false;
        }
        let id = match sent {
            Err(Setback::Part(why)) => {
                let only = parts.len() == 1;
                let id = Target::new(line, row, reply).tell_refusal(part, only, &why).await?;
                row.progress.refused = Some(format!("part {} of {}: {why}", index + 1, parts.len()));
                id
            }
            sent => Some(sent?),
        };
        draft.used |= id.is_some() && draft.edits == id;
        row.progress.parts = index + 1;
        row.progress.message_ids.extend(id.map(|id| id.to_string()));
        row.progress.repeated = false;
        if index + 1 < parts.len() {
            line.gateway.store.outbox_progress(row.id, row.progress.clone()).await?;
        }
    }
    draft.over = true;
    match &row.progress.refused {
        Some(which) => Err(Setback::Never(format!("refused, {which}"))),
        None => Ok(()),
    }
}

/// The message that showed this answer while it grew.
#[derive(Default)]
struct Draft {
    id: Option<i64>,
    /// To become the first part.
    edits: Option<i64>,
    used: bool,
    /// The answer has taken its place.
    over: bool,
}

impl Draft {
    async fn take(line: &Line, row: &OutboxRow, mode: Streaming) -> Result<Self, Setback> {
        let Some(run_id) = row.run_id.as_deref().filter(|_| row.is_answer()) else {
            return Ok(Self::default());
        };
        let store = &line.gateway.store;
        let id = match line.previews.close(run_id).await {
            Some(id) => Some(id),
            None => store.draft(TELEGRAM, &line.name, run_id).await?,
        };
        // An answer above what was said since would be looked for in vain.
        let fits = mode != Streaming::Progress
            && id.is_some()
            && !store.draft_is_buried(TELEGRAM, &line.name, run_id, row.thread.as_deref()).await?;
        let used = id.is_some_and(|id| row.progress.message_ids.contains(&id.to_string()));
        Ok(Self { id, edits: id.filter(|_| fits), used, over: false })
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
    /// Its topic was found to be gone just now.
    astray: bool,
    /// What has to be said before the part was said, in a message of its own.
    remarked: Cell<bool>,
}

impl<'a> Target<'a> {
    fn new(line: &'a Line, row: &'a OutboxRow, reply: Option<&'a str>) -> Self {
        Self { line, row, reply, astray: false, remarked: Cell::new(false) }
    }

    /// Sends one part, into the message `edits` if there is one; gives the id of the message that it is.
    async fn send(&self, part: &Part, edits: Option<i64>) -> Result<i64, Setback> {
        match (part, edits) {
            (Part::Text(text), Some(message)) => self.turn_into(message, text).await,
            (Part::Text(text), None) => self.text(text).await,
            (Part::Media(file), _) => self.media(file).await,
        }
    }

    /// Says in the place of a part that it is missing. Where even that is refused, operators still see it.
    async fn tell_refusal(&self, part: &Part, only: bool, why: &str) -> Result<Option<i64>, Setback> {
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
    store.outbox_progress(row.id, row.progress.clone()).await?;
    let (pause, error) = match setback {
        Setback::Unknown(error) => return give_up(line, row, "unknown", error).await,
        Setback::Never(error) | Setback::Part(error) => return give_up(line, row, "failed", error).await,
        Setback::Later(pause, error) => (pause, error),
        Setback::Store(error) => (Duration::from_secs(1), error),
        Setback::NoTopic => (Duration::ZERO, "the topic is gone".to_owned()),
        Setback::Moved(to) => {
            tracing::info!(account = line.name, chat = row.chat, to, "the chat goes on under another id");
            store.move_chat(TELEGRAM, &line.name, &row.chat, &to.to_string()).await?;
            (Duration::ZERO, "the chat moved".to_owned())
        }
    };
    tracing::warn!(account = line.name, key = row.key, attempts = row.attempts, ?pause, %error, "answer not delivered yet");
    let pause = i64::try_from(pause.as_millis()).unwrap_or(i64::MAX);
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
