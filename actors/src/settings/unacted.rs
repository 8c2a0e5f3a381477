//! Keys that are understood, but that nothing acts on yet: said once, so that nobody relies on them.

use super::Settings;

impl Settings {
    /// The keys of this file that nothing acts on, and what is wrong with those that can't be acted on.
    pub fn not_acted_on(&self) -> Vec<&'static str> {
        let agents = self.agents.entries.values().chain(&self.agents.list);
        let zone = self.agents.defaults.user_timezone.as_deref();
        let said = [
            (!self.session.identity_links.is_empty(), "session.identityLinks"),
            (self.agents.defaults.image_model.is_some(), "agents.defaults.imageModel"),
            (self.messages.group_chat.history_limit.is_some(), "messages.groupChat.historyLimit"),
            (
                agents.clone().any(|agent| agent.group_chat.history_limit.is_some()),
                "agents: groupChat.historyLimit",
            ),
            (
                zone.is_some_and(|zone| jiff::tz::TimeZone::get(zone).is_err()),
                "agents.defaults.userTimezone (this machine knows no such time zone)",
            ),
        ];
        said.into_iter().filter(|(is_set, _)| *is_set).map(|(_, key)| key).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_what_is_set_is_named() {
        assert!(Settings::default().not_acted_on().is_empty());
        let settings: Settings = serde_json::from_value(json!({
            "session": {"identityLinks": {"ann": ["telegram:1"]}},
            "agents": {"defaults": {"imageModel": "a/b", "userTimezone": "Middle/Earth"}},
            "messages": {"groupChat": {"historyLimit": 5}},
        }))
        .unwrap();
        let keys = settings.not_acted_on().join(" ");
        assert!(keys.contains("identityLinks") && keys.contains("imageModel"), "{keys}");
        assert!(keys.contains("historyLimit") && keys.contains("userTimezone"), "{keys}");
    }
}
