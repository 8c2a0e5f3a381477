//! Reasoning that a model writes into its text, between `<think>` and `</think>` at the very beginning.

use crate::agent::providers::model::ModelEvent;

/// Tells the reasoning from the text, piece by piece.
#[derive(Debug, Default)]
pub(super) enum ThinkTag {
    /// Not decided yet: what came so far may be the beginning of the tag.
    #[default]
    Unknown,
    Held(String),
    Inside(String),
    Outside,
}

impl ThinkTag {
    /// Takes a piece of text, as it comes.
    pub(super) fn push(&mut self, text: String, out: &mut dyn FnMut(ModelEvent)) {
        const OPEN: &str = "<think>";
        const CLOSE: &str = "</think>";
        match std::mem::take(self) {
            ThinkTag::Outside => {
                *self = ThinkTag::Outside;
                out(ModelEvent::TextDelta(text));
            }
            ThinkTag::Inside(held) => {
                let all = held + &text;
                if let Some(at) = all.find(CLOSE) {
                    *self = ThinkTag::Outside;
                    emit(ModelEvent::ThinkingDelta, &all[..at], out);
                    emit(ModelEvent::TextDelta, all[at + CLOSE.len()..].trim_start(), out);
                } else {
                    let keep = partial_tail(&all, CLOSE);
                    emit(ModelEvent::ThinkingDelta, &all[..all.len() - keep], out);
                    *self = ThinkTag::Inside(all[all.len() - keep..].to_owned());
                }
            }
            before @ (ThinkTag::Unknown | ThinkTag::Held(_)) => {
                let all = if let ThinkTag::Held(held) = before { held + &text } else { text };
                let begun = all.trim_start();
                if let Some(rest) = begun.strip_prefix(OPEN) {
                    *self = ThinkTag::Inside(String::new());
                    let rest = rest.to_owned();
                    if !rest.is_empty() {
                        self.push(rest, out);
                    }
                } else if OPEN.starts_with(begun) {
                    *self = ThinkTag::Held(all);
                } else {
                    *self = ThinkTag::Outside;
                    out(ModelEvent::TextDelta(all));
                }
            }
        }
    }

    /// Lets go of what was held back for a tag that never came.
    pub(super) fn finish(&mut self, out: &mut dyn FnMut(ModelEvent)) {
        match std::mem::replace(self, ThinkTag::Outside) {
            ThinkTag::Held(text) => emit(ModelEvent::TextDelta, &text, out),
            ThinkTag::Inside(text) => emit(ModelEvent::ThinkingDelta, &text, out),
            ThinkTag::Unknown | ThinkTag::Outside => {}
        }
    }
}

fn emit(kind: fn(String) -> ModelEvent, text: &str, out: &mut dyn FnMut(ModelEvent)) {
    if !text.is_empty() {
        out(kind(text.to_owned()));
    }
}

/// How many bytes at the end of `text` may be the beginning of `tag`.
fn partial_tail(text: &str, tag: &str) -> usize {
    (1..tag.len()).rev().find(|&length| text.ends_with(&tag[..length])).unwrap_or(0)
}
