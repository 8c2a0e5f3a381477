//! The store's place in the tree: opens the database again when one of its threads died.

use super::{Store, StoreThreads};
use actix::{Actor, ActorContext, ActorFutureExt, AsyncContext, Context, WrapFuture};
use std::sync::{Arc, Mutex, PoisonError};

/// Hands the threads that the database was opened with to the first [`StoreKeeper`].
#[derive(Clone)]
pub struct FirstThreads(Arc<Mutex<Option<StoreThreads>>>);

impl FirstThreads {
    /// Wraps them.
    pub fn new(threads: StoreThreads) -> Self {
        Self(Arc::new(Mutex::new(Some(threads))))
    }

    fn take(&self) -> Option<StoreThreads> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Lives as long as the database's threads do; a new one starts new threads.
pub struct StoreKeeper {
    store: Store,
    first: FirstThreads,
}

impl StoreKeeper {
    /// The keeper of `store`.
    pub fn new(store: Store, first: FirstThreads) -> Self {
        Self { store, first }
    }
}

impl Actor for StoreKeeper {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        let threads = match self.first.take() {
            Some(threads) => Ok(threads),
            None => self.store.reopen(),
        };
        match threads {
            Ok(threads) => {
                context.spawn(threads.died().into_actor(self).map(|reason, _, context| {
                    tracing::error!(reason, "a database thread died");
                    context.stop();
                }));
            }
            Err(error) => {
                tracing::error!(%error, "the database can't be opened");
                context.stop();
            }
        }
    }
}
