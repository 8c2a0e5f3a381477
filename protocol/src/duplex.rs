//! Messages both ways during one `node.invoke`: how they are cut into frames and put together again.
//!
//! A command that takes input (`file.create`) or sends more than an answer holds (`file.fetch` with a binary transport)
//! talks with the gateway while it runs. Towards the node frames travel as `payloadJSON` of the event
//! `node.invoke.input`, towards the gateway as `chunk` of the request `node.invoke.progress`, at most 16 KiB each. The
//! node opens with [`ready`]; then either side sends messages, numbered from 0, each cut into fragments of 8 KiB.
//! There is no frame for the end: the command knows its last message. Source: driven against the official node host
//! 2026.9.6; neither the published schema nor the documentation describes it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

/// Bytes of every fragment but a message's last.
pub const FRAGMENT_BYTES: usize = 8192;

/// Bytes of a frame's JSON, at most; a peer drops what is larger.
pub const MAX_FRAME_BYTES: usize = 16 * 1024;

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
enum Frame {
    Ready { v: u8 },
    Data { v: u8, message: u64, index: u64, last: bool, data: String },
}

/// Why the other side's frames make no sense. The invoke fails with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DuplexError {
    #[error("a frame is larger than 16 KiB")]
    FrameTooLarge,
    #[error("a frame is not of a known form and version")]
    Malformed,
    #[error("a message or fragment came out of order")]
    OutOfOrder,
    #[error("a fragment is not canonical base64 of the right length")]
    Fragment,
    #[error("a message is larger than {0} bytes")]
    MessageTooLarge(usize),
    #[error("readiness was announced a second time or too late")]
    LateReady,
}

/// The node's first frame: it listens now.
pub fn ready() -> String {
    encode(&Frame::Ready { v: 1 })
}

fn encode(frame: &Frame) -> String {
    // The spelling of the keys is fixed and a string is all they hold: this can't fail.
    serde_json::to_string(frame).unwrap_or_default()
}

/// Cuts messages into frames.
#[derive(Debug, Default)]
pub struct Splitter {
    next: u64,
}

impl Splitter {
    /// The frames of one message, in order. An empty message is one frame.
    pub fn split<'m>(&mut self, message: &'m [u8]) -> impl Iterator<Item = String> + use<'m> {
        let number = self.next;
        self.next += 1;
        let count = message.len().div_ceil(FRAGMENT_BYTES).max(1);
        (0..count).map(move |index| {
            let from = index * FRAGMENT_BYTES;
            let fragment = &message[from..message.len().min(from + FRAGMENT_BYTES)];
            encode(&Frame::Data {
                v: 1,
                message: number,
                index: index as u64,
                last: index + 1 == count,
                data: STANDARD.encode(fragment),
            })
        })
    }
}

/// What a frame completed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Received {
    Ready,
    Message(Vec<u8>),
    /// A fragment that more will follow.
    Part,
}

/// Puts frames together to messages.
#[derive(Debug)]
pub struct Assembler {
    most: usize,
    message: u64,
    index: u64,
    bytes: Vec<u8>,
    ready: bool,
}

impl Assembler {
    /// Takes messages of at most `most` bytes.
    pub fn new(most: usize) -> Self {
        Self { most, message: 0, index: 0, bytes: Vec::new(), ready: false }
    }

    /// Takes the next frame.
    ///
    /// # Errors
    /// If it can't be the next one. Nothing that comes after makes sense any more.
    pub fn take(&mut self, frame: &str) -> Result<Received, DuplexError> {
        if frame.len() > MAX_FRAME_BYTES {
            return Err(DuplexError::FrameTooLarge);
        }
        match serde_json::from_str(frame).map_err(|_| DuplexError::Malformed)? {
            Frame::Ready { v: 1 } if self.ready || self.message > 0 || self.index > 0 => {
                Err(DuplexError::LateReady)
            }
            Frame::Ready { v: 1 } => {
                self.ready = true;
                Ok(Received::Ready)
            }
            Frame::Data { v: 1, message, index, last, data } => self.fragment(message, index, last, &data),
            Frame::Ready { .. } | Frame::Data { .. } => Err(DuplexError::Malformed),
        }
    }

