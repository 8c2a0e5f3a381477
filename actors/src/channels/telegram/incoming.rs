//! What an update says, as far as it concerns us.

use super::roughly;
use crate::inbound::MediaKind;
use serde::Deserialize;
use serde_json::value::RawValue;
use tgbot::types::{
    Chat, Integer, Message, MessageData, MessageSender, ReplyTo, Text, TextEntity, Update, UpdateType, User,
};

/// An update, read.
#[derive(Debug)]
pub(super) enum Incoming {
    Message(Box<ChatMessage>),
    /// A button was pressed.
    Callback {
        from: i64,
        id: String,
    },
    /// The group goes on under another id.
    Moved {
        from: i64,
        to: i64,
    },
    /// Nothing to answer; the text says what it is.
    Other(&'static str),
    /// Newer than this program, or broken.
    Unreadable(String),
}

/// A message that a person wrote.
#[derive(Debug)]
pub(super) struct ChatMessage {
    pub(super) chat: i64,
    pub(super) title: Option<String>,
    pub(super) private: bool,
    pub(super) forum: bool,
    /// A forum topic, or a thread of a private chat.
    pub(super) thread: Option<i64>,
    pub(super) id: i64,
    pub(super) from: Person,
    /// The text, or the caption of a file.
    pub(super) text: String,
    /// People named without a username.
    pub(super) named: Vec<i64>,
    pub(super) files: Vec<IncomingFile>,
    pub(super) reply: Option<Reply>,
    pub(super) album: Option<String>,
}

#[derive(Debug, Clone)]
pub(super) struct Person {
    pub(super) id: i64,
    pub(super) name: String,
    pub(super) username: Option<String>,
    pub(super) bot: bool,
}

#[derive(Debug)]
pub(super) struct Reply {
    pub(super) from: Option<i64>,
    pub(super) author: Option<String>,
    /// What was selected, or else the whole text.
    pub(super) text: Option<String>,
}

#[derive(Debug)]
pub(super) struct IncomingFile {
    pub(super) kind: MediaKind,
    pub(super) id: String,
    pub(super) mime: String,
    pub(super) name: Option<String>,
    pub(super) size: Option<u64>,
}

/// The number of an update, which counts even when the rest can't be read.
pub(super) fn number(raw: &RawValue) -> Option<i64> {
    #[derive(Deserialize)]
    struct Numbered {
        update_id: i64,
    }
    serde_json::from_str::<Numbered>(raw.get()).ok().map(|numbered| numbered.update_id)
}

/// Reads one update alone, so that an odd one spoils no other.
pub(super) fn read(raw: &RawValue) -> Incoming {
    match serde_json::from_str::<Update>(raw.get()) {
        Ok(update) => update.update_type.into(),
        Err(error) => Incoming::Unreadable(error.to_string()),
    }
}

impl From<UpdateType> for Incoming {
    fn from(update: UpdateType) -> Self {
        match update {
            UpdateType::Message(message) => read_message(*message),
            UpdateType::CallbackQuery(query) => Self::Callback { from: query.from.id.into(), id: query.id },
            UpdateType::EditedMessage(_) => Self::Other("an edited message is not a new turn"),
            UpdateType::ChannelPost(_) | UpdateType::EditedChannelPost(_) => Self::Other("channel post"),
            UpdateType::BotStatus(_) => Self::Other("the bot's membership changed"),
            UpdateType::Unknown(content) => roughly::read(&content["message"])
                .map_or(Self::Other("unknown kind of update"), |message| Self::Message(Box::new(message))),
            _ => Self::Other("not a message"),
        }
    }
}

fn read_message(message: Message) -> Incoming {
    let chat: i64 = message.chat.get_id().into();
    match message.data {
        MessageData::MigrateToChatId(to) => return Incoming::Moved { from: chat, to },
        MessageData::MigrateFromChatId(from) => return Incoming::Moved { from, to: chat },
        _ => {}
    }
    let (private, forum, title) = match &message.chat {
        Chat::Private(_) => (true, false, None),
        Chat::Group(group) => (false, false, Some(group.title.clone())),
        Chat::Supergroup(group) => (false, group.is_forum == Some(true), Some(group.title.clone())),
        Chat::Channel(_) => return Incoming::Other("channel post"),
    };
    // Replies in an ordinary group carry a thread too, which is not a topic.
    let topic = message.is_topic_message == Some(true);
    let thread = match (private, forum) {
        (true, _) => message.message_thread_id,
        (false, true) if topic => message.message_thread_id,
        (false, true) => Some(GENERAL_TOPIC),
        (false, false) => None,
    };
    let MessageSender::User(from) = &message.sender else {
        return Incoming::Other("written in the name of a chat");
    };
    let from = Person::from(from);
    let reply =
        message.reply_to.as_ref().and_then(|reply| read_reply(reply, topic, message.message_thread_id));
    let reply = reply.map(|mut reply| {
        reply.text = message.quote.as_ref().map(|quote| quote.text.data.clone()).or(reply.text);
        reply
    });
    let Some(Content { text, named, files }) = read_content(message.data) else {
        return Incoming::Other("nothing that can be answered");
    };
    Incoming::Message(Box::new(ChatMessage {
        chat,
        title,
        private,
        forum,
        thread,
        id: message.id,
        from,
        text,
        named,
        files,
        reply,
        album: message.media_group_id,
    }))
}

/// The topic that every forum has. Sending names no topic there.
pub(super) const GENERAL_TOPIC: i64 = 1;

fn read_reply(reply: &ReplyTo, topic: bool, thread: Option<i64>) -> Option<Reply> {
    let ReplyTo::Message(message) = reply else { return None };
    // Every message of a topic is a "reply" to the message that opened it.
    if topic && Some(message.id) == thread {
        return None;
    }
    let from = message.sender.get_user();
    Some(Reply {
        from: from.map(|user| user.id.into()),
        author: from.map(|user| user.first_name.clone()),
        text: message.get_text().map(|text| text.data.clone()).filter(|text| !text.is_empty()),
    })
}

struct Content {
    text: String,
    named: Vec<i64>,
    files: Vec<IncomingFile>,
}

impl Content {
    fn words(text: Option<Text>) -> Self {
        let Some(text) = text else {
            return Self { text: String::new(), named: Vec::new(), files: Vec::new() };
        };
        let entities = text.entities.iter().flatten();
        let named = entities.filter_map(|entity| match entity {
            TextEntity::TextMention { user, .. } => Some(user.id.into()),
            _ => None,
        });
        Self { named: named.collect(), text: text.data, files: Vec::new() }
    }

