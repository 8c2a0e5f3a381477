//! Output of a command, kept within a fixed number of bytes.

use std::collections::VecDeque;

/// How much of the beginning of a stream is kept.
pub(crate) const HEAD_BYTES: usize = 64 * 1024;
/// How much of the end of a stream is kept: the end usually says how it went.
pub(crate) const TAIL_BYTES: usize = 128 * 1024;

/// The first and the last part of a stream; what lies between is counted, not kept.
#[derive(Debug, Default)]
pub(crate) struct CappedOutput {
    head: Vec<u8>,
    tail: VecDeque<u8>,
    dropped: usize,
}

impl CappedOutput {
    /// Takes in the next bytes of the stream.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        let room = HEAD_BYTES.saturating_sub(self.head.len());
        let (head, rest) = bytes.split_at(room.min(bytes.len()));
        self.head.extend_from_slice(head);
        let excess = (self.tail.len() + rest.len()).saturating_sub(TAIL_BYTES);
        let from_tail = excess.min(self.tail.len());
        self.tail.drain(..from_tail);
        self.tail.extend(&rest[excess - from_tail..]);
        self.dropped += excess;
    }

    /// The text of the stream, with a note where something is missing.
    pub(crate) fn into_text(mut self) -> String {
        if self.dropped == 0 {
            self.head.extend(self.tail);
            return String::from_utf8_lossy(&self.head).into_owned();
        }
        let tail: &[u8] = self.tail.make_contiguous();
        format!(
            "{}\n... (truncated: {} bytes left out) ...\n{}",
            String::from_utf8_lossy(&self.head),
            self.dropped,
            String::from_utf8_lossy(tail)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_output_is_kept_as_it_is() {
        let mut output = CappedOutput::default();
        output.push(b"one ");
        output.push("zw\u{f6}lf".as_bytes());
        assert_eq!(output.into_text(), "one zw\u{f6}lf");
    }

    #[test]
    fn long_output_keeps_both_ends_and_says_what_is_missing() {
        let mut output = CappedOutput::default();
        let total = HEAD_BYTES + TAIL_BYTES + 1000;
        for chunk in vec![b'x'; total - 3].chunks(777) {
            output.push(chunk);
        }
        output.push(b"end");
        let text = output.into_text();
        assert!(text.contains("truncated: 1000 bytes left out"), "{}", &text[..80]);
        assert!(text.starts_with("xxx") && text.ends_with("xend"));
        assert!(text.len() < HEAD_BYTES + TAIL_BYTES + 100);
    }

    #[test]
    fn one_huge_chunk_is_the_same_as_many_small_ones() {
        let bytes: Vec<u8> = (0..HEAD_BYTES + TAIL_BYTES * 3).map(|i| b'a' + (i % 23) as u8).collect();
        let mut whole = CappedOutput::default();
        whole.push(&bytes);
        let mut parts = CappedOutput::default();
        bytes.chunks(4096).for_each(|chunk| parts.push(chunk));
        assert_eq!(whole.into_text(), parts.into_text());
    }
}
