//! How a call to a node can fail, and how each failure is told to a client.

use super::argv::RunRefused;
use super::calls::NodeError;
use super::policy::Refused;
use serde_json::{Value, json};
use tidegate_protocol::error::ErrorShape;

/// Why there is no result. `Clone`, since callers that share a call share its failure.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvokeError {
    #[error("no node is called `{0}`")]
    Unknown(String),
    #[error("`{name}` names several nodes: {}", nodes.join(", "))]
    Ambiguous { name: String, nodes: Vec<String> },
    #[error("the commands of this node wait for approval")]
    PairingChanged { request_id: Option<String> },
    #[error("{}", refused.message(command))]
    NotAllowed { command: String, refused: Refused },
    #[error("`{0}` can't be called through node.invoke")]
    Reserved(String),
    #[error("missing scope: {0}")]
    MissingScope(&'static str),
    #[error(transparent)]
    BadRun(#[from] RunRefused),
    #[error("the idempotency key belongs to a request with other params")]
    KeyReused,
    #[error("params too large")]
    ParamsTooLarge,
    #[error("the answer to `{command}` does not fit into a frame")]
    AnswerTooLarge { command: String },
    #[error("node not connected")]
    NotConnected,
    #[error("the node does not take in what it was sent before")]
    Busy,
    #[error("{}", said(error.as_ref()))]
    NodeFailed { error: Option<NodeError> },
    #[error("node invoke timed out")]
    TimedOut { dispatched: bool },
    #[error("node disconnected ({command})")]
    Disconnected { command: String },
    #[error("`{command}` was sent once already, and nobody knows how it ended")]
    OutcomeUnknown { command: String },
    #[error("`{command}` was sent already under this idempotency key; its outcome is no longer known")]
    OutcomeForgotten { command: String },
    #[error("the call could not be recorded: {0}")]
    NotRecorded(String),
}

impl InvokeError {
    /// Whether the node may have run something. Only a call that certainly ran nothing may be sent again
    /// under the same key.
    pub fn may_have_run(&self) -> bool {
        match self {
            Self::NodeFailed { error } => !is_not_ready(error.as_ref()),
            Self::TimedOut { dispatched } => *dispatched,
            Self::Disconnected { .. }
            | Self::OutcomeUnknown { .. }
            | Self::OutcomeForgotten { .. }
            | Self::AnswerTooLarge { .. } => true,
            _ => false,
        }
    }

    /// What a later caller with the same key is told, instead of running it again.
    pub fn for_later_callers(&self, command: &str) -> Self {
        match self {
            Self::TimedOut { .. } | Self::Disconnected { .. } => {
                Self::OutcomeUnknown { command: command.to_owned() }
            }
            other => other.clone(),
        }
    }
}

/// Whether a node says that it can't start the command yet.
pub(super) fn is_not_ready(error: Option<&NodeError>) -> bool {
    error.and_then(|error| error.code.as_deref()) == Some("NODE_NOT_READY")
}

fn said(error: Option<&NodeError>) -> String {
    match error.map(|error| (error.code.as_deref(), error.message.as_deref())) {
        Some((Some(code), Some(message))) => format!("{code}: {message}"),
        Some((Some(only), None) | (None, Some(only))) => only.to_owned(),
        Some((None, None)) | None => "node invoke failed".to_owned(),
    }
}

impl From<&InvokeError> for ErrorShape {
    fn from(error: &InvokeError) -> Self {
        match error {
            InvokeError::Unknown(name) => pairing_changed(json!({
                "code": "PAIRING_CHANGED", "reason": "unknown-node", "nodeId": name,
            })),
            InvokeError::PairingChanged { request_id } => pairing_changed(awaiting(request_id.as_deref())),
            InvokeError::Ambiguous { nodes, .. } => Self::invalid(error.to_string())
                .with_details(json!({ "code": "AMBIGUOUS_NODE", "nodes": nodes })),
            InvokeError::NotAllowed { command, refused } => Self::invalid(error.to_string())
                .with_details(json!({ "reason": refused.reason(), "command": command })),
            InvokeError::Reserved(command) => {
                Self::invalid(reserved(command)).with_details(json!({ "command": command }))
            }
            InvokeError::MissingScope(scope) => Self::missing_scope(scope),
            InvokeError::BadRun(refused) => {
                Self::invalid(refused.to_string()).with_details(run_details(refused))
            }
            InvokeError::KeyReused => {
                Self::invalid("idempotencyKey was used before with other params; a new call needs a new key")
                    .with_details(json!({ "code": "IDEMPOTENCY_KEY_REUSED" }))
            }
            InvokeError::ParamsTooLarge => Self::invalid(error.to_string())
                .with_details(json!({ "code": "PARAMS_TOO_LARGE", "nodeCommandDispatched": false })),
            InvokeError::AnswerTooLarge { .. } => Self::unavailable(error.to_string())
                .with_details(json!({ "code": "ANSWER_TOO_LARGE", "nodeCommandDispatched": true })),
            InvokeError::NotConnected => Self::unavailable("node not connected").with_details(json!({
                "code": "NOT_CONNECTED",
                "nodeError": { "code": "NOT_CONNECTED", "message": "node not connected" },
                "nodeCommandDispatched": false,
            })),
            InvokeError::Busy => Self::unavailable(error.to_string())
                .with_details(json!({ "code": "NODE_BUSY", "nodeCommandDispatched": false }))
                .retryable(),
            InvokeError::NodeFailed { error: node } => Self::unavailable(error.to_string())
                .with_details(json!({ "nodeError": node, "nodeCommandDispatched": true })),
            InvokeError::TimedOut { dispatched } => coded("TIMEOUT", &error.to_string(), *dispatched),
            InvokeError::Disconnected { .. } => coded("DISCONNECTED", &error.to_string(), true),
            InvokeError::OutcomeUnknown { .. } => coded("OUTCOME_UNKNOWN", &error.to_string(), true),
            InvokeError::OutcomeForgotten { .. } => Self::unavailable(error.to_string())
                .with_details(json!({ "code": "OUTCOME_NOT_KEPT", "nodeCommandDispatched": true })),
            InvokeError::NotRecorded(_) => Self::unavailable(error.to_string())
                .with_details(json!({ "nodeCommandDispatched": false }))
                .retryable(),
        }
    }
}

impl From<InvokeError> for ErrorShape {
    fn from(error: InvokeError) -> Self {
        Self::from(&error)
    }
}

/// What a node or an operator is told while a surface waits for approval.
pub fn pairing_changed(details: Value) -> ErrorShape {
    ErrorShape::unavailable("node pairing changed while invocation was active")
        .with_details(details)
        .retryable()
}

fn awaiting(request_id: Option<&str>) -> Value {
    let mut details = json!({ "code": "PAIRING_CHANGED", "reason": "surface-not-approved" });
    if let Some(request_id) = request_id {
        details["pendingRequestId"] = request_id.into();
        details["remediationHint"] = format!("tidegate nodes approve {request_id}").into();
    }
    details
}

/// A failure after which nobody knows what the node did, said with the code clients look for.
fn coded(code: &str, message: &str, dispatched: bool) -> ErrorShape {
    let mut details = json!({
        "nodeError": { "code": code, "message": message }, "nodeCommandDispatched": dispatched,
    });
    if dispatched {
        details["outcome"] = "unknown".into();
    }
    ErrorShape::unavailable(format!("{code}: {message}")).with_details(details)
}

fn reserved(command: &str) -> String {
    if command.starts_with("system.execApprovals.") {
        "node.invoke does not allow system.execApprovals.*; use exec.approvals.node.*".to_owned()
    } else {
        format!("node.invoke does not allow {command}")
    }
}

fn run_details(refused: &RunRefused) -> Value {
    match refused {
        RunRefused::RawCommandMismatch { raw, inferred } => json!({
            "code": refused.code(), "rawCommand": raw, "inferred": inferred, "formattedArgv": inferred,
        }),
        RunRefused::Approval { run_id, .. } => json!({ "code": refused.code(), "runId": run_id }),
        _ => json!({ "code": refused.code() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire(error: InvokeError) -> Value {
        serde_json::to_value(ErrorShape::from(&error)).unwrap()
    }

    #[test]
    fn the_known_failures_look_as_clients_expect() {
        assert_eq!(
            wire(InvokeError::NotConnected),
            json!({ "code": "UNAVAILABLE", "message": "node not connected", "details": {
                "code": "NOT_CONNECTED",
                "nodeError": { "code": "NOT_CONNECTED", "message": "node not connected" },
                "nodeCommandDispatched": false } })
        );
        let boom = NodeError { code: Some("BOOM".into()), message: Some("it broke".into()) };
        assert_eq!(
            wire(InvokeError::NodeFailed { error: Some(boom) }),
            json!({ "code": "UNAVAILABLE", "message": "BOOM: it broke", "details": {
                "nodeError": { "code": "BOOM", "message": "it broke" }, "nodeCommandDispatched": true } })
        );
        assert_eq!(
            wire(InvokeError::NodeFailed { error: None }),
            json!({ "code": "UNAVAILABLE", "message": "node invoke failed", "details": {
                "nodeError": null, "nodeCommandDispatched": true } })
        );
        let timeout = wire(InvokeError::TimedOut { dispatched: true });
        assert_eq!(timeout["message"], "TIMEOUT: node invoke timed out");
        assert_eq!(timeout["details"]["nodeError"]["code"], "TIMEOUT");
        assert_eq!(timeout["details"]["outcome"], "unknown");
        let gone = wire(InvokeError::Disconnected { command: "system.which".into() });
        assert_eq!(gone["message"], "DISCONNECTED: node disconnected (system.which)");
        let pending = wire(InvokeError::PairingChanged { request_id: Some("r".into()) });
        assert_eq!(pending["details"]["code"], "PAIRING_CHANGED");
        assert_eq!(pending["retryable"], true);
        assert_eq!(pending["message"], "node pairing changed while invocation was active");
        let refused = Refused::NotListed { platform: "linux".into() };
        assert_eq!(
            wire(InvokeError::NotAllowed { command: "foo.bar".into(), refused }),
            json!({ "code": "INVALID_REQUEST",
                "message": "node command not allowed: \"foo.bar\" is not in the allowlist for platform \"linux\"",
                "details": { "reason": "command not allowlisted", "command": "foo.bar" } })
        );
    }

    #[test]
    fn only_what_certainly_ran_nothing_frees_its_key() {
        let not_ready = NodeError { code: Some("NODE_NOT_READY".into()), message: None };
        assert!(!InvokeError::NodeFailed { error: Some(not_ready) }.may_have_run());
        assert!(!InvokeError::NotConnected.may_have_run());
        assert!(!InvokeError::TimedOut { dispatched: false }.may_have_run());
        assert!(InvokeError::TimedOut { dispatched: true }.may_have_run());
        assert!(InvokeError::NodeFailed { error: None }.may_have_run());
        let later = InvokeError::Disconnected { command: "x".into() }.for_later_callers("x");
        assert_eq!(wire(later)["details"]["nodeError"]["code"], "OUTCOME_UNKNOWN");
    }
}
