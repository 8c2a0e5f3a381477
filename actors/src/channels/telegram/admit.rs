//! Who may speak to the bot, and whether a message is meant for it. Pure: no I/O, so every rule is a test.

use super::incoming::{ChatMessage, IncomingFile, Reply};
use crate::channels::TELEGRAM;
use crate::commands::Command;
use crate::inbound::{Attachment, AttachmentSource, ChatKind, Inbound, Route, Sender};
use crate::settings::messages::{DmScope, GroupScope};
use crate::settings::telegram::{DmPolicy, GroupPolicy, GroupSettings, ReplyToMode, TelegramAccount};
use crate::store::now_ms;
use serde::Deserialize;
use uuid::Uuid;

/// More of a quoted message is no help to anyone.
const MAX_QUOTE_CHARS: usize = 2000;

/// The bot as Telegram knows it.
#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct BotIdentity {
    pub(super) id: i64,
    #[serde(default)]
    pub(super) username: String,
    /// Private chats have threads of their own.
    #[serde(default)]
    pub(super) has_topics_enabled: bool,
}

/// What the rules are made of.
pub(super) struct House<'a> {
    pub(super) account: &'a TelegramAccount,
    pub(super) bot: &'a BotIdentity,
    /// `commands.ownerAllowFrom`.
    pub(super) owners: &'a [String],
    /// Let in by pairing, the first one first: for direct messages only.
    pub(super) paired: &'a [String],
    /// Texts that address the bot as its name does.
    pub(super) mention_patterns: &'a [String],
    pub(super) dm_scope: DmScope,
    pub(super) group_scope: GroupScope,
    /// Whether commands are read at all: `commands.text`.
    pub(super) commands: bool,
    /// What this group was called before it moved.
    pub(super) former_chat: Option<i64>,
}

/// What becomes of a message.
#[derive(Debug)]
pub(super) enum Verdict {
    /// It is a turn.
    Turn(Box<Inbound>),
    /// A stranger who may ask to be let in.
    Stranger,
    /// Not for us; the text says why.
    Ignore(&'static str),
}

impl House<'_> {
    /// Judges `message`, which Telegram sent as update `update`.
    pub(super) fn judge(&self, message: &ChatMessage, update: i64) -> Verdict {
        if message.from.bot {
            return Verdict::Ignore("written by a bot");
        }
        let judged = if message.private { self.judge_direct(message) } else { self.judge_group(message) };
        match judged {
            Ok(()) => self.turn(message, update),
            Err(verdict) => verdict,
        }
    }

    fn judge_direct(&self, message: &ChatMessage) -> Result<(), Verdict> {
        let sender = message.from.id;
        let listed = allows(&self.account.allow_from, sender);
        let paired = self.paired.iter().any(|id| is(id, sender));
        match self.account.dm_policy {
            DmPolicy::Disabled => Err(Verdict::Ignore("direct messages are off")),
            _ if listed => Ok(()),
            DmPolicy::Pairing if paired => Ok(()),
            DmPolicy::Pairing => Err(Verdict::Stranger),
            DmPolicy::Allowlist => Err(Verdict::Ignore("sender is not in allowFrom")),
            DmPolicy::Open => Err(Verdict::Ignore("dmPolicy is open, but allowFrom has no `*`")),
        }
    }

    fn judge_group(&self, message: &ChatMessage) -> Result<(), Verdict> {
        let group = self.group(message);
        if group.policy == GroupPolicy::Disabled || !group.enabled {
            return Err(Verdict::Ignore("this group is off"));
        }
        if !group.listed {
            return Err(Verdict::Ignore("group is not listed"));
        }
        // Pairing is for direct messages: it never opens a group.
        if group.policy == GroupPolicy::Allowlist && !allows(&group.allow_from, message.from.id) {
            return Err(Verdict::Ignore("sender may not speak to the bot in this group"));
        }
        match self.addressed(message) {
            Addressed::ToAnother => Err(Verdict::Ignore("meant for another bot")),
            Addressed::No if group.require_mention && !self.is_command(&message.text) => {
                Err(Verdict::Ignore("the bot was not addressed"))
            }
            _ if message.text.trim().is_empty() && message.files.is_empty() => {
                Err(Verdict::Ignore("nothing that can be answered"))
            }
            _ => Ok(()),
        }
    }

    /// A command that is the gateway's own speaks to it without a name.
    fn is_command(&self, text: &str) -> bool {
        self.commands && Command::parse(text, &[]).is_some()
    }

