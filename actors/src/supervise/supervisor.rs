//! The actor that keeps children: how it is set up, and what it can be asked.

use super::child::{AnyChild, ChildSpec};
use super::exit::Exit;
use super::intensity::Intensity;
use super::member::{Goal, Member};
use super::messages::Shutdown;
use super::requests::{AdoptChild, ChildEnded, ListChildren, StartChild, StartError, StopAll, StopChild};
use super::tree::TreeView;
use super::watch::{Watched, watch_with};
use actix::{Actor, Addr, AsyncContext, Context, Handler, MessageResult, ResponseFuture};
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;
use tokio::sync::oneshot;

/// Who starts again when one child fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strategy {
    /// Only the one that failed.
    OneForOne,
    /// It and those started after it, which lean on it.
    RestForOne,
    /// All of them.
    OneForAll,
}

/// Keeps its children running. Their order is their dependency order: later ones may use earlier ones.
///
/// One-for-one, stopping last first, with the default [`Intensity`], unless said otherwise.
pub struct Supervisor {
    pub(super) view: TreeView,
    pub(super) strategy: Strategy,
    pub(super) intensity: Intensity,
    pub(super) together: bool,
    pub(super) patience: Duration,
    /// By number of arrival, so that walking it is walking the start order.
    pub(super) members: BTreeMap<u64, Member>,
    pub(super) names: HashMap<String, u64>,
    pub(super) next_id: u64,
    pub(super) ending: Option<Ending>,
    pub(super) done: Vec<oneshot::Sender<()>>,
    pub(super) give_up: Option<GiveUp>,
}

/// Why a supervisor is bringing everything down.
#[derive(Debug, Clone)]
pub(super) enum Ending {
    Asked,
    GaveUp(Exit),
}

type GiveUp = Box<dyn FnOnce(String) + Send>;

/// How long an aborted child may take to be dropped before the process has to go.
const PATIENCE: Duration = Duration::from_secs(10);

/// Room for the reports of many children that end at once.
const MAILBOX: usize = 1024;

impl ChildSpec<Supervisor> {
    /// A supervisor is a child as any other. `furnish` gets an empty one and gives it rules and children.
    pub fn supervisor(
        name: impl Into<String>,
        furnish: impl Fn(Supervisor) -> Supervisor + Send + Sync + 'static,
    ) -> Self {
        Self::branch(name.into(), move |view| furnish(Supervisor::new(&view))).drains()
    }
}

impl Supervisor {
    /// Without children yet. What it does shows below `view`.
    pub fn new(view: &TreeView) -> Self {
        view.clear();
        Self {
            view: view.clone(),
            strategy: Strategy::OneForOne,
            intensity: Intensity::default(),
            together: false,
            patience: PATIENCE,
            members: BTreeMap::new(),
            names: HashMap::new(),
            next_id: 0,
            ending: None,
            done: Vec::new(),
            give_up: None,
        }
    }

    /// Who starts again when one child fails.
    pub fn strategy(mut self, strategy: Strategy) -> Self {
        self.strategy = strategy;
        self
    }

    /// How many restarts in how long are one too many.
    pub fn intensity(mut self, intensity: Intensity) -> Self {
        self.intensity = intensity;
        self
    }

    /// Stops its children all at once rather than last first: for a crowd of equals, such as connections.
    pub fn stop_together(mut self) -> Self {
        self.together = true;
        self
    }

    /// How long an aborted child may take to go before this supervisor counts it as stuck and gives up.
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Adds a child after those already there. A name that is taken is a mistake of the caller: logged, not started.
    pub fn child(mut self, child: impl Into<AnyChild>) -> Self {
        let child = child.into();
        if let Err(error) = self.enrol(child) {
            tracing::error!(supervisor = self.view.path(), %error, "child left out");
        }
        self
    }

    /// Called with the reason, once everything is down, when this supervisor has given up. For the root.
    pub fn on_give_up(mut self, then: impl FnOnce(String) + Send + 'static) -> Self {
        self.give_up = Some(Box::new(then));
        self
    }

