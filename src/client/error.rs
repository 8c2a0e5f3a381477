//! Why a client could not do what it was asked: what was refused, by whom, and what helps.

use std::{io, path::PathBuf, time::Duration};

use tidegate_protocol::{ErrorCode, ErrorShape};

use super::{Endpoint, ssh::SshError};

/// Everything that can go wrong between a client and its gateway.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The address is not one.
    #[error("`{url}` is not a gateway address: {problem}")]
    BadAddress { url: String, problem: String },
    /// Credentials would cross a network in the clear.
    #[error("refusing to send credentials unencrypted to `{host}`")]
    Plaintext { host: String },
    /// Nobody listens there, or the network is down.
    #[error("cannot reach a gateway at {url}")]
    Unreachable {
        url: String,
        #[source]
        source: io::Error,
    },
    /// TLS failed for another reason than the pin.
    #[error("cannot set up TLS with {url}")]
    Tls {
        url: String,
        #[source]
        source: io::Error,
    },
    /// `wss` without a pin.
    #[error("no certificate fingerprint was given for {url}, which shows {found}")]
    NoPin { url: String, found: String },
    /// Another certificate than the pinned one.
    #[error("the certificate of {url} is not the pinned one: expected {expected}, found {found}")]
    WrongPin { url: String, expected: String, found: String },
    /// Something answers there, but not as a gateway.
    #[error("{url} did not answer as a gateway: {problem}")]
    NotAGateway { url: String, problem: String },
    /// The gateway answered `connect` with an error.
    #[error("the gateway refused the connection: {}", .0.message)]
    Refused(Box<ErrorShape>),
    /// The gateway answered a request with an error.
    #[error("the gateway refused `{method}`: {}", .error.message)]
    Call { method: String, error: Box<ErrorShape> },
    /// The connection ended before the answer came.
    #[error("the connection to the gateway ended ({code}{}{reason})", if .reason.is_empty() { "" } else { " " })]
    Closed { code: u16, reason: String },
    /// No answer in time; whether the gateway did it is not known.
    #[error("the gateway did not answer `{method}` within {after:?}")]
    TimedOut { method: String, after: Duration },
    /// A request over the limit that the gateway announced.
    #[error("the request is {size} bytes, the gateway takes {limit}")]
    TooLarge { size: usize, limit: usize },
    /// The gateway reads slower than it is written to.
    #[error("too much waits to be sent to the gateway already")]
    Busy,
    /// Params or an answer of another shape than expected.
    #[error("`{method}`: {problem}")]
    Shape { method: String, problem: String },
    /// The device identity can't be used.
    #[error("device identity {}: {problem}", .path.display())]
    Identity { path: PathBuf, problem: String },
    /// The tunnel to the gateway can't be had.
    #[error(transparent)]
    Ssh(#[from] SshError),
}

impl ClientError {
    /// The gateway's own error, where it was the gateway that refused.
    pub fn refusal(&self) -> Option<&ErrorShape> {
        match self {
            Self::Refused(error) => Some(error),
            Self::Call { error, .. } => Some(error),
            _ => None,
        }
    }

    /// `details.code` of the gateway's error.
    pub fn detail_code(&self) -> Option<&str> {
        self.refusal()?.detail_code()
    }

    /// `details.requestId`: what an operator has to approve.
    pub fn request_id(&self) -> Option<&str> {
        self.refusal()?.details.as_ref()?.get("requestId")?.as_str()
    }

    /// Whether connecting again later, with the same credentials, may succeed.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Closed { .. } | Self::TimedOut { .. } => true,
            Self::NotAGateway { .. } | Self::Busy => true,
            Self::Refused(error) => {
                error.retryable == Some(true)
                    || error.code == ErrorCode::Unavailable
                    || error.detail_code() == Some("PAIRING_REQUIRED")
            }
            Self::Call { error, .. } => error.retryable == Some(true),
            Self::Ssh(error) => error.may_pass(),
            _ => false,
        }
    }

    /// How long the gateway asks to wait before the next attempt.
    pub fn retry_after(&self) -> Option<Duration> {
        self.refusal()?.retry_after_ms.map(Duration::from_millis)
    }

    /// What a person can do about it.
    pub fn advice(&self) -> Option<String> {
        let text = match self {
            Self::Unreachable { url, source } => return unreachable_advice(url, source).map(str::to_owned),
            Self::TimedOut { method, .. } if method == "connect" => SILENT,
            Self::Plaintext { .. } => {
                "use TLS (a wss:// address, or --tls for `node run`), an SSH tunnel (--ssh user@host), or set \
                 TIDEGATE_ALLOW_INSECURE_PRIVATE_WS=1 if you trust that network"
            }
            Self::NoPin { .. } => {
                "compare it with the certificate on the gateway's host, then pass it as --tls-fingerprint"
            }
            Self::WrongPin { .. } => {
                "if the gateway's certificate was renewed, pass its new fingerprint; if not, somebody is in between"
            }
            Self::Refused(error) => return refused_advice(error),
            Self::Call { error, .. } if error.code == ErrorCode::Forbidden => {
                "connect with credentials that hold this scope"
            }
            _ => return None,
        };
        Some(text.to_owned())
    }
}

/// For a host that doesn't answer at all.
const SILENT: &str = "nothing answers there: see that the host is on, and that no firewall drops this port";

