//! What a supervisor must know to keep one child.

use super::back_off::BackOff;
use super::exit::Exit;
use super::messages::{Probe, Shutdown};
use super::slot::{Slot, short_type_name};
use super::tree::{Alive, TreeView, WaitingCount};
use super::watch::{Ask, Life, Report, Watched, stop_context};
use actix::{Actor, ArbiterHandle, AsyncContext, Context, Handler, MailboxError};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

/// When a child is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restart {
    /// Whenever it ends without being asked.
    Permanent,
    /// After a failure; finishing is allowed.
    Transient,
    /// Never. It leaves the tree when it ends.
    Temporary,
}

impl Restart {
    pub(super) fn wanted_after(self, exit: &Exit) -> bool {
        match self {
            Self::Permanent => true,
            Self::Transient => !exit.is_clean(),
            Self::Temporary => false,
        }
    }
}

/// How to start an actor, and what to do when it ends.
///
/// Permanent, on the supervisor's own arbiter and with 5 s to stop, unless said otherwise.
pub struct ChildSpec<A: Actor<Context = Context<A>>> {
    name: String,
    make: Make<A>,
    slot: Slot<A>,
    arbiter: Option<ArbiterHandle>,
    ask: Ask<A>,
    rules: Rules,
}

/// Lets an actor that gives up tell its supervisor, and whoever looks at the tree, why.
pub struct Verdict(TreeView);

impl Verdict {
    /// To be said before stopping.
    pub fn failed(&self, why: impl Into<String>) {
        self.0.leave_verdict(Exit::Failed(why.into()));
    }
}

/// A [`ChildSpec`] whose actor type is forgotten, so that different children fit in one list.
pub struct AnyChild {
    pub(super) name: String,
    pub(super) kind: &'static str,
    pub(super) rules: Rules,
    pub(super) launch: Launch,
    pub(super) waiting: Option<WaitingCount>,
}

/// The part of a spec that does not depend on the actor's type.
pub(super) struct Rules {
    pub(super) restart: Restart,
    /// None waits for ever: supervisors, whose children have limits of their own.
    pub(super) shutdown: Option<Duration>,
    pub(super) back_off: BackOff,
    pub(super) liveness: Option<Liveness>,
}

pub(super) struct Liveness {
    pub(super) every: Duration,
    pub(super) deadline: Duration,
    pub(super) ask: Arc<dyn Fn() -> Answer + Send + Sync>,
}

type Answer = Pin<Box<dyn Future<Output = Result<(), MailboxError>> + Send>>;

/// Starts an incarnation. The view is the child's own; the guard tells the supervisor's view when it is gone.
pub(super) type Launch = Box<dyn FnMut(TreeView, Alive) -> Watched + Send>;

type MakeOnce<A> = Box<dyn FnOnce(TreeView) -> A + Send>;

enum Make<A> {
    Often(Arc<dyn Fn(TreeView) -> A + Send + Sync>),
    Once(Option<MakeOnce<A>>),
}

const SHUTDOWN: Duration = Duration::from_secs(5);

impl<A: Actor<Context = Context<A>>> ChildSpec<A> {
    /// `make` builds a fresh actor for every start; nothing is ever reset.
    pub fn new(name: impl Into<String>, make: impl Fn() -> A + Send + Sync + 'static) -> Self {
        Self::from_make(name.into(), Make::Often(Arc::new(move |_| make())))
    }

    /// As [`ChildSpec::new`], for an actor that can say why it failed.
    pub fn with_verdict(
        name: impl Into<String>,
        make: impl Fn(Verdict) -> A + Send + Sync + 'static,
    ) -> Self {
        Self::from_make(name.into(), Make::Often(Arc::new(move |view| make(Verdict(view)))))
    }

    /// A temporary child: `make` can give away what it owns, since it runs once.
    pub fn once(name: impl Into<String>, make: impl FnOnce() -> A + Send + 'static) -> Self {
        let make = Make::Once(Some(Box::new(move |_| make())));
        Self::from_make(name.into(), make).restart(Restart::Temporary)
    }

    /// A child that is given its place in the tree, and that may stop for as long as its own children need.
    pub(super) fn branch(name: String, make: impl Fn(TreeView) -> A + Send + Sync + 'static) -> Self {
        let mut spec = Self::from_make(name, Make::Often(Arc::new(make)));
        spec.rules.shutdown = None;
        spec
    }

