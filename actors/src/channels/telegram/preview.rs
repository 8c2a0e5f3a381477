//! While a run works: the typing notice, and one message that shows the answer as it grows.
//!
//! A preview is only a picture. Nothing waits for it, and whatever goes wrong with it goes wrong alone. The
//! answer itself comes through the outbox, which takes the preview's message over.

use super::api::SentMessage;
use super::formatted::{Formatted, Style};
use super::incoming::GENERAL_TOPIC;
use super::line::Line;
use super::markdown;
use super::split::{MAX_MESSAGE_UNITS, split};
use crate::channels::{Phase, RunProgress, TELEGRAM};
use crate::inbound::{ChatKind, Route};
use crate::settings::telegram::Streaming;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until, timeout};

/// A run that says nothing for so long is not shown as working any more.
const MAX_TYPING: Duration = Duration::from_secs(15 * 60);
/// Tool lines shown at once.
const MAX_TOOLS: usize = 8;
const LONGEST_HOLD: Duration = Duration::from_secs(60);

/// The runs of an account that are being shown.
#[derive(Default)]
pub(super) struct Previews(Mutex<HashMap<String, Arc<Preview>>>);

/// One run, as its chat sees it.
pub(super) struct Preview {
    route: Route,
    run_id: String,
    mode: Streaming,
    picture: Mutex<Picture>,
    changed: Notify,
    over: AtomicBool,
    ended: Notify,
    /// Held while a request about the message is on its way, so that no late edit can follow the answer.
    message: tokio::sync::Mutex<Message>,
}

#[derive(Default)]
struct Picture {
    text: String,
    tools: Vec<String>,
}

#[derive(Default)]
struct Message {
    id: Option<i64>,
    shown: String,
    closed: bool,
}

impl Previews {
    /// Takes note of a step; says which run has to be shown from now on.
    pub(super) fn note(
        &self,
        progress: RunProgress,
        mode: impl FnOnce() -> Streaming,
    ) -> Option<Arc<Preview>> {
        let mut runs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = runs.get(&progress.run_id).cloned();
        let preview = match (&known, &progress.phase) {
            (None, Phase::Finished) => return None,
            (Some(preview), _) => preview.clone(),
            (None, _) => {
                let preview = Arc::new(Preview::new(progress.route, progress.run_id.clone(), mode()));
                runs.insert(progress.run_id, preview.clone());
                preview
            }
        };
        drop(runs);
        preview.step(progress.phase);
        known.is_none().then_some(preview)
    }

    /// Takes a run's message out of the picture's hands, once no request about it is on its way.
    pub(super) async fn close(&self, run_id: &str) -> Option<i64> {
        let preview = self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(run_id)?;
        preview.end();
        let mut message = preview.message.lock().await;
        message.closed = true;
        message.id
    }

    fn forget(&self, run_id: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(run_id);
    }
}

impl Preview {
    fn new(route: Route, run_id: String, mode: Streaming) -> Self {
        Self {
            route,
            run_id,
            mode,
            picture: Mutex::default(),
            changed: Notify::new(),
            over: AtomicBool::new(false),
            ended: Notify::new(),
            message: tokio::sync::Mutex::default(),
        }
    }

    fn step(&self, phase: Phase) {
        let mut picture = self.picture.lock().unwrap_or_else(PoisonError::into_inner);
        match phase {
            Phase::Started => {}
            Phase::Draft { text } => picture.text = text,
            Phase::ToolStarted { name } => picture.tools.push(name),
            Phase::Finished => self.end(),
        }
        drop(picture);
        self.changed.notify_one();
    }

    fn end(&self) {
        self.over.store(true, Ordering::Release);
        self.ended.notify_waiters();
        self.changed.notify_one();
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }

