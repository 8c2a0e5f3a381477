//! The parameters of a call, whichever way they came.

use serde_json::{Map, Value};

/// A part of a multipart body that is a file.
pub(crate) struct Upload {
    pub(crate) field: String,
    pub(crate) name: String,
    pub(crate) content: Vec<u8>,
}

#[derive(Default)]
pub(crate) struct Params {
    pub(crate) values: Map<String, Value>,
    pub(crate) uploads: Vec<Upload>,
}

impl Params {
    /// `None` when the body is not what its content type says.
    pub(crate) fn read(query: &str, content_type: &str, body: &[u8]) -> Option<Self> {
        let mut params = Self::default();
        params.pairs(query);
        if content_type.starts_with("application/json") && !body.is_empty() {
            params.values.extend(serde_json::from_slice::<Map<String, Value>>(body).ok()?);
        } else if content_type.starts_with("application/x-www-form-urlencoded") {
            params.pairs(std::str::from_utf8(body).ok()?);
        } else if let Some(boundary) = content_type.strip_prefix("multipart/form-data; boundary=") {
            params.multipart(boundary.trim_matches('"'), body)?;
        }
        Some(params)
    }

    fn pairs(&mut self, text: &str) {
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            self.values.insert(decode(name), Value::String(decode(value)));
        }
    }

    fn multipart(&mut self, boundary: &str, body: &[u8]) -> Option<()> {
        let delimiter = [b"--", boundary.as_bytes()].concat();
        let mut rest = &body[find(body, &delimiter)? + delimiter.len()..];
        while !rest.starts_with(b"--") {
            let part = rest.strip_prefix(b"\r\n")?;
            let end = find(part, &[b"\r\n", delimiter.as_slice()].concat())?;
            let split = find(&part[..end], b"\r\n\r\n")?;
            let head = std::str::from_utf8(&part[..split]).ok()?;
            let content = &part[split + 4..end];
            let field = attribute(head, "name")?;
            match attribute(head, "filename") {
                Some(name) => {
                    self.uploads.push(Upload { field, name, content: content.to_vec() });
                }
                None => {
                    let text = String::from_utf8(content.to_vec()).ok()?;
                    self.values.insert(field, Value::String(text));
                }
            }
            rest = &part[end + 2 + delimiter.len()..];
        }
        Some(())
    }

    /// A number, also when it was written as text.
    pub(crate) fn integer(&self, name: &str) -> Option<i64> {
        match self.values.get(name)? {
            Value::Number(number) => number.as_i64(),
            Value::String(text) => text.parse().ok(),
            _ => None,
        }
    }

    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.values.get(name)?.as_str()
    }

    pub(crate) fn flag(&self, name: &str) -> bool {
        matches!(self.values.get(name), Some(Value::Bool(true)))
            || matches!(self.text(name), Some("true" | "True" | "1"))
    }

    /// An object or list, also when it was written as JSON text.
    pub(crate) fn json(&self, name: &str) -> Option<Value> {
        match self.values.get(name)? {
            Value::String(text) => serde_json::from_str(text).ok(),
            other => Some(other.clone()),
        }
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

fn attribute(head: &str, name: &str) -> Option<String> {
    let start = head.find(&format!(" {name}=\""))? + name.len() + 3;
    let end = head[start..].find('"')? + start;
    Some(head[start..end].to_owned())
}

fn decode(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let hex = |at: usize| after.get(at).and_then(|c| char::from(*c).to_digit(16));
        match (byte, hex(0), hex(1)) {
            (b'%', Some(high), Some(low)) => {
                bytes.push(u8::try_from(high * 16 + low).unwrap_or_default());
                rest = &after[2..];
            }
            (b'+', ..) => {
                bytes.push(b' ');
                rest = after;
            }
            _ => {
                bytes.push(byte);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
