//! The error object of a response (`ErrorShape`).

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::time::Duration;

/// `details.code` of a refusal that ends when an operator approves what the node declares.
pub const AWAITING_APPROVAL: &str = "AWAITING_APPROVAL";

/// The closed set of codes; what exactly happened stands in `details.code` or `details.reason`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ErrorCode {
    /// The request is wrong and will stay wrong.
    InvalidRequest,
    /// The gateway, a node or a channel can't do it now.
    Unavailable,
    /// The device must be paired or approved first.
    NotPaired,
    /// The caller lacks the scope.
    Forbidden,
    /// A run did not end in time.
    AgentTimeout,
    /// A code this version does not know (only ever received).
    #[serde(other)]
    Unknown,
}

/// An error as the peer sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
#[serde(rename_all = "camelCase")]
pub struct ErrorShape {
    /// What kind of refusal this is.
    pub code: ErrorCode,
    /// One sentence for a person.
    pub message: String,
    /// Machine-readable particulars.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub details: Option<Value>,
    /// The same request may succeed later.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub retryable: Option<bool>,
    /// How long to wait before that, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub retry_after_ms: Option<u64>,
}

impl ErrorShape {
    /// An error with a code and a sentence.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), details: None, retryable: None, retry_after_ms: None }
    }

    /// `INVALID_REQUEST`.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::InvalidRequest, message)
    }

    /// `UNAVAILABLE`.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::Unavailable, message)
    }

    /// `NOT_PAIRED`.
    pub fn not_paired(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::NotPaired, message)
    }

    /// `FORBIDDEN` for a scope the caller does not hold.
    pub fn missing_scope(scope: &str) -> Self {
        Self::new(ErrorCode::Forbidden, format!("missing scope: {scope}"))
            .with_details(json!({"code": "MISSING_SCOPE", "missingScope": scope, "requiredScopes": [scope]}))
    }

    /// Adds `details`.
    pub fn with_details(mut self, details: Value) -> Self {
        self.details = Some(details);
        self
    }

    /// Says that trying again may help.
    pub fn retryable(mut self) -> Self {
        self.retryable = Some(true);
        self
    }

    /// Says when trying again may help.
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.retryable = Some(true);
        self.retry_after_ms = Some(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX));
        self
    }

    /// `details.code`, where there is one.
    pub fn detail_code(&self) -> Option<&str> {
        self.details.as_ref()?.get("code")?.as_str()
    }
}
