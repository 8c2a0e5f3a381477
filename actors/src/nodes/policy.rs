//! Which commands the gateway lets through to a node, whatever the node declares.
//!
//! A command runs when it is declared by the node, approved by an operator, and inside the ceiling of the
//! node's platform as widened by `gateway.nodes.commands.allow` and narrowed by `gateway.nodes.commands.deny`.

use super::platform::{HOST, PRIVATE, Platform, TALK};
use crate::pairings::Surface;
use crate::settings::gateway::NodeSettings;

/// Why a command does not go to a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// `gateway.nodes.commands.deny` names it.
    Denied,
    /// It reaches into somebody's privacy: it needs `gateway.nodes.commands.allow`.
    NeedsOptIn,
    /// The ceiling of this platform does not hold it, or no operator approved it.
    NotListed { platform: String },
    /// The node never said that it has it.
    NotDeclared { platform: String },
    /// The node declared nothing at all.
    NothingDeclared,
}

/// The owner's two lists, borrowed from the settings.
#[derive(Debug, Clone, Copy)]
pub(super) struct CommandPolicy<'a>(pub &'a NodeSettings);

impl CommandPolicy<'_> {
    /// Of what a node declares, the part an operator may be asked to approve. Commands that need an opt-in
    /// are shown, so that approving once is enough; they stay off until the owner allows them.
    pub(super) fn approvable(&self, platform: Platform, declared: &Surface) -> Surface {
        let commands = declared
            .commands
            .iter()
            .filter(|command| self.may_be_approved(platform, command, declared))
            .cloned()
            .collect();
        Surface { caps: declared.caps.clone(), commands }
    }

    fn may_be_approved(&self, platform: Platform, command: &str, declared: &Surface) -> bool {
        let private = PRIVATE.contains(&command);
        if self.denies(command) && !private {
            return false;
        }
        private
            || self.allows(command)
            || platform.lists(command)
            || (platform.is_desktop() && HOST.contains(&command))
            || (TALK.contains(&command) && talks(declared))
    }

    /// Whether `command` may go to a node that declares `declared` now and whose approved surface is `approved`.
    pub(super) fn permits(
        &self,
        label: &str,
        platform: Platform,
        declared: &Surface,
        approved: &Surface,
        command: &str,
    ) -> Result<(), Refused> {
        self.inside_ceiling(label, platform, approved, command)?;
        if declared.commands.is_empty() {
            return Err(Refused::NothingDeclared);
        }
        let has = |surface: &Surface| surface.commands.iter().any(|known| known == command);
        if !has(declared) {
            return Err(Refused::NotDeclared { platform: label.to_owned() });
        }
        if !has(approved) {
            return Err(Refused::NotListed { platform: label.to_owned() });
        }
        Ok(())
    }

    fn inside_ceiling(
        &self,
        label: &str,
        platform: Platform,
        approved: &Surface,
        command: &str,
    ) -> Result<(), Refused> {
        if self.denies(command) {
            return Err(Refused::Denied);
        }
        if self.allows(command) {
            return Ok(());
        }
        if PRIVATE.contains(&command) {
            return Err(Refused::NeedsOptIn);
        }
        let host = platform.is_desktop()
            && HOST.contains(&command)
            && approved.commands.iter().any(|known| known == command);
        if host || platform.lists(command) || (TALK.contains(&command) && talks(approved)) {
            return Ok(());
        }
        Err(Refused::NotListed { platform: label.to_owned() })
    }

    fn allows(&self, command: &str) -> bool {
        self.0.allowed().any(|entry| entry.trim() == command)
    }

    fn denies(&self, command: &str) -> bool {
        self.0.denied().any(|entry| entry.trim() == command)
    }
}

fn talks(surface: &Surface) -> bool {
    surface.caps.iter().any(|cap| cap.eq_ignore_ascii_case("talk"))
        || surface.commands.iter().any(|command| command.starts_with("talk."))
}

/// Whether the command may be asked for through `node.invoke` by nobody, whatever their scopes: the
/// node's own approval list has methods of its own, and worker controls are not for operators.
pub(super) fn is_reserved(command: &str) -> bool {
    command.starts_with("system.execApprovals.") || command.starts_with("worker.")
}

/// Whether a raw `node.invoke` of this command takes `operator.admin`.
pub(super) fn needs_admin(command: &str) -> bool {
    matches!(command, "fs.listDir" | "terminal.upload")
        || command == "browser.proxy"
        || command.starts_with("browser.proxy.")
}

/// Whether the command surely changes nothing, so that running it twice does no harm. A call of any other, an unknown one
/// above all, is recorded before it is sent: its idempotency key holds even after a crash.
pub(super) fn only_looks(command: &str) -> bool {
    let named = matches!(
        command,
        "system.which"
            | "system.run.prepare"
            | "system.execApprovals.get"
            | "fs.listDir"
            | "file.stat"
            | "file.fetch"
            | "dir.fetch"
            | "device.info"
            | "device.status"
            | "contacts.search"
            | "calendar.events"
            | "photos.latest"
            | "motion.activity"
            | "motion.pedometer"
            | "sms.search"
            | "health.summary"
            | "ollama.models"
    );
    let command = command.strip_suffix(".v1").unwrap_or(command);
    named || matches!(command.rsplit('.').next(), Some("list" | "get" | "status"))
}

