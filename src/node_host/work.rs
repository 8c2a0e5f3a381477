//! The invokes under way: started, cancelled, answered once.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use aws_lc_rs::digest;
use serde::Deserialize;
use serde_json::value::RawValue;
use tidegate_protocol::duplex::MAX_FRAME_BYTES;
use tokio::sync::watch;

use super::{
    commands::{self, Surface, Talk, Uploads},
    duplex::{Duplex, Inbox},
    failure::Failure,
    host::Host,
    link::Progress,
};
use crate::client::Client;

/// More at once would take the machine away from whoever owns it.
const MOST_AT_ONCE: usize = 64;
/// How long an answer is kept for a request that comes a second time.
const REMEMBERED_FOR: Duration = Duration::from_secs(600);
const REMEMBERED_BYTES: usize = 1 << 20;

/// Payload of `node.invoke.request`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Invoke {
    pub(crate) id: String,
    node_id: String,
    command: String,
    #[serde(rename = "paramsJSON", default)]
    params_json: Option<String>,
    #[serde(default)]
    timeout_ms: Option<f64>,
    #[serde(default)]
    idempotency_key: Option<String>,
}

/// Payload of `node.invoke.input`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Input {
    id: String,
    seq: u64,
    #[serde(rename = "payloadJSON")]
    payload_json: String,
}

type Outcome = Result<String, Failure>;

/// What this node works at. Survives the connection: a command that runs is not ended by a network that fails.
pub(crate) struct Work {
    host: Arc<Host>,
    surface: Surface,
    node_id: String,
    table: Mutex<Table>,
    /// How many are under way.
    count: watch::Sender<usize>,
}

#[derive(Default)]
struct Table {
    running: HashMap<String, Running>,
    once: HashMap<OnceKey, watch::Receiver<Option<Arc<Outcome>>>>,
    done: VecDeque<(Instant, usize, OnceKey)>,
    done_bytes: usize,
}

struct Running {
    cancel: watch::Sender<bool>,
    /// Of a command that takes input while it runs.
    inbox: Option<Inbox>,
}

/// The same key with the same words is the same request.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct OnceKey {
    key: String,
    /// The SHA-256 of the params: files come in them, and answers are kept for as long as their keys.
    params: Option<[u8; 32]>,
}

enum Entry {
    /// Nobody has asked for this before.
    First(watch::Sender<Option<Arc<Outcome>>>),
    Again(watch::Receiver<Option<Arc<Outcome>>>),
}

impl Work {
    pub(crate) fn new(host: Arc<Host>, surface: Surface, node_id: String) -> Arc<Self> {
        Arc::new(Self { host, surface, node_id, table: Mutex::default(), count: watch::channel(0).0 })
    }

    /// The files kept for terminals of this machine.
    pub(crate) fn uploads(&self) -> &Arc<Uploads> {
        self.host.uploads()
    }

    /// Takes on a request; its answer goes back over `via`.
    pub(crate) fn start(self: &Arc<Self>, invoke: Invoke, via: &Client) {
        let (cancel, cancelled) = watch::channel(false);
        let (duplex, inbox) = self.two_way(&invoke, via, &cancelled).unzip();
        if let Err(failure) = self.admit(&invoke, Running { cancel, inbox }) {
            self.host.link().result(via, &invoke.id, &Err(failure));
            return;
        }
        let (work, via) = (self.clone(), via.clone());
        tokio::spawn(async move {
            let talk = Talk { progress: work.progress(&invoke, &via), duplex };
            let outcome = work.answer(&invoke, cancelled, talk).await;
            work.host.link().result(&via, &invoke.id, &outcome);
            work.table().running.remove(&invoke.id);
            work.count.send_modify(|count| *count -= 1);
        });
    }

    /// Ends a request that nobody waits for any more.
    pub(crate) fn cancel(&self, invoke_id: &str) {
        if let Some(running) = self.table().running.get(invoke_id) {
            tracing::info!(invoke = invoke_id, "cancelled by the gateway");
            let _ = running.cancel.send(true);
        }
    }

    /// Hands input to the command it is for; what is for none, or malformed, is left out as the official host does.
    pub(crate) fn input(&self, input: Input) {
        if input.payload_json.len() > MAX_FRAME_BYTES {
            return;
        }
        let mut table = self.table();
        let Some(running) = table.running.get_mut(&input.id) else { return };
        if let Some(inbox) = &mut running.inbox
            && !inbox.take(input.seq, input.payload_json)
        {
            running.inbox = None;
        }
    }

    /// The connection is gone, and with it whatever input was still to come.
    pub(crate) fn hang_up(&self) {
        for running in self.table().running.values_mut() {
            running.inbox = None;
        }
    }

