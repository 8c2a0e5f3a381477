//! What strangers send must not steer a terminal, forge a line or show a secret.

use std::fmt::Write;

use tidegate_actors::redaction::scrub;

/// Longer values are cut: a log is no place for payloads.
const LONGEST: usize = 4096;

/// One value, fit for any log: no live secret, one line, nothing invisible.
pub(super) fn clean(text: &str) -> String {
    // Secrets go first: an escape inside one would hide it from the search, and a cut
    // would leave the beginning of one.
    let text = scrub(text);
    let end = text.char_indices().map(|(at, _)| at).find(|at| *at >= LONGEST);
    match end {
        Some(end) => escape(&text[..end]) + "…",
        None => escape(&text),
    }
}

/// Writes out every character that has an effect instead of a shape.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if acts(c) => {
                let _ = write!(out, "\\u{{{:x}}}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out
}

/// Control characters, line breaks, and those that turn the direction of text or
/// can't be seen.
fn acts(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_acts_on_the_reader() {
        let bad = "a\n{\"level\":\"error\"}\u{1b}[2J\u{9b}31m\u{202e}evil\u{2066}\u{200b}\u{7f}\u{2028}b";
        let text = escape(bad);
        assert!(!text.chars().any(acts), "{text:?}");
        assert!(text.starts_with("a\\n{\"level\":\"error\"}\\u{1b}[2J"));
        assert_eq!(escape("Grüße, 世界 🙂"), "Grüße, 世界 🙂");
    }

    #[test]
    fn a_secret_is_found_before_it_is_escaped() {
        tidegate_actors::redaction::hide("se\u{1b}cret-here");
        assert_eq!(clean("x se\u{1b}cret-here y"), "x [redacted] y");
    }

    #[test]
    fn a_long_value_is_cut() {
        assert!(clean(&"ü".repeat(100_000)).len() < LONGEST + 8);
        assert_eq!(escape(&"x".repeat(100_000)).len(), 100_000);
    }
}
