//! Who may speak to the bot. Pure, with all that it leans on: no I/O, so every rule is a test.

use super::addressed::Addressed;
use super::house::House;
use super::incoming::ChatMessage;
use super::sender::{allows, is};
use crate::commands::Command;
use crate::inbound::Inbound;
use crate::settings::telegram::{DmPolicy, GroupPolicy, GroupSettings};

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
            Ok(()) => match self.turn(message, update) {
                Some(turn) => Verdict::Turn(Box::new(turn)),
                None => Verdict::Ignore("nothing that can be answered"),
            },
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
}

struct GroupRules {
    listed: bool,
    enabled: bool,
    policy: GroupPolicy,
    require_mention: bool,
    allow_from: Vec<String>,
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::house::BotIdentity;
    use super::super::incoming::Person;
    use super::*;
    use crate::inbound::Inbound;
    use crate::settings::TelegramSettings;
    use crate::settings::messages::{DmScope, GroupScope};
    use crate::settings::telegram::TelegramAccount;
    use serde_json::{Value, json};

    pub(in crate::channels::telegram) const GROUP: i64 = -100;

    pub(in crate::channels::telegram) struct Case {
        account: TelegramAccount,
        pub(in crate::channels::telegram) bot: BotIdentity,
        pub(in crate::channels::telegram) owners: Vec<String>,
        paired: Vec<String>,
        patterns: Vec<String>,
    }

    pub(in crate::channels::telegram) fn case(settings: Value) -> Case {
        let settings: TelegramSettings = serde_json::from_value(settings).unwrap();
        let account = settings.resolved().remove("default").unwrap();
        let bot = BotIdentity { id: 9, username: "the_bot".into(), ..BotIdentity::default() };
        Case { account, bot, owners: vec![], paired: vec![], patterns: vec!["Tide".to_owned()] }
    }

    impl Case {
        pub(in crate::channels::telegram) fn paired(mut self, ids: &[&str]) -> Self {
            self.paired = ids.iter().map(|id| (*id).to_owned()).collect();
            self
        }

        pub(in crate::channels::telegram) fn house(&self) -> House<'_> {
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

        pub(in crate::channels::telegram) fn answers(&self, message: &ChatMessage) -> bool {
            matches!(self.house().judge(message, 1), Verdict::Turn(_))
        }

        pub(in crate::channels::telegram) fn turn(&self, message: &ChatMessage) -> Inbound {
            match self.house().judge(message, 1) {
                Verdict::Turn(inbound) => *inbound,
                other => panic!("{other:?}"),
            }
        }
    }

    pub(in crate::channels::telegram) fn from(sender: i64, chat: i64, text: &str) -> ChatMessage {
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

    pub(in crate::channels::telegram) fn direct(sender: i64) -> ChatMessage {
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
}