    /// The settings of a message's group and topic: the nearest level that says something counts.
    fn group(&self, message: &ChatMessage) -> GroupRules {
        let groups = &self.account.groups;
        let former = || self.former_chat.and_then(|chat| groups.get(&chat.to_string()));
        let exact = groups.get(&message.chat.to_string()).or_else(former);
        let any = groups.get("*");
        let topic_of = |group: Option<&'static str>, settings: &GroupSettings| {
            let topic = message.thread.map(|thread| thread.to_string());
            let key = group.map(str::to_owned).or(topic);
            key.and_then(|key| settings.topics.get(&key)).cloned()
        };
        let levels: Vec<GroupSettings> = [
            exact.and_then(|group| topic_of(None, group)),
            exact.filter(|_| message.thread.is_some()).and_then(|group| topic_of(Some("*"), group)),
            exact.cloned(),
            any.cloned(),
        ]
        .into_iter()
        .flatten()
        .collect();
        let policy = levels.iter().find_map(|level| level.group_policy).unwrap_or(self.account.group_policy);
        GroupRules {
            listed: !levels.is_empty() || (groups.is_empty() && policy == GroupPolicy::Open),
            enabled: levels.iter().find_map(|level| level.enabled).unwrap_or(true),
            require_mention: levels.iter().find_map(|level| level.require_mention).unwrap_or(true),
            allow_from: levels
                .iter()
                .find_map(|level| level.allow_from.clone())
                .unwrap_or_else(|| self.account.group_allow_from.clone()),
            policy,
        }
    }

    /// Whether the message speaks to the bot: by name, by replying to it, or by a command with its name.
    pub(super) fn addressed(&self, message: &ChatMessage) -> Addressed {
        if let Some(name) = command_target(&message.text) {
            let ours = name.eq_ignore_ascii_case(&self.bot.username);
            return if ours { Addressed::Yes } else { Addressed::ToAnother };
        }
        let replied = message.reply.as_ref().is_some_and(|reply| reply.from == Some(self.bot.id));
        let handle = format!("@{}", self.bot.username);
        let named = message.named.contains(&self.bot.id)
            || (!self.bot.username.is_empty() && mentions(&message.text, &handle))
            || self.mention_patterns.iter().any(|name| mentions(&message.text, name));
        if replied || named { Addressed::Yes } else { Addressed::No }
    }

    fn turn(&self, message: &ChatMessage, update: i64) -> Verdict {
        let text = clean(&message.text, &self.bot.username);
        if text.is_empty() && message.files.is_empty() {
            return Verdict::Ignore("nothing that can be answered");
        }
        Verdict::Turn(Box::new(Inbound {
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
        }))
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

    /// Owners are named in the settings; with none named, the first person let in is the owner.
    pub(super) fn is_owner(&self, sender: i64) -> bool {
        if !self.owners.is_empty() {
            return self.owners.iter().any(|owner| is(owner, sender));
        }
        let mut listed = self.account.allow_from.iter().filter(|entry| number(entry).is_some());
        let first = listed.next().or_else(|| self.paired.first());
        first.is_some_and(|entry| is(entry, sender))
    }
}

struct GroupRules {
    listed: bool,
    enabled: bool,
    policy: GroupPolicy,
    require_mention: bool,
    allow_from: Vec<String>,
}

/// To whom a message speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Addressed {
    Yes,
    No,
    /// A command that names another bot.
    ToAnother,
}

/// Numeric ids alone: a username can be given up and taken by someone else.
pub(crate) fn number(entry: &str) -> Option<i64> {
    let entry = entry.trim();
    let bare = ["telegram:", "tg:"].iter().find_map(|prefix| {
        let head = entry.get(..prefix.len())?;
        head.eq_ignore_ascii_case(prefix).then(|| &entry[prefix.len()..])
    });
    bare.unwrap_or(entry).trim().parse().ok()
}

fn is(entry: &str, sender: i64) -> bool {
    number(entry) == Some(sender)
}

fn allows(entries: &[String], sender: i64) -> bool {
    entries.iter().any(|entry| entry.trim() == "*" || is(entry, sender))
}

/// The bot that `/command@bot` names.
fn command_target(text: &str) -> Option<&str> {
    let command = text.trim_start().strip_prefix('/')?;
    let word = command.split_whitespace().next()?;
    word.split_once('@').map(|(_, name)| name)
}

