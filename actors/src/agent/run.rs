//! One run: from a stored message to its stored answer.
//!
//! The transcript is the run's memory. Each step reads it, does the next thing, and appends what came of it
//! before the step after; so a run that is taken up again after a crash goes on where it was. A tool call is
//! appended before it is sent and carries a key that is used once: taken up again, it gives its old outcome
//! or the truth that nobody knows it.

mod finish;
mod reset;
mod steps;
mod stopped;

use super::commands::Desk;
use super::doors::{ChannelDoor, NodeDoor};
use super::feed::{Feed, FeedOf};
use super::media::{Intake, MediaStore, StoredMedia};
use super::messages::AgentLoad;
use super::providers::catalog::{Candidate, Catalog, NoModel, process_env};
use super::providers::model::{AssistantMessage, Block, StopReason};
use super::providers::{OllamaProbe, RetryPolicy};
use super::queue::Company;
use super::session_view::session_value;
use crate::clock::now_ms;
use crate::commands::Command;
use crate::gateway::Gateway;
use crate::inbound::{Inbound, RunOutcome};
use crate::settings::Settings;
use crate::store::{IngressRow, NewMessage, SessionRow, SessionUpdate, StoreError, TranscriptRow};
use serde_json::{Value, json};
use std::rc::Rc;
use std::sync::Arc;
use tokio::sync::watch;

/// What all runs share. Cheap to clone.
#[derive(Clone)]
pub(super) struct Workshop {
    pub(super) gateway: Gateway,
    pub(super) nodes: Rc<dyn NodeDoor>,
    pub(super) channels: Rc<dyn ChannelDoor>,
    pub(super) ollama: Rc<OllamaProbe>,
    pub(super) policy: RetryPolicy,
}

/// Rows of a session that may belong to one run.
const LOOK_BACK: usize = 400;

/// Tells a run to stop, and why.
pub(super) type StopSignal = watch::Receiver<Option<&'static str>>;

/// How the work of a run ended, before that is stored.
enum Ended {
    Answered(AssistantMessage),
    /// The gateway answered itself.
    Replied(String),
    /// The first is for the person, the second for operators.
    Failed(String, String),
    Stopped(&'static str),
}

/// A run at work.
struct Run<'a> {
    shop: &'a Workshop,
    ingress_id: i64,
    inbound: Inbound,
    session: SessionRow,
    settings: Arc<Settings>,
    media: MediaStore,
    feed: Feed,
    /// What it answers besides its own message; a run that needs no turn has none.
    company: Option<Company>,
    /// Files that a command brought.
    files: Vec<StoredMedia>,
}

