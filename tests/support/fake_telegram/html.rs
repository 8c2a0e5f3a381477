//! Telegram's HTML, read as strictly as Telegram reads it.

use serde_json::{Value, json};

/// The words and their entities, or what the Bot API would say is wrong.
pub(crate) fn read(html: &str) -> Result<(String, Vec<Value>), String> {
    let mut reader = Reader { text: String::new(), entities: Vec::new(), open: Vec::new() };
    let mut rest = html;
    while let Some(character) = rest.chars().next() {
        rest = match character {
            '&' => reader.entity(rest),
            '<' => reader.tag(rest, html.len() - rest.len())?,
            _ => {
                reader.text.push(character);
                &rest[character.len_utf8()..]
            }
        };
    }
    match reader.open.last() {
        Some(open) => Err(format!("Can't find end tag corresponding to start tag \"{}\"", open.name)),
        None => Ok((reader.text, reader.entities)),
    }
}

struct Reader {
    text: String,
    entities: Vec<Value>,
    open: Vec<Open>,
}

struct Open {
    name: String,
    attributes: Vec<(String, String)>,
    start: usize,
}

impl Reader {
    fn units(&self) -> usize {
        self.text.encode_utf16().count()
    }

    fn entity<'a>(&mut self, rest: &'a str) -> &'a str {
        for (name, character) in [("&amp;", '&'), ("&lt;", '<'), ("&gt;", '>'), ("&quot;", '"')] {
            if let Some(after) = rest.strip_prefix(name) {
                self.text.push(character);
                return after;
            }
        }
        self.text.push('&');
        &rest[1..]
    }

    fn tag<'a>(&mut self, rest: &'a str, offset: usize) -> Result<&'a str, String> {
        let end = rest.find('>').ok_or(format!("Unclosed start tag at byte offset {offset}"))?;
        let inside = &rest[1..end];
        match inside.strip_prefix('/') {
            Some(name) => self.close(name.trim(), offset)?,
            None => self.open_tag(inside, offset)?,
        }
        Ok(&rest[end + 1..])
    }

    fn open_tag(&mut self, inside: &str, offset: usize) -> Result<(), String> {
        let name = inside.split_whitespace().next().unwrap_or_default().to_ascii_lowercase();
        const KNOWN: [&str; 16] = [
            "b",
            "strong",
            "i",
            "em",
            "u",
            "ins",
            "s",
            "strike",
            "del",
            "code",
            "pre",
            "a",
            "span",
            "tg-spoiler",
            "tg-emoji",
            "blockquote",
        ];
        if !KNOWN.contains(&name.as_str()) {
            return Err(format!("Unsupported start tag \"{name}\" at byte offset {offset}"));
        }
        if name == "blockquote" && self.open.iter().any(|open| open.name == name) {
            return Err("blockquote entities can't be nested".to_owned());
        }
        let attributes = attributes(&inside[name.len()..])
            .ok_or(format!("Expected attribute value in the start tag at byte offset {offset}"))?;
        self.open.push(Open { name, attributes, start: self.units() });
        Ok(())
    }

    fn close(&mut self, name: &str, offset: usize) -> Result<(), String> {
        let Some(open) = self.open.pop() else {
            return Err(format!("Unexpected end tag at byte offset {offset}"));
        };
        if !name.is_empty() && !open.name.eq_ignore_ascii_case(name) {
            let expected = open.name;
            return Err(format!(
                "Unmatched end tag at byte offset {offset}, expected \"</{expected}>\", found \"</{name}>\""
            ));
        }
        let length = self.units() - open.start;
        if length > 0 {
            self.entities.push(open.as_entity(length));
        }
        Ok(())
    }
}

impl Open {
    fn as_entity(&self, length: usize) -> Value {
        let kind = match self.name.as_str() {
            "b" | "strong" => "bold",
            "i" | "em" => "italic",
            "u" | "ins" => "underline",
            "s" | "strike" | "del" => "strikethrough",
            "a" => "text_link",
            "span" | "tg-spoiler" => "spoiler",
            "tg-emoji" => "custom_emoji",
            other => other,
        };
        let mut entity = json!({"type": kind, "offset": self.start, "length": length});
        for (name, value) in &self.attributes {
            match (self.name.as_str(), name.as_str()) {
                ("a", "href") => entity["url"] = value.as_str().into(),
                ("code", "class") => {
                    entity["language"] = value.trim_start_matches("language-").into();
                }
                _ => {}
            }
        }
        entity
    }
}

fn attributes(mut rest: &str) -> Option<Vec<(String, String)>> {
    let mut found = Vec::new();
    loop {
        rest = rest.trim_start();
        if rest.is_empty() {
            return Some(found);
        }
        let name_end = rest.find(|c: char| c == '=' || c.is_whitespace()).unwrap_or(rest.len());
        let name = rest[..name_end].to_ascii_lowercase();
        rest = rest[name_end..].trim_start();
        let Some(value) = rest.strip_prefix('=') else {
            found.push((name, String::new()));
            continue;
        };
        let quote = value.chars().next().filter(|c| *c == '"' || *c == '\'')?;
        let end = value[1..].find(quote)? + 1;
        found.push((name, unescape(&value[1..end])));
        rest = &value[end + 1..];
    }
}

fn unescape(value: &str) -> String {
    let value = value.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"");
    value.replace("&amp;", "&")
}
