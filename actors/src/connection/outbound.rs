//! The way out to one socket: a queue bounded by bytes, usable from any thread.
//!
//! A socket whose peer stops reading stops being polled, with its timers. So nothing that must happen to it may
//! depend on it: the bound is kept here, and the [`KillSwitch`] ends the connection from outside.

use futures_util::Stream;
use serde_json::value::RawValue;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use tidegate_protocol::frame::EventText;
use tidegate_protocol::limits::{MAX_BUFFERED_BYTES, MAX_PAYLOAD, close_reason};
use tokio::sync::mpsc;

/// Bytes that one poll of the socket hands on, so that waiting bytes stay here, where they are counted.
const BURST: usize = 64 * 1024;

/// Above this, droppable events are dropped.
const NEARLY_FULL: usize = MAX_BUFFERED_BYTES / 4;

/// What the socket is to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outgoing {
    /// A text frame.
    Text(String),
    /// A WebSocket ping.
    Ping,
    /// The last thing: a close frame.
    Close { code: u16, reason: String },
}

/// Ends a connection whatever state its socket is in.
pub type KillSwitch = Arc<dyn Fn() + Send + Sync>;

/// The sending end. Cheap to clone.
#[derive(Clone)]
pub struct Outbound(Arc<Inner>);

struct Inner {
    conn_id: String,
    queue: mpsc::UnboundedSender<Outgoing>,
    waiting: Arc<AtomicUsize>,
    closing: AtomicBool,
    kill: KillSwitch,
}

/// The peer does not read fast enough, the connection is closing, or the frame is larger than any may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the connection takes no more frames")]
pub struct Full;

impl Outbound {
    /// A queue and the stream that the socket reads.
    pub fn new(conn_id: String, kill: KillSwitch) -> (Self, Outgoings) {
        let (queue, frames) = mpsc::unbounded_channel();
        let waiting = Arc::new(AtomicUsize::new(0));
        let outgoings = Outgoings { frames, waiting: Arc::clone(&waiting), burst: 0 };
        (Self(Arc::new(Inner { conn_id, queue, waiting, closing: AtomicBool::new(false), kill })), outgoings)
    }

    /// The connection this leads to.
    pub fn conn_id(&self) -> &str {
        &self.0.conn_id
    }

    /// Queues a text frame. One that is larger than the peer was told to expect would end the connection, and is left
    /// out instead.
    ///
    /// # Errors
    /// [`Full`] when the peer has let too much pile up: the connection is then closed as a slow consumer.
    pub fn frame(&self, text: impl Into<String>) -> Result<(), Full> {
        let text = text.into();
        if self.0.closing.load(Ordering::Acquire) {
            return Err(Full);
        }
        let size = text.len();
        if size > MAX_PAYLOAD {
            tracing::error!(conn = self.0.conn_id, size, "a frame was too large to be sent");
            return Err(Full);
        }
        if self.0.waiting.fetch_add(size, Ordering::AcqRel) + size > MAX_BUFFERED_BYTES {
            self.0.waiting.fetch_sub(size, Ordering::AcqRel);
            tracing::warn!(conn = self.0.conn_id, "slow consumer cut off");
            self.close(tidegate_protocol::limits::close::POLICY, "slow consumer");
            (self.0.kill)();
            return Err(Full);
        }
        self.0.queue.send(Outgoing::Text(text)).map_err(|_| Full)
    }

    /// Queues an event for this connection alone: it has no `seq`.
    ///
    /// # Errors
    /// As [`Outbound::frame`].
    pub fn event(&self, name: &str, payload: &RawValue) -> Result<(), Full> {
        self.frame(EventText::new(name, payload, None).finish(None))
    }

    /// Queues a ping.
    pub fn ping(&self) {
        let _ = self.0.queue.send(Outgoing::Ping);
    }

    /// Says goodbye, once; later frames are refused.
    pub fn close(&self, code: u16, reason: &str) {
        if !self.0.closing.swap(true, Ordering::AcqRel) {
            let reason = close_reason(reason).to_owned();
            let _ = self.0.queue.send(Outgoing::Close { code, reason });
        }
    }

    /// Whether [`Outbound::close`] was called.
    pub fn is_closing(&self) -> bool {
        self.0.closing.load(Ordering::Acquire)
    }

    /// Ends the connection at once, without a close frame if the peer does not read.
    pub fn kill(&self) {
        (self.0.kill)();
    }

    /// Whether so much waits that events which can be missed should be.
    pub fn is_nearly_full(&self) -> bool {
        self.0.waiting.load(Ordering::Acquire) > NEARLY_FULL
    }
}

impl std::fmt::Debug for Outbound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Outbound").field(&self.0.conn_id).finish()
    }
}

/// The receiving end, read by the socket.
pub struct Outgoings {
    frames: mpsc::UnboundedReceiver<Outgoing>,
    waiting: Arc<AtomicUsize>,
    burst: usize,
}

impl Stream for Outgoings {
    type Item = Outgoing;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Outgoing>> {
        if self.burst >= BURST {
            // Let the socket write what it has before it takes more.
            self.burst = 0;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let next = self.frames.poll_recv(context);
        match &next {
            Poll::Ready(Some(Outgoing::Text(text))) => {
                self.waiting.fetch_sub(text.len(), Ordering::AcqRel);
                self.burst += text.len();
            }
            Poll::Ready(_) => (),
            Poll::Pending => self.burst = 0,
        }
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::StreamExt;

    fn queue() -> (Outbound, Outgoings, Arc<AtomicBool>) {
        let killed = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&killed);
        let kill: KillSwitch = Arc::new(move || flag.store(true, Ordering::Release));
        let (outbound, outgoings) = Outbound::new("c1".into(), kill);
        (outbound, outgoings, killed)
    }

    #[actix::test]
    async fn frames_keep_their_order_and_nothing_follows_the_close() {
        let (outbound, mut outgoings, _) = queue();
        outbound.frame("a").unwrap();
        outbound.close(1008, "why");
        assert_eq!(outbound.frame("b"), Err(Full));
        assert_eq!(outgoings.next().await, Some(Outgoing::Text("a".into())));
        assert_eq!(outgoings.next().await, Some(Outgoing::Close { code: 1008, reason: "why".into() }));
    }

    #[actix::test]
    async fn a_peer_that_does_not_read_is_cut_off_at_the_bound() {
        let (outbound, _outgoings, killed) = queue();
        let megabyte = "x".repeat(1024 * 1024);
        let accepted = (0..100).take_while(|_| outbound.frame(megabyte.clone()).is_ok()).count();
        assert_eq!(accepted, MAX_BUFFERED_BYTES / megabyte.len());
        assert!(killed.load(Ordering::Acquire) && outbound.is_closing());
    }

    #[actix::test]
    async fn what_the_peer_would_not_take_is_left_out() {
        let (outbound, _outgoings, killed) = queue();
        assert_eq!(outbound.frame("x".repeat(MAX_PAYLOAD + 1)), Err(Full));
        assert!(outbound.frame("x".repeat(MAX_PAYLOAD)).is_ok());
        assert!(!killed.load(Ordering::Acquire));
    }

    #[actix::test]
    async fn one_poll_hands_on_no_more_than_a_burst() {
        let (outbound, mut outgoings, _) = queue();
        for _ in 0..10 {
            outbound.frame("x".repeat(BURST / 2)).unwrap();
        }
        let mut taken = 0;
        while let Poll::Ready(Some(_)) = futures_util::poll!(outgoings.next()) {
            taken += 1;
        }
        assert_eq!(taken, 2);
        drop(outbound);
        assert_eq!(outgoings.count().await, 8);
    }
}