    /// What the message should show now; blank while there is nothing to show.
    fn draw(&self) -> Formatted {
        let picture = self.picture.lock().unwrap_or_else(PoisonError::into_inner);
        let text = if self.mode == Streaming::Partial { picture.text.as_str() } else { "" };
        let mut drawn = match text.trim() {
            "" => Formatted::default(),
            text => split(&markdown::read(text), MAX_MESSAGE_UNITS).into_iter().next().unwrap_or_default(),
        };
        if !drawn.is_blank() {
            return drawn;
        }
        if self.mode == Streaming::Progress || !picture.tools.is_empty() {
            drawn.push("Working", &Style { bold: true, ..Style::default() });
        }
        let hidden = picture.tools.len().saturating_sub(MAX_TOOLS);
        for tool in picture.tools.iter().skip(hidden) {
            drawn.push("\n🛠 ", &Style::default());
            drawn.push(tool, &Style { code: true, ..Style::default() });
        }
        drawn
    }
}

/// Shows `preview` until its run is over.
pub(super) async fn show(line: Arc<Line>, preview: Arc<Preview>) {
    tokio::join!(type_along(&line, &preview), draw_along(&line, &preview));
    // The outbox takes the message over, unless the run was stopped before it had an answer.
    sleep(line.timing.abandon).await;
    abandon(&line, &preview).await;
    line.previews.forget(&preview.run_id);
}

/// Half an answer stays where it is; "Working" does not, for nobody works any more.
async fn abandon(line: &Line, preview: &Preview) {
    let mut message = preview.message.lock().await;
    let says_something =
        !preview.picture.lock().unwrap_or_else(PoisonError::into_inner).text.trim().is_empty();
    let Some(id) = message.id.filter(|_| !message.closed && !says_something) else { return };
    message.closed = true;
    let params = json!({"chat_id": super::line::chat_id(&preview.route.chat), "message_id": id});
    if let Err(error) = line.call::<bool>("deleteMessage", &params).await {
        tracing::debug!(account = line.name, %error, "a preview could not be deleted");
    }
    if let Err(error) = line.gateway.store.forget_draft(TELEGRAM, &line.name, &preview.run_id).await {
        tracing::debug!(account = line.name, %error, "a preview could not be forgotten");
    }
}

async fn type_along(line: &Line, preview: &Preview) {
    let mut action = Line::place(&preview.route.chat, preview.route.thread.as_deref());
    action["action"] = "typing".into();
    let end = Instant::now() + MAX_TYPING;
    while !preview.is_over() && Instant::now() < end {
        let mut pause = line.timing.typing;
        match line.call::<bool>("sendChatAction", &action).await {
            Ok(_) => {}
            Err(error) if error.retry_after().is_some() => {
                pause = error.retry_after().unwrap_or(pause).max(pause).min(LONGEST_HOLD);
            }
            // Not worth more than a try each time, and nothing at all when the chat is closed to the bot.
            Err(error) if error.is_network() => {}
            Err(error) => return tracing::debug!(account = line.name, %error, "typing notice refused"),
        }
        let _ = timeout(pause, preview.ended.notified()).await;
    }
}

async fn draw_along(line: &Line, preview: &Preview) {
    if preview.mode == Streaming::Off {
        return;
    }
    let direct = preview.route.kind == ChatKind::Direct;
    let usual = if direct { line.timing.edit_direct } else { line.timing.edit_group };
    resume(line, preview).await;
    let mut next = None;
    while !preview.is_over() {
        preview.changed.notified().await;
        let drawn = preview.draw();
        if drawn.is_blank() {
            continue;
        }
        let at = *next.get_or_insert_with(|| Instant::now() + line.timing.first_preview);
        tokio::select! {
            () = sleep_until(at) => {}
            () = preview.ended.notified() => return,
        }
        let Some(pause) = put(line, preview, usual).await else { return };
        next = Some(Instant::now() + pause);
    }
}

/// A run that is played again after a restart goes on with the message it had.
async fn resume(line: &Line, preview: &Preview) {
    let mut message = preview.message.lock().await;
    match line.gateway.store.draft(TELEGRAM, &line.name, &preview.run_id).await {
        Ok(id) => message.id = message.id.or(id),
        Err(error) => tracing::warn!(account = line.name, %error, "an earlier preview could not be found"),
    }
}

