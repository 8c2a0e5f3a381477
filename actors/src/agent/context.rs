//! What of a conversation is shown to the model: from the last summary on, with every tool call answered,
//! and within the tokens that the model takes.

mod room;

use super::clock::stamp;
use super::providers::model::{AssistantMessage, Block, ChatMessage, Content};
use crate::clock::now_ms;
use crate::store::TranscriptRow;
use jiff::tz::TimeZone;
use serde_json::Value;

/// Rows looked at, the newest of a conversation; what is older has long been summarised.
pub(super) const MAX_ROWS: usize = 2000;
/// What a picture costs, about.
const PICTURE_TOKENS: usize = 1600;

/// The conversation as the model gets it, with the row that each message came from.
#[derive(Debug, Clone, Default)]
pub(super) struct History {
    pub(super) entries: Vec<Entry>,
}

#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) seq: i64,
    pub(super) run_id: Option<String>,
    pub(super) message: ChatMessage,
}

impl History {
    /// Reads the rows of a session, oldest first; times are told in `zone`.
    pub(super) fn from_rows(rows: &[TranscriptRow], zone: &TimeZone) -> Self {
        let summary = rows.iter().rev().find(|row| row.role == "summary");
        let covered = summary.and_then(|row| row.message["upToSeq"].as_i64()).unwrap_or(0);
        let mut entries: Vec<Entry> = summary.and_then(|row| entry(row, zone)).into_iter().collect();
        let told =
            rows.iter().filter(|row| row.role != "summary" && row.seq > covered && !is_command(&row.message));
        entries.extend(told.filter_map(|row| entry(row, zone)));
        pair_tools(&mut entries);
        Self { entries }
    }

    /// Tokens of everything, estimated.
    pub(super) fn tokens(&self) -> usize {
        self.entries.iter().map(|entry| tokens_of(&entry.message)).sum()
    }

    pub(super) fn messages(&self) -> Vec<ChatMessage> {
        self.entries.iter().map(|entry| entry.message.clone()).collect()
    }

    /// Where to cut so that about `keep` tokens of whole turns stay: the index of the first entry that stays.
    pub(super) fn cut_point(&self, keep: usize) -> usize {
        let mut kept = 0;
        let mut cut = self.entries.len();
        for (at, entry) in self.entries.iter().enumerate().rev() {
            kept += tokens_of(&entry.message);
            if kept > keep && cut < self.entries.len() {
                break;
            }
            if is_user(&entry.message) {
                cut = at;
            }
        }
        if cut == self.entries.len() { 0 } else { cut }
    }
}

fn is_user(message: &ChatMessage) -> bool {
    matches!(message, ChatMessage::User { .. })
}

/// Commands to the gateway and their answers are between the person and the gateway.
fn is_command(row: &Value) -> bool {
    row["gatewayCommand"] == true
}

fn entry(row: &TranscriptRow, zone: &TimeZone) -> Option<Entry> {
    let mut message: ChatMessage = serde_json::from_value(row.message.clone()).ok()?;
    if let ChatMessage::User { content, timestamp, .. } = &mut message {
        say_who_and_when(content, &stamp(*timestamp, zone), &row.message);
    }
    Some(Entry { seq: row.seq, run_id: row.run_id.clone(), message })
}

/// The model learns when something was said, and in a group by whom; the stored row stays as it was.
fn say_who_and_when(content: &mut Content, when: &str, row: &Value) {
    let mut prefix = format!("[{when}] ");
    if let Some(name) = row["senderLabel"].as_str() {
        prefix = format!("[{when}, {name}] ");
    }
    if let Some(quoted) = row["replyContext"].as_str() {
        prefix = format!("[In reply to this message: {}] {prefix}", quoted.replace(']', ")"));
    }
    match content {
        Content::Text(text) => text.insert_str(0, &prefix),
        Content::Blocks(blocks) => match blocks.first_mut() {
            Some(Block::Text { text }) => text.insert_str(0, &prefix),
            _ => blocks.insert(0, Block::text(prefix)),
        },
    }
}

/// Every call gets exactly one result right after it, and no result stands alone: the APIs refuse anything
/// else, and a crash or a stop may have left a call unanswered.
fn pair_tools(entries: &mut Vec<Entry>) {
    let mut out: Vec<Entry> = Vec::with_capacity(entries.len());
    let mut results: Vec<Entry> = Vec::new();
    let mut open: Vec<(String, String)> = Vec::new();
    for entry in entries.drain(..) {
        if let ChatMessage::ToolResult { tool_call_id, .. } = &entry.message {
            if let Some(at) = open.iter().position(|(id, _)| id == tool_call_id) {
                open.remove(at);
                results.push(entry);
            }
            continue;
        }
        close(&mut out, &mut results, &mut open);
        if let ChatMessage::Assistant(answer) = &entry.message {
            open = calls(answer);
        }
        out.push(entry);
    }
    close(&mut out, &mut results, &mut open);
    *entries = out;
}

