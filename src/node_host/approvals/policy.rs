//! What holds for one agent once defaults and the agent's own rules are put together.

use serde_json::{Value, json};

use super::file::{AllowEntry, ApprovalsFile, Ask, Rules, Security};

/// Rules under this name hold for every agent.
const EVERYONE: &str = "*";

/// The rules for one agent on this host.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Policy {
    pub(crate) security: Security,
    pub(crate) ask: Ask,
    pub(crate) ask_fallback: Security,
    pub(crate) auto_allow_skills: bool,
    pub(crate) allowlist: Vec<Allowed>,
}

/// An allowlist entry and the agent it stands under.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Allowed {
    pub(crate) agent: String,
    pub(crate) index: usize,
    pub(crate) entry: AllowEntry,
}

impl Policy {
    /// What `file` says about `agent`. Without any rule everything runs and nobody is asked, as on any official host.
    pub(crate) fn of(file: &ApprovalsFile, agent: &str) -> Result<Self, String> {
        let (own, all, defaults) = (file.agent(agent)?, file.agent(EVERYONE)?, &file.defaults);
        let layers = [&own, &all, defaults];
        let pick = |field: fn(&Rules) -> Option<Security>| layers.iter().find_map(|rules| field(rules));
        Ok(Self {
            security: pick(|rules| rules.security).unwrap_or(Security::Full),
            ask: layers.iter().find_map(|rules| rules.ask).unwrap_or(Ask::Off),
            ask_fallback: pick(|rules| rules.ask_fallback).unwrap_or(Security::Deny),
            auto_allow_skills: layers.iter().find_map(|rules| rules.auto_allow_skills).unwrap_or(false),
            allowlist: list(EVERYONE, &all.allowlist).chain(list(agent, &own.allowlist)).collect(),
        })
    }

    /// The stricter of this policy and what a caller asks for.
    pub(crate) fn tightened(mut self, security: Option<Security>, ask: Option<Ask>) -> Self {
        self.security = security.map_or(self.security, |asked| asked.min(self.security));
        self.ask = ask.map_or(self.ask, |asked| asked.max(self.ask));
        self
    }

    /// Whether a command can need a person's decision under this policy.
    pub(crate) fn may_ask(&self) -> bool {
        match self.ask {
            Ask::Off => false,
            Ask::OnMiss => self.security == Security::Allowlist,
            Ask::Always => self.security != Security::Deny,
        }
    }

    /// The policy as a plan carries it.
    pub(crate) fn snapshot(&self) -> Value {
        let rules: Vec<Value> = self.allowlist.iter().map(|allowed| rule(&allowed.entry)).collect();
        json!({
            "security": self.security, "ask": self.ask, "askFallback": self.ask_fallback,
            "autoAllowSkills": self.auto_allow_skills, "allowlistRules": rules,
        })
    }
}

fn list<'a>(agent: &'a str, entries: &'a [AllowEntry]) -> impl Iterator<Item = Allowed> + 'a {
    let allowed = move |(index, entry): (usize, &AllowEntry)| Allowed {
        agent: agent.to_owned(),
        index,
        entry: entry.clone(),
    };
    entries.iter().enumerate().map(allowed)
}

fn rule(entry: &AllowEntry) -> Value {
    let mut rule = json!({"pattern": entry.pattern});
    if let Some(pattern) = &entry.arg_pattern {
        rule["argPattern"] = json!(pattern);
    }
    if let Some(source) = &entry.source {
        rule["source"] = json!(source);
    }
    rule
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(file: Value, agent: &str) -> Policy {
        Policy::of(&ApprovalsFile::parse(file).unwrap(), agent).unwrap()
    }

    #[test]
    fn an_empty_document_lets_everything_run() {
        let policy = policy(json!({"version": 1}), "main");
        assert_eq!((policy.security, policy.ask), (Security::Full, Ask::Off));
        assert!(!policy.may_ask());
    }

    #[test]
    fn an_agents_own_rules_come_first_then_everyones_then_the_defaults() {
        let file = json!({"version": 1,
        "defaults": {"security": "deny", "ask": "always", "askFallback": "full"},
        "agents": {
            "*": {"ask": "on-miss", "allowlist": [{"pattern": "ls"}]},
            "default": {"security": "allowlist", "allowlist": [{"pattern": "rg"}]},
        }});
        let main = policy(file.clone(), "main");
        let expected = (Security::Allowlist, Ask::OnMiss, Security::Full);
        assert_eq!((main.security, main.ask, main.ask_fallback), expected);
        let patterns: Vec<&str> =
            main.allowlist.iter().map(|allowed| allowed.entry.pattern.as_str()).collect();
        assert_eq!(patterns, ["ls", "rg"]);
        let other = policy(file, "other");
        assert_eq!((other.security, other.allowlist.len()), (Security::Deny, 1));
    }

    #[test]
    fn a_caller_can_only_tighten() {
        let open = policy(json!({"version": 1}), "main");
        let tight = open.clone().tightened(Some(Security::Allowlist), Some(Ask::Always));
        assert_eq!((tight.security, tight.ask), (Security::Allowlist, Ask::Always));
        let same = tight.clone().tightened(Some(Security::Full), Some(Ask::Off));
        assert_eq!(same, tight);
    }

    #[test]
    fn a_wrong_value_names_its_place() {
        let entry = json!({"allowlist": [{"pattern": 1}]});
        for (file, place) in [
            (json!({"version": 2}), "version"),
            (json!({"version": 1, "defaults": {"security": "open"}}), "defaults"),
            (json!({"version": 1, "agents": {"a": entry}}), "agents.a.allowlist[0]"),
        ] {
            let problem = ApprovalsFile::parse(file).unwrap_err();
            assert!(problem.starts_with(place), "{problem}");
        }
    }
}
