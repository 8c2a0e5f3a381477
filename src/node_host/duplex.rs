//! The two-way channel of one invoke: messages to and from the gateway while a command runs.

use std::time::Duration;

use serde_json::{Value, json};
use tidegate_protocol::duplex::{Assembler, Received, Splitter, ready};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep_until, timeout_at},
};

use super::failure::Failure;
use crate::client::Client;

/// A gateway gives an invoke up that shows no life for half a minute.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// A gateway that sends nothing for so long has forgotten this invoke.
const INPUT_WITHIN: Duration = Duration::from_secs(300);
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// Frames that may wait to be read: eight messages of a mebibyte, as many as the official host lets wait.
const FRAMES_WAITING: usize = 8 * 128;
/// The longest message that either side may send.
pub(super) const MAX_MESSAGE: usize = 1 << 20;

/// Where the frames of one invoke come in.
#[derive(Debug)]
pub(super) struct Inbox {
    next: u64,
    frames: mpsc::Sender<String>,
}

impl Inbox {
    /// Takes a frame; `false` when there is no room for it, which ends the invoke.
    pub(super) fn take(&mut self, seq: u64, frame: String) -> bool {
        if seq < self.next || frame.is_empty() {
            return true;
        }
        // A gap is no error here: the frames have numbers of their own.
        self.next = seq.saturating_add(1);
        self.frames.try_send(frame).is_ok()
    }
}

/// The command's end of the channel.
pub(super) struct Duplex {
    client: Client,
    node: String,
    invoke: String,
    seq: u64,
    frames: mpsc::Receiver<String>,
    cancel: watch::Receiver<bool>,
    assembler: Assembler,
    splitter: Splitter,
}

impl Duplex {
    pub(super) fn new(
        client: Client,
        node: String,
        invoke: String,
        cancel: watch::Receiver<bool>,
    ) -> (Self, Inbox) {
        let (send, frames) = mpsc::channel(FRAMES_WAITING);
        let (assembler, splitter) = (Assembler::new(MAX_MESSAGE), Splitter::default());
        let duplex = Self { client, node, invoke, seq: 0, frames, cancel, assembler, splitter };
        (duplex, Inbox { next: 0, frames: send })
    }

    /// Tells the gateway that it may send.
    pub(super) async fn open(&mut self) -> Result<(), Failure> {
        self.progress(ready()).await
    }

    /// The next message.
    pub(super) async fn receive(&mut self) -> Result<Vec<u8>, Failure> {
        loop {
            let frame = self.frame().await?;
            let received =
                self.assembler.take(&frame).map_err(|error| Failure::invalid(error.to_string()))?;
            if let Received::Message(message) = received {
                return Ok(message);
            }
        }
    }

    pub(super) async fn send(&mut self, message: &[u8]) -> Result<(), Failure> {
        for frame in self.splitter.split(message) {
            self.progress(frame).await?;
        }
        Ok(())
    }

    async fn frame(&mut self) -> Result<String, Failure> {
        let give_up = Instant::now() + INPUT_WITHIN;
        loop {
            let beat = Instant::now() + HEARTBEAT;
            tokio::select! {
                frame = timeout_at(give_up, self.frames.recv()) => return match frame {
                    Ok(Some(frame)) => Ok(frame),
                    Ok(None) => Err(Failure::unavailable("the connection was lost, or more came than was read")),
                    Err(_) => Err(Failure::unavailable("the gateway sent nothing more")),
                },
                _ = self.cancel.wait_for(|cancelled| *cancelled) => return Err(cancelled()),
                () = sleep_until(beat) => (),
            }
            self.progress(String::new()).await?;
        }
    }

    /// One request after the other: the answer to one is what lets the next one go.
    async fn progress(&mut self, chunk: String) -> Result<(), Failure> {
        if *self.cancel.borrow() {
            return Err(cancelled());
        }
        let params = json!({"invokeId": self.invoke, "nodeId": self.node, "seq": self.seq, "chunk": chunk});
        self.seq += 1;
        let told = self.client.call_within::<Value>("node.invoke.progress", &params, ANSWER_WITHIN).await;
        told.map(|_| ())
            .map_err(|error| Failure::unavailable(format!("the gateway does not listen: {error}")))
    }
}

fn cancelled() -> Failure {
    Failure::unavailable("cancelled by the gateway")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_number_of_a_frame_is_a_number() {
        let (frames, mut read) = mpsc::channel(2);
        let mut inbox = Inbox { next: 0, frames };
        assert!(inbox.take(u64::MAX, "last".to_owned()));
        assert!(inbox.take(7, "late".to_owned()), "what came before is passed over");
        assert_eq!(read.try_recv().unwrap(), "last");
        assert!(read.try_recv().is_err());
    }
}
