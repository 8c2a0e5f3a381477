//! What the model can do: one file a tool. All of them are for the owner alone.

mod exec;
mod message;
mod nodes;
mod schema;

pub(super) use nodes::{line as node_line, store_files};

use super::doors::{
    ChannelDoor, LOOK_AGAIN, NodeAnswer, NodeCall, NodeDoor, NodeFailure, Sent, nodes_may_come_back,
};
use super::media::{MediaStore, StoredMedia};
use super::providers::model::{Block, ToolSpec};
use crate::gateway::Gateway;
use crate::inbound::Inbound;
use crate::settings::Settings;
use serde_json::{Map, Value, json};
use std::sync::Arc;
use std::time::Duration;

/// Text of one result; the middle of what is longer is left out.
const MAX_RESULT: usize = 24 << 10;

/// What a tool call may use.
pub(super) struct Toolbox<'a> {
    pub(super) gateway: &'a Gateway,
    pub(super) settings: Arc<Settings>,
    pub(super) nodes: &'a dyn NodeDoor,
    pub(super) channels: &'a dyn ChannelDoor,
    pub(super) media: &'a MediaStore,
    pub(super) inbound: &'a Inbound,
    pub(super) agent_id: &'a str,
    /// The model's id of this call: unique within the run.
    pub(super) call_id: &'a str,
}

/// What a tool returned.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct ToolOutcome {
    pub(super) content: Vec<Block>,
    pub(super) details: Value,
    pub(super) is_error: bool,
}

type Arguments = Map<String, Value>;
type Outcome = Result<ToolOutcome, ToolError>;

/// Why a tool did nothing, or nobody knows what it did. The model reads it.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub(super) enum ToolError {
    #[error("{0}")]
    Refused(String),
    #[error(transparent)]
    Node(#[from] NodeFailure),
}

impl ToolError {
    fn new(text: impl Into<String>) -> Self {
        Self::Refused(text.into())
    }
}

impl ToolOutcome {
    fn text(text: impl AsRef<str>, details: Value) -> Self {
        Self { content: vec![Block::text(shortened(text.as_ref()))], details, is_error: false }
    }

    fn json(value: &Value) -> Self {
        let text = serde_json::to_string_pretty(value).unwrap_or_default();
        Self::text(text, json!({"status": "ok"}))
    }

    fn with_media(mut self, media: &[StoredMedia]) -> Self {
        if let (Value::Object(details), false) = (&mut self.details, media.is_empty()) {
            details.insert("media".to_owned(), media.iter().map(StoredMedia::to_json).collect());
        }
        self
    }

    fn failed(tool: &str, error: &ToolError) -> Self {
        let mut details = json!({"status": "error", "tool": tool, "error": error.to_string()});
        if let ToolError::Node(NodeFailure { may_have_run: true, .. }) = error {
            details["outcome"] = json!("unknown");
        }
        let text = serde_json::to_string_pretty(&details).unwrap_or_default();
        Self { content: vec![Block::text(text)], details, is_error: true }
    }
}

/// The tools of a run: none for people who don't own the gateway.
pub(super) fn specs(settings: &Settings, owner: bool) -> Vec<ToolSpec> {
    let policy = &settings.tools;
    let named = |list: &[String], name: &str| list.iter().any(|entry| entry == name || entry == "*");
    let allowed =
        |name: &str| (policy.allow.is_empty() || named(&policy.allow, name)) && !named(&policy.deny, name);
    if !owner {
        return Vec::new();
    }
    [schema::nodes(), schema::exec(), schema::message()]
        .into_iter()
        .filter(|tool| allowed(&tool.name))
        .collect()
}

