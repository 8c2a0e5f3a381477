//! A connection after `hello-ok`: calls, events and the end.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use serde::{Serialize, de::DeserializeOwned};
use serde_json::value::{RawValue, to_raw_value};
use tidegate_protocol::{frame, hello::HelloOk, lenient, limits::MAX_BUFFERED_BYTES};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use uuid::Uuid;

use super::{
    ClientError, ConnectOptions,
    calls::{Answer, Call, Calls, Ended, Waiter},
    handshake,
    incoming::Event,
    pump,
};

/// How long a call waits unless told otherwise.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// Events that may wait to be looked at; whoever lets more wait is disconnected, as the gateway does with a slow reader.
pub(super) const EVENTS_WAITING: usize = 1024;

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
    /// Bytes that may still wait to be sent.
    room: Arc<Semaphore>,
    ended: watch::Receiver<Option<Ended>>,
}

/// The events of a connection, in order. Ends when the connection does. Read them or drop this: too many unread ones
/// end the connection.
#[derive(Debug)]
pub struct Events(mpsc::Receiver<Event>);

impl Events {
    /// The next event; `None` once the connection is over.
    pub async fn next(&mut self) -> Option<Event> {
        self.0.recv().await
    }
}

impl Client {
    /// Connects, and stays connected until the last clone is dropped or the gateway ends it.
    pub async fn connect(options: &ConnectOptions) -> Result<(Self, Events), ClientError> {
        let (socket, hello) = handshake::shake(options).await?;
        let calls = Arc::new(Calls::default());
        let (events, stream) = mpsc::channel(EVENTS_WAITING);
        let tick = Duration::from_millis(hello.policy.tick_interval_ms.clamp(1_000, 600_000));
        let (outgoing, ended) = pump::start(socket, tick, calls.clone(), events);
        let room = Arc::new(Semaphore::new(MAX_BUFFERED_BYTES));
        let inner = Inner { hello, calls, next: AtomicU64::new(2), outgoing, room, ended };
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
        let bytes = u32::try_from(text.len().min(MAX_BUFFERED_BYTES)).unwrap_or(u32::MAX);
        let room = self.inner.room.clone().try_acquire_many_owned(bytes).map_err(|_| ClientError::Busy)?;
        self.inner.calls.open(&id, waiter)?;
        let call = Call { method: method.to_owned(), id, calls: self.inner.calls.clone() };
        match self.inner.outgoing.send(pump::Outgoing::Text(text, room)) {
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

fn shape(method: &str, error: serde_json::Error) -> ClientError {
    ClientError::Shape { method: method.to_owned(), problem: error.to_string() }
}