    fn file(
        caption: Option<Text>,
        kind: MediaKind,
        id: String,
        mime: Option<String>,
        name: Option<String>,
        size: Option<Integer>,
    ) -> Self {
        let usual = match kind {
            MediaKind::Image => "image/jpeg",
            MediaKind::Voice => "audio/ogg",
            MediaKind::Audio => "audio/mpeg",
            MediaKind::Video => "video/mp4",
            MediaKind::Document => "application/octet-stream",
        };
        let size = size.and_then(|size| u64::try_from(size).ok());
        let file = IncomingFile { kind, id, mime: mime.unwrap_or_else(|| usual.to_owned()), name, size };
        Self { files: vec![file], ..Self::words(caption) }
    }

    fn plain(text: String) -> Self {
        Self::words(Some(Text::from(text)))
    }
}

fn read_content(data: MessageData) -> Option<Content> {
    use MediaKind::{Audio, Document, Image, Video, Voice};
    Some(match data {
        MessageData::Text(text) => Content::words(Some(text)),
        MessageData::Photo(photo) => {
            let largest = photo.data.into_iter().max_by_key(|size| size.width.saturating_mul(size.height))?;
            Content::file(photo.caption, Image, largest.file_id, None, None, largest.file_size)
        }
        MessageData::Document(document) => {
            let file = document.data;
            let image = file.mime_type.as_deref().is_some_and(|mime| mime.starts_with("image/"));
            let kind = if image { Image } else { Document };
            Content::file(
                document.caption,
                kind,
                file.file_id,
                file.mime_type,
                file.file_name,
                file.file_size,
            )
        }
        MessageData::Voice(voice) => {
            let file = voice.data;
            Content::file(voice.caption, Voice, file.file_id, file.mime_type, None, file.file_size)
        }
        MessageData::Audio(audio) => {
            let file = audio.data;
            Content::file(audio.caption, Audio, file.file_id, file.mime_type, file.file_name, file.file_size)
        }
        MessageData::Video(video) => {
            let file = video.data;
            Content::file(video.caption, Video, file.file_id, file.mime_type, file.file_name, file.file_size)
        }
        MessageData::Animation(file) => {
            Content::file(None, Video, file.file_id, file.mime_type, file.file_name, file.file_size)
        }
        MessageData::VideoNote(file) => Content::file(None, Video, file.file_id, None, None, file.file_size),
        MessageData::Sticker(sticker) if !sticker.is_animated && !sticker.is_video => {
            let mime = Some("image/webp".to_owned());
            let text = sticker.emoji.map(Text::from);
            Content::file(text, Image, sticker.file_id, mime, None, sticker.file_size)
        }
        MessageData::Sticker(sticker) => Content::plain(sticker.emoji?),
        MessageData::Location(place) => {
            Content::plain(format!("Location: {}, {}", place.latitude, place.longitude))
        }
        MessageData::Venue(venue) => Content::plain(format!(
            "Location: {}, {} ({}, {})",
            venue.location.latitude, venue.location.longitude, venue.title, venue.address
        )),
        MessageData::Contact(contact) => {
            let last = contact.last_name.map(|name| format!(" {name}")).unwrap_or_default();
            Content::plain(format!("Contact: {}{last}, {}", contact.first_name, contact.phone_number))
        }
        // A kind of content, or of markup, that is newer than this program: the words still count.
        MessageData::Unknown(content) => {
            let words = content.get("text").or_else(|| content.get("caption"))?;
            Content::plain(words.as_str()?.to_owned())
        }
        _ => return None,
    })
}

impl From<&User> for Person {
    fn from(user: &User) -> Self {
        let last = user.last_name.as_ref().map(|last| format!(" {last}")).unwrap_or_default();
        Self {
            id: user.id.into(),
            name: format!("{}{last}", user.first_name),
            username: user.username.clone().map(String::from),
            bot: user.is_bot,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn read_json(value: Value) -> Incoming {
        read(&serde_json::value::to_raw_value(&value).unwrap())
    }

    fn message(fields: Value) -> Value {
        let mut message = json!({
            "message_id": 7, "date": 1, "from": {"id": 555, "is_bot": false, "first_name": "Alice", "username": "alice"},
            "chat": {"id": 555, "type": "private", "first_name": "Alice"},
        });
        message.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        json!({"update_id": 1, "message": message})
    }

    fn chat_message(fields: Value) -> ChatMessage {
        match read_json(message(fields)) {
            Incoming::Message(message) => *message,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_private_text() {
        let message = chat_message(json!({"text": "hi", "new_field_of_tomorrow": {"a": 1}}));
        assert_eq!((message.text.as_str(), message.private, message.thread), ("hi", true, None));
        assert_eq!((message.from.id, message.from.username.as_deref()), (555, Some("alice")));
    }

    #[test]
    fn the_largest_photo_with_its_caption() {
        let size = |id: &str, side: i64| json!({"file_id": id, "file_unique_id": id, "width": side, "height": side, "file_size": 9});
        let message = chat_message(
            json!({"photo": [size("s", 90), size("l", 900)], "caption": "look", "media_group_id": "a1"}),
        );
        assert_eq!((message.text.as_str(), message.files[0].id.as_str()), ("look", "l"));
        assert_eq!((message.files[0].kind, message.album.as_deref()), (MediaKind::Image, Some("a1")));
    }

    #[test]
    fn a_topic_is_a_thread_and_a_reply_in_a_group_is_not() {
        let group = |forum: bool| json!({"id": -100, "type": "supergroup", "title": "G", "is_forum": forum});
        let opening = json!({"message_id": 42, "date": 1, "chat": group(true), "from": {"id": 1, "is_bot": false, "first_name": "B"},
            "forum_topic_created": {"name": "T", "icon_color": 7322096}});
        let topic = chat_message(
            json!({"chat": group(true), "text": "x", "message_thread_id": 42, "is_topic_message": true,
            "reply_to_message": opening}),
        );
        assert_eq!(topic.thread, Some(42));
        assert!(topic.reply.is_none());
        assert_eq!(chat_message(json!({"chat": group(true), "text": "x"})).thread, Some(GENERAL_TOPIC));
        let reply = chat_message(json!({"chat": group(false), "text": "x", "message_thread_id": 9}));
        assert_eq!(reply.thread, None);
    }

    #[test]
    fn what_was_selected_is_what_is_quoted() {
        let original = json!({"message_id": 3, "date": 1, "chat": {"id": 555, "type": "private", "first_name": "A"},
            "from": {"id": 9, "is_bot": true, "first_name": "Bot"}, "text": "the whole text"});
        let reply = chat_message(json!({"text": "x", "reply_to_message": original})).reply.unwrap();
        assert_eq!((reply.from, reply.text.as_deref()), (Some(9), Some("the whole text")));
        let quoted = chat_message(json!({"text": "x", "reply_to_message": original,
            "quote": {"text": "whole", "position": 4, "is_manual": true}}))
        .reply
        .unwrap();
        assert_eq!(quoted.text.as_deref(), Some("whole"));
    }

    #[test]
    fn what_is_not_a_message_is_named_and_never_an_error() {
        let post = json!({"message_id": 7, "date": 1, "chat": {"id": -1, "type": "channel", "title": "C"}, "text": "x"});
        assert!(matches!(
            read_json(json!({"update_id": 1, "channel_post": post})),
            Incoming::Other("channel post")
        ));
        let edited = message(json!({"text": "x", "edit_date": 2}))["message"].clone();
        assert!(matches!(read_json(json!({"update_id": 1, "edited_message": edited})), Incoming::Other(_)));
        assert!(matches!(read_json(json!({"update_id": 1, "kind_of_2030": {"x": 1}})), Incoming::Other(_)));
        assert!(matches!(read_json(json!({"update_id": 1})), Incoming::Other(_) | Incoming::Unreadable(_)));
        assert!(matches!(
            read_json(message(json!({"migrate_to_chat_id": -5}))),
            Incoming::Moved { to: -5, .. }
        ));
        assert!(matches!(read_json(message(json!({"new_chat_title": "t"}))), Incoming::Other(_)));
    }

    #[test]
    fn a_message_that_our_types_do_not_know_is_still_read() {
        let from = json!({"id": "of tomorrow", "is_bot": false});
        assert!(!matches!(read_json(message(json!({"text": "x", "from": from}))), Incoming::Message(_)));
        let reply = json!({"message_id": 3, "date": "of tomorrow", "from": {"id": 9, "first_name": "Bot"}, "text": "y"});
        let odd = chat_message(json!({"text": "hello", "date": "of tomorrow", "reply_to_message": reply}));
        assert_eq!((odd.text.as_str(), odd.chat, odd.from.id, odd.private), ("hello", 555, 555, true));
        assert_eq!(odd.reply.and_then(|reply| reply.from), Some(9));
    }

    #[test]
    fn words_with_markup_of_tomorrow_are_still_words() {
        let odd = json!([{"type": "of_tomorrow", "offset": 0, "length": 2}]);
        assert_eq!(chat_message(json!({"text": "hello", "entities": odd})).text, "hello");
        assert_eq!(chat_message(json!({"media_of_tomorrow": {}, "caption": "look"})).text, "look");
    }
}