/// Brings the message up to date; the pause before it may be touched again, or `None` to leave it alone.
async fn put(line: &Line, preview: &Preview, usual: Duration) -> Option<Duration> {
    let mut message = preview.message.lock().await;
    let html = preview.draw().html();
    if message.closed || preview.is_over() {
        return None;
    }
    if html == message.shown {
        return Some(usual);
    }
    let outcome = match message.id {
        None => send(line, preview, &html).await.map(|id| message.id = Some(id)),
        Some(id) => {
            let mut params = json!({
                "chat_id": super::line::chat_id(&preview.route.chat), "message_id": id,
                "text": html, "parse_mode": "HTML",
            });
            line.leave_links(&mut params);
            line.call::<Value>("editMessageText", &params).await.map(|_| ())
        }
    };
    match outcome {
        Ok(()) => {
            message.shown = html;
            Some(usual)
        }
        Err(error) if error.retry_after().is_some() => {
            let hold = error.retry_after().unwrap_or(usual);
            tracing::info!(account = line.name, ?hold, "telegram slows the preview down");
            (hold <= LONGEST_HOLD).then_some(hold.max(usual))
        }
        Err(error) if error.says("message is not modified") => Some(usual),
        // Once there is a message, an edit may be repeated; a first one might be doubled.
        Err(error) if error.is_network() && message.id.is_some() => Some(usual * 3),
        Err(error) => {
            tracing::debug!(account = line.name, %error, "preview given up");
            None
        }
    }
}

async fn send(line: &Line, preview: &Preview, html: &str) -> Result<i64, super::api::ApiError> {
    let thread = preview.route.thread.as_deref().filter(|thread| *thread != GENERAL_TOPIC.to_string());
    let mut params = Line::place(&preview.route.chat, thread);
    params["text"] = html.into();
    params["parse_mode"] = "HTML".into();
    line.leave_links(&mut params);
    if let Some(reply) = preview.route.reply_to.as_deref().and_then(|id| id.parse::<i64>().ok()) {
        params["reply_parameters"] = json!({"message_id": reply, "allow_sending_without_reply": true});
    }
    let sent: SentMessage = line.call("sendMessage", &params).await?;
    let (run_id, chat) = (&preview.run_id, &preview.route.chat);
    let saved = line.gateway.store.save_draft(TELEGRAM, &line.name, run_id, chat, sent.message_id).await;
    if let Err(error) = saved {
        tracing::warn!(account = line.name, %error, "a preview could not be remembered");
    }
    Ok(sent.message_id)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress(phase: Phase) -> RunProgress {
        let route = Route {
            channel: "telegram".into(),
            account: "default".into(),
            chat: "5".into(),
            thread: None,
            reply_to: None,
            kind: ChatKind::Direct,
        };
        RunProgress { route, run_id: "r".into(), phase }
    }

    #[test]
    fn a_run_is_shown_once_and_never_after_its_end() {
        let previews = Previews::default();
        let mode = || Streaming::Partial;
        assert!(previews.note(progress(Phase::Finished), mode).is_none());
        assert!(previews.note(progress(Phase::Started), mode).is_some());
        assert!(previews.note(progress(Phase::Draft { text: "a".into() }), mode).is_none());
    }

    #[test]
    fn the_picture_shows_the_answer_or_else_what_is_being_done() {
        let preview = |mode| Preview::new(progress(Phase::Started).route, "r".into(), mode);
        let partial = preview(Streaming::Partial);
        assert!(partial.draw().is_blank());
        partial.step(Phase::ToolStarted { name: "nodes".into() });
        assert_eq!(partial.draw().html(), "<b>Working</b>\n🛠 <code>nodes</code>");
        partial.step(Phase::Draft { text: "**done**".into() });
        assert_eq!(partial.draw().html(), "<b>done</b>");
        let status = preview(Streaming::Progress);
        status.step(Phase::Draft { text: "secretly growing".into() });
        assert_eq!(status.draw().html(), "<b>Working</b>");
    }
}
