//! Runs, asks or refuses: the decision about one command.

use std::path::Path;

use super::{
    file::{Ask, Security},
    pattern,
    policy::{Allowed, Policy},
};
use crate::node_host::exec::Analysis;

/// What the policy says about a command.
#[derive(Debug, PartialEq)]
pub(crate) enum Verdict {
    /// It may run as it is.
    Run,
    /// The allowlist covers it by these entries; it runs with its programs pinned.
    Listed(Vec<Allowed>),
    /// A person has to decide.
    Ask,
    /// It does not run. The word is for events, the sentence for the caller.
    Deny { reason: &'static str, message: &'static str },
}

/// Decides about a command. `analysis` is `None` when the command is not plain to see; `skills` are programs trusted
/// by name, where the policy takes those; `approved` when a person has decided for this very plan.
pub(crate) fn decide(
    policy: &Policy,
    analysis: Option<&Analysis>,
    cwd: &Path,
    skills: &[String],
    approved: bool,
) -> Verdict {
    match (policy.security, policy.ask) {
        (Security::Deny, _) => Verdict::Deny {
            reason: "security=deny",
            message: "exec is turned off on this node (security=deny)",
        },
        _ if approved => Verdict::Run,
        (_, Ask::Always) => Verdict::Ask,
        (Security::Full, _) => Verdict::Run,
        (Security::Allowlist, ask) => {
            match analysis.and_then(|analysis| listed(policy, analysis, cwd, skills)) {
                Some(entries) => Verdict::Listed(entries),
                None if ask == Ask::OnMiss => Verdict::Ask,
                None => Verdict::Deny { reason: "allowlist-miss", message: "allowlist miss" },
            }
        }
    }
}

/// The entries that cover every program of the command, or `None` if one is not covered.
fn listed(policy: &Policy, analysis: &Analysis, cwd: &Path, skills: &[String]) -> Option<Vec<Allowed>> {
    let mut entries = Vec::new();
    for program in &analysis.programs {
        match policy.allowlist.iter().find(|allowed| pattern::covers(&allowed.entry, program, cwd)) {
            Some(allowed) => entries.push(allowed.clone()),
            None if policy.auto_allow_skills && skills.contains(&program.name) => (),
            None => return None,
        }
    }
    Some(entries)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node_host::approvals::file::ApprovalsFile;
    use serde_json::{Value, json};

    fn policy(rules: &Value) -> Policy {
        let file = json!({"version": 1, "agents": {"main": rules}});
        Policy::of(&ApprovalsFile::parse(file).unwrap(), "main").unwrap()
    }

    fn verdict(rules: &Value, script: &str, approved: bool) -> &'static str {
        let argv = ["/bin/sh", "-c", script].map(str::to_owned);
        let cwd = Path::new("/");
        let analysis = Analysis::of(&argv, cwd);
        match decide(&policy(rules), analysis.as_ref(), cwd, &["true".to_owned()], approved) {
            Verdict::Run => "run",
            Verdict::Listed(_) => "listed",
            Verdict::Ask => "ask",
            Verdict::Deny { reason, .. } => reason,
        }
    }

    #[test]
    fn every_combination() {
        let list = json!([{"pattern": "ls"}, {"pattern": "**/pwd"}]);
        for (rules, script, approved, expected) in [
            (json!({}), "anything $(at all)", false, "run"),
            (json!({"security": "deny"}), "ls", true, "security=deny"),
            (json!({"security": "full", "ask": "always"}), "ls", false, "ask"),
            (json!({"security": "full", "ask": "always"}), "ls", true, "run"),
            (json!({"security": "full", "ask": "on-miss"}), "ls", false, "run"),
            (json!({"security": "allowlist"}), "ls", false, "allowlist-miss"),
            (json!({"security": "allowlist", "allowlist": list}), "ls && pwd", false, "listed"),
            (json!({"security": "allowlist", "allowlist": list}), "ls && id", false, "allowlist-miss"),
            (json!({"security": "allowlist", "allowlist": list}), "ls $(id)", false, "allowlist-miss"),
            (json!({"security": "allowlist", "ask": "on-miss", "allowlist": list}), "ls; id", false, "ask"),
            (json!({"security": "allowlist", "ask": "on-miss", "allowlist": list}), "ls; id", true, "run"),
            (json!({"security": "allowlist", "ask": "always", "allowlist": list}), "ls", false, "ask"),
            (json!({"security": "allowlist"}), "true", false, "allowlist-miss"),
            (json!({"security": "allowlist", "autoAllowSkills": true}), "true", false, "listed"),
        ] {
            assert_eq!(verdict(&rules, script, approved), expected, "{rules} {script} {approved}");
        }
    }
}
