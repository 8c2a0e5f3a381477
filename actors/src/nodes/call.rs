//! What is asked of a node, and what comes back.

use super::calls::Answer;
use super::error::InvokeError;
use super::once::Fingerprint;
use crate::connection::Caller;
use aws_lc_rs::digest;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;
use tidegate_protocol::client::{ClientId, ClientMode};
use tidegate_protocol::{Scope, Scopes};

/// How a call ended, shared by all who asked for it.
pub type Outcome = Result<Arc<InvokeOutcome>, InvokeError>;

/// Without a `timeoutMs` of its own, a call waits this long.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);
/// Nobody waits longer than this.
pub const LONGEST_TIMEOUT: Duration = Duration::from_secs(24 * 3600);

/// Run a command on a node and wait for its answer.
#[derive(Debug)]
pub struct InvokeNode {
    /// An id, the beginning of one, or a display name.
    pub node: String,
    pub command: String,
    pub params: Option<Box<RawValue>>,
    pub timeout: Duration,
    pub idempotency_key: String,
    pub session_key: Option<String>,
    pub origin: InvokeOrigin,
}

/// On whose behalf a node is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InvokeOrigin {
    /// A person's client.
    Operator {
        scopes: Scopes,
        device: Option<String>,
        conn_id: String,
        /// The gateway's helper, with the right to approve commands.
        approving_helper: bool,
    },
    /// The agent. Its calls are recorded durably: after a crash none of them is sent again.
    Agent { run_id: String },
    /// The gateway itself, for the methods of a node's own approval list, which nobody may ask for by name.
    Gateway,
}

/// A node's answer.
#[derive(Debug, Clone)]
pub struct InvokeOutcome {
    pub node_id: String,
    pub command: String,
    /// `null` when the node sent nothing.
    pub payload: Box<RawValue>,
    /// The text the node sent, if it sent text.
    pub payload_json: Option<String>,
}

impl InvokeOrigin {
    /// An operator's connection.
    pub fn operator(caller: &Caller) -> Self {
        let helper = caller.client.id == ClientId::GatewayClient && caller.client.mode == ClientMode::Backend;
        Self::Operator {
            scopes: caller.scopes.clone(),
            device: caller.device_id.clone(),
            conn_id: caller.conn_id.clone(),
            approving_helper: helper && caller.allows(Scope::Approvals),
        }
    }

    /// The agent never is, whoever writes to it: a chat is a weaker proof than an operator's own device.
    pub fn is_admin(&self) -> bool {
        match self {
            Self::Operator { scopes, .. } => scopes.holds("operator.admin"),
            Self::Agent { .. } => false,
            Self::Gateway => true,
        }
    }

    /// Whose keys are whose: the same key of another caller is another key. All holders of the shared
    /// secret are one caller, since nothing tells them apart.
    pub fn key_scope(&self) -> String {
        match self {
            Self::Operator { device: Some(device), .. } => format!("device:{device}"),
            Self::Operator { device: None, .. } => "operator".to_owned(),
            Self::Agent { run_id } => format!("agent:{run_id}"),
            Self::Gateway => "gateway".to_owned(),
        }
    }

    /// How long a call goes on when nobody waits for it any more: an operator may come back and ask for
    /// the outcome with the same key; the agent that stops waiting has been stopped.
    pub fn patience(&self) -> Duration {
        match self {
            Self::Operator { .. } => Duration::from_secs(3),
            Self::Agent { .. } | Self::Gateway => Duration::ZERO,
        }
    }
}

/// Larger params are told apart by their text as it came.
const LARGEST_SORTED: usize = 1 << 20;

/// What tells two calls under one key apart: neither the order of keys nor the space between them.
pub(super) fn fingerprint(params: Option<&RawValue>) -> Fingerprint {
    let text = params.map_or("", RawValue::get);
    let sorted = serde_json::from_str::<Value>(text).ok().filter(|_| text.len() <= LARGEST_SORTED);
    let text = sorted.map_or(Cow::Borrowed(text), |mut params| {
        params.sort_all_objects();
        Cow::Owned(params.to_string())
    });
    let mut fingerprint = Fingerprint::default();
    fingerprint.copy_from_slice(digest::digest(&digest::SHA256, text.as_bytes()).as_ref());
    fingerprint
}

impl InvokeOutcome {
    /// The node's answer; text that is JSON becomes the payload, other text is wrapped.
    pub fn of(node_id: &str, command: &str, answer: Answer) -> Self {
        let payload = match &answer.payload_json {
            Some(text) => RawValue::from_string(text.clone()).unwrap_or_else(|_| wrap(text)),
            None => answer.payload.unwrap_or_else(null),
        };
        Self {
            node_id: node_id.to_owned(),
            command: command.to_owned(),
            payload,
            payload_json: answer.payload_json,
        }
    }

    /// The same without the text as the node sent it. Clients read the payload.
    pub fn without_text(&self) -> Self {
        Self { payload_json: None, ..self.clone() }
    }

    /// Bytes it takes to keep this.
    pub fn weight(&self) -> usize {
        self.payload.get().len()
            + self.payload_json.as_ref().map_or(0, String::len)
            + self.node_id.len()
            + self.command.len()
    }
}