fn close(out: &mut Vec<Entry>, results: &mut Vec<Entry>, open: &mut Vec<(String, String)>) {
    out.append(results);
    let (seq, run_id) = out.last().map(|entry| (entry.seq, entry.run_id.clone())).unwrap_or_default();
    for (tool_call_id, tool_name) in open.drain(..) {
        let text = "The call was interrupted. Nobody knows whether it ran; do not assume either.";
        let message = ChatMessage::ToolResult {
            tool_call_id,
            tool_name,
            content: vec![Block::text(text)],
            details: None,
            is_error: true,
            timestamp: now_ms(),
        };
        out.push(Entry { seq, run_id: run_id.clone(), message });
    }
}

/// The calls of an answer: id and name.
pub(super) fn calls(answer: &AssistantMessage) -> Vec<(String, String)> {
    let call = |block: &Block| match block {
        Block::ToolCall { id, name, .. } => Some((id.clone(), name.clone())),
        _ => None,
    };
    answer.content.iter().filter_map(call).collect()
}

/// Tokens of a message, estimated: four bytes a token is a little too many for English and too few for none.
pub(super) fn tokens_of(message: &ChatMessage) -> usize {
    const ENVELOPE: usize = 8;
    ENVELOPE
        + match message {
            ChatMessage::User { content: Content::Text(text), .. }
            | ChatMessage::Summary { content: text, .. } => text_tokens(text),
            ChatMessage::User { content: Content::Blocks(blocks), .. }
            | ChatMessage::ToolResult { content: blocks, .. } => blocks.iter().map(block_tokens).sum(),
            ChatMessage::Assistant(answer) => answer.content.iter().map(block_tokens).sum(),
        }
}

fn block_tokens(block: &Block) -> usize {
    match block {
        Block::Text { text } | Block::Thinking { thinking: text, .. } => text_tokens(text),
        Block::RedactedThinking { data } => text_tokens(data),
        Block::ToolCall { name, arguments, .. } => {
            let arguments = serde_json::to_string(arguments).map_or(0, |text| text.len());
            8 + text_tokens(name) + arguments.div_ceil(4)
        }
        Block::Image { .. } => PICTURE_TOKENS,
        Block::File { mime_type, size, .. } => file_tokens(mime_type, *size),
        Block::Unknown => 0,
    }
}

/// Some two thousand tokens a page of a document, ten a second of sound: by their usual size.
fn file_tokens(mime: &str, size: u64) -> usize {
    let size = usize::try_from(size).unwrap_or(usize::MAX);
    if mime.starts_with("audio/") { (size / 200).clamp(50, 20_000) } else { (size / 20).clamp(2000, 60_000) }
}

