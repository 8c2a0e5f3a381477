//! Answers to the commands of [`crate::commands`]. They need no model.

use super::doors::{NodeCall, NodeDoor};
use super::media::{MediaStore, StoredMedia};
use super::providers::catalog::Candidate;
use super::tools;
use crate::VERSION;
use crate::agent::approvals::Decision;
use crate::agent::clock::span;
use crate::agent::messages::AgentLoad;
use crate::commands::{COMMANDS, Command};
use crate::gateway::Gateway;
use crate::inbound::Inbound;
use crate::store::SessionRow;
use serde_json::Value;
use std::time::Duration;

/// What an answer may look at.
pub(super) struct Desk<'a> {
    pub(super) gateway: &'a Gateway,
    pub(super) nodes: &'a dyn NodeDoor,
    pub(super) inbound: &'a Inbound,
    pub(super) session: &'a SessionRow,
    pub(super) media: &'a MediaStore,
    pub(super) model: Result<Candidate, String>,
    pub(super) load: AgentLoad,
}

/// An answer in words, and the files that go with it.
#[derive(Default)]
pub(super) struct Reply {
    pub(super) text: String,
    pub(super) files: Vec<StoredMedia>,
}

impl From<String> for Reply {
    fn from(text: String) -> Self {
        Self { text, files: Vec::new() }
    }
}

impl Desk<'_> {
    /// Answers a command that needs nothing but a look; `Err` says why it did not do what it should.
    pub(super) async fn answer(&self, command: &Command) -> Result<Reply, String> {
        match command {
            Command::Help => Ok(self.help().into()),
            Command::Status => Ok(self.status().into()),
            Command::Nodes => self.owner(self.list_nodes()).await.map(Reply::from),
            Command::Invoke(rest) => self.owner(self.invoke(rest)).await,
            Command::Approve(rest) => self.owner(async { self.approve(rest) }).await.map(Reply::from),
            Command::WhoAmI => Ok(self.who_am_i().into()),
            Command::Stop => Ok("Nothing is running.".to_owned().into()),
            Command::New(_) | Command::Compact => Ok(Reply::default()),
        }
    }

    async fn owner<T>(&self, answer: impl Future<Output = Result<T, String>>) -> Result<T, String> {
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

    async fn invoke(&self, rest: &str) -> Result<Reply, String> {
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
            Ok(mut answer) => {
                let files = tools::store_files(self.media, command, &mut answer.payload).await?;
                let text = serde_json::to_string_pretty(&answer.payload).unwrap_or_default();
                let text = format!("```json\n{}\n```", tools::shortened(&text));
                Ok(Reply { text, files: files.into_iter().map(|(file, _)| file).collect() })
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
