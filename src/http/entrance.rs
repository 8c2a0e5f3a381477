//! What stands before the parser: the first head must come soon, with the line ends that the protocol asks for.
//!
//! The parser takes a bare LF for a line end. A proxy in front of us may not, and then the two disagree about where a
//! request ends. And its own clock for heads gives up when this process was busy, without looking whether the head
//! is there by now.

use super::wire::OverTcp;
use actix_web::rt::net::TcpStream;
use actix_web::rt::time::{Sleep, sleep};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Time for the head of a request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);

/// A connection whose first head is watched. There is only one: a connection serves one request.
pub(super) struct Entrance<T> {
    connection: T,
    head: Head,
    /// Until the head is there.
    patience: Option<Pin<Box<Sleep>>>,
}

impl<T> Entrance<T> {
    pub(super) fn new(connection: T) -> Self {
        Self { connection, head: Head::default(), patience: Some(Box::pin(sleep(HEAD_TIMEOUT))) }
    }
}

impl<T: OverTcp> OverTcp for Entrance<T> {
    fn tcp(&self) -> &TcpStream {
        self.connection.tcp()
    }
}

/// How far the head has come.
#[derive(Default)]
struct Head {
    last: u8,
    /// Something other than an empty line was seen: those before a request are skipped by the parser.
    begun: bool,
    in_line: bool,
    complete: bool,
}

impl Head {
    /// Looks through what was read, and replaces a bare LF by a byte that no parser takes.
    fn read(&mut self, bytes: &mut [u8]) {
        for byte in bytes {
            if self.complete {
                return;
            }
            match *byte {
                b'\n' if self.last != b'\r' => *byte = 0,
                b'\n' => {
                    self.complete = self.begun && !self.in_line;
                    self.in_line = false;
                }
                b'\r' => (),
                _ => (self.begun, self.in_line) = (true, true),
            }
            self.last = *byte;
        }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Entrance<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let me = &mut *self;
        let before = buffer.filled().len();
        let read = Pin::new(&mut me.connection).poll_read(context, buffer);
        if let Some(patience) = &mut me.patience {
            me.head.read(&mut buffer.filled_mut()[before..]);
            if me.head.complete {
                me.patience = None;
            } else if read.is_pending() && patience.as_mut().poll(context).is_ready() {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
        }
        read
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Entrance<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.connection).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.connection).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.connection.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    async fn handed_on(bytes: &[u8], at_a_time: usize) -> Vec<u8> {
        let (mut peer, connection) = tokio::io::duplex(at_a_time);
        let sent = bytes.to_vec();
        tokio::spawn(async move { peer.write_all(&sent).await });
        let mut seen = vec![];
        Entrance::new(connection).read_to_end(&mut seen).await.unwrap();
        seen
    }

    #[tokio::test]
    async fn a_bare_line_feed_in_the_head_is_spoilt_and_nothing_behind_the_head_is() {
        for (sent, expected) in [
            ("GET / HTTP/1.1\r\nA: b\r\n\r\nbo\ndy\n\n", "GET / HTTP/1.1\r\nA: b\r\n\r\nbo\ndy\n\n"),
            ("\r\n\r\nGET / HTTP/1.1\n\n", "\r\n\r\nGET / HTTP/1.1\0\0"),
            ("GET / HTTP/1.1\r\nA: b\n\r\n\r\n", "GET / HTTP/1.1\r\nA: b\0\r\n\r\n"),
            ("\nGET / HTTP/1.1\r\n\r\n", "\0GET / HTTP/1.1\r\n\r\n"),
        ] {
            for at_a_time in [1, 3, 1000] {
                let seen = handed_on(sent.as_bytes(), at_a_time).await;
                assert_eq!(String::from_utf8(seen).unwrap(), expected, "{at_a_time} at a time");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_that_does_not_come_is_given_up_and_one_that_came_late_is_read() {
        let (mut peer, connection) = tokio::io::duplex(1000);
        let mut entrance = Entrance::new(connection);
        peer.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
        let mut seen = vec![];
        let end = entrance.read_to_end(&mut seen).await.unwrap_err();
        assert_eq!(end.kind(), io::ErrorKind::TimedOut);

        let (mut peer, connection) = tokio::io::duplex(1000);
        let mut entrance = Entrance::new(connection);
        // This process slept over it.
        tokio::time::advance(HEAD_TIMEOUT * 2).await;
        peer.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        let mut buffer = [0; 100];
        assert_eq!(entrance.read(&mut buffer).await.unwrap(), 18);
        tokio::time::advance(HEAD_TIMEOUT * 2).await;
        assert!(
            futures_util::poll!(Box::pin(entrance.read(&mut buffer))).is_pending(),
            "no clock behind the head"
        );
    }
}