    /// Ends everything, and waits until it has ended or `within` is over.
    pub(crate) async fn stop(&self, within: Duration) {
        for running in self.table().running.values() {
            let _ = running.cancel.send(true);
        }
        let mut count = self.count.subscribe();
        let ended = tokio::time::timeout(within, count.wait_for(|count| *count == 0)).await;
        if ended.is_err() {
            tracing::warn!("some commands did not end in time");
        }
    }

    fn two_way(
        &self,
        invoke: &Invoke,
        via: &Client,
        cancel: &watch::Receiver<bool>,
    ) -> Option<(Duplex, Inbox)> {
        let open = || Duplex::new(via.clone(), self.node_id.clone(), invoke.id.clone(), cancel.clone());
        commands::is_two_way(&invoke.command).then(open)
    }

    fn progress(&self, invoke: &Invoke, via: &Client) -> Progress {
        match invoke.command.as_str() {
            "system.run" => self.host.link().progress(via, &invoke.id),
            _ => Progress::none(),
        }
    }

    fn admit(&self, invoke: &Invoke, running: Running) -> Result<(), Failure> {
        if invoke.node_id != self.node_id {
            return Err(Failure::invalid("this request is for another node"));
        }
        if !self.surface.serves(&invoke.command) {
            return Err(Failure::invalid(format!("this node does not serve {}", invoke.command)));
        }
        let mut table = self.table();
        if table.running.len() >= MOST_AT_ONCE {
            return Err(Failure::unavailable(format!("{MOST_AT_ONCE} commands are running here already")));
        }
        table.running.insert(invoke.id.clone(), running);
        self.count.send_modify(|count| *count += 1);
        Ok(())
    }

    async fn answer(&self, invoke: &Invoke, cancel: watch::Receiver<bool>, talk: Talk) -> Outcome {
        let Some(key) = once_key(invoke) else { return self.perform(invoke, cancel, talk).await };
        match self.enter(&key) {
            Entry::First(tell) => {
                let outcome = self.perform(invoke, cancel, talk).await;
                self.remember(key, &outcome);
                let _ = tell.send(Some(Arc::new(outcome.clone())));
                outcome
            }
            Entry::Again(mut earlier) => {
                tracing::info!(command = invoke.command, "asked for a second time, run once");
                let outcome =
                    earlier.wait_for(Option::is_some).await.ok().and_then(|outcome| outcome.clone());
                outcome.map_or_else(
                    || Err(Failure::unavailable("the first attempt ended without an outcome")),
                    |outcome| (*outcome).clone(),
                )
            }
        }
    }

    async fn perform(&self, invoke: &Invoke, cancel: watch::Receiver<bool>, talk: Talk) -> Outcome {
        let params = match &invoke.params_json {
            Some(text) => Some(
                RawValue::from_string(text.clone())
                    .map_err(|_| Failure::invalid("paramsJSON is not JSON"))?,
            ),
            None => None,
        };
        let limit =
            invoke.timeout_ms.filter(|ms| *ms >= 1.0).map(|ms| Duration::from_millis(ms.min(1e12) as u64));
        let work = commands::dispatch(self.host.clone(), &invoke.command, params, limit, cancel, talk);
        work.await.map(|payload| payload.to_string())
    }

    fn enter(&self, key: &OnceKey) -> Entry {
        let mut table = self.table();
        if let Some(earlier) = table.once.get(key) {
            return Entry::Again(earlier.clone());
        }
        let (tell, told) = watch::channel(None);
        table.once.insert(key.clone(), told);
        Entry::First(tell)
    }

    fn remember(&self, key: OnceKey, outcome: &Outcome) {
        let size = outcome.as_ref().map_or(64, String::len) + key.key.len();
        let mut table = self.table();
        table.done.push_back((Instant::now(), size, key));
        table.done_bytes += size;
        while let Some((at, size, _)) = table.done.front()
            && (at.elapsed() > REMEMBERED_FOR || table.done_bytes > REMEMBERED_BYTES)
        {
            table.done_bytes -= *size;
            if let Some((_, _, key)) = table.done.pop_front() {
                table.once.remove(&key);
            }
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Only what changes something must not happen twice.
fn once_key(invoke: &Invoke) -> Option<OnceKey> {
    let changes = matches!(
        invoke.command.as_str(),
        "system.run" | "system.execApprovals.set" | "file.write" | "terminal.upload"
    );
    let key = invoke.idempotency_key.clone().filter(|key| changes && !key.is_empty())?;
    let hash = |text: &String| {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest::digest(&digest::SHA256, text.as_bytes()).as_ref());
        hash
    };
    Some(OnceKey { key, params: invoke.params_json.as_ref().map(hash) })
}
