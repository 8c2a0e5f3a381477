//! Moves frames between the socket and the connection: one task reads, one writes, so that neither waits for the other.

use std::{sync::Arc, time::Duration};

use futures_util::{
    SinkExt, StreamExt,
    stream::{SplitSink, SplitStream},
};
use tidegate_protocol::limits::close;
use tokio::sync::{OwnedSemaphorePermit, mpsc, mpsc::error::TrySendError, oneshot, watch};
use tokio_tungstenite::tungstenite::{
    self, Message,
    protocol::{CloseFrame, frame::coding::CloseCode},
};

use super::{
    calls::{Calls, Ended},
    incoming::{Event, Incoming},
    transport::Socket,
};

/// After a close frame was sent, the gateway has this long to answer with its own.
const GOODBYE: Duration = Duration::from_secs(2);

/// A gateway that takes nothing for so long is as good as gone.
const WRITE_WITHIN: Duration = Duration::from_secs(30);

pub(super) enum Outgoing {
    /// A frame and its place among the bytes that may wait.
    Text(String, OwnedSemaphorePermit),
    Close(u16),
}

/// Starts both tasks. They end with the connection; the connection ends when the sender is dropped.
pub(super) fn start(
    socket: Socket,
    tick: Duration,
    calls: Arc<Calls>,
    events: mpsc::Sender<Event>,
) -> (mpsc::UnboundedSender<Outgoing>, watch::Receiver<Option<Ended>>) {
    let (sink, stream) = socket.split();
    let (outgoing, queue) = mpsc::unbounded_channel();
    let (over, ended) = watch::channel(None);
    let reader = Reader { stream, calls, events, goodbye: outgoing.downgrade(), silence: tick * 2 };
    let (leaving, left) = oneshot::channel();
    tokio::spawn(write(sink, queue, leaving));
    tokio::spawn(async move {
        let calls = reader.calls.clone();
        let end = reader.run(left).await;
        calls.finish(end.clone());
        let _ = over.send(Some(end));
    });
    (outgoing, ended)
}

/// Why the writing side left.
enum Left {
    /// It said goodbye, or found the connection broken.
    Done,
    /// Nothing could be written any more.
    Stuck,
}

async fn write(
    mut sink: SplitSink<Socket, Message>,
    mut queue: mpsc::UnboundedReceiver<Outgoing>,
    leaving: oneshot::Sender<Left>,
) {
    let code = loop {
        match queue.recv().await {
            Some(Outgoing::Text(text, _room)) => {
                // Several small frames often wait together: flush once for all of them.
                let last = queue.is_empty();
                let writing = async {
                    match last {
                        true => sink.send(Message::text(text)).await,
                        false => sink.feed(Message::text(text)).await,
                    }
                };
                match tokio::time::timeout(WRITE_WITHIN, writing).await {
                    Ok(Ok(())) => (),
                    // The reader sees the same end, and knows more about it.
                    Ok(Err(_)) => break None,
                    Err(_) => {
                        let _ = leaving.send(Left::Stuck);
                        return;
                    }
                }
            }
            Some(Outgoing::Close(code)) => break Some(code),
            None => break Some(close::NORMAL),
        }
    };
    if let Some(code) = code {
        let frame = CloseFrame { code: CloseCode::from(code), reason: reason(code).into() };
        let _ = tokio::time::timeout(GOODBYE, sink.send(Message::Close(Some(frame)))).await;
    }
    let _ = leaving.send(Left::Done);
}

fn reason(code: u16) -> &'static str {
    match code {
        close::TICK_TIMEOUT => "tick timeout",
        close::POLICY => "too many events wait to be read",
        _ => "",
    }
}

struct Reader {
    stream: SplitStream<Socket>,
    calls: Arc<Calls>,
    events: mpsc::Sender<Event>,
    goodbye: mpsc::WeakUnboundedSender<Outgoing>,
    /// Longest time without a frame from a gateway that is well.
    silence: Duration,
}

impl Reader {
    async fn run(mut self, mut left: oneshot::Receiver<Left>) -> Ended {
        loop {
            tokio::select! {
                frame = tokio::time::timeout(self.silence, self.stream.next()) => match frame {
                    Ok(Some(Ok(message))) => {
                        if let Some(end) = self.take(message) {
                            return end;
                        }
                    }
                    Ok(Some(Err(error))) => return broken(error),
                    Ok(None) => return Ended { code: 1006, reason: String::new() },
                    Err(_) => return self.end(close::TICK_TIMEOUT),
                },
                why = &mut left => return match why {
                    Ok(Left::Stuck) => Ended { code: 1006, reason: "the gateway reads no more".to_owned() },
                    Ok(Left::Done) | Err(_) => self.leave().await,
                },
            }
        }
    }

    fn take(&mut self, message: Message) -> Option<Ended> {
        match &message {
            Message::Text(text) => self.frame(text),
            Message::Binary(bytes) => std::str::from_utf8(bytes).ok().and_then(|text| self.frame(text)),
            Message::Close(frame) => {
                Some(frame.as_ref().map_or(Ended { code: 1005, reason: String::new() }, |frame| Ended {
                    code: frame.code.into(),
                    reason: frame.reason.to_string(),
                }))
            }
            // Pings are answered by the WebSocket layer.
            _ => None,
        }
    }

    fn frame(&mut self, text: &str) -> Option<Ended> {
        match Incoming::parse(text) {
            Some(Incoming::Response(response)) => self.calls.answer(response),
            Some(Incoming::Event(event)) => {
                // Whoever does not want the events has dropped their stream.
                if let Err(TrySendError::Full(_)) = self.events.try_send(event) {
                    return Some(self.end(close::POLICY));
                }
            }
            None => tracing::debug!(bytes = text.len(), "frame of an unknown kind"),
        }
        None
    }

    /// Ends the connection from this side.
    fn end(&self, code: u16) -> Ended {
        if let Some(goodbye) = self.goodbye.upgrade() {
            let _ = goodbye.send(Outgoing::Close(code));
        }
        Ended { code, reason: reason(code).to_owned() }
    }

    /// We said goodbye: hear what is still under way, but not for long.
    async fn leave(mut self) -> Ended {
        let rest = async {
            while let Some(Ok(message)) = self.stream.next().await {
                if let Some(end) = self.take(message) {
                    return end;
                }
            }
            Ended { code: 1006, reason: String::new() }
        };
        let silent = || Ended { code: 1006, reason: "no answer to the goodbye".to_owned() };
        tokio::time::timeout(GOODBYE, rest).await.unwrap_or_else(|_| silent())
    }
}

fn broken(error: tungstenite::Error) -> Ended {
    match super::transport::ended(error) {
        super::ClientError::Closed { code, reason } => Ended { code, reason },
        other => Ended { code: 1006, reason: other.to_string() },
    }
}
