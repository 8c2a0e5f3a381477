//! The kinds of machine, and the commands that each may offer without being asked for by name.

/// The kinds of machine that have a ceiling of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Platform {
    Ios,
    WatchOs,
    Android,
    MacOs,
    Windows,
    Linux,
    Unknown,
}

const CAMERA: &[&str] = &["camera.list"];
const DEVICE: &[&str] = &["device.info", "device.status"];
const PERSONAL: &[&str] = &[
    "contacts.search",
    "calendar.events",
    "reminders.list",
    "photos.latest",
    "motion.activity",
    "motion.pedometer",
];
pub(super) const TALK: &[&str] = &["talk.ptt.start", "talk.ptt.stop", "talk.ptt.cancel", "talk.ptt.once"];

/// Commands of a desktop or server host. They enter the ceiling of a live node only by approval.
pub(super) const HOST: &[&str] = &[
    "system.run",
    "system.run.prepare",
    "system.which",
    "system.execApprovals.get",
    "system.execApprovals.set",
    "fs.listDir",
    "terminal.upload",
    "browser.proxy",
    "browser.proxy.upload.v1",
    "mcp.tools.call.v1",
    "agent.cli.claude.run.v1",
    "screen.snapshot",
    "desktop.stream",
];

/// What the bundled integrations of a desktop node add.
const INTEGRATIONS: &[&str] = &[
    "anthropic.claude.sessions.list.v1",
    "anthropic.claude.sessions.read.v1",
    "ollama.chat",
    "ollama.models",
];

/// Off until the owner allows them by name.
pub(super) const PRIVATE: &[&str] = &[
    "camera.snap",
    "camera.clip",
    "camera.ptz.control",
    "screen.record",
    "contacts.add",
    "calendar.add",
    "reminders.add",
    "sms.send",
    "sms.search",
    "health.summary",
];

impl Platform {
    /// The platform a node claims, if its device family does not say otherwise.
    pub fn of(platform: &str, family: Option<&str>) -> Self {
        let name = platform.trim().to_ascii_lowercase();
        let family = family.unwrap_or_default().trim().to_ascii_lowercase();
        let claimed = match name.split([' ', '_', '-']).next().unwrap_or_default() {
            "ios" | "ipados" => Self::Ios,
            "watchos" => Self::WatchOs,
            "android" => Self::Android,
            "macos" | "darwin" | "mac" => Self::MacOs,
            "windows" | "win32" => Self::Windows,
            "linux" => Self::Linux,
            "" => Self::of_family(&family),
            _ => Self::Unknown,
        };
        let agrees = family.is_empty() || Self::of_family(&family) == claimed;
        if agrees { claimed } else { Self::Unknown }
    }

    fn of_family(family: &str) -> Self {
        match family {
            "iphone" | "ipad" | "ios" => Self::Ios,
            "apple watch" | "watchos" => Self::WatchOs,
            "android" => Self::Android,
            "mac" | "macos" | "darwin" => Self::MacOs,
            "windows" => Self::Windows,
            "linux" => Self::Linux,
            _ => Self::Unknown,
        }
    }

    pub(super) fn is_desktop(self) -> bool {
        matches!(self, Self::MacOs | Self::Windows | Self::Linux)
    }

    /// Whether the platform's own list, without the host commands, holds `command`.
    pub(super) fn lists(self, command: &str) -> bool {
        let mobile = |lists: &[&[&str]]| lists.iter().any(|list| list.contains(&command));
        match self {
            Self::Ios => {
                mobile(&[CAMERA, DEVICE, PERSONAL]) || matches!(command, "location.get" | "system.notify")
            }
            Self::WatchOs => mobile(&[DEVICE]) || command == "system.notify",
            Self::Android => mobile(&[CAMERA, DEVICE, PERSONAL]) || ANDROID.contains(&command),
            Self::MacOs => mobile(&[CAMERA, DEVICE, PERSONAL, INTEGRATIONS]) || MACOS.contains(&command),
            Self::Windows => {
                mobile(&[CAMERA, DEVICE, INTEGRATIONS])
                    || matches!(command, "location.get" | "system.notify" | "computer.act")
            }
            Self::Linux => mobile(&[INTEGRATIONS]) || matches!(command, "system.notify" | "computer.act"),
            Self::Unknown => mobile(&[CAMERA]) || matches!(command, "location.get" | "system.notify"),
        }
    }
}

const ANDROID: &[&str] = &[
    "location.get",
    "notifications.list",
    "notifications.actions",
    "system.notify",
    "device.permissions",
    "device.health",
    "device.apps",
    "callLog.search",
    "mobile.ui.observe",
    "mobile.ui.act",
];
const MACOS: &[&str] = &[
    "camera.ptz.status",
    "location.get",
    "device.apps",
    "system.notify",
    "computer.act",
    "canvas.present",
    "canvas.hide",
    "canvas.navigate",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_family_that_contradicts_the_platform_makes_it_unknown() {
        assert_eq!(Platform::of("linux", Some("Linux")), Platform::Linux);
        assert_eq!(Platform::of("linux", None), Platform::Linux);
        assert_eq!(Platform::of("darwin", Some("Mac")), Platform::MacOs);
        assert_eq!(Platform::of("iOS 19.1", Some("iPhone")), Platform::Ios);
        assert_eq!(Platform::of("linux", Some("iPhone")), Platform::Unknown);
        assert_eq!(Platform::of("plan9", None), Platform::Unknown);
        assert_eq!(Platform::of("", Some("Linux")), Platform::Linux);
    }
}
