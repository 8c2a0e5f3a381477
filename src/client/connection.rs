//! A connection after `hello-ok`: calls, events and the end.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use serde::{Serialize, de::DeserializeOwned};
use serde_json::value::{RawValue, to_raw_value};
use tidegate_protocol::{ErrorShape, frame, hello::HelloOk, lenient};
use tokio::sync::{mpsc, oneshot, watch};
use uuid::Uuid;

use super::{ClientError, ConnectOptions, handshake, incoming::Event, incoming::Response, pump};

/// How long a call waits unless told otherwise.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(30);

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

/// A live connection. Clones share it; it closes when the last one is dropped.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

struct Inner {
    hello: HelloOk,
    calls: Arc<Calls>,
    next: AtomicU64,
    outgoing: mpsc::UnboundedSender<pump::Outgoing>,
    ended: watch::Receiver<Option<Ended>>,
}

/// The events of a connection, in order. Ends when the connection does.
#[derive(Debug)]
pub struct Events(mpsc::UnboundedReceiver<Event>);

impl Events {
    /// The next event; `None` once the connection is over.
    pub async fn next(&mut self) -> Option<Event> {
        self.0.recv().await
    }
}

type Answer = Result<Box<RawValue>, Box<ErrorShape>>;

impl Client {
    /// Connects, and stays connected until the last clone is dropped or the gateway ends it.
    pub async fn connect(options: &ConnectOptions) -> Result<(Self, Events), ClientError> {
        let (socket, hello) = handshake::shake(options).await?;
        let calls = Arc::new(Calls::default());
        let (events, stream) = mpsc::unbounded_channel();
        let tick = Duration::from_millis(hello.policy.tick_interval_ms.clamp(1_000, 600_000));
        let (outgoing, ended) = pump::start(socket, tick, calls.clone(), events);
        let inner = Inner { hello, calls, next: AtomicU64::new(2), outgoing, ended };
        Ok((Self { inner: Arc::new(inner) }, Events(stream)))
    }

    /// What the gateway said on admission.
    pub fn hello(&self) -> &HelloOk {
        &self.inner.hello
    }

    /// Calls a method and reads its answer.
    pub async fn call<T: DeserializeOwned>(
        &self,
        method: &str,
        params: &impl Serialize,
    ) -> Result<T, ClientError> {
        self.call_within(method, params, CALL_TIMEOUT).await
    }

    /// As [`Client::call`], with a deadline of one's own.
    pub async fn call_within<T: DeserializeOwned>(
        &self,
        method: &str,
        params: &impl Serialize,
        after: Duration,
    ) -> Result<T, ClientError> {
        let params = to_raw_value(params).map_err(|error| shape(method, error))?;
        let answer = self.call_raw(method, Some(&params), after).await?;
        lenient::from_str(answer.get()).map_err(|error| shape(method, error))
    }

    /// Calls a method with raw params and hands back the raw answer.
    pub async fn call_raw(
        &self,
        method: &str,
        params: Option<&RawValue>,
        after: Duration,
    ) -> Result<Box<RawValue>, ClientError> {
        let (reply, answer) = oneshot::channel();
        let call = self.send(method, params, Waiter::Once(reply))?;
        call.settle(answer, after).await
    }

    /// Sends a request and returns at once; what is sent later goes out later.
    pub fn begin(&self, method: &str, params: &impl Serialize) -> Result<Later, ClientError> {
        let params = to_raw_value(params).map_err(|error| shape(method, error))?;
        let (reply, done) = oneshot::channel();
        let call = self.send(method, Some(&params), Waiter::Once(reply))?;
        Ok(Later { call, done })
    }

    /// Calls a method that answers twice: once when it has accepted the work, once when the work is done.
    pub async fn call_twice(
        &self,
        method: &str,
        params: &impl Serialize,
        after: Duration,
    ) -> Result<(Box<RawValue>, Later), ClientError> {
        let params = to_raw_value(params).map_err(|error| shape(method, error))?;
        let ((early, accepted), (late, done)) = (oneshot::channel(), oneshot::channel());
        let call = self.send(method, Some(&params), Waiter::Twice { accepted: Some(early), done: late })?;
        let first = call.wait(accepted, after).await?;
        Ok((first, Later { call, done }))
    }

    /// Says goodbye and waits until the connection is over.
    pub async fn close(&self) -> Ended {
        let _ = self.inner.outgoing.send(pump::Outgoing::Close(1000));
        self.ended().await
    }

    /// Waits for the end of the connection.
    pub async fn ended(&self) -> Ended {
        let mut ended = self.inner.ended.clone();
        let lost = || Ended { code: 1006, reason: String::new() };
        match ended.wait_for(Option::is_some).await {
            Ok(end) => end.clone().unwrap_or_else(lost),
            Err(_) => lost(),
        }
    }

    fn send(&self, method: &str, params: Option<&RawValue>, waiter: Waiter) -> Result<Call, ClientError> {
        let limit = usize::try_from(self.inner.hello.policy.max_payload).unwrap_or(usize::MAX);
        let number = self.inner.next.fetch_add(1, Ordering::Relaxed);
        let id = format!("{number}:{}", Uuid::new_v4());
        let text = frame::request(&id, method, params);
        if text.len() > limit {
            return Err(ClientError::TooLarge { size: text.len(), limit });
        }
        self.inner.calls.open(&id, waiter)?;
        let call = Call { method: method.to_owned(), id, calls: self.inner.calls.clone() };
        match self.inner.outgoing.send(pump::Outgoing::Text(text)) {
            Ok(()) => Ok(call),
            Err(_) => Err(call.calls.end().into()),
        }
    }
}

/// The answer of [`Client::begin`], or the second one of [`Client::call_twice`].
#[derive(Debug)]
pub struct Later {
    call: Call,
    done: oneshot::Receiver<Answer>,
}

impl Later {
    /// Waits for it.
    pub async fn wait(self, after: Duration) -> Result<Box<RawValue>, ClientError> {
        self.call.settle(self.done, after).await
    }
}

/// A request in flight; dropping it forgets the answer.
#[derive(Debug)]
struct Call {
    method: String,
    id: String,
    calls: Arc<Calls>,
}

impl Call {
    async fn wait(
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

    async fn settle(
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

#[derive(Debug)]
enum Waiter {
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
    fn open(&self, id: &str, waiter: Waiter) -> Result<(), ClientError> {
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

    fn end(&self) -> Ended {
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

fn shape(method: &str, error: serde_json::Error) -> ClientError {
    ClientError::Shape { method: method.to_owned(), problem: error.to_string() }
}