impl Toolbox<'_> {
    /// Runs one call. Whatever goes wrong becomes a result that the model reads.
    pub(super) async fn run(&self, name: &str, arguments: &Arguments, invalid: Option<&str>) -> ToolOutcome {
        let offered = specs(&self.settings, self.inbound.sender.owner);
        let outcome = if let Some(raw) = invalid {
            let raw = super::providers::shorten(raw, 200);
            Err(ToolError::new(format!("the arguments are no JSON object: {raw}")))
        } else if offered.iter().all(|tool| tool.name != name) {
            let names: Vec<&str> = offered.iter().map(|tool| tool.name.as_str()).collect();
            Err(ToolError::new(format!("there is no tool `{name}`; there are: {}", names.join(", "))))
        } else {
            match name {
                "nodes" => nodes::run(self, arguments).await,
                "exec" => exec::run(self, arguments).await,
                _ => message::run(self, arguments).await,
            }
        };
        outcome.unwrap_or_else(|error| ToolOutcome::failed(name, &error))
    }

    fn node_call(&self, node: &str, command: &str, params: Value, timeout: Duration) -> NodeCall {
        NodeCall {
            node: node.to_owned(),
            command: command.to_owned(),
            params,
            timeout,
            key: self.key(command),
            session_key: self.inbound.session_key.clone(),
            run_id: self.inbound.run_id.clone(),
        }
    }

    /// The key of this call's `command`: stable over a restart.
    fn key(&self, command: &str) -> String {
        format!("{}:{}:{command}", self.inbound.run_id, self.call_id)
    }

    /// What is known of this very call, if the run made it before a restart: on the named node, or on any.
    async fn recall(
        &self,
        named: Option<&str>,
        command: &str,
        key: &str,
    ) -> Result<Option<(String, Result<NodeAnswer, ToolError>)>, ToolError> {
        for node in self.nodes.list().await? {
            let Some(node_id) = node["nodeId"].as_str() else { continue };
            if named.is_some_and(|named| !is_called(&node, named)) {
                continue;
            }
            let sent = Sent {
                node_id: node_id.to_owned(),
                command: command.to_owned(),
                key: key.to_owned(),
                run_id: self.inbound.run_id.clone(),
            };
            if let Some(outcome) = self.nodes.recall(sent).await {
                return Ok(Some((node_id.to_owned(), outcome.map_err(ToolError::from))));
            }
        }
        Ok(None)
    }

    /// A file that a person sent or a node returned, and its size.
    async fn stored(&self, name: &str) -> Result<(StoredMedia, u64), ToolError> {
        let found = self.media.find(name).await;
        found.ok_or_else(|| ToolError::new(format!("no file is stored as `{name}`")))
    }

    async fn invoke(&self, call: NodeCall) -> Result<NodeAnswer, ToolError> {
        Ok(self.nodes.invoke(call).await?)
    }

    /// The node that is meant: the one named, else the only connected one that knows the command.
    async fn pick_node(&self, named: Option<&str>, command: &str) -> Result<String, ToolError> {
        if let Some(named) = named {
            return Ok(named.to_owned());
        }
        // What was sent before a restart has its answer where it went.
        if let Some((node_id, _)) = self.recall(None, command, &self.key(command)).await? {
            return Ok(node_id);
        }
        let able = loop {
            let (able, away): (Vec<Value>, Vec<Value>) = self
                .nodes
                .list()
                .await?
                .into_iter()
                .filter(|node| offers(node, command))
                .partition(is_connected);
            if away.is_empty() || !able.is_empty() || !nodes_may_come_back(self.gateway) {
                break able;
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        };
        match able.as_slice() {
            [only] => Ok(only["nodeId"].as_str().unwrap_or_default().to_owned()),
            [] => Err(ToolError::new(format!(
                "no connected node offers `{command}`; use nodes with action status to look"
            ))),
            several => {
                let names: Vec<String> = several.iter().map(node_name).collect();
                Err(ToolError::new(format!(
                    "several nodes offer `{command}`; name one: {}",
                    names.join(", ")
                )))
            }
        }
    }
}

fn node_name(node: &Value) -> String {
    node["displayName"].as_str().or(node["nodeId"].as_str()).unwrap_or_default().to_owned()
}

fn offers(node: &Value, command: &str) -> bool {
    node["commands"].as_array().is_some_and(|all| all.iter().any(|one| one == command))
}

fn is_connected(node: &Value) -> bool {
    node["connected"] == true
}

fn is_called(node: &Value, wanted: &str) -> bool {
    let wanted = wanted.to_lowercase();
    let id = node["nodeId"].as_str().unwrap_or_default();
    (wanted.len() >= 4 && id.starts_with(&wanted)) || id == wanted || node_name(node).to_lowercase() == wanted
}

/// A text argument that says something.
fn text<'a>(arguments: &'a Arguments, name: &str) -> Option<&'a str> {
    arguments.get(name)?.as_str().map(str::trim).filter(|text| !text.is_empty())
}

fn required<'a>(arguments: &'a Arguments, name: &str) -> Result<&'a str, ToolError> {
    text(arguments, name).ok_or_else(|| ToolError::new(format!("`{name}` is required")))
}

/// The middle of a long text is left out, with a note that says so.
pub(super) fn shortened(text: &str) -> String {
    if text.len() <= MAX_RESULT {
        return text.to_owned();
    }
    let head = text.floor_char_boundary(MAX_RESULT * 2 / 3);
    let tail = text.ceil_char_boundary(text.len() - MAX_RESULT / 3);
    let left_out = tail - head;
    format!("{}\n\n[… {left_out} bytes left out here …]\n\n{}", &text[..head], &text[tail..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_results_keep_both_ends_and_say_what_is_missing() {
        let text = format!("begin{}end", "ü".repeat(MAX_RESULT));
        let short = shortened(&text);
        assert!(short.len() < MAX_RESULT + 100);
        assert!(
            short.starts_with("begin") && short.ends_with("end") && short.contains("bytes left out here")
        );
        assert_eq!(shortened("short"), "short");
    }

    #[test]
    fn strangers_get_no_tools_and_the_policy_is_kept() {
        let mut settings = Settings::default();
        assert!(specs(&settings, false).is_empty());
        assert_eq!(specs(&settings, true).len(), 3);
        settings.tools.deny = vec!["exec".into()];
        assert!(specs(&settings, true).iter().all(|tool| tool.name != "exec"));
        settings.tools.allow = vec!["exec".into()];
        assert!(specs(&settings, true).is_empty());
    }
}
