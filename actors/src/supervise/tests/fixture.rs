//! A worker that fails in every way on request, and writes down when it starts and goes.

use crate::supervise::*;
use actix::{
    Actor, ActorContext, ActorFutureExt, Addr, AsyncContext, Context, Handler, Message, ResponseActFuture,
    fut,
};
use std::sync::{Arc, Mutex};
use std::time::Duration;

#[derive(Clone, Default)]
pub(super) struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    pub(super) fn add(&self, entry: impl Into<String>) {
        self.0.lock().unwrap().push(entry.into());
    }

    /// What was written since the last call.
    pub(super) fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

pub(super) struct Worker {
    pub(super) name: &'static str,
    pub(super) log: Log,
    /// How long it takes to finish when told `Shutdown`; None never does.
    pub(super) drain: Option<Duration>,
}

impl Worker {
    pub(super) fn new(name: &'static str, log: &Log) -> Self {
        Self::draining(name, log, Some(Duration::ZERO))
    }

    pub(super) fn draining(name: &'static str, log: &Log, drain: Option<Duration>) -> Self {
        Self { name, log: log.clone(), drain }
    }
}

impl Actor for Worker {
    type Context = Context<Self>;

    fn started(&mut self, _: &mut Self::Context) {
        self.log.add(format!("+{}", self.name));
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.log.add(format!("-{}", self.name));
    }
}

#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub(super) enum Do {
    PanicInHandler,
    PanicInFuture,
    PanicInTimer,
    Finish,
    Hang,
    Nothing,
}

impl Handler<Do> for Worker {
    type Result = ();

    fn handle(&mut self, what: Do, ctx: &mut Self::Context) {
        match what {
            Do::PanicInHandler => panic!("boom"),
            Do::PanicInFuture => {
                ctx.spawn(
                    fut::wrap_future(tokio::task::yield_now()).map(|(), _: &mut Self, _| panic!("boom")),
                );
            }
            Do::PanicInTimer => {
                ctx.run_later(Duration::from_millis(1), |_, _| panic!("boom"));
            }
            Do::Finish => ctx.stop(),
            Do::Hang => ctx.wait(fut::wrap_future(std::future::pending())),
            Do::Nothing => (),
        }
    }
}

/// Panics in the future that makes the answer.
#[derive(Message)]
#[rtype(result = "u8")]
pub(super) struct PanicInAnswer;

impl Handler<PanicInAnswer> for Worker {
    type Result = ResponseActFuture<Self, u8>;

    fn handle(&mut self, _: PanicInAnswer, _: &mut Self::Context) -> Self::Result {
        Box::pin(fut::wrap_future(tokio::task::yield_now()).map(|(), _: &mut Self, _| panic!("boom")))
    }
}

crate::answers_probes!(Worker);

impl Handler<Shutdown> for Worker {
    type Result = ();
    fn handle(&mut self, _: Shutdown, ctx: &mut Self::Context) {
        self.log.add(format!("?{}", self.name));
        if let Some(drain) = self.drain {
            ctx.run_later(drain, |_, ctx| ctx.stop());
        }
    }
}

pub(super) struct Tree {
    pub(super) log: Log,
    pub(super) view: TreeView,
    pub(super) slots: Vec<Slot<Worker>>,
    pub(super) root: Addr<Supervisor>,
    pub(super) ended: Watched,
}

/// `registry`, `agent` and `telegram`, permanent, restarted without a wait, on a paused clock.
pub(super) async fn three(furnish: impl FnOnce(Supervisor) -> Supervisor) -> Tree {
    tokio::time::pause();
    let (log, view) = (Log::default(), TreeView::default());
    let slots: Vec<Slot<Worker>> = (0..3).map(|_| Slot::default()).collect();
    let mut supervisor = furnish(Supervisor::new(&view));
    for (name, slot) in ["registry", "agent", "telegram"].into_iter().zip(&slots) {
        supervisor = supervisor.child(worker(name, &log).at(slot).back_off(BackOff::none()));
    }
    let (root, ended) = supervisor.run();
    settle().await;
    log.take();
    Tree { log, view, slots, root, ended }
}

pub(super) fn worker(name: &'static str, log: &Log) -> ChildSpec<Worker> {
    let log = log.clone();
    ChildSpec::new(name, move || Worker::new(name, &log))
}

impl Tree {
    pub(super) async fn tell(&self, index: usize, what: Do) {
        self.slots[index].tell(what);
        settle().await;
    }
}

/// Long enough for everything that has no wait of its own to happen.
pub(super) async fn settle() {
    tokio::time::sleep(Duration::from_millis(10)).await;
}

pub(super) fn node(view: &TreeView, name: &str) -> TreeNode {
    fn find(nodes: Vec<TreeNode>, name: &str) -> Option<TreeNode> {
        nodes
            .into_iter()
            .find_map(|node| if node.name == name { Some(node) } else { find(node.children, name) })
    }
    find(view.snapshot(), name).unwrap_or_else(|| panic!("no `{name}` in {view:?}"))
}
