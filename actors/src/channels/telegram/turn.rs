//! A message that was let in, as the agent takes it.

use super::addressed::clean;
use super::house::House;
use super::incoming::{ChatMessage, IncomingFile, Reply};
use crate::channels::TELEGRAM;
use crate::clock::now_ms;
use crate::inbound::{Attachment, AttachmentSource, ChatKind, Inbound, Route, Sender};
use crate::settings::messages::{DmScope, GroupScope};
use crate::settings::telegram::ReplyToMode;
use uuid::Uuid;

/// More of a quoted message is no help to anyone.
const MAX_QUOTE_CHARS: usize = 2000;

impl House<'_> {
    /// The turn that `message` is; `None` if it says nothing.
    pub(super) fn turn(&self, message: &ChatMessage, update: i64) -> Option<Inbound> {
        let text = clean(&message.text, &self.bot.username);
        if text.is_empty() && message.files.is_empty() {
            return None;
        }
        Some(Inbound {
            channel: TELEGRAM.to_owned(),
            account: self.account.name.clone(),
            // Update numbers are each bot's own.
            event_id: format!("{}:{update}", self.bot.id),
            run_id: Uuid::new_v4().to_string(),
            session_key: self.session_key(message),
            route: Some(self.route(message)),
            sender: Sender {
                id: message.from.id.to_string(),
                name: Some(message.from.name.clone()),
                username: message.from.username.clone(),
                owner: self.is_owner(message.from.id),
            },
            text,
            attachments: message.files.iter().map(attachment).collect(),
            received_at_ms: now_ms(),
            reply_context: message.reply.as_ref().and_then(quote),
            model: None,
            timeout_ms: None,
            thinking: None,
        })
    }

    fn route(&self, message: &ChatMessage) -> Route {
        let kind = match (message.private, message.forum) {
            (true, _) => ChatKind::Direct,
            (false, true) => ChatKind::Topic,
            (false, false) => ChatKind::Group,
        };
        let reply = self.account.reply_to_mode != ReplyToMode::Off;
        Route {
            channel: TELEGRAM.to_owned(),
            account: self.account.name.clone(),
            chat: message.chat.to_string(),
            thread: message.thread.map(|thread| thread.to_string()),
            reply_to: reply.then(|| message.id.to_string()),
            kind,
        }
    }

    fn session_key(&self, message: &ChatMessage) -> String {
        const AGENT: &str = "agent:main";
        if message.private {
            let (sender, account) = (message.from.id, &self.account.name);
            let base = match self.dm_scope {
                DmScope::Main => format!("{AGENT}:main"),
                DmScope::PerPeer => format!("{AGENT}:direct:{sender}"),
                DmScope::PerChannelPeer => format!("{AGENT}:{TELEGRAM}:direct:{sender}"),
                DmScope::PerAccountChannelPeer => format!("{AGENT}:{TELEGRAM}:{account}:direct:{sender}"),
            };
            return match message.thread.filter(|_| self.bot.has_topics_enabled) {
                Some(thread) => format!("{base}:thread:{}:{thread}", message.chat),
                None => base,
            };
        }
        if self.group_scope == GroupScope::Main {
            return format!("{AGENT}:main");
        }
        // A group that moved keeps its conversation.
        let group = format!("{AGENT}:{TELEGRAM}:group:{}", self.former_chat.unwrap_or(message.chat));
        match message.thread.filter(|_| message.forum) {
            Some(topic) => format!("{group}:topic:{topic}"),
            None => group,
        }
    }
}

fn quote(reply: &Reply) -> Option<String> {
    let text: String = reply.text.as_ref()?.chars().take(MAX_QUOTE_CHARS).collect();
    Some(match &reply.author {
        Some(author) => format!("{author}: {text}"),
        None => text,
    })
}

fn attachment(file: &IncomingFile) -> Attachment {
    Attachment {
        kind: file.kind,
        mime: file.mime.clone(),
        file_name: file.name.clone(),
        size: file.size,
        source: AttachmentSource::Channel { file_id: file.id.clone() },
    }
}

#[cfg(test)]
mod tests {
    use super::super::admit::tests::{GROUP, case, direct, from};
    use super::*;
    use serde_json::json;

    #[test]
    fn a_topic_has_its_own_rules_session_and_way_back() {
        let house = case(json!({"allowFrom": [5],
            "groups": {"-100": {"topics": {"42": {"requireMention": false}, "43": {"enabled": false}}}}}));
        let mut message = from(5, GROUP, "hello");
        message.forum = true;
        message.thread = Some(42);
        let inbound = house.turn(&message);
        assert_eq!(inbound.session_key, "agent:main:telegram:group:-100:topic:42");
        let route = inbound.route.unwrap();
        assert_eq!((route.thread.as_deref(), route.kind), (Some("42"), ChatKind::Topic));
        message.thread = Some(43);
        message.text = "@the_bot hello".into();
        assert!(!house.answers(&message));
        message.thread = Some(44);
        assert!(house.answers(&message));
    }

    #[test]
    fn sessions_are_named_as_openclaw_names_them() {
        let house = case(json!({"allowFrom": [5], "groups": {"*": {"requireMention": false}}}));
        assert_eq!(house.turn(&direct(5)).session_key, "agent:main:main");
        assert_eq!(house.turn(&from(5, GROUP, "x")).session_key, "agent:main:telegram:group:-100");
        let mut threaded = direct(5);
        threaded.thread = Some(3);
        assert_eq!(house.turn(&threaded).session_key, "agent:main:main");
        let mut topics = case(json!({"allowFrom": [5]}));
        topics.bot.has_topics_enabled = true;
        assert_eq!(topics.turn(&threaded).session_key, "agent:main:main:thread:5:3");
        assert_eq!(topics.turn(&threaded).route.unwrap().thread.as_deref(), Some("3"));
    }

    #[test]
    fn a_quoted_text_comes_along() {
        let house = case(json!({"allowFrom": [5]}));
        let mut message = direct(5);
        message.reply =
            Some(Reply { from: Some(1), author: Some("Bob".into()), text: Some("the plan".into()) });
        assert_eq!(house.turn(&message).reply_context.as_deref(), Some("Bob: the plan"));
        message.from.bot = true;
        assert!(!house.answers(&message));
    }
}
