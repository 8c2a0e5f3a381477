//! Why a configuration can't be used: always one line that says what to change.

use std::{fmt, path::Path};

use tidegate_actors::settings::{AuthMode, ConfigIssue};

/// The exit code for a configuration that can't be used (`EX_CONFIG`).
pub const EXIT_CONFIG: u8 = 78;

/// A configuration that can't be used, or state that can't be written.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file, or one of its includes.
    #[error("{file}: {issue}")]
    File { file: String, issue: ConfigIssue },
    /// Flags, environment, or a combination that must not run.
    #[error("{0}")]
    Refused(String),
    /// The state folder.
    #[error("can't {what} `{path}`: {source}")]
    State {
        what: &'static str,
        path: String,
        #[source]
        source: std::io::Error,
    },
}

impl ConfigError {
    pub(super) fn in_file(file: &Path, path: &str, why: &dyn fmt::Display) -> Self {
        let issue = ConfigIssue { file: None, path: path.to_owned(), message: why.to_string() };
        Self::File { file: file.display().to_string(), issue }
    }

    pub(super) fn refused(why: impl Into<String>) -> Self {
        Self::Refused(why.into())
    }

    /// Others could reach the gateway, and nothing would stop them.
    pub fn open(mode: AuthMode) -> Self {
        // With a secret alone the mode would still let everybody in.
        Self::refused(match mode {
            AuthMode::None => {
                "gateway.auth.mode is \"none\": set gateway.auth.mode to \"token\" or \"password\" (or pass --auth) and set \
                 OPENCLAW_GATEWAY_TOKEN or OPENCLAW_GATEWAY_PASSWORD (or pass --token/--password): a gateway that \
                 listens beyond loopback must start with auth."
            }
            _ => {
                "Set OPENCLAW_GATEWAY_TOKEN or OPENCLAW_GATEWAY_PASSWORD, or pass --token/--password, or set \
                 gateway.auth.token: a gateway that listens beyond loopback must start with auth."
            }
        })
    }

    /// `gateway.bind: "custom"` without an address.
    pub fn custom_host() -> Self {
        Self::refused(
            "gateway.bind \"custom\" needs an IP address in gateway.customBindHost: \
             `tidegate config set gateway.customBindHost '\"192.168.1.5\"'` sets it",
        )
    }

    /// A pin that nothing could be held against.
    pub fn remote_pin() -> Self {
        Self::refused(
            "gateway.remote.tlsFingerprint takes the SHA-256 of a certificate, 64 hexadecimal digits, and needs a \
             wss:// address in gateway.remote.url",
        )
    }

    pub(super) fn state(what: &'static str, path: &Path, source: std::io::Error) -> Self {
        Self::State { what, path: path.display().to_string(), source }
    }

    /// The issue by itself, for lists of them.
    pub(super) fn issue(&self) -> ConfigIssue {
        match self {
            Self::File { file, issue } => ConfigIssue { file: Some(file.clone()), ..issue.clone() },
            other => ConfigIssue { file: None, path: String::new(), message: other.to_string() },
        }
    }
}
