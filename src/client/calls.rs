//! Requests that wait for an answer, until the connection ends.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use serde_json::value::RawValue;
use tidegate_protocol::ErrorShape;
use tokio::sync::oneshot;

use super::{ClientError, incoming::Response};

/// How the connection ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    pub code: u16,
    pub reason: String,
}

impl From<Ended> for ClientError {
    fn from(ended: Ended) -> Self {
        Self::Closed { code: ended.code, reason: ended.reason }
    }
}

pub(super) type Answer = Result<Box<RawValue>, Box<ErrorShape>>;

/// A request in flight; dropping it forgets the answer.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) method: String,
    pub(super) id: String,
    pub(super) calls: Arc<Calls>,
}

impl Call {
    pub(super) async fn wait(
        &self,
        answer: oneshot::Receiver<Answer>,
        after: Duration,
    ) -> Result<Box<RawValue>, ClientError> {
        match tokio::time::timeout(after, answer).await {
            Ok(Ok(Ok(payload))) => Ok(payload),
            Ok(Ok(Err(error))) => Err(ClientError::Call { method: self.method.clone(), error }),
            Ok(Err(_)) => Err(self.calls.end().into()),
            Err(_) => Err(ClientError::TimedOut { method: self.method.clone(), after }),
        }
    }

    pub(super) async fn settle(
        self,
        answer: oneshot::Receiver<Answer>,
        after: Duration,
    ) -> Result<Box<RawValue>, ClientError> {
        self.wait(answer, after).await
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.calls.forget(&self.id);
    }
}

/// Who waits for the answer to a request.
#[derive(Debug)]
pub(super) enum Waiter {
    Once(oneshot::Sender<Answer>),
    Twice { accepted: Option<oneshot::Sender<Answer>>, done: oneshot::Sender<Answer> },
}

/// The requests of a connection that wait for an answer.
#[derive(Debug, Default)]
pub(super) struct Calls(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    waiting: HashMap<String, Waiter>,
    over: Option<Ended>,
}

impl Calls {
    pub(super) fn open(&self, id: &str, waiter: Waiter) -> Result<(), ClientError> {
        let mut table = self.table();
        if let Some(end) = &table.over {
            return Err(end.clone().into());
        }
        table.waiting.insert(id.to_owned(), waiter);
        Ok(())
    }

    fn forget(&self, id: &str) {
        self.table().waiting.remove(id);
    }

    /// Gives a response to the call that waits for it; late ones go nowhere.
    pub(super) fn answer(&self, response: Response) {
        let mut table = self.table();
        let Some(waiter) = table.waiting.remove(&response.id) else { return };
        match waiter {
            Waiter::Twice { accepted: Some(accepted), done } if is_accepted(&response.outcome) => {
                let rest = Waiter::Twice { accepted: None, done };
                table.waiting.insert(response.id, rest);
                let _ = accepted.send(response.outcome);
            }
            // Finished without an interim answer: the one answer is both.
            Waiter::Twice { accepted: Some(accepted), done } => {
                let _ = done.send(response.outcome.clone());
                let _ = accepted.send(response.outcome);
            }
            Waiter::Twice { accepted: None, done } | Waiter::Once(done) => {
                let _ = done.send(response.outcome);
            }
        }
    }

    /// Fails everything that waits.
    pub(super) fn finish(&self, end: Ended) {
        let mut table = self.table();
        table.over.get_or_insert(end);
        table.waiting.clear();
    }

    pub(super) fn end(&self) -> Ended {
        self.table().over.clone().unwrap_or(Ended { code: 1006, reason: String::new() })
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_accepted(outcome: &Answer) -> bool {
    #[derive(serde::Deserialize)]
    struct Status<'a> {
        status: std::borrow::Cow<'a, str>,
    }
    let Ok(payload) = outcome else { return false };
    serde_json::from_str::<Status<'_>>(payload.get()).is_ok_and(|answer| answer.status == "accepted")
}