/// Whether `name` stands in `text` as a word of its own, in any case.
fn mentions(text: &str, name: &str) -> bool {
    let wanted = name.trim().to_lowercase();
    if wanted.is_empty() {
        return false;
    }
    let text = text.to_lowercase();
    let part_of_word = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(&wanted).any(|(at, found)| {
        let before = text[..at].chars().next_back();
        let after = text[at + found.len()..].chars().next();
        !before.is_some_and(part_of_word) && !after.is_some_and(part_of_word)
    })
}

/// Takes off the bot's name where it only serves to address it.
fn clean(text: &str, username: &str) -> String {
    let text = text.trim();
    if username.is_empty() {
        return text.to_owned();
    }
    let name = format!("@{username}");
    if let Some(command) = text.strip_prefix('/') {
        let end = command.find(char::is_whitespace).unwrap_or(command.len());
        let (word, rest) = command.split_at(end);
        let word = match word.split_once('@') {
            Some((word, target)) if target.eq_ignore_ascii_case(username) => word,
            _ => word,
        };
        return format!("/{word}{rest}");
    }
    match text.get(..name.len()) {
        Some(head) if head.eq_ignore_ascii_case(&name) => {
            let rest = &text[name.len()..];
            let rest = rest.trim_start_matches([',', ':']);
            if rest.is_empty() || rest.starts_with(char::is_whitespace) {
                let rest = rest.trim_start();
                // A mention alone is a greeting.
                return if rest.is_empty() { text.to_owned() } else { rest.to_owned() };
            }
            text.to_owned()
        }
        _ => text.to_owned(),
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
    use super::super::incoming::Person;
    use super::*;
    use crate::settings::TelegramSettings;
    use serde_json::{Value, json};

    const GROUP: i64 = -100;

    struct Case {
        account: TelegramAccount,
        bot: BotIdentity,
        owners: Vec<String>,
        paired: Vec<String>,
        patterns: Vec<String>,
    }

    fn case(settings: Value) -> Case {
        let settings: TelegramSettings = serde_json::from_value(settings).unwrap();
        let account = settings.resolved().remove("default").unwrap();
        let bot = BotIdentity { id: 9, username: "the_bot".into(), ..BotIdentity::default() };
        Case { account, bot, owners: vec![], paired: vec![], patterns: vec!["Tide".to_owned()] }
    }

    impl Case {
        fn paired(mut self, ids: &[&str]) -> Self {
            self.paired = ids.iter().map(|id| (*id).to_owned()).collect();
            self
        }

        fn house(&self) -> House<'_> {
            House {
                account: &self.account,
                bot: &self.bot,
                owners: &self.owners,
                paired: &self.paired,
                mention_patterns: &self.patterns,
                dm_scope: DmScope::Main,
                group_scope: GroupScope::PerGroup,
                commands: true,
                former_chat: None,
            }
        }

        fn answers(&self, message: &ChatMessage) -> bool {
            matches!(self.house().judge(message, 1), Verdict::Turn(_))
        }

        fn turn(&self, message: &ChatMessage) -> Inbound {
            match self.house().judge(message, 1) {
                Verdict::Turn(inbound) => *inbound,
                other => panic!("{other:?}"),
            }
        }
    }

    fn from(sender: i64, chat: i64, text: &str) -> ChatMessage {
        ChatMessage {
            chat,
            title: None,
            private: chat > 0,
            forum: false,
            thread: None,
            id: 7,
            from: Person { id: sender, name: "Alice".into(), username: Some("alice".into()), bot: false },
            text: text.into(),
            named: vec![],
            files: vec![],
            reply: None,
            album: None,
        }
    }

    fn direct(sender: i64) -> ChatMessage {
        from(sender, sender, "hi")
    }

    #[test]
    fn a_stranger_is_asked_to_pair_and_a_paired_one_is_answered() {
        let house = case(json!({}));
        assert!(matches!(house.house().judge(&direct(5), 1), Verdict::Stranger));
        assert!(case(json!({})).paired(&["5"]).answers(&direct(5)));
        assert!(!case(json!({})).paired(&["55"]).answers(&direct(5)));
    }

    #[test]
    fn lists_hold_numbers_and_never_names() {
        let allow = |entries: Value| case(json!({"dmPolicy": "allowlist", "allowFrom": entries}));
        assert!(allow(json!([5])).answers(&direct(5)));
        assert!(allow(json!(["telegram:5"])).answers(&direct(5)));
        assert!(allow(json!(["TG:5"])).answers(&direct(5)));
        assert!(allow(json!(["*"])).answers(&direct(5)));
        assert!(!allow(json!(["@alice", "alice"])).answers(&direct(666)));
        assert!(!allow(json!([])).paired(&["5"]).answers(&direct(5)));
    }

    #[test]
    fn open_needs_the_star_and_disabled_answers_nobody() {
        assert!(case(json!({"dmPolicy": "open", "allowFrom": ["*"]})).answers(&direct(5)));
        assert!(!case(json!({"dmPolicy": "open"})).answers(&direct(5)));
        assert!(!case(json!({"dmPolicy": "disabled", "allowFrom": [5]})).answers(&direct(5)));
    }

    #[test]
    fn a_paired_sender_opens_no_group() {
        let message = from(5, GROUP, "@the_bot hi");
        assert!(!case(json!({})).paired(&["5"]).answers(&message));
        assert!(!case(json!({"groups": {"-100": {}}})).paired(&["5"]).answers(&message));
        assert!(case(json!({"groups": {"-100": {}}, "allowFrom": [5]})).answers(&message));
    }

    #[test]
    fn groups_are_listed_and_their_senders_too() {
        let message = from(5, GROUP, "@the_bot hi");
        assert!(!case(json!({"groups": {"-200": {}}, "allowFrom": [5]})).answers(&message));
        assert!(case(json!({"groups": {"*": {}}, "allowFrom": [5]})).answers(&message));
        assert!(case(json!({"groups": {"-100": {"groupPolicy": "open"}}})).answers(&message));
        assert!(!case(json!({"groups": {"-100": {"allowFrom": [6]}}, "allowFrom": [5]})).answers(&message));
        assert!(
            !case(json!({"groups": {"-100": {}}, "allowFrom": [5], "groupAllowFrom": [6]})).answers(&message)
        );
        assert!(!case(json!({"groups": {"-100": {"enabled": false}}, "allowFrom": [5]})).answers(&message));
        assert!(case(json!({"groupPolicy": "open"})).answers(&message));
        assert!(
            !case(json!({"groupPolicy": "disabled", "groups": {"*": {}}, "allowFrom": [5]}))
                .answers(&message)
        );
    }

    #[test]
    fn a_group_message_must_be_meant_for_the_bot() {
        let house = case(json!({"groups": {"-100": {}}, "allowFrom": [5]}));
        let says = |text: &str| house.answers(&from(5, GROUP, text));
        assert!(says("hello @The_Bot!"));
        assert!(says("/status@the_bot now"));
        assert!(says("hey tide, how are you"));
        assert!(!says("the tides are high"));
        assert!(!says("hello"));
        assert!(!says("hello @the_bot_2 and x@the_bot"));
        assert!(!says("/status@other_bot @the_bot"));
        assert!(says("/approve 1234 once") && says("/stop"), "the gateway's own commands need no name");
        assert!(!says("/dance") && !house.answers(&from(6, GROUP, "/stop")));
        let mut reply = from(5, GROUP, "and then?");
        reply.reply = Some(Reply { from: Some(9), author: None, text: Some("x".into()) });
        assert!(house.answers(&reply));
        reply.reply = Some(Reply { from: Some(8), author: None, text: None });
        assert!(!house.answers(&reply));
        let mut named = from(5, GROUP, "Bot, hi");
        named.named = vec![9];
        assert!(house.answers(&named));
        let free = case(json!({"groups": {"-100": {"requireMention": false}}, "allowFrom": [5]}));
        assert!(free.answers(&from(5, GROUP, "hello")));
        assert!(!free.answers(&from(5, GROUP, "/status@other_bot")));
    }

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
    fn the_owner_is_named_or_else_the_first_let_in() {
        let mut named = case(json!({"allowFrom": [5, 6]}));
        assert!(named.house().is_owner(5));
        assert!(!named.house().is_owner(6));
        named.owners = vec!["telegram:6".into()];
        assert!(named.house().is_owner(6));
        assert!(!named.house().is_owner(5));
        let paired = case(json!({})).paired(&["8", "9"]);
        assert!(paired.house().is_owner(8));
        assert!(!paired.house().is_owner(9));
        assert!(!case(json!({"allowFrom": ["*"]})).house().is_owner(5));
    }

    #[test]
    fn the_name_is_taken_off_where_it_only_addresses() {
        for (text, wanted) in [
            ("@the_bot /status", "/status"),
            ("@The_Bot, what now", "what now"),
            ("/new@the_bot please", "/new please"),
            ("@the_bot", "@the_bot"),
            ("@the_bots hi", "@the_bots hi"),
            ("ask @the_bot", "ask @the_bot"),
        ] {
            assert_eq!(clean(text, "the_bot"), wanted);
        }
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
