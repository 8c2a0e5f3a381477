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

use super::line::{Line, Timing, chat_id};
use super::markdown;
use super::media;
use super::split::{MAX_MESSAGE_UNITS, split};
use super::target::{Part, Setback, Target};
use crate::channels::TELEGRAM;
use crate::clock::now_ms;
use crate::events::Audience;
use crate::inbound::OutboundMessage;
use crate::settings::telegram::{ReplyToMode, Streaming};
use crate::store::{OutboxRow, StoreError};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use tidegate_protocol::Scope;
use tokio::time::sleep;

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
            target = Target::new(line, row, reply).astray();
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
    use crate::inbound::OutboundMedia;

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