    fn from_make(name: String, make: Make<A>) -> Self {
        let rules = Rules {
            restart: Restart::Permanent,
            shutdown: Some(SHUTDOWN),
            back_off: BackOff::default(),
            liveness: None,
        };
        Self { name, make, slot: Slot::default(), arbiter: None, ask: stop_context, rules }
    }

    /// `slot` always points at the newest incarnation.
    pub fn at(mut self, slot: &Slot<A>) -> Self {
        self.slot = slot.clone();
        self
    }

    /// Runs on another arbiter; the supervisor only hears of its end.
    pub fn on(mut self, arbiter: ArbiterHandle) -> Self {
        self.arbiter = Some(arbiter);
        self
    }

    /// When to start it again.
    pub fn restart(mut self, restart: Restart) -> Self {
        self.rules.restart = restart;
        self
    }

    /// How long it may take to stop before it is aborted.
    pub fn shutdown(mut self, time: Duration) -> Self {
        self.rules.shutdown = Some(time);
        self
    }

    /// How long to wait between restarts.
    pub fn back_off(mut self, back_off: BackOff) -> Self {
        self.rules.back_off = back_off;
        self
    }

    /// Gets a [`Shutdown`] message instead of being stopped, and stops itself when it has finished.
    pub fn drains(mut self) -> Self
    where
        A: Handler<Shutdown>,
    {
        self.ask = |context| context.notify(Shutdown);
        self
    }

    /// Is asked [`Probe`] every so often (see [`answers_probes!`](crate::answers_probes)); no answer within
    /// `deadline` is a failure.
    pub fn probed(mut self, every: Duration, deadline: Duration) -> Self
    where
        A: Handler<Probe>,
    {
        let slot = self.slot.clone();
        self.rules.liveness = Some(Liveness { every, deadline, ask: probe(slot) });
        self
    }
}

fn probe<A: Actor<Context = Context<A>> + Handler<Probe>>(
    slot: Slot<A>,
) -> Arc<dyn Fn() -> Answer + Send + Sync> {
    Arc::new(move || {
        let slot = slot.clone();
        Box::pin(async move { slot.send(Probe).await })
    })
}

impl<A: Actor<Context = Context<A>>> From<ChildSpec<A>> for AnyChild {
    fn from(spec: ChildSpec<A>) -> Self {
        let ChildSpec { name, mut make, slot, arbiter, ask, rules } = spec;
        let seen = slot.clone();
        let launch = move |view: TreeView, alive: Alive| {
            let watched = Watched::new();
            match make.next() {
                Some(make) => {
                    let life = Life { slot: slot.clone(), ask, report: Report(watched.clone()) };
                    begin(life, make, view, alive, arbiter.as_ref());
                }
                None => watched.fail(Exit::Failed("it can be started only once".to_owned())),
            }
            watched
        };
        let waiting: WaitingCount = Box::new(move || seen.waiting());
        let kind = short_type_name::<A>();
        Self { name, kind, rules, launch: Box::new(launch), waiting: Some(waiting) }
    }
}

impl AnyChild {
    /// An actor that runs already. Not counted as alive here: it has a life of its own.
    pub(super) fn adopted(name: String, watched: Watched, shutdown: Duration) -> Self {
        let rules = Rules {
            restart: Restart::Temporary,
            shutdown: Some(shutdown),
            back_off: BackOff::none(),
            liveness: None,
        };
        let launch: Launch = Box::new(move |_, _| watched.clone());
        Self { name, kind: "adopted", rules, launch, waiting: None }
    }
}

fn begin<A: Actor<Context = Context<A>>>(
    life: Life<A>,
    make: MakeOnce<A>,
    view: TreeView,
    alive: Alive,
    arbiter: Option<&ArbiterHandle>,
) {
    let start = move || {
        let context = Context::new();
        life.slot.set(context.address());
        let branch = view.clone();
        let settle = move |exit| async move {
            let exit = view.last_word(exit).await;
            drop(alive);
            exit
        };
        actix::spawn(life.live(context, move || make(branch), settle));
    };
    match arbiter {
        // A closed arbiter drops `start` and with it the report, which then says `Killed`.
        Some(arbiter) => drop(arbiter.spawn_fn(start)),
        None => start(),
    }
}

impl<A> Make<A> {
    fn next(&mut self) -> Option<MakeOnce<A>>
    where
        A: 'static,
    {
        match self {
            Self::Often(make) => {
                let make = Arc::clone(make);
                Some(Box::new(move |view| make(view)))
            }
            Self::Once(make) => make.take(),
        }
    }
}
