//! Server-sent events, parsed as the bytes arrive.
//!
//! Any way of cutting the bytes gives the same events; lines end with LF, CR or CRLF; comments and unknown
//! fields are skipped. An event that was not closed by an empty line is never handed out, since a cut
//! connection must not look like a finished one.

/// One event of the stream.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SseEvent {
    /// The `event:` field; empty when the server named none.
    pub event: String,
    /// The `data:` lines, joined with line feeds.
    pub data: String,
}

/// No single line or event of a model's stream is this long; whoever sends one is no model.
pub const MAX_EVENT_BYTES: usize = 32 << 20;

/// The stream sent one event larger than [`MAX_EVENT_BYTES`].
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("a single event is larger than {MAX_EVENT_BYTES} bytes")]
pub struct TooLarge;

/// Keeps the unfinished line and the unfinished event between chunks.
#[derive(Debug, Default)]
pub struct SseParser {
    line: Vec<u8>,
    current: SseEvent,
    has_data: bool,
    /// The last chunk ended with CR: an LF that follows belongs to it.
    after_cr: bool,
    started: bool,
}

impl SseParser {
    /// Takes the next bytes and hands every finished event to `each`.
    pub fn feed(&mut self, mut bytes: &[u8], mut each: impl FnMut(SseEvent)) -> Result<(), TooLarge> {
        while let Some(&first) = bytes.first() {
            if std::mem::take(&mut self.after_cr) && first == b'\n' {
                bytes = &bytes[1..];
                continue;
            }
            let Some(end) = bytes.iter().position(|byte| matches!(byte, b'\n' | b'\r')) else {
                self.line.extend_from_slice(bytes);
                return self.check_size();
            };
            self.line.extend_from_slice(&bytes[..end]);
            self.check_size()?;
            self.after_cr = bytes[end] == b'\r';
            bytes = &bytes[end + 1..];
            if let Some(event) = self.line_ended() {
                each(event);
            }
        }
        Ok(())
    }

    fn check_size(&self) -> Result<(), TooLarge> {
        if self.line.len() + self.current.data.len() > MAX_EVENT_BYTES {
            return Err(TooLarge);
        }
        Ok(())
    }

    fn line_ended(&mut self) -> Option<SseEvent> {
        let line = std::mem::take(&mut self.line);
        let mut line: &[u8] = &line;
        if !std::mem::replace(&mut self.started, true) {
            line = line.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(line);
        }
        if line.is_empty() {
            let has_data = std::mem::take(&mut self.has_data);
            let event = std::mem::take(&mut self.current);
            return has_data.then_some(event);
        }
        let colon = line.iter().position(|&byte| byte == b':');
        let (name, value) = match colon {
            Some(0) => return None,
            Some(at) => (&line[..at], &line[at + 1..]),
            None => (line, &line[line.len()..]),
        };
        let value = String::from_utf8_lossy(value.strip_prefix(b" ").unwrap_or(value));
        match name {
            b"event" => self.current.event = value.into_owned(),
            b"data" => {
                if std::mem::replace(&mut self.has_data, true) {
                    self.current.data.push('\n');
                }
                self.current.data.push_str(&value);
            }
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(chunks: &[&[u8]]) -> Vec<SseEvent> {
        let (mut parser, mut events) = (SseParser::default(), Vec::new());
        for chunk in chunks {
            parser.feed(chunk, |event| events.push(event)).unwrap();
        }
        events
    }

    fn event(event: &str, data: &str) -> SseEvent {
        SseEvent { event: event.into(), data: data.into() }
    }

    #[test]
    fn fields_comments_and_line_ends() {
        let text = b"\xEF\xBB\xBFevent: a\r\ndata:{\"x\":1}\r\n\r\n: ping\n\ndata: one\ndata: two\nid: 7\n\nevent: empty\n\n";
        assert_eq!(parse(&[text]), [event("a", "{\"x\":1}"), event("", "one\ntwo")]);
    }

    #[test]
    fn an_unclosed_event_is_not_handed_out() {
        assert_eq!(parse(&[b"data: [DONE]\n"]), []);
        assert_eq!(parse(&[b"data: [DONE]"]), []);
    }

    #[test]
    fn an_endless_line_is_refused() {
        let mut parser = SseParser::default();
        let chunk = vec![b'x'; 1 << 20];
        let refused = (0..40).any(|_| parser.feed(&chunk, |_| ()).is_err());
        assert!(refused);
    }

    proptest! {
        #[test]
        fn any_cutting_gives_the_same_events(
            text in proptest::collection::vec(prop_oneof![
                Just("data: x".to_owned()), Just("data:ü漢".to_owned()), Just("event: e".to_owned()), Just("\n".to_owned()),
                Just("\r".to_owned()), Just("\r\n".to_owned()), Just(":c".to_owned()), Just("data".to_owned()),
            ], 0..40),
            cuts in proptest::collection::vec(0usize..200, 0..20),
        ) {
            let bytes = text.concat().into_bytes();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
            cuts.sort_unstable();
            let (mut chunks, mut from) = (Vec::new(), 0);
            for cut in cuts {
                chunks.push(&bytes[from..cut]);
                from = cut;
            }
            chunks.push(&bytes[from..]);
            prop_assert_eq!(parse(&chunks), parse(&[&bytes]));
        }
    }
}