/// What helps depends on how far the attempt came, and on whether it had to leave this machine.
fn unreachable_advice(url: &str, source: &io::Error) -> Option<&'static str> {
    use io::ErrorKind::{
        ConnectionRefused, ConnectionReset, HostUnreachable, NetworkDown, NetworkUnreachable, TimedOut,
        UnexpectedEof,
    };
    let here = Endpoint::parse(url).is_ok_and(|endpoint| endpoint.is_loopback());
    Some(match source.kind() {
        ConnectionRefused if here => "is it running? `tidegate gateway status` tells",
        ConnectionRefused => {
            "the host is there, but nothing listens at this port for others: see on that host with `tidegate gateway \
             status` that the gateway runs, and that gateway.bind lets others in; or go through SSH with --ssh user@host"
        }
        HostUnreachable | NetworkUnreachable | NetworkDown => {
            "there is no way there from here: see that this machine is online, that the VPN or Tailscale is up, and that \
             the address is right"
        }
        TimedOut => SILENT,
        ConnectionReset | UnexpectedEof => {
            "something there breaks the connection off: see that it is a gateway's port, and whether it is one with TLS \
             (wss://)"
        }
        // The standard library has no kind for it.
        _ if source.to_string().starts_with("failed to lookup") => {
            "this machine can't find that name: check its spelling, or use the address"
        }
        _ => return None,
    })
}

fn refused_advice(error: &ErrorShape) -> Option<String> {
    let detail = |name: &str| error.details.as_ref().and_then(|details| details.get(name)?.as_str());
    let text = match error.detail_code()? {
        "PAIRING_REQUIRED" => {
            let request = detail("requestId").unwrap_or("REQUEST");
            return Some(format!("approve it on the gateway's host: tidegate devices approve {request}"));
        }
        "AUTH_TOKEN_MISSING" | "AUTH_PASSWORD_MISSING" | "DEVICE_IDENTITY_REQUIRED" => {
            "pass --token or --password, or set TIDEGATE_GATEWAY_TOKEN"
        }
        "AUTH_TOKEN_MISMATCH" => {
            "the gateway has another token; on its host it is gateway.auth.token of the config or TIDEGATE_GATEWAY_TOKEN \
             where one is set, else in the state folder, file gateway-token"
        }
        "AUTH_PASSWORD_MISMATCH" => {
            "the gateway has another password; on its host it is gateway.auth.password of the config or \
             TIDEGATE_GATEWAY_PASSWORD"
        }
        "AUTH_DEVICE_TOKEN_MISMATCH" => "this device was removed or its token rotated; pair it again",
        "AUTH_BOOTSTRAP_TOKEN_INVALID" => {
            "the setup code was used already or has expired; make a new one on the gateway's host: tidegate devices join-code"
        }
        "AUTH_RATE_LIMITED" => {
            let wait = match error.retry_after_ms {
                Some(wait) => format!("wait {} s", wait.div_ceil(1000)),
                None => "wait".to_owned(),
            };
            return Some(format!("too many failed attempts from this address; {wait}, then try again"));
        }
        "PROTOCOL_MISMATCH" => "the gateway speaks another protocol version; update the older of the two",
        _ => return None,
    };
    Some(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_pairing_refusal_names_the_command_that_helps() {
        let shape = ErrorShape::not_paired("pairing required: not paired")
            .with_details(json!({"code": "PAIRING_REQUIRED", "requestId": "r-1"}));
        let error = ClientError::Refused(Box::new(shape));
        assert_eq!(error.request_id(), Some("r-1"));
        assert!(error.may_pass());
        assert!(error.advice().unwrap().ends_with("tidegate devices approve r-1"));
    }

    #[test]
    fn what_helps_depends_on_how_far_the_attempt_came_and_where_to() {
        let advice = |url: &str, kind: io::ErrorKind| {
            let source = kind.into();
            ClientError::Unreachable { url: url.to_owned(), source }.advice().unwrap_or_default()
        };
        let refused = io::ErrorKind::ConnectionRefused;
        assert!(advice("ws://127.0.0.1:18789", refused).starts_with("is it running"));
        for away in ["ws://10.0.0.1:18789", "ws://127.0.0.1:18789 through SSH to ann@box"] {
            assert!(advice(away, refused).contains("on that host"), "{away}");
        }
        assert!(advice("wss://g.example:443", io::ErrorKind::HostUnreachable).contains("online"));
        assert!(advice("wss://g.example:443", io::ErrorKind::TimedOut).contains("firewall"));
    }

    #[test]
    fn a_wrong_secret_is_not_worth_a_retry() {
        let shape = ErrorShape::invalid("unauthorized").with_details(json!({"code": "AUTH_TOKEN_MISMATCH"}));
        assert!(!ClientError::Refused(Box::new(shape)).may_pass());
    }

    #[test]
    fn a_close_without_a_reason_reads_well() {
        let text = ClientError::Closed { code: 1006, reason: String::new() }.to_string();
        assert_eq!(text, "the connection to the gateway ended (1006)");
        let text = ClientError::Closed { code: 1012, reason: "service restart".into() }.to_string();
        assert_eq!(text, "the connection to the gateway ended (1012 service restart)");
    }
}