impl Refused {
    /// The reason as clients know it.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Denied | Self::NeedsOptIn | Self::NotListed { .. } => "command not allowlisted",
            Self::NotDeclared { .. } => "command not declared by node",
            Self::NothingDeclared => "node did not declare commands",
        }
    }

    /// The sentence for the caller.
    pub fn message(&self, command: &str) -> String {
        match self {
            Self::Denied => {
                format!("node command not allowed: \"{command}\" is blocked by gateway.nodes.commands.deny")
            }
            Self::NeedsOptIn => format!(
                "node command not allowed: \"{command}\" requires explicit gateway.nodes.commands.allow opt-in"
            ),
            Self::NotListed { platform } => format!(
                "node command not allowed: \"{command}\" is not in the allowlist for platform \"{platform}\""
            ),
            Self::NotDeclared { platform } => format!(
                "node command not allowed: the node (platform: {platform}) does not support \"{command}\""
            ),
            Self::NothingDeclared => {
                "node command not allowed: the node did not declare any supported commands".to_owned()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn surface(commands: &[&str]) -> Surface {
        Surface { caps: vec![], commands: commands.iter().map(|name| (*name).to_owned()).collect() }
    }

    fn on_linux(policy: CommandPolicy<'_>, surface: &Surface, command: &str) -> Result<(), Refused> {
        policy.permits("linux", Platform::Linux, surface, surface, command)
    }

    #[test]
    fn a_command_acts_unless_it_is_known_to_look_only() {
        for command in
            ["system.which", "dir.list", "location.get", "device.status", "anthropic.claude.sessions.list.v1"]
        {
            assert!(only_looks(command), "{command}");
        }
        for command in ["system.run", "file.write", "camera.snap", "foo.bar", "widget", "a.list.b"] {
            assert!(!only_looks(command), "{command}");
        }
    }

    #[test]
    fn the_official_headless_host_keeps_what_it_may_and_loses_the_rest() {
        let declared = surface(&[
            "browser.proxy",
            "desktop.stream",
            "dir.list",
            "file.write",
            "fs.listDir",
            "mcp.tools.call.v1",
            "ollama.chat",
            "system.execApprovals.get",
            "system.run",
            "terminal.upload",
            "workspace.read",
            "camera.snap",
        ]);
        let settings = NodeSettings::default();
        let kept = CommandPolicy(&settings).approvable(Platform::Linux, &declared).commands;
        assert_eq!(
            kept,
            [
                "browser.proxy",
                "desktop.stream",
                "fs.listDir",
                "mcp.tools.call.v1",
                "ollama.chat",
                "system.execApprovals.get",
                "system.run",
                "terminal.upload",
                "camera.snap"
            ]
        );
    }

    #[test]
    fn undeclared_unlisted_and_private_commands_are_told_apart() {
        let node = surface(&["system.which", "foo.bar", "camera.snap"]);
        let settings = NodeSettings::default();
        let policy = CommandPolicy(&settings);
        assert_eq!(on_linux(policy, &node, "system.which"), Ok(()));
        assert_eq!(
            on_linux(policy, &node, "system.notify"),
            Err(Refused::NotDeclared { platform: "linux".into() })
        );
        assert_eq!(on_linux(policy, &node, "foo.bar"), Err(Refused::NotListed { platform: "linux".into() }));
        assert_eq!(
            on_linux(policy, &node, "fs.listDir"),
            Err(Refused::NotListed { platform: "linux".into() })
        );
        assert_eq!(on_linux(policy, &node, "camera.snap"), Err(Refused::NeedsOptIn));
        assert_eq!(on_linux(policy, &surface(&[]), "system.notify"), Err(Refused::NothingDeclared));
    }

    #[test]
    fn allow_opens_and_deny_always_wins() {
        let node = surface(&["camera.snap", "foo.bar", "system.which"]);
        let mut settings = NodeSettings::default();
        settings.commands.allow = vec!["camera.snap".into(), " foo.bar ".into()];
        settings.allow_commands = vec!["system.which".into()];
        settings.commands.deny = vec!["foo.bar".into()];
        settings.deny_commands = vec!["system.which".into()];
        let policy = CommandPolicy(&settings);
        assert_eq!(on_linux(policy, &node, "camera.snap"), Ok(()));
        assert_eq!(on_linux(policy, &node, "foo.bar"), Err(Refused::Denied));
        assert_eq!(on_linux(policy, &node, "system.which"), Err(Refused::Denied));
        assert!(!policy.approvable(Platform::Linux, &node).commands.contains(&"foo.bar".to_owned()));
    }

    #[test]
    fn what_is_declared_but_not_approved_does_not_run() {
        let declared = surface(&["system.which", "system.notify", "fs.listDir"]);
        let approved = surface(&["system.which"]);
        let settings = NodeSettings::default();
        let policy = CommandPolicy(&settings);
        let permits = |command| policy.permits("linux", Platform::Linux, &declared, &approved, command);
        assert_eq!(permits("system.which"), Ok(()));
        assert!(permits("system.notify").is_err());
        assert!(permits("fs.listDir").is_err());
    }

    #[test]
    fn a_machine_of_no_known_kind_runs_no_programs() {
        let host = surface(&["system.run"]);
        let settings = NodeSettings::default();
        assert!(CommandPolicy(&settings).approvable(Platform::Unknown, &host).commands.is_empty());
    }

    #[test]
    fn the_nodes_approval_list_is_out_of_reach() {
        assert!(is_reserved("system.execApprovals.set"));
        assert!(is_reserved("worker.launch.v1"));
        assert!(!is_reserved("system.run"));
        assert!(needs_admin("fs.listDir") && needs_admin("browser.proxy") && !needs_admin("system.run"));
    }
}
