//! Where the current incarnation of an actor can be reached.

use actix::{Actor, Addr, Context, Handler, MailboxError, Message};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, RwLock};

/// Always holds the newest address of a supervised actor. Others keep the slot, never an `Addr`.
///
/// Cheap to clone; crosses threads even when the actor does not.
pub struct Slot<A: Actor>(Arc<Inner<A>>);

struct Inner<A: Actor> {
    addr: RwLock<Option<Addr<A>>>,
    waiting: AtomicUsize,
}

/// What is said while somebody is being restarted, by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} is restarting; try again")]
pub struct Restarting(pub &'static str);

impl<A: Actor<Context = Context<A>>> Slot<A> {
    /// A slot that already points at a running actor, such as a fake in a test.
    pub fn of(addr: Addr<A>) -> Self {
        let slot = Self::default();
        slot.set(addr);
        slot
    }

    pub(crate) fn set(&self, addr: Addr<A>) {
        *self.0.addr.write().unwrap_or_else(|poisoned| poisoned.into_inner()) = Some(addr);
    }

    pub(super) fn clear(&self) {
        self.0.addr.write().unwrap_or_else(|poisoned| poisoned.into_inner()).take();
    }

    /// The address of whoever serves here now. Use at once; do not keep it.
    pub fn addr(&self) -> Option<Addr<A>> {
        self.0.addr.read().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
    }

    /// How many `send`s are waiting for their answer: the part of the mailbox that can be known.
    pub fn waiting(&self) -> usize {
        self.0.waiting.load(Ordering::Relaxed)
    }

    /// Queues `message` through the one shared sender, so that the mailbox bound holds. Gives the message
    /// back when the mailbox is full or nobody serves here now.
    pub fn try_send<M>(&self, message: M) -> Result<(), M>
    where
        A: Handler<M>,
        M: Message<Result: Send> + Send + 'static,
    {
        match &*self.0.addr.read().unwrap_or_else(|poisoned| poisoned.into_inner()) {
            Some(addr) => addr.try_send(message).map_err(|refused| refused.into_inner()),
            None => Err(message),
        }
    }

    /// Asks whoever serves here now; `Closed` while a restart is under way.
    pub async fn send<M>(&self, message: M) -> Result<M::Result, MailboxError>
    where
        A: Handler<M>,
        M: Message<Result: Send> + Send + 'static,
    {
        let addr = self.addr().ok_or(MailboxError::Closed)?;
        let _waiting = Waiting::new(Arc::clone(&self.0));
        addr.send(message).await
    }

    /// Queues `message` whatever the mailbox holds, for news that must not be refused (such as "this
    /// connection is gone"). Logs when nobody serves here now.
    pub fn tell<M>(&self, message: M)
    where
        A: Handler<M>,
        M: Message<Result: Send> + Send + 'static,
    {
        match self.addr() {
            Some(addr) if addr.connected() => addr.do_send(message),
            _ => tracing::warn!(
                actor = short_type_name::<A>(),
                message = short_type_name::<M>(),
                "nobody there to take a message"
            ),
        }
    }
}

impl<A: Actor> Clone for Slot<A> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<A: Actor> Default for Slot<A> {
    fn default() -> Self {
        Self(Arc::new(Inner { addr: RwLock::new(None), waiting: AtomicUsize::new(0) }))
    }
}

/// Counts one unanswered call for as long as it lives.
struct Waiting<A: Actor>(Arc<Inner<A>>);

impl<A: Actor> Waiting<A> {
    fn new(inner: Arc<Inner<A>>) -> Self {
        inner.waiting.fetch_add(1, Ordering::Relaxed);
        Self(inner)
    }
}

impl<A: Actor> Drop for Waiting<A> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

pub(super) fn short_type_name<T>() -> &'static str {
    let full = std::any::type_name::<T>();
    let head = full.split('<').next().unwrap_or(full);
    head.rsplit("::").next().unwrap_or(full)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Echo;
    impl Actor for Echo {
        type Context = Context<Self>;
    }
    #[derive(Message)]
    #[rtype(result = "u8")]
    struct Say(u8);
    impl Handler<Say> for Echo {
        type Result = u8;
        fn handle(&mut self, say: Say, _: &mut Self::Context) -> u8 {
            say.0
        }
    }

    #[actix::test]
    async fn an_empty_slot_gives_the_message_back_and_says_closed() {
        let slot = Slot::<Echo>::default();
        assert_eq!(slot.try_send(Say(7)).map_err(|say| say.0), Err(7));
        assert!(matches!(slot.send(Say(7)).await, Err(MailboxError::Closed)));
        slot.tell(Say(7));
    }

    #[actix::test]
    async fn the_mailbox_bound_holds_across_clones_of_the_slot() {
        let slot = Slot::of(Echo.start());
        let accepted = (0..100).filter(|_| slot.clone().try_send(Say(1)).is_ok()).count();
        assert_eq!(accepted, 16);
        for _ in 0..100 {
            slot.tell(Say(1));
        }
        assert_eq!(slot.send(Say(9)).await.unwrap(), 9);
    }

    #[actix::test]
    async fn unanswered_calls_are_counted() {
        let slot = Slot::of(Echo.start());
        let call = slot.clone();
        let mut asking = Box::pin(call.send(Say(1)));
        assert!(futures_util::poll!(&mut asking).is_pending());
        assert_eq!(slot.waiting(), 1);
        asking.await.unwrap();
        assert_eq!(slot.waiting(), 0);
    }

    #[test]
    fn slots_cross_threads_even_when_the_actor_does_not() {
        struct Local(#[allow(dead_code)] std::rc::Rc<()>);
        impl Actor for Local {
            type Context = Context<Self>;
        }
        fn crosses<T: Send + Sync>() {}
        crosses::<Slot<Local>>();
    }
}
