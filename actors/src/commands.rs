//! Commands to the gateway itself: `/help` and its like. Who answers them is the agent.

/// What a client may list, and a channel may put into its menu.
#[derive(Debug, Clone, Copy)]
pub struct CommandInfo {
    pub name: &'static str,
    pub description: &'static str,
    pub takes_args: bool,
}

const fn info(name: &'static str, description: &'static str, takes_args: bool) -> CommandInfo {
    CommandInfo { name, description, takes_args }
}

/// All commands, for every menu and list.
pub const COMMANDS: &[CommandInfo] = &[
    info("help", "What can be asked of the gateway itself", false),
    info("status", "The gateway, the model and this conversation", false),
    info("new", "Start a fresh conversation", true),
    info("reset", "Start a fresh conversation", true),
    info("stop", "Stop what is running here", false),
    info("compact", "Shorten this conversation by a summary", false),
    info("nodes", "The paired computers and phones", false),
    info("invoke", "Run a command of a node: /invoke <node> <command> {json}", true),
    info("approve", "Answer an approval: /approve <id> once|always|deny", true),
    info("whoami", "Who you are to the gateway", false),
];

/// A command as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Command {
    Help,
    Status,
    /// Start afresh, and go on with these words if there are any.
    New(String),
    Stop,
    Compact,
    Nodes,
    Invoke(String),
    Approve(String),
    WhoAmI,
}

impl Command {
    /// Reads a message; anything but a known command is for the model.
    pub(crate) fn parse(text: &str, reset_triggers: &[String]) -> Option<Self> {
        let text = text.trim();
        let (word, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
        let rest = rest.trim();
        if reset_triggers.iter().any(|trigger| trigger.eq_ignore_ascii_case(word)) {
            return Some(Self::New(rest.to_owned()));
        }
        // Telegram appends the bot's name in groups: /status@my_bot.
        let name = word.strip_prefix('/')?.split('@').next()?.to_ascii_lowercase();
        Some(match name.as_str() {
            "help" | "commands" | "start" => Self::Help,
            "status" => Self::Status,
            "new" | "reset" => Self::New(rest.to_owned()),
            "stop" | "abort" | "cancel" => Self::Stop,
            "compact" => Self::Compact,
            "nodes" => Self::Nodes,
            "invoke" => Self::Invoke(rest.to_owned()),
            "approve" => Self::Approve(rest.to_owned()),
            "whoami" | "id" => Self::WhoAmI,
            _ => return None,
        })
    }

    /// Whether it ends what others may be at.
    pub(crate) fn ends_work(&self) -> bool {
        matches!(self, Self::New(_) | Self::Stop | Self::Compact)
    }

    /// Whether it waits for its turn; the others answer at once, whatever runs.
    pub(crate) fn needs_lane(&self) -> bool {
        matches!(self, Self::New(_) | Self::Compact)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Option<Command> {
        Command::parse(text, &["/fresh".to_owned()])
    }

    #[test]
    fn commands_are_read_as_people_write_them() {
        assert_eq!(parse(" /Status@my_bot "), Some(Command::Status));
        assert_eq!(parse("/new hello there"), Some(Command::New("hello there".into())));
        assert_eq!(parse("/fresh"), Some(Command::New(String::new())));
        assert_eq!(
            parse("/invoke pi system.which {\"bins\":[\"sh\"]}"),
            Some(Command::Invoke("pi system.which {\"bins\":[\"sh\"]}".into()))
        );
        assert_eq!(parse("/etc/passwd has a line"), None);
        assert_eq!(parse("status"), None);
        assert_eq!(parse(""), None);
    }

    #[test]
    fn every_listed_command_is_understood() {
        for command in COMMANDS {
            assert!(parse(&format!("/{}", command.name)).is_some(), "{}", command.name);
        }
    }
}
