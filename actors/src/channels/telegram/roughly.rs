//! A message that is newer somewhere than the types that we read messages with: its words are still read.

use super::incoming::{ChatMessage, GENERAL_TOPIC, Person, Reply};
use serde_json::Value;

/// Who wrote what where, if that can be told.
pub(super) fn read(message: &Value) -> Option<ChatMessage> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let (chat, from) = (&message["chat"], &message["from"]);
    let forum = chat["is_forum"] == true;
    let private = match chat["type"].as_str()? {
        "private" => true,
        "group" | "supergroup" => false,
        _ => return None,
    };
    let thread =
        message["message_thread_id"].as_i64().filter(|_| private || message["is_topic_message"] == true);
    // Every message of a topic is a "reply" to the message that opened it.
    let is_reply = |reply: &Value| {
        reply.is_object() && (private || reply["message_id"].as_i64() != thread || thread.is_none())
    };
    let name = [&from["first_name"], &from["last_name"]].into_iter().filter_map(Value::as_str);
    Some(ChatMessage {
        chat: chat["id"].as_i64()?,
        title: text(&chat["title"]),
        private,
        forum,
        thread: match (private, forum) {
            (true, _) => thread,
            (false, true) => Some(thread.unwrap_or(GENERAL_TOPIC)),
            (false, false) => None,
        },
        id: message["message_id"].as_i64()?,
        from: Person {
            id: from["id"].as_i64()?,
            name: name.collect::<Vec<_>>().join(" "),
            username: text(&from["username"]),
            bot: from["is_bot"] == true,
        },
        text: text(&message["text"]).or_else(|| text(&message["caption"])).filter(|text| !text.is_empty())?,
        named: Vec::new(),
        files: Vec::new(),
        reply: Some(&message["reply_to_message"]).filter(|reply| is_reply(reply)).map(|reply| Reply {
            from: reply["from"]["id"].as_i64(),
            author: text(&reply["from"]["first_name"]),
            text: text(&reply["text"]),
        }),
        album: None,
    })
}