pub(super) fn text_tokens(text: &str) -> usize {
    text.len().div_ceil(4)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn row(seq: i64, role: &str, mut message: Value) -> TranscriptRow {
        message["role"] = json!(role);
        message["timestamp"] = json!(0);
        TranscriptRow {
            seq,
            message_id: seq.to_string(),
            run_id: Some("r".into()),
            role: role.into(),
            message,
            created_at: 0,
        }
    }

    fn user(seq: i64, text: &str) -> TranscriptRow {
        row(seq, "user", json!({"content": text}))
    }

    fn call(seq: i64, ids: &[&str]) -> TranscriptRow {
        let content: Vec<Value> = ids
            .iter()
            .map(|id| json!({"type": "toolCall", "id": id, "name": "exec", "arguments": {}}))
            .collect();
        row(seq, "assistant", json!({"content": content}))
    }

    fn result(seq: i64, id: &str, text: &str) -> TranscriptRow {
        let content = json!([{"type": "text", "text": text}]);
        row(
            seq,
            "toolResult",
            json!({"toolCallId": id, "toolName": "exec", "isError": false, "content": content}),
        )
    }

    fn shape(history: &History) -> Vec<String> {
        let one = |entry: &Entry| match &entry.message {
            ChatMessage::User { .. } => "user".to_owned(),
            ChatMessage::Assistant(_) => "assistant".to_owned(),
            ChatMessage::Summary { .. } => "summary".to_owned(),
            ChatMessage::ToolResult { tool_call_id, is_error, .. } => format!("{tool_call_id}:{is_error}"),
        };
        history.entries.iter().map(one).collect()
    }

    #[test]
    fn every_call_is_answered_and_no_result_stands_alone() {
        let rows = [
            user(1, "go"),
            result(2, "stray", ""),
            call(3, &["a", "b"]),
            result(4, "b", "ok"),
            user(5, "next"),
        ];
        let history = History::from_rows(&rows, &TimeZone::UTC);
        assert_eq!(shape(&history), ["user", "assistant", "b:false", "a:true", "user"]);
    }

    #[test]
    fn a_summary_stands_for_what_it_covers_and_commands_are_left_out() {
        let rows = [
            user(1, "old"),
            user(2, "kept"),
            row(3, "summary", json!({"content": "S", "upToSeq": 1})),
            row(4, "user", json!({"content": "/status", "gatewayCommand": true})),
            user(5, "new"),
        ];
        let history = History::from_rows(&rows, &TimeZone::UTC);
        assert_eq!(shape(&history), ["summary", "user", "user"]);
    }

    #[test]
    fn people_are_named_and_times_told() {
        let rows = [row(1, "user", json!({"content": "hi", "senderLabel": "Ann", "replyContext": "what?"}))];
        let history = History::from_rows(&rows, &TimeZone::UTC);
        let ChatMessage::User { content: Content::Text(text), .. } = &history.entries[0].message else {
            panic!("text")
        };
        assert_eq!(text, "[In reply to this message: what?] [Thu 1970-01-01 00:00 UTC, Ann] hi");
    }

    #[test]
    fn old_results_shrink_first_then_old_turns_go_whole() {
        let long = "x".repeat(40_000);
        let rows = [
            user(1, "a"),
            call(2, &["a"]),
            result(3, "a", &long),
            user(4, "b"),
            call(5, &["b"]),
            result(6, "b", &long),
        ];
        let mut history = History::from_rows(&rows, &TimeZone::UTC);
        history.shorten_old_results(11_000);
        assert!(history.tokens() < 11_000);
        history.fit(10_100);
        assert_eq!(shape(&history), ["user", "assistant", "b:false"]);
    }

    #[test]
    fn a_turn_that_outgrows_the_window_loses_its_oldest_steps_and_says_so() {
        let mut rows = vec![user(1, "go"), user(2, "and quickly")];
        for step in 0..40 {
            rows.push(call(3 + 2 * step, &[&format!("c{step}")]));
            rows.push(result(4 + 2 * step, &format!("c{step}"), &"x".repeat(24_000)));
        }
        let mut history = History::from_rows(&rows, &TimeZone::UTC);
        history.fit(5_000);
        assert!(history.tokens() <= 5_000, "{}", history.tokens());
        let shape = shape(&history);
        assert_eq!((shape[0].as_str(), shape[1].as_str(), shape[2].as_str()), ("user", "user", "assistant"));
        assert_eq!(shape.last().map(String::as_str), Some("c39:false"));
        let text = |entry: &Entry| serde_json::to_string(&entry.message).unwrap();
        assert!(text(&history.entries[1]).contains("earlier steps of the work on this are left out"));
        let newest = text(history.entries.last().unwrap());
        assert!(newest.len() > 5_000 && newest.contains("the rest is left out"), "{}", newest.len());
    }

    #[test]
    fn many_results_of_one_step_share_the_room() {
        let ids: Vec<String> = (0..8).map(|n| format!("c{n}")).collect();
        let names: Vec<&str> = ids.iter().map(String::as_str).collect();
        let mut rows = vec![user(1, "go"), call(2, &names)];
        rows.extend((3..).zip(&names).map(|(seq, id)| result(seq, id, &"x".repeat(24_000))));
        let mut history = History::from_rows(&rows, &TimeZone::UTC);
        history.fit(5_000);
        assert!(history.tokens() <= 5_000, "{}", history.tokens());
        assert_eq!(history.entries.len(), 10);
    }

    #[test]
    fn the_cut_falls_between_turns() {
        let rows: Vec<TranscriptRow> = (0..10).map(|n| user(n, &"x".repeat(400))).collect();
        let history = History::from_rows(&rows, &TimeZone::UTC);
        let cut = history.cut_point(400);
        assert!((6..=8).contains(&cut), "{cut}");
        assert_eq!(history.cut_point(1_000_000), 0);
    }
}
