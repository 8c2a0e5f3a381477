//! Runs one incarnation of an actor and tells why it ended.

use super::exit::Exit;
use super::slot::Slot;
use actix::{Actor, ActorContext, Addr, AsyncContext, Context};
use futures_util::task::AtomicWaker;
use std::any::Any;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context as TaskContext, Poll};
use tokio::sync::oneshot;

const RUN: u8 = 0;
const STOP: u8 = 1;
const ABORT: u8 = 2;

/// What to do with an actor that is asked to stop: stop its context, or hand it a message.
pub(super) type Ask<A> = fn(&mut Context<A>);

/// A hold on a running actor: ask it to stop, abort it, learn why it ended. Crosses threads.
#[derive(Clone)]
pub struct Watched(Arc<Signal>);

struct Signal {
    wanted: AtomicU8,
    waker: AtomicWaker,
    end: Mutex<End>,
}

enum End {
    NotYet(Vec<Box<dyn FnOnce(Exit) + Send>>),
    Was(Exit),
}

/// Runs `actor` on this arbiter. It is not restarted; hand the [`Watched`] to a supervisor
/// ([`AdoptChild`](super::AdoptChild)) to have it stopped in order at shutdown.
pub fn watch<A: Actor<Context = Context<A>>>(actor: A) -> (Addr<A>, Watched) {
    watch_with(actor, stop_context, std::future::ready)
}

/// As [`watch`], with a way to ask it to stop, and `settle` as in [`Life::live`].
pub(super) fn watch_with<A, F>(
    actor: A,
    ask: Ask<A>,
    settle: impl FnOnce(Exit) -> F + 'static,
) -> (Addr<A>, Watched)
where
    A: Actor<Context = Context<A>>,
    F: Future<Output = Exit> + 'static,
{
    let (context, watched) = (Context::new(), Watched::new());
    let addr = context.address();
    let report = Report(watched.clone());
    let life = Life { slot: Slot::default(), ask, report };
    actix::spawn(life.live(context, move || actor, settle));
    (addr, watched)
}

pub(super) fn stop_context<A: Actor<Context = Context<A>>>(context: &mut Context<A>) {
    context.stop();
}

/// What an incarnation needs to know besides the actor itself.
pub(super) struct Life<A: Actor<Context = Context<A>>> {
    pub(super) slot: Slot<A>,
    pub(super) ask: Ask<A>,
    pub(super) report: Report,
}

impl<A: Actor<Context = Context<A>>> Life<A> {
    /// From the factory to the report. `settle` has the last word on the exit, and may wait.
    pub(super) async fn live<F>(
        self,
        context: Context<A>,
        make: impl FnOnce() -> A,
        settle: impl FnOnce(Exit) -> F,
    ) where
        F: Future<Output = Exit>,
    {
        let Self { slot, ask, report } = self;
        let exit = match guarded(make) {
            Ok(actor) => report.0.run(context, actor, ask).await,
            Err(text) => Exit::Panicked(text),
        };
        slot.clear();
        let exit = settle(exit).await;
        report.0.0.finish(exit);
    }
}

/// Reports `Killed` if the task that holds it is dropped before it could say anything else.
pub(super) struct Report(pub(super) Watched);

impl Drop for Report {
    fn drop(&mut self) {
        self.0.0.finish(Exit::Killed);
    }
}

impl Watched {
    pub(super) fn new() -> Self {
        let (wanted, waker) = (AtomicU8::new(RUN), AtomicWaker::new());
        Self(Arc::new(Signal { wanted, waker, end: Mutex::new(End::NotYet(Vec::new())) }))
    }

    /// Asks the actor to stop. Once is enough.
    pub fn ask_to_stop(&self) {
        self.0.want(STOP);
    }

    /// Drops the actor at its next chance, whatever it is waiting for.
    pub fn abort(&self) {
        self.0.want(ABORT);
    }

    /// Resolves to why the actor ended, at once if it already has.
    pub async fn ended(&self) -> Exit {
        let (tell, told) = oneshot::channel();
        self.on_exit(move |exit| {
            tell.send(exit).ok();
        });
        told.await.unwrap_or(Exit::Killed)
    }

    /// Calls `then` with why the actor ended, at once if it already has.
    pub(super) fn on_exit(&self, then: impl FnOnce(Exit) + Send + 'static) {
        let exit = match &mut *self.0.end() {
            End::NotYet(listeners) => return listeners.push(Box::new(then)),
            End::Was(exit) => exit.clone(),
        };
        then(exit);
    }

    pub(super) fn fail(&self, exit: Exit) {
        self.0.finish(exit);
    }

    async fn run<A: Actor<Context = Context<A>>>(&self, context: Context<A>, actor: A, ask: Ask<A>) -> Exit {
        let mut life = context.into_future(actor);
        let mut asked = false;
        let exit = poll_fn(|cx: &mut TaskContext<'_>| {
            self.0.waker.register(cx.waker());
            match self.0.wanted.load(Ordering::Acquire) {
                ABORT => return Poll::Ready(Exit::Killed),
                STOP if !asked => {
                    asked = true;
                    ask(life.ctx());
                }
                _ => (),
            }
            // Caught here rather than by the executor, so that stop hooks never run mid-unwind.
            match guarded(|| Pin::new(&mut life).poll(cx)) {
                Ok(poll) => poll.map(|()| if asked { Exit::Asked } else { Exit::Finished }),
                Err(text) => Poll::Ready(Exit::Panicked(text)),
            }
        })
        .await;
        // The actor is gone before anybody hears of it: two incarnations never overlap.
        match guarded(move || drop(life)) {
            Ok(()) => exit,
            Err(text) if exit.is_clean() => Exit::Panicked(text),
            Err(_) => exit,
        }
    }
}

impl Signal {
    fn want(&self, what: u8) {
        self.wanted.fetch_max(what, Ordering::AcqRel);
        self.waker.wake();
    }

    fn end(&self) -> std::sync::MutexGuard<'_, End> {
        self.end.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// The first word counts.
    fn finish(&self, exit: Exit) {
        let mut end = self.end();
        let End::NotYet(listeners) = &mut *end else { return };
        let listeners = std::mem::take(listeners);
        *end = End::Was(exit.clone());
        drop(end);
        for listener in listeners {
            listener(exit.clone());
        }
    }
}

fn guarded<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|payload| panic_text(payload.as_ref()))
}

fn panic_text(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_else(|| "(no text)".to_owned())
}
