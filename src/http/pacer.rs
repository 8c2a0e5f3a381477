//! Hands the WebSocket codec one frame a poll.
//!
//! The codec's buffer has no bound of its own: it takes all that is there and decodes one frame of it. Fed by the
//! frame, it never holds more than one, and TCP holds the peer back. The size of a frame is judged by its head,
//! before its body is read.

use bytes::{Bytes, BytesMut};
use futures_util::Stream;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tidegate_actors::connection::FrameLimit;

/// Why the pacer stopped handing on.
#[derive(Debug, thiserror::Error)]
pub(super) enum PaceError<E> {
    /// The frame that begins is larger than allowed now.
    #[error("frame too large")]
    TooLarge,
    /// The connection broke.
    #[error(transparent)]
    Inner(#[from] E),
}

pub(super) struct FramePacer<S> {
    inner: S,
    limit: FrameLimit,
    buffer: BytesMut,
    /// Bytes of the current frame not yet handed on.
    rest: usize,
    /// Bytes of a refused frame still to be thrown away, so that the peer's close frame behind it is seen.
    skip: usize,
    paused: bool,
    ended: bool,
}

impl<S> FramePacer<S> {
    pub(super) fn new(inner: S, limit: FrameLimit) -> Self {
        Self { inner, limit, buffer: BytesMut::new(), rest: 0, skip: 0, paused: false, ended: false }
    }

    /// The next bytes of the current frame, if some are there.
    fn take(&mut self) -> Result<Option<Bytes>, FrameTooLarge> {
        let skipped = self.skip.min(self.buffer.len());
        let _ = self.buffer.split_to(skipped);
        self.skip -= skipped;
        if self.rest == 0
            && let Some(frame) = FrameSize::of(&self.buffer)
        {
            if frame.body > self.limit.bytes() {
                self.skip = frame.head.saturating_add(frame.body);
                return Err(FrameTooLarge);
            }
            self.rest = frame.head + frame.body;
        }
        if self.rest == 0 || self.buffer.is_empty() {
            return Ok(None);
        }
        let size = self.rest.min(self.buffer.len());
        self.rest -= size;
        self.paused = self.rest == 0;
        Ok(Some(self.buffer.split_to(size).freeze()))
    }
}

struct FrameTooLarge;

struct FrameSize {
    head: usize,
    body: usize,
}

impl FrameSize {
    /// The size of the frame that `bytes` begin with, once its head is there.
    fn of(bytes: &[u8]) -> Option<Self> {
        let second = *bytes.get(1)?;
        let mask = if second & 0x80 == 0 { 0 } else { 4 };
        let (head, body) = match second & 0x7f {
            126 => (4, usize::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?))),
            127 => {
                let body = u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?);
                (10, usize::try_from(body).unwrap_or(usize::MAX))
            }
            short => (2, usize::from(short)),
        };
        Some(Self { head: head + mask, body })
    }
}

impl<S, E> Stream for FramePacer<S>
where
    S: Stream<Item = Result<Bytes, E>> + Unpin,
{
    type Item = Result<Bytes, PaceError<E>>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let me = &mut *self;
        if std::mem::take(&mut me.paused) {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        loop {
            match me.take() {
                Ok(Some(bytes)) => return Poll::Ready(Some(Ok(bytes))),
                Ok(None) => (),
                Err(FrameTooLarge) => return Poll::Ready(Some(Err(PaceError::TooLarge))),
            }
            if me.ended {
                return Poll::Ready(None);
            }
            match ready!(Pin::new(&mut me.inner).poll_next(context)) {
                Some(Ok(bytes)) => me.buffer.extend_from_slice(&bytes),
                Some(Err(error)) => return Poll::Ready(Some(Err(error.into()))),
                None => me.ended = true,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::StreamExt;
    use proptest::prelude::*;

    fn frame(body: usize) -> Vec<u8> {
        let mut bytes = vec![0x81];
        match body {
            0..126 => bytes.push(0x80 | body as u8),
            126..65536 => {
                bytes.push(0x80 | 126);
                bytes.extend((body as u16).to_be_bytes());
            }
            _ => {
                bytes.push(0x80 | 127);
                bytes.extend((body as u64).to_be_bytes());
            }
        }
        bytes.extend([0; 4]);
        bytes.extend(std::iter::repeat_n(b'x', body));
        bytes
    }

    /// What each poll of the pacer handed on, pauses as empty items.
    fn pace(chunks: Vec<Vec<u8>>) -> Vec<Result<Vec<u8>, ()>> {
        let chunks = chunks.into_iter().map(|chunk| Ok::<_, std::io::Error>(Bytes::from(chunk)));
        let mut pacer = FramePacer::new(futures_util::stream::iter(chunks), FrameLimit::default());
        let mut seen = vec![];
        let mut context = Context::from_waker(std::task::Waker::noop());
        loop {
            match pacer.poll_next_unpin(&mut context) {
                Poll::Ready(Some(item)) => seen.push(item.map(|bytes| bytes.to_vec()).map_err(drop)),
                Poll::Ready(None) => return seen,
                Poll::Pending => seen.push(Ok(vec![])),
            }
        }
    }

    proptest! {
        #[test]
        fn frames_come_out_one_a_poll_however_they_came_in(
            bodies in proptest::collection::vec(0usize..70_000, 1..6),
            cut in 1usize..5000,
        ) {
            let bodies: Vec<usize> = bodies.into_iter().filter(|&body| body <= 65_536).collect();
            let bytes: Vec<u8> = bodies.iter().flat_map(|&body| frame(body)).collect();
            let seen = pace(bytes.chunks(cut).map(<[u8]>::to_vec).collect());
            let frames: Vec<Vec<u8>> = seen
                .split(|item| item == &Ok(vec![]))
                .map(|parts| parts.iter().flat_map(|part| part.clone().unwrap()).collect())
                .filter(|frame: &Vec<u8>| !frame.is_empty())
                .collect();
            prop_assert_eq!(frames, bodies.into_iter().map(frame).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_head_that_announces_too_much_is_enough() {
        let mut huge = vec![0x82, 0x80 | 127];
        huge.extend((1u64 << 40).to_be_bytes());
        assert_eq!(pace(vec![huge, vec![0; 100_000]]), [Err(())]);
        assert_eq!(pace(vec![frame(65_537)]), [Err(())]);
    }

    #[test]
    fn what_follows_a_refused_frame_is_still_read() {
        let seen = pace(vec![frame(65_537), frame(3)]);
        assert_eq!(seen, [Err(()), Ok(frame(3)), Ok(vec![])]);
    }
}
