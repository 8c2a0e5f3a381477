//! Commands to the gateway itself: `/help` and its like. They work without any model.

use super::doors::{NodeCall, NodeDoor};
use super::providers::catalog::Candidate;
use super::tools;
use crate::VERSION;
use crate::agent::approvals::Decision;
use crate::agent::clock::span;
use crate::agent::messages::AgentLoad;
use crate::gateway::Gateway;
use crate::inbound::Inbound;
use crate::store::SessionRow;
use serde_json::Value;
use std::time::Duration;

/// What a client may list.
#[derive(Debug, Clone, Copy)]
pub struct CommandInfo {
    pub name: &'static str,
    pub description: &'static str,
    pub takes_args: bool,
}

const fn info(name: &'static str, description: &'static str, takes_args: bool) -> CommandInfo {
    CommandInfo { name, description, takes_args }
}

/// All commands.
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
pub(super) enum Command {
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
    pub(super) fn parse(text: &str, reset_triggers: &[String]) -> Option<Self> {
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

    /// Whether it waits for its turn; the others answer at once, whatever runs.
    pub(super) fn needs_lane(&self) -> bool {
        matches!(self, Self::New(_) | Self::Compact)
    }
}

/// What an answer may look at.
pub(super) struct Desk<'a> {
    pub(super) gateway: &'a Gateway,
    pub(super) nodes: &'a dyn NodeDoor,
    pub(super) inbound: &'a Inbound,
    pub(super) session: &'a SessionRow,
    pub(super) model: Result<Candidate, String>,
    pub(super) load: AgentLoad,
}

impl Desk<'_> {
    /// Answers a command that needs nothing but a look; `Err` says why it did not do what it should.
    pub(super) async fn answer(&self, command: &Command) -> Result<String, String> {
        match command {
            Command::Help => Ok(self.help()),
            Command::Status => Ok(self.status()),
            Command::Nodes => self.owner(self.list_nodes()).await,
            Command::Invoke(rest) => self.owner(self.invoke(rest)).await,
            Command::Approve(rest) => self.owner(async { self.approve(rest) }).await,
            Command::WhoAmI => Ok(self.who_am_i()),
            Command::Stop => Ok("Nothing is running.".to_owned()),
            Command::New(_) | Command::Compact => Ok(String::new()),
        }
    }

    async fn owner(&self, answer: impl Future<Output = Result<String, String>>) -> Result<String, String> {
        if self.inbound.sender.owner {
            answer.await
        } else {
            Err("Only the owner of this gateway may do that. /whoami shows how the gateway knows you."
                .to_owned())
        }
    }

    fn help(&self) -> String {
        let lines: Vec<String> =
            COMMANDS.iter().map(|command| format!("/{} - {}", command.name, command.description)).collect();
        let mut text = format!("Tidegate {VERSION}. Commands:\n{}", lines.join("\n"));
        if let Err(why) = &self.model {
            text.push_str(&format!("\n\n{why}"));
        }
        text
    }

    fn status(&self) -> String {
        let uptime = i64::try_from(self.gateway.started.elapsed().as_millis()).unwrap_or(i64::MAX);
        let model = match &self.model {
            Ok(candidate) => candidate.name(),
            Err(why) => format!("none. {why}"),
        };
        let session = self.session;
        let window = self.model.as_ref().map(|candidate| candidate.context_tokens).unwrap_or(0);
        let context = match (session.total_tokens, window) {
            (0, _) | (_, 0) => format!("{} tokens", session.total_tokens),
            (used, window) => format!("{used} of {window} tokens"),
        };
        format!(
            "Tidegate {VERSION}, up {}\nModel: {model}\nSession: {} ({context})\nRuns: {} active, {} waiting",
            span(uptime),
            session.key,
            self.load.running.len(),
            self.load.waiting,
        )
    }

    async fn list_nodes(&self) -> Result<String, String> {
        match self.nodes.list().await {
            Ok(nodes) if nodes.is_empty() => {
                Ok("No node is paired. Run `tidegate node run` on a machine to pair it.".to_owned())
            }
            Ok(nodes) => Ok(nodes.iter().map(tools::node_line).collect::<Vec<_>>().join("\n")),
            Err(why) => Err(format!("The nodes could not be listed: {why}")),
        }
    }

    async fn invoke(&self, rest: &str) -> Result<String, String> {
        const USAGE: &str = "Usage: /invoke <node> <command> {json}";
        let (node, rest) = first_word(rest);
        let (command, params) = first_word(rest);
        if node.is_empty() || command.is_empty() {
            return Err(USAGE.to_owned());
        }
        let params: Value = match params {
            "" => Value::Null,
            text => match serde_json::from_str(text) {
                Ok(params) => params,
                Err(error) => return Err(format!("The parameters are no JSON: {error}. {USAGE}")),
            },
        };
        let call = NodeCall {
            node: node.to_owned(),
            command: command.to_owned(),
            params,
            timeout: Duration::from_secs(30),
            key: format!("{}:invoke", self.inbound.run_id),
            session_key: self.inbound.session_key.clone(),
            run_id: self.inbound.run_id.clone(),
        };
        match self.nodes.invoke(call).await {
            Ok(answer) => {
                let text = serde_json::to_string_pretty(&answer.payload).unwrap_or_default();
                Ok(format!("```json\n{}\n```", tools::shortened(&text)))
            }
            Err(failure) if failure.may_have_run => {
                Err(format!("{failure}. It is not known whether the command ran."))
            }
            Err(failure) => Err(format!("{failure}.")),
        }
    }

    fn approve(&self, rest: &str) -> Result<String, String> {
        let (id, word) = first_word(rest);
        let Some(decision) = Decision::parse(word.trim()) else {
            return Err("Usage: /approve <id> once|always|deny".to_owned());
        };
        let by = format!("{}:{}", self.inbound.channel, self.inbound.sender.id);
        match self.gateway.approvals.resolve(self.gateway, id, decision, &by) {
            Ok(_) if decision.allows() => Ok("Approved.".to_owned()),
            Ok(_) => Ok("Denied.".to_owned()),
            Err(why) => Err(format!("That did not work: {why}.")),
        }
    }

    fn who_am_i(&self) -> String {
        let sender = &self.inbound.sender;
        let name = sender.name.as_deref().or(sender.username.as_deref()).unwrap_or("nameless");
        let role = if sender.owner { "the owner" } else { "a guest (no tools)" };
        format!(
            "Channel: {}\nYour id: {}\nName: {name}\nYou are {role}.\nSession: {}",
            self.inbound.channel, sender.id, self.inbound.session_key
        )
    }
}

fn first_word(text: &str) -> (&str, &str) {
    let text = text.trim();
    let (word, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    (word, rest.trim())
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