/// Answers a message. On `Err` nothing was settled: the message is still pending.
pub(super) async fn answer(
    shop: &Workshop,
    row: IngressRow,
    company: Company,
    mut stop: StopSignal,
) -> Result<RunOutcome, StoreError> {
    if let Some(outcome) = stored_end(shop, &row).await? {
        return Ok(outcome);
    }
    let mut run = Run::open(shop, row).await?;
    run.company = Some(company);
    let stopped = async {
        loop {
            if let Some(reason) = *stop.borrow_and_update() {
                return reason;
            }
            if stop.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    };
    let ended = tokio::select! {
        biased;
        reason = stopped => Ended::Stopped(reason),
        ended = run.work() => ended?,
    };
    if let Ended::Stopped(reason) = ended {
        run.leave_on_record(reason).await?;
    }
    run.finish(ended).await
}

/// Settles a message that never got its turn.
pub(super) async fn give_up(
    shop: &Workshop,
    row: IngressRow,
    reason: &'static str,
) -> Result<RunOutcome, StoreError> {
    Run::open(shop, row).await?.finish(Ended::Stopped(reason)).await
}

/// Settles a message for which there was no room among those that wait.
pub(super) async fn turn_away(shop: &Workshop, row: IngressRow) -> Result<RunOutcome, StoreError> {
    let sentence =
        "Too many messages are waiting here, so this one was not looked at. Please say it again later.";
    let ended = Ended::Failed(sentence.to_owned(), "the queue is full".to_owned());
    Run::open(shop, row).await?.finish(ended).await
}

/// How the run ended, if it did: a crash may have come after that was stored.
async fn stored_end(shop: &Workshop, row: &IngressRow) -> Result<Option<RunOutcome>, StoreError> {
    let stored = shop.gateway.store.ingress_of_run(&row.inbound.run_id).await?;
    Ok(stored.and_then(|stored| stored.outcome))
}

/// Settles a run that ended by a bug of ours, so that it isn't taken up again and again. One that crashed after its
/// answer was stored has its end.
pub(super) async fn crashed(
    shop: &Workshop,
    row: IngressRow,
    detail: String,
) -> Result<RunOutcome, StoreError> {
    if let Some(outcome) = stored_end(shop, &row).await? {
        return Ok(outcome);
    }
    let sentence =
        "Something went wrong inside the gateway, and this message could not be answered. The log says more.";
    Run::open(shop, row).await?.finish(Ended::Failed(sentence.to_owned(), detail)).await
}

/// Answers a command that needs no turn of its own.
pub(super) async fn command(
    shop: &Workshop,
    row: IngressRow,
    command: Command,
    load: AgentLoad,
) -> Result<RunOutcome, StoreError> {
    let mut run = Run::open(shop, row).await?;
    run.note_command().await?;
    let model = run.candidates().await.map(|mut found| found.swap_remove(0)).map_err(|why| why.sentence());
    let desk = Desk {
        gateway: &shop.gateway,
        nodes: &*shop.nodes,
        inbound: &run.inbound,
        session: &run.session,
        media: &run.media,
        model,
        load,
    };
    let ended = match desk.answer(&command).await {
        Ok(reply) => {
            run.files = reply.files;
            Ended::Replied(reply.text)
        }
        Err(why) => Ended::Failed(why, "the command failed".to_owned()),
    };
    run.finish(ended).await
}

/// Answers with a sentence that somebody else knows.
pub(super) async fn reply(shop: &Workshop, row: IngressRow, text: String) -> Result<RunOutcome, StoreError> {
    let run = Run::open(shop, row).await?;
    run.note_command().await?;
    run.finish(Ended::Replied(text)).await
}

impl<'a> Run<'a> {
    async fn open(shop: &'a Workshop, row: IngressRow) -> Result<Self, StoreError> {
        let session = shop.gateway.store.session_for(&row.inbound).await?;
        let feed = Feed::new(FeedOf {
            gateway: &shop.gateway,
            channels: Rc::clone(&shop.channels),
            run_id: &row.inbound.run_id,
            session: &session,
            route: row.inbound.route.clone(),
        });
        Ok(Self {
            shop,
            ingress_id: row.id,
            inbound: row.inbound,
            session,
            settings: shop.gateway.settings.get(),
            media: MediaStore::new(&shop.gateway.settings),
            feed,
            company: None,
            files: Vec::new(),
        })
    }

    async fn work(&mut self) -> Result<Ended, StoreError> {
        let command = super::command_of(&self.settings, &self.inbound);
        match command {
            Some(Command::New(words)) => {
                self.start_afresh().await?;
                if words.is_empty() {
                    self.note_command().await?;
                    return Ok(Ended::Replied("A fresh conversation. What can I do for you?".to_owned()));
                }
                self.inbound.text = words;
            }
            Some(Command::Compact) => {
                self.note_command().await?;
                return self.compact_now().await;
            }
            Some(_) | None => self.start_afresh_if_due().await?,
        }
        self.feed.status("preparing_workspace");
        self.feed.status("preparing_context");
        self.note_message(&self.inbound).await?;
        self.mark_running().await?;
        self.feed.started();
        let candidates = match self.candidates().await {
            Ok(candidates) => candidates,
            Err(why) => return Ok(Ended::Failed(why.sentence(), why.to_string())),
        };
        self.feed.status("starting_model");
        self.think(candidates).await
    }

    /// Begins a new session id, unless this very run did so before a crash.
    async fn start_afresh(&mut self) -> Result<(), StoreError> {
        let store = &self.shop.gateway.store;
        let rows = store.transcript(&self.session.session_id, 50).await?;
        if rows.iter().any(|row| row.run_id.as_deref() == Some(&self.inbound.run_id)) {
            return Ok(());
        }
        if let Some(session) = store.reset_session(&self.session.key).await? {
            self.session = session;
            self.feed = Feed::new(FeedOf {
                gateway: &self.shop.gateway,
                channels: Rc::clone(&self.shop.channels),
                run_id: &self.inbound.run_id,
                session: &self.session,
                route: self.inbound.route.clone(),
            });
            self.feed.session_changed(("reason", "reset"), &self.session_view(false));
        }
        Ok(())
    }

    async fn candidates(&self) -> Result<Vec<Candidate>, NoModel> {
        let (agent, wanted) = (self.session.agent_id.as_str(), self.inbound.model.as_deref());
        let mut ollama = Vec::new();
        let probing = Catalog { settings: &self.settings, env: &process_env, ollama: &[] };
        if probing.needs_ollama(agent, wanted) {
            ollama = self.shop.ollama.models(process_env("OLLAMA_HOST")).await;
        }
        Catalog { settings: &self.settings, env: &process_env, ollama: &ollama }.candidates(agent, wanted)
    }

    /// The person's message enters the transcript.
    async fn note_message(&self, inbound: &Inbound) -> Result<(), StoreError> {
        self.note(inbound, self.intake().blocks(inbound).await).await
    }

    fn intake(&self) -> Intake<'_> {
        let limit = self.settings.agents.defaults.media_max_bytes();
        Intake { media: &self.media, channels: &*self.shop.channels, limit }
    }

    /// A message enters the transcript as these blocks, unless it is there.
    async fn note(&self, inbound: &Inbound, blocks: Vec<Block>) -> Result<(), StoreError> {
        let content = match blocks.as_slice() {
            [] => json!("(an empty message)"),
            [Block::Text { text }] => json!(text),
            _ => json!(blocks),
        };
        let mut message = user_row(inbound, content);
        if inbound.route.as_ref().is_some_and(|route| route.kind != crate::inbound::ChatKind::Direct) {
            let sender = &inbound.sender;
            let name = sender.name.as_deref().or(sender.username.as_deref()).unwrap_or(&sender.id);
            message["senderLabel"] = json!(name.replace(['[', ']'], ""));
        }
        if let Some(quoted) = &inbound.reply_context {
            message["replyContext"] = json!(super::providers::shorten(quoted, 2000));
        }
        self.append_as("user", message_id_of(inbound), message).await
    }

    /// Takes along what waits behind this run and may join it now; `begun` says that the model has worked already.
    /// True when something joined.
    async fn take_along(&self, begun: bool) -> Result<bool, StoreError> {
        let Some(company) = &self.company else { return Ok(false) };
        let joining = company.join(&self.inbound, &self.settings, begun);
        for row in &joining {
            tracing::info!(run = %self.inbound.run_id, message = %row.inbound.run_id, begun, "a message joins a run");
            self.note_message(&row.inbound).await?;
        }
        Ok(!joining.is_empty())
    }

    /// What this run answers besides its own message.
    fn joined(&self) -> Vec<IngressRow> {
        self.company.as_ref().map(Company::joined).unwrap_or_default()
    }

    /// A command enters the transcript for the person to see; the model isn't shown it.
    async fn note_command(&self) -> Result<(), StoreError> {
        let mut message = user_row(&self.inbound, json!(self.inbound.text));
        message["gatewayCommand"] = json!(true);
        self.append("user", "user", message).await
    }

    async fn mark_running(&mut self) -> Result<(), StoreError> {
        let title = self
            .session
            .title
            .is_none()
            .then(|| title_of(&self.inbound.text))
            .filter(|title| !title.is_empty());
        self.session.title = self.session.title.take().or_else(|| title.clone());
        let update = SessionUpdate {
            status: Some("running"),
            last_run_id: Some(self.inbound.run_id.clone()),
            started_at: Some(self.feed.started_at()),
            title,
            ..SessionUpdate::default()
        };
        self.shop.gateway.store.update_session(&self.session.key, update).await?;
        let view = self.session_view(true);
        self.feed.session_changed(("reason", "agent.run.started"), &view);
        self.feed.session_changed(("phase", "start"), &view);
        Ok(())
    }

    /// Appends a row once, and tells those who listen to the session. `name` is unique within the run.
    async fn append(&self, role: &'static str, name: &str, message: Value) -> Result<(), StoreError> {
        self.append_as(role, self.row_id(name), message).await
    }

    async fn append_as(
        &self,
        role: &'static str,
        message_id: String,
        message: Value,
    ) -> Result<(), StoreError> {
        let row = NewMessage {
            message_id: message_id.clone(),
            run_id: Some(self.inbound.run_id.clone()),
            role,
            message: message.clone(),
        };
        let seqs = self.shop.gateway.store.append(&self.session.session_id, vec![row]).await?;
        if let Some(seq) = seqs.first() {
            self.feed.row(&message_id, *seq, &message, &self.session_view(true));
        }
        Ok(())
    }

    fn row_id(&self, name: &str) -> String {
        format!("{}:{name}", self.inbound.run_id)
    }

    fn is_own(&self, row: &TranscriptRow) -> bool {
        row.run_id.as_deref() == Some(self.inbound.run_id.as_str())
    }

    /// The session as clients see it in lists and events.
    fn session_view(&self, running: bool) -> Value {
        let run = (self.inbound.run_id.clone(), self.session.key.clone());
        let running = if running { vec![run] } else { Vec::new() };
        let session = SessionRow {
            updated_at: now_ms(),
            last_run_id: Some(self.inbound.run_id.clone()),
            ..self.session.clone()
        };
        session_value(&session, &AgentLoad { running, waiting: 0 })
    }
}

fn message_id_of(inbound: &Inbound) -> String {
    format!("{}:user", inbound.run_id)
}

fn user_row(inbound: &Inbound, content: Value) -> Value {
    json!({
        "role": "user", "content": content, "timestamp": inbound.received_at_ms,
        "idempotencyKey": message_id_of(inbound),
    })
}

/// The gateway's own words as a model's answer, so that clients show them alike.
fn own_words(text: &str) -> AssistantMessage {
    AssistantMessage {
        content: vec![Block::text(text)],
        api: "gateway".to_owned(),
        provider: "tidegate".to_owned(),
        model: "gateway".to_owned(),
        stop_reason: StopReason::Stop,
        timestamp: now_ms(),
        ..AssistantMessage::default()
    }
}

/// The beginning of the first message, for lists of conversations.
fn title_of(text: &str) -> String {
    let line = text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default().trim();
    super::providers::shorten(line, 60)
}
