//! The agent: takes a person's message, lets a model think and call tools, and answers.
//!
//! Every message is a row of `ingress` before the agent hears of it, and stays pending until its answer is
//! stored. The actor keeps nothing that it can't read again: which runs go on, which wait.

pub mod approvals;
mod clock;
mod commands;
mod compaction;
mod context;
mod doors;
mod endings;
mod feed;
mod lanes;
mod media;
mod messages;
mod prompt;
pub mod providers;
mod queue;
mod run;
mod session_view;
mod setbacks;
mod tools;

#[cfg(test)]
#[path = "../../../tests/support/fake_models/mod.rs"]
#[allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::expect_used)]
mod fake_models;
#[cfg(test)]
mod tests;

pub use doors::{ChannelDoor, NodeAnswer, NodeCall, NodeDoor, NodeFailure, Sent};
pub use media::prune_media;
pub use messages::{AbortOutcome, AbortRuns, AgentLoad, Arrived, AwaitRun, HasRoom, ListRuns, RunStatus};
pub(crate) use session_view::{session_value, split_model};

use crate::commands::Command;
use crate::gateway::Gateway;
use crate::inbound::{Inbound, RunOutcome};
use crate::session_key;
use crate::settings::Settings;
use crate::settings::messages::QueueMode;
use crate::store::{IngressRow, IngressState, StoreError};
use crate::supervise::{Probe, Shutdown};
use actix::{
    Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Handler, MessageResult, ResponseActFuture,
    ResponseFuture, WrapFuture,
};
use providers::{OllamaProbe, RetryPolicy};
use queue::{Company, Queue};
use run::Workshop;
use setbacks::Setbacks;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::{oneshot, watch};
use tokio::task::AbortHandle;

/// Runs at the same time, unless the settings say otherwise.
const MAX_CONCURRENT: usize = 8;
/// A store that is being restarted is asked again after this, and after ever longer pauses.
const STORE_PAUSE: Duration = Duration::from_millis(500);
/// Tries to settle one row before it is parked: more than an hour.
const MAX_SETBACKS: u32 = 24;
/// How long an abort waits for the run to say that it has ended.
const ABORT_PATIENCE: Duration = Duration::from_secs(5);

/// Why a run is stopped whose person wrote on.
const INTERRUPTED: &str = "interrupted";

/// Answers messages: one run at a time for each conversation, different ones side by side.
pub struct Agent {
    shop: Workshop,
    queue: Queue,
    /// By the row that each run answers.
    running: HashMap<i64, Running>,
    /// Rows that run, wait, or are being settled: news of them again is no news.
    known: HashSet<i64>,
    setbacks: Setbacks,
    /// Those who wait for the end of a run.
    waiters: HashMap<String, Vec<oneshot::Sender<RunStatus>>>,
}

struct Running {
    run_id: String,
    session_key: String,
    stop: watch::Sender<Option<&'static str>>,
    task: AbortHandle,
    /// It holds its lane, so that the next of its session waits for it; these may join it.
    company: Option<Company>,
}

impl Drop for Running {
    fn drop(&mut self) {
        // A new incarnation of the agent takes the row up again: two of a run must not be at work.
        self.task.abort();
    }
}

/// The command a message is, if commands are read at all.
fn command_of(settings: &Settings, inbound: &Inbound) -> Option<Command> {
    if !settings.commands.text {
        return None;
    }
    Command::parse(&inbound.text, &settings.session.reset_triggers)
}

/// Whether a guest speaks in the conversation that is the owners': with `session.dmScope` as it is by default, all
/// direct messages go there.
fn is_guest_of_the_house(settings: &Settings, inbound: &Inbound) -> bool {
    inbound.session_key == session_key::MAIN
        && !inbound.sender.owner
        && !settings.commands.owner_allow_from.is_empty()
}

impl Agent {
    /// An agent that reaches nodes and channels through the gateway.
    pub fn new(gateway: Gateway) -> Self {
        let nodes = Rc::new(doors::Registry::new(gateway.clone()));
        let channels = Rc::new(gateway.channels.clone());
        Self::with_doors(gateway, nodes, channels)
    }

    /// An agent with doors of your own.
    pub fn with_doors(gateway: Gateway, nodes: Rc<dyn NodeDoor>, channels: Rc<dyn ChannelDoor>) -> Self {
        let most = gateway.settings.get().agents.defaults.max_concurrent.unwrap_or(MAX_CONCURRENT);
        let shop = Workshop {
            gateway,
            nodes,
            channels,
            ollama: Rc::new(OllamaProbe::default()),
            policy: RetryPolicy::default(),
        };
        Self {
            shop,
            queue: Queue::new(most),
            running: HashMap::new(),
            known: HashSet::new(),
            setbacks: Setbacks::new(STORE_PAUSE, MAX_SETBACKS),
            waiters: HashMap::new(),
        }
    }

    #[cfg(test)]
    fn impatient(mut self) -> Self {
        self.shop.policy =
            RetryPolicy { attempts: 2, base: Duration::from_millis(5), cap: Duration::from_secs(1) };
        self.setbacks = Setbacks::new(Duration::from_millis(1), 6);
        self
    }

