//! Who sent a message: whether a list names them, and whether they own the bot.

use super::house::House;

impl House<'_> {
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

/// Numeric ids alone: a username can be given up and taken by someone else.
pub(crate) fn number(entry: &str) -> Option<i64> {
    let entry = entry.trim();
    let bare = ["telegram:", "tg:"].iter().find_map(|prefix| {
        let head = entry.get(..prefix.len())?;
        head.eq_ignore_ascii_case(prefix).then(|| &entry[prefix.len()..])
    });
    bare.unwrap_or(entry).trim().parse().ok()
}

pub(super) fn is(entry: &str, sender: i64) -> bool {
    number(entry) == Some(sender)
}

pub(super) fn allows(entries: &[String], sender: i64) -> bool {
    entries.iter().any(|entry| entry.trim() == "*" || is(entry, sender))
}

#[cfg(test)]
mod tests {
    use super::super::admit::tests::case;
    use serde_json::json;

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
}
