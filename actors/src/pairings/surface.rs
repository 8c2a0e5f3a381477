//! What a node offers: its capabilities and commands, as declared, as approved, and as waiting.

use serde::{Deserialize, Serialize};

/// Capabilities and commands of one node. The order is the node's own until [`Surface::sorted`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Surface {
    pub caps: Vec<String>,
    pub commands: Vec<String>,
}

/// Commands that run programs, read files or steer approvals on the node: only an admin lets them in.
const ADMIN_COMMANDS: [&str; 8] = [
    "system.run",
    "system.run.prepare",
    "system.which",
    "system.execApprovals.get",
    "system.execApprovals.set",
    "browser.proxy.upload.v1",
    "fs.listDir",
    "terminal.upload",
];

/// Longest list a node may declare: a surface is shown to a person, who must be able to read it.
const MAX_ENTRIES: usize = 512;
/// Longest name of a capability or command.
const MAX_NAME: usize = 160;

impl Surface {
    /// Trims, drops blanks, doubles and names no person could read, and keeps the node's order.
    pub fn tidy(caps: &[String], commands: &[String]) -> Self {
        Self { caps: distinct(caps), commands: distinct(commands) }
    }

    /// Whether everything in `other` is already in this surface.
    pub fn covers(&self, other: &Surface) -> bool {
        other.caps.iter().all(|cap| self.caps.contains(cap))
            && other.commands.iter().all(|command| self.commands.contains(command))
    }

    /// What both hold, sorted, the way lists show it.
    pub fn both(&self, other: &Surface) -> Surface {
        let shared = |ours: &[String], theirs: &[String]| {
            ours.iter().filter(|name| theirs.contains(name)).cloned().collect::<Vec<_>>()
        };
        Surface { caps: shared(&self.caps, &other.caps), commands: shared(&self.commands, &other.commands) }
            .sorted()
    }

    /// The same surface in alphabetical order.
    pub fn sorted(mut self) -> Self {
        self.caps.sort_unstable();
        self.commands.sort_unstable();
        self
    }

    /// Whether both ask for the same things, in whatever order.
    pub fn same_as(&self, other: &Surface) -> bool {
        self.covers(other) && other.covers(self)
    }

    /// The scopes an operator must hold to approve this surface.
    pub fn approval_scopes(&self) -> Vec<&'static str> {
        let mut scopes = vec!["operator.pairing"];
        if self.commands.iter().any(|command| is_admin_command(command)) {
            scopes.push("operator.admin");
        } else if !self.commands.is_empty() {
            scopes.push("operator.write");
        }
        scopes
    }
}

/// Whether approving this command takes `operator.admin`.
fn is_admin_command(command: &str) -> bool {
    command == "browser.proxy" || command.starts_with("browser.proxy.") || ADMIN_COMMANDS.contains(&command)
}

fn distinct(names: &[String]) -> Vec<String> {
    let mut kept: Vec<String> = Vec::new();
    for name in names.iter().map(|name| name.trim()) {
        let readable = !name.is_empty() && name.len() <= MAX_NAME && !name.chars().any(char::is_control);
        if readable && kept.len() < MAX_ENTRIES && !kept.iter().any(|known| known == name) {
            kept.push(name.to_owned());
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn surface(commands: &[&str]) -> Surface {
        Surface { caps: vec![], commands: commands.iter().map(|name| (*name).to_owned()).collect() }
    }

    #[test]
    fn a_declaration_is_trimmed_and_has_no_doubles_or_unreadable_names() {
        let tidy = Surface::tidy(
            &[" system ".into(), "system".into()],
            &["a.b".into(), "".into(), " a.b".into(), "bad\u{1b}[2J".into(), "x".repeat(200)],
        );
        assert_eq!(tidy, Surface { caps: vec!["system".into()], commands: vec!["a.b".into()] });
    }

    #[test]
    fn a_wider_surface_is_not_covered() {
        assert!(surface(&["a", "b"]).covers(&surface(&["b"])));
        assert!(!surface(&["b"]).covers(&surface(&["a", "b"])));
        assert!(surface(&["a", "b"]).same_as(&surface(&["b", "a"])));
    }

    #[test]
    fn approval_needs_more_the_more_the_commands_can_do() {
        assert_eq!(surface(&[]).approval_scopes(), ["operator.pairing"]);
        assert_eq!(surface(&["camera.list"]).approval_scopes(), ["operator.pairing", "operator.write"]);
        for command in
            ["system.run", "system.which", "browser.proxy", "browser.proxy.upload.v1", "fs.listDir"]
        {
            let needed = surface(&["camera.list", command]).approval_scopes();
            assert_eq!(needed, ["operator.pairing", "operator.admin"], "{command}");
        }
    }
}