    /// Starts it as the root of a tree. The [`Watched`] resolves to `Failed` when it has given up.
    pub fn run(self) -> (Addr<Self>, Watched) {
        let view = self.view.clone();
        let settle = move |exit| async move { view.last_word(exit).await };
        watch_with(self, |ctx| ctx.notify(Shutdown), settle)
    }

    /// Books a child; it starts with the next `advance`.
    pub(super) fn enrol(&mut self, child: AnyChild) -> Result<u64, StartError> {
        if self.ending.is_some() {
            return Err(StartError::Stopping);
        }
        if let Some(&id) = self.names.get(&child.name) {
            let there =
                self.members.get(&id).is_some_and(|member| member.is_up() || member.goal != Goal::Stay);
            if there {
                return Err(StartError::NameTaken(child.name));
            }
            self.forget(id);
        }
        let mut child = child;
        let id = self.next_id;
        self.next_id += 1;
        let view = self.view.add(id, &child.name, child.kind, child.waiting.take());
        self.names.insert(child.name.clone(), id);
        self.members.insert(id, Member::new(child, view));
        Ok(id)
    }

    pub(super) fn forget(&mut self, id: u64) {
        let Some(member) = self.members.remove(&id) else { return };
        self.names.remove(&member.spec.name);
        self.view.remove(id);
        for waiter in member.waiters {
            waiter.send(()).ok();
        }
    }
}

impl Actor for Supervisor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX);
        self.advance(ctx);
    }
}

/// However a supervisor ends, its children end with it.
impl Drop for Supervisor {
    fn drop(&mut self) {
        for running in self.members.values().rev().filter_map(|member| member.running.as_ref()) {
            running.watched.abort();
        }
    }
}

impl Handler<ChildEnded> for Supervisor {
    type Result = ();

    fn handle(&mut self, end: ChildEnded, ctx: &mut Self::Context) {
        self.ended(end.id, end.incarnation, end.exit, ctx);
    }
}

impl Handler<StartChild> for Supervisor {
    type Result = Result<(), StartError>;

    fn handle(&mut self, StartChild(child): StartChild, ctx: &mut Self::Context) -> Self::Result {
        self.enrol(child)?;
        self.advance(ctx);
        Ok(())
    }
}

impl Handler<AdoptChild> for Supervisor {
    type Result = Result<(), StartError>;

    fn handle(&mut self, adopted: AdoptChild, ctx: &mut Self::Context) -> Self::Result {
        let AdoptChild { name, watched, shutdown } = adopted;
        // A refused orphan must not live on outside the tree.
        let orphan = watched.clone();
        self.enrol(AnyChild::adopted(name, watched, shutdown)).inspect_err(|_| orphan.ask_to_stop())?;
        self.advance(ctx);
        Ok(())
    }
}

impl Handler<StopChild> for Supervisor {
    type Result = ResponseFuture<bool>;

    fn handle(&mut self, StopChild { name }: StopChild, ctx: &mut Self::Context) -> Self::Result {
        let Some(id) = self.names.get(&name).copied() else {
            return Box::pin(std::future::ready(false));
        };
        let (gone, is_gone) = oneshot::channel();
        if let Some(member) = self.members.get_mut(&id) {
            member.goal = Goal::Leave;
            member.waiters.push(gone);
        }
        self.ask_to_stop(id, ctx);
        self.advance(ctx);
        Box::pin(async move {
            is_gone.await.ok();
            true
        })
    }
}

impl Handler<ListChildren> for Supervisor {
    type Result = MessageResult<ListChildren>;

    fn handle(&mut self, _: ListChildren, _: &mut Self::Context) -> Self::Result {
        MessageResult(self.members.values().map(|member| member.spec.name.clone()).collect())
    }
}

impl Handler<Shutdown> for Supervisor {
    type Result = ();

    fn handle(&mut self, _: Shutdown, ctx: &mut Self::Context) {
        self.end(Ending::Asked, ctx);
    }
}

impl Handler<StopAll> for Supervisor {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, _: StopAll, ctx: &mut Self::Context) -> Self::Result {
        let (done, is_done) = oneshot::channel();
        self.done.push(done);
        self.end(Ending::Asked, ctx);
        Box::pin(async move {
            is_done.await.ok();
        })
    }
}
