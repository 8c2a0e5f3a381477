//! How a command ends: exit codes that scripts can use, and one sentence for people.
//!
//! | code | meaning |
//! | --- | --- |
//! | 0 | done |
//! | 1 | failed, or the gateway refused; what was asked about is not well |
//! | 2 | the command line was wrong |
//! | 69 | the gateway can't be reached |
//! | 77 | the gateway doesn't let us, or it isn't one that we trust |
//! | 78 | the configuration can't be used |

use serde_json::{Value, json};
use tidegate_protocol::ErrorCode;

use crate::{
    client::{ClientError, ssh::SshError},
    config::{ConfigError, EXIT_CONFIG},
    telemetry::chain,
};

/// Why a command did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// It ran, and the answer is no.
    #[error("{0}")]
    Failed(String),
    /// It ran, and what it has printed says what is wrong.
    #[error("see the output")]
    Told,
    /// The command line makes no sense.
    #[error("{0}")]
    Usage(String),
    /// There is no gateway to talk to.
    #[error("{0}")]
    Unreachable(String),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Client(#[from] ClientError),
}

impl Failure {
    pub(super) fn failed(why: impl Into<String>) -> Self {
        Self::Failed(why.into())
    }

    pub(super) fn usage(why: impl Into<String>) -> Self {
        Self::Usage(why.into())
    }

    pub(super) fn code(&self) -> u8 {
        match self {
            Self::Failed(_) | Self::Told => 1,
            Self::Usage(_) => 2,
            Self::Unreachable(_) => 69,
            Self::Config(_) => EXIT_CONFIG,
            Self::Client(error) => client_code(error),
        }
    }

    /// What happened, down to what the system said.
    pub(super) fn in_full(&self) -> String {
        chain(self)
    }

    /// A second line that helps, where there is one.
    pub(super) fn advice(&self) -> Option<String> {
        match self {
            Self::Client(error) => error.advice(),
            _ => None,
        }
    }

    /// The same for scripts.
    pub(super) fn json(&self) -> Value {
        let mut error = json!({"type": self.kind(), "message": self.in_full()});
        if let Self::Client(client) = self
            && let Some(refusal) = client.refusal()
        {
            error["code"] = json!(refusal.code);
            if let Some(details) = &refusal.details {
                error["details"] = details.clone();
            }
            if let Some(wait) = refusal.retry_after_ms {
                error["retryAfterMs"] = json!(wait);
            }
        }
        if let Some(advice) = self.advice() {
            error["advice"] = json!(advice);
        }
        json!({"ok": false, "error": error})
    }

    fn kind(&self) -> &'static str {
        match self.code() {
            2 => "usage",
            69 => "gateway_transport_error",
            77 => "not_authorised",
            78 => "config",
            _ => "cli_error",
        }
    }
}

fn client_code(error: &ClientError) -> u8 {
    match error {
        ClientError::Unreachable { .. }
        | ClientError::Tls { .. }
        | ClientError::NotAGateway { .. }
        | ClientError::Closed { .. } => 69,
        ClientError::Plaintext { .. } | ClientError::NoPin { .. } | ClientError::WrongPin { .. } => 77,
        ClientError::TimedOut { method, .. } if method == "connect" => 69,
        ClientError::BadAddress { .. } | ClientError::Ssh(SshError::BadTarget { .. }) => 2,
        ClientError::Ssh(error) if error.is_refusal() => 77,
        ClientError::Ssh(error) if error.may_pass() => 69,
        ClientError::Refused(refusal) if refusal.code == ErrorCode::Unavailable => 69,
        ClientError::Refused(_) => 77,
        ClientError::Call { error, .. } if error.code == ErrorCode::Forbidden => 77,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate_protocol::ErrorShape;

    #[test]
    fn a_refusal_is_told_apart_from_an_absence() {
        let refused = |shape: ErrorShape| Failure::from(ClientError::Refused(Box::new(shape))).code();
        assert_eq!(refused(ErrorShape::invalid("unauthorized")), 77);
        assert_eq!(refused(ErrorShape::unavailable("starting")), 69);
        let closed = ClientError::Closed { code: 1006, reason: String::new() };
        assert_eq!(Failure::from(closed).code(), 69);
        let call = |error| ClientError::Call { method: "m".to_owned(), error: Box::new(error) };
        assert_eq!(Failure::from(call(ErrorShape::missing_scope("operator.admin"))).code(), 77);
        assert_eq!(Failure::from(call(ErrorShape::invalid("no"))).code(), 1);
    }

    #[test]
    fn scripts_hear_how_long_a_lockout_lasts() {
        let shape = ErrorShape::invalid("unauthorized").retry_after(std::time::Duration::from_millis(61_500));
        let shape = shape.with_details(json!({"code": "AUTH_RATE_LIMITED"}));
        let error = Failure::from(ClientError::Refused(Box::new(shape))).json()["error"].clone();
        assert_eq!(error["retryAfterMs"], 61_500);
        assert!(error["advice"].as_str().unwrap().contains("wait 62 s"), "{error}");
    }
}