fn null() -> Box<RawValue> {
    RawValue::NULL.to_owned()
}

fn wrap(text: &str) -> Box<RawValue> {
    serde_json::value::to_raw_value(&serde_json::json!({ "payloadJSON": text })).unwrap_or_else(|_| null())
}

/// `node.invoke`'s payload.
impl Serialize for InvokeOutcome {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeMap;
        let mut map = serializer.serialize_map(Some(5))?;
        map.serialize_entry("ok", &true)?;
        map.serialize_entry("nodeId", &self.node_id)?;
        map.serialize_entry("command", &self.command)?;
        if self.payload_json.is_some() || self.payload.get() != "null" {
            map.serialize_entry("payload", &self.payload)?;
        }
        map.serialize_entry("payloadJSON", &self.payload_json)?;
        map.end()
    }
}

/// How an agent's call ended, as it is stored.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum StoredOutcome {
    Answered {
        node_id: String,
        command: String,
        payload: Box<RawValue>,
        payload_json: Option<String>,
    },
    Failed {
        error: Option<super::calls::NodeError>,
    },
    /// It ended, but too large to be kept.
    NotKept,
    Unknown,
}

/// A larger outcome of an agent's call is not stored: the agent has it in its transcript anyway.
pub(super) const LARGEST_STORED: usize = 256 << 10;
/// The same for an operator's call, which is rarely asked for again, and never by itself.
pub(super) const LARGEST_STORED_FOR_OPERATORS: usize = 16 << 10;

impl StoredOutcome {
    /// What to store of an outcome that may have run something.
    pub(super) fn of(outcome: &Outcome, largest: usize) -> Self {
        match outcome {
            Ok(answer) if answer.weight() <= largest => Self::Answered {
                node_id: answer.node_id.clone(),
                command: answer.command.clone(),
                payload: answer.payload.clone(),
                payload_json: answer.payload_json.clone(),
            },
            Ok(_) | Err(InvokeError::OutcomeForgotten { .. }) => Self::NotKept,
            Err(InvokeError::NodeFailed { error }) => Self::Failed { error: error.clone() },
            Err(_) => Self::Unknown,
        }
    }

    /// The outcome again.
    pub(super) fn restore(self, command: &str) -> Outcome {
        let command = command.to_owned();
        match self {
            Self::Answered { node_id, command, payload, payload_json } => {
                Ok(Arc::new(InvokeOutcome { node_id, command, payload, payload_json }))
            }
            Self::Failed { error } => Err(InvokeError::NodeFailed { error }),
            Self::NotKept => Err(InvokeError::OutcomeForgotten { command }),
            Self::Unknown => Err(InvokeError::OutcomeUnknown { command }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn wire(answer: Answer) -> Value {
        serde_json::to_value(InvokeOutcome::of("n", "c", answer)).unwrap()
    }

    #[test]
    fn payloads_come_out_as_clients_know_them() {
        let text = |text: &str| Answer { ok: true, payload_json: Some(text.into()), ..Answer::default() };
        assert_eq!(
            wire(text(r#"{"x":1}"#)),
            json!({ "ok": true, "nodeId": "n", "command": "c", "payload": { "x": 1 }, "payloadJSON": "{\"x\":1}" })
        );
        assert_eq!(wire(text("{nope"))["payload"], json!({ "payloadJSON": "{nope" }));
        assert_eq!(wire(text("null"))["payload"], Value::Null);
        let object = RawValue::from_string(r#"{"x":2}"#.into()).unwrap();
        let object = wire(Answer { ok: true, payload: Some(object), ..Answer::default() });
        assert_eq!((&object["payload"], &object["payloadJSON"]), (&json!({ "x": 2 }), &Value::Null));
        let nothing = wire(Answer { ok: true, ..Answer::default() });
        assert_eq!(nothing, json!({ "ok": true, "nodeId": "n", "command": "c", "payloadJSON": null }));
    }

    #[test]
    fn params_are_the_same_whatever_the_order_of_their_keys() {
        let print = |text: &str| fingerprint(Some(&RawValue::from_string(text.to_owned()).unwrap()));
        let one = print(r#"{"a":1,"b":{"c":[2],"d":null}}"#);
        assert_eq!(one, print(r#"{ "b": {"d": null, "c": [2]}, "a": 1 }"#));
        assert_ne!(one, print(r#"{"a":1,"b":{"c":[3],"d":null}}"#));
    }

    #[test]
    fn a_stored_outcome_comes_back() {
        let answer = Answer { ok: true, payload_json: Some("[1]".into()), ..Answer::default() };
        let outcome: Outcome = Ok(Arc::new(InvokeOutcome::of("n", "c", answer)));
        let text = serde_json::to_string(&StoredOutcome::of(&outcome, LARGEST_STORED)).unwrap();
        let back: StoredOutcome = serde_json::from_str(&text).unwrap();
        assert_eq!(back.restore("c").unwrap().payload.get(), "[1]");
        let lost = StoredOutcome::of(&Err(InvokeError::Disconnected { command: "c".into() }), LARGEST_STORED);
        assert!(matches!(lost.restore("c"), Err(InvokeError::OutcomeUnknown { .. })));
    }
}