    /// Takes a row in, whichever way it came to be known.
    fn take(&mut self, row: IngressRow, ctx: &mut Context<Self>) {
        if row.state == IngressState::Done || !self.known.insert(row.id) {
            return;
        }
        let settings = self.shop.gateway.settings.get();
        match command_of(&settings, &row.inbound) {
            Some(command) if command.ends_work() && is_guest_of_the_house(&settings, &row.inbound) => {
                let (shop, target) = (self.shop.clone(), row.clone());
                let text =
                    "Others talk in this conversation too, so only an owner may do that here.".to_owned();
                let work = async move { run::reply(&shop, target, text).await };
                self.launch(row, None, watch::Sender::new(None), work, ctx);
            }
            Some(Command::Stop) => self.stop_session(row, ctx),
            Some(command) if !command.needs_lane() => {
                let (shop, load, target) = (self.shop.clone(), self.load(), row.clone());
                let work = async move { run::command(&shop, target, command, load).await };
                self.launch(row, None, watch::Sender::new(None), work, ctx);
            }
            _ => {
                if settings.messages.queue.mode_for(&row.inbound.channel) == QueueMode::Interrupt {
                    self.stop_running(Some(&row.inbound.session_key), None, INTERRUPTED);
                }
                if let Some(row) = self.queue.admit(row, &settings) {
                    let (shop, target) = (self.shop.clone(), row.clone());
                    let work = async move { run::turn_away(&shop, target).await };
                    self.launch(row, None, watch::Sender::new(None), work, ctx);
                }
                self.start_waiting(ctx);
            }
        }
    }

    fn start_waiting(&mut self, ctx: &mut Context<Self>) {
        while let Some((row, company)) = self.queue.next() {
            let (stop, signal) = watch::channel(None);
            let (shop, target, theirs) = (self.shop.clone(), row.clone(), company.clone());
            let work = async move { run::answer(&shop, target, theirs, signal).await };
            self.launch(row, Some(company), stop, work, ctx);
        }
    }

    /// Runs `work` for a row as a task of its own; the actor hears of its end, by a panic too.
    fn launch(
        &mut self,
        row: IngressRow,
        company: Option<Company>,
        stop: watch::Sender<Option<&'static str>>,
        work: impl Future<Output = Result<RunOutcome, StoreError>> + 'static,
        ctx: &mut Context<Self>,
    ) {
        let handle = tokio::task::spawn_local(work);
        let (run_id, session_key) = (row.inbound.run_id.clone(), row.inbound.session_key.clone());
        let running = Running { run_id, session_key, stop, task: handle.abort_handle(), company };
        self.running.insert(row.id, running);
        let ended = handle.into_actor(self).map(move |end, agent, ctx| match end {
            Ok(Ok(outcome)) => agent.ended(&row, outcome, ctx),
            Ok(Err(error)) => agent.put_off(row, &error, ctx),
            // By us alone, when the agent ends or the row was taken up anew: whoever did it sees to the row.
            Err(end) if end.is_cancelled() => (),
            Err(panic) => agent.crashed(row, &panic, ctx),
        });
        ctx.spawn(ended);
    }

    /// `/stop`: everything of the session but the command itself.
    fn stop_session(&mut self, row: IngressRow, ctx: &mut Context<Self>) {
        let key = row.inbound.session_key.clone();
        let stopped = self.stop_running(Some(&key), None, "stop");
        let waiting = self.stop_waiting(|other| other.inbound.session_key == key, "stop", ctx);
        let text = match stopped.len() + waiting.len() {
            0 => "Nothing is running.".to_owned(),
            1 => "Stopped.".to_owned(),
            several => format!("Stopped {several} runs."),
        };
        let (shop, target) = (self.shop.clone(), row.clone());
        let work = async move { run::reply(&shop, target, text).await };
        self.launch(row, None, watch::Sender::new(None), work, ctx);
    }

    /// Tells runs to stop and gives their ids.
    fn stop_running(&self, key: Option<&str>, run_id: Option<&str>, reason: &'static str) -> Vec<String> {
        let wanted = |running: &&Running| {
            running.company.as_ref().is_some_and(|company| {
                key.is_none_or(|key| running.session_key == key)
                    && run_id.is_none_or(|run_id| running.run_id == run_id || company.includes(run_id))
            })
        };
        let chosen = self.running.values().filter(wanted);
        chosen
            .map(|running| {
                running.stop.send_if_modified(|told| told.replace(reason).is_none());
                running.run_id.clone()
            })
            .collect()
    }

    /// Settles runs that did not begin yet.
    fn stop_waiting(
        &mut self,
        wanted: impl FnMut(&IngressRow) -> bool,
        reason: &'static str,
        ctx: &mut Context<Self>,
    ) -> Vec<String> {
        let rows = self.queue.take(wanted);
        let ids = rows.iter().map(|row| row.inbound.run_id.clone()).collect();
        for row in rows {
            let (shop, target) = (self.shop.clone(), row.clone());
            let work = async move { run::give_up(&shop, target, reason).await };
            self.launch(row, None, watch::Sender::new(None), work, ctx);
        }
        ids
    }

