//! Whether a message is meant for the bot.

use super::house::House;
use super::incoming::ChatMessage;

/// To whom a message speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Addressed {
    Yes,
    No,
    /// A command that names another bot.
    ToAnother,
}

impl House<'_> {
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
pub(super) fn clean(text: &str, username: &str) -> String {
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

#[cfg(test)]
mod tests {
    use super::super::admit::tests::{GROUP, case, from};
    use super::super::incoming::Reply;
    use super::*;
    use serde_json::json;

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
}