    fn fragment(
        &mut self,
        message: u64,
        index: u64,
        last: bool,
        data: &str,
    ) -> Result<Received, DuplexError> {
        if (message, index) != (self.message, self.index) {
            return Err(DuplexError::OutOfOrder);
        }
        let fragment = STANDARD.decode(data).map_err(|_| DuplexError::Fragment)?;
        let fits = match (last, fragment.len()) {
            (false, length) => length == FRAGMENT_BYTES,
            (true, 0) => index == 0,
            (true, length) => length <= FRAGMENT_BYTES,
        };
        if !fits {
            return Err(DuplexError::Fragment);
        }
        if self.bytes.len() + fragment.len() > self.most {
            return Err(DuplexError::MessageTooLarge(self.most));
        }
        self.bytes.extend_from_slice(&fragment);
        if !last {
            self.index += 1;
            return Ok(Received::Part);
        }
        self.message += 1;
        self.index = 0;
        Ok(Received::Message(std::mem::take(&mut self.bytes)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frames(message: &[u8]) -> Vec<String> {
        Splitter::default().split(message).collect()
    }

    #[test]
    fn frames_look_as_the_official_ones_do() {
        assert_eq!(ready(), r#"{"kind":"ready","v":1}"#);
        assert_eq!(
            frames(b"hello"),
            [r#"{"kind":"data","v":1,"message":0,"index":0,"last":true,"data":"aGVsbG8="}"#]
        );
        assert_eq!(frames(b""), [r#"{"kind":"data","v":1,"message":0,"index":0,"last":true,"data":""}"#]);
        let official = r#"{"v":1,"kind":"data","message":0,"index":0,"last":true,"data":"YWNr"}"#;
        assert_eq!(Assembler::new(10).take(official), Ok(Received::Message(b"ack".to_vec())));
        assert_eq!(Assembler::new(10).take(r#"{"v":1,"kind":"ready"}"#), Ok(Received::Ready));
    }

    #[test]
    fn what_is_not_the_next_frame_is_refused() {
        let data = |message: u64, index: u64, last: bool, data: &str| {
            format!(
                r#"{{"v":1,"kind":"data","message":{message},"index":{index},"last":{last},"data":"{data}"}}"#
            )
        };
        let whole = STANDARD.encode([7; FRAGMENT_BYTES]);
        for (frame, error) in [
            (data(1, 0, true, "YWNr"), DuplexError::OutOfOrder),
            (data(0, 1, true, "YWNr"), DuplexError::OutOfOrder),
            (data(0, 0, false, "YWNr"), DuplexError::Fragment),
            (data(0, 0, true, "YWN"), DuplexError::Fragment),
            (data(0, 0, true, "YWM"), DuplexError::Fragment),
            (data(0, 0, true, "YR=="), DuplexError::Fragment),
            (data(0, 0, true, &STANDARD.encode([7; FRAGMENT_BYTES + 1])), DuplexError::Fragment),
            (data(0, 0, true, &"A".repeat(MAX_FRAME_BYTES)), DuplexError::FrameTooLarge),
            ("{}".into(), DuplexError::Malformed),
            ("nonsense".into(), DuplexError::Malformed),
            (r#"{"v":2,"kind":"ready"}"#.into(), DuplexError::Malformed),
            (r#"{"v":1,"kind":"end"}"#.into(), DuplexError::Malformed),
            (r#"{"v":1,"kind":"ready","x":1}"#.into(), DuplexError::Malformed),
        ] {
            assert_eq!(Assembler::new(1 << 20).take(&frame), Err(error), "{frame}");
        }
        let mut small = Assembler::new(FRAGMENT_BYTES);
        assert_eq!(small.take(&data(0, 0, false, &whole)), Ok(Received::Part));
        assert_eq!(small.take(&data(0, 1, true, "YWNr")), Err(DuplexError::MessageTooLarge(FRAGMENT_BYTES)));
        let mut late = Assembler::new(10);
        assert_eq!(late.take(&ready()), Ok(Received::Ready));
        assert_eq!(late.take(&ready()), Err(DuplexError::LateReady));
        let mut empty_tail = Assembler::new(1 << 20);
        assert_eq!(empty_tail.take(&data(0, 0, false, &whole)), Ok(Received::Part));
        assert_eq!(empty_tail.take(&data(0, 1, true, "")), Err(DuplexError::Fragment));
    }

    proptest! {
        #[test]
        fn messages_come_out_as_they_went_in(lengths in prop::collection::vec(0_usize..40_000, 1..5)) {
            let (mut splitter, mut assembler) = (Splitter::default(), Assembler::new(40_000));
            for length in lengths {
                let message: Vec<u8> = (0..length).map(|n| (n % 251) as u8).collect();
                let mut whole = None;
                for frame in splitter.split(&message) {
                    prop_assert!(frame.len() <= MAX_FRAME_BYTES && whole.is_none());
                    if let Received::Message(bytes) = assembler.take(&frame).unwrap() {
                        whole = Some(bytes);
                    }
                }
                prop_assert_eq!(whole, Some(message));
            }
        }
    }
}