    fn load(&self) -> AgentLoad {
        let runs = self.running.values().filter(|running| running.company.is_some());
        AgentLoad {
            running: runs.map(|running| (running.run_id.clone(), running.session_key.clone())).collect(),
            waiting: self.queue.waiting(),
        }
    }

    fn listen(&mut self, run_id: &str) -> oneshot::Receiver<RunStatus> {
        let (waiter, news) = oneshot::channel();
        let waiters = self.waiters.entry(run_id.to_owned()).or_default();
        waiters.retain(|waiter| !waiter.is_closed());
        waiters.push(waiter);
        news
    }

    /// Reads what is pending; a store that can't be read is asked again.
    fn load_pending(&self, ctx: &mut Context<Self>) {
        let store = self.shop.gateway.store.clone();
        let read = async move { store.pending_ingress().await }.into_actor(self);
        ctx.spawn(read.map(|rows, agent, ctx| match rows {
            Ok(rows) => rows.into_iter().for_each(|row| agent.take(row, ctx)),
            Err(error) => {
                tracing::error!(%error, "pending messages could not be read; trying again");
                ctx.run_later(STORE_PAUSE, |agent, ctx| agent.load_pending(ctx));
            }
        }));
    }
}

impl Actor for Agent {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(1024);
        let idle = self.shop.gateway.settings.get().not_acted_on();
        if !idle.is_empty() {
            tracing::warn!(keys = %idle.join(", "), "these settings are not acted on");
        }
        self.load_pending(ctx);
    }
}

impl Handler<Arrived> for Agent {
    type Result = ();

    fn handle(&mut self, Arrived(row): Arrived, ctx: &mut Self::Context) {
        self.take(row, ctx);
    }
}

impl Handler<AbortRuns> for Agent {
    type Result = ResponseFuture<AbortOutcome>;

    fn handle(&mut self, abort: AbortRuns, ctx: &mut Self::Context) -> Self::Result {
        let AbortRuns { session_key, run_id, reason } = abort;
        if session_key.is_none() && run_id.is_none() {
            return Box::pin(async { AbortOutcome::default() });
        }
        let mut run_ids = self.stop_running(session_key.as_deref(), run_id.as_deref(), reason);
        let wanted = |row: &IngressRow| {
            session_key.as_ref().is_none_or(|key| row.inbound.session_key == *key)
                && run_id.as_ref().is_none_or(|id| row.inbound.run_id == *id)
        };
        run_ids.extend(self.stop_waiting(wanted, reason, ctx));
        let ends: Vec<_> = run_ids.iter().map(|id| self.listen(id)).collect();
        Box::pin(async move {
            // The `aborted` events go out before the answer does.
            let all = futures_util::future::join_all(ends);
            let _ = tokio::time::timeout(ABORT_PATIENCE, all).await;
            AbortOutcome { aborted: !run_ids.is_empty(), run_ids }
        })
    }
}

impl Handler<AwaitRun> for Agent {
    type Result = ResponseActFuture<Self, RunStatus>;

    fn handle(&mut self, wait: AwaitRun, _: &mut Self::Context) -> Self::Result {
        // Listen before looking, so that an end in between is not missed.
        let news = self.listen(&wait.run_id);
        let (store, run_id) = (self.shop.gateway.store.clone(), wait.run_id);
        let waiting = async move {
            match store.ingress_of_run(&run_id).await {
                Ok(Some(row)) => match row.outcome {
                    Some(outcome) => RunStatus::from(outcome),
                    None => tokio::time::timeout(wait.timeout, news)
                        .await
                        .map_or(RunStatus::Timeout, |status| status.unwrap_or(RunStatus::Unknown)),
                },
                Ok(None) => RunStatus::Unknown,
                Err(error) => {
                    tracing::error!(%error, "the end of a run could not be read");
                    RunStatus::Unknown
                }
            }
        };
        Box::pin(waiting.into_actor(self).map(|status, agent, _| {
            agent.waiters.retain(|_, waiters| {
                waiters.retain(|waiter| !waiter.is_closed());
                !waiters.is_empty()
            });
            status
        }))
    }
}

impl Handler<HasRoom> for Agent {
    type Result = bool;

    fn handle(&mut self, HasRoom { session_key }: HasRoom, _: &mut Self::Context) -> Self::Result {
        self.queue.has_room(&session_key, &self.shop.gateway.settings.get())
    }
}

impl Handler<ListRuns> for Agent {
    type Result = MessageResult<ListRuns>;

    fn handle(&mut self, _: ListRuns, _: &mut Self::Context) -> Self::Result {
        MessageResult(self.load())
    }
}

impl Handler<Probe> for Agent {
    type Result = ();

    fn handle(&mut self, _: Probe, _: &mut Self::Context) {}
}

impl Handler<Shutdown> for Agent {
    type Result = ();

    /// Runs that did not end are pending in the store and go on after the next start.
    fn handle(&mut self, _: Shutdown, ctx: &mut Self::Context) {
        ctx.stop();
    }
}
