//! What a command answers when it does not succeed: a code and a sentence for the caller.

/// The failure half of a `node.invoke.result`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) code: &'static str,
    pub(crate) message: String,
}

impl Failure {
    /// The request itself is wrong; sending it again will not help.
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self { code: "INVALID_REQUEST", message: message.into() }
    }

    /// The request is sound, but this host cannot or may not serve it now.
    pub(crate) fn unavailable(message: impl Into<String>) -> Self {
        Self { code: "UNAVAILABLE", message: message.into() }
    }

    /// The exec policy of this host refuses the command. The prefix is what official gateways look for.
    pub(crate) fn denied(reason: impl std::fmt::Display) -> Self {
        Self::unavailable(format!("SYSTEM_RUN_DENIED: {reason}"))
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}: {}", self.code, self.message)
    }
}

impl std::error::Error for Failure {}
