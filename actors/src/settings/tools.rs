//! `tools.*` and `logging.*`.

use serde::Deserialize;

/// `tools`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct ToolsSettings {
    /// Only these tools; empty means all.
    pub allow: Vec<String>,
    /// Never these.
    pub deny: Vec<String>,
    pub exec: ExecSettings,
}

/// `tools.exec`: where the agent's commands run and who must agree.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ExecSettings {
    pub host: Option<ExecHost>,
    /// The node for `host: "node"`: its id or name.
    pub node: Option<String>,
    /// Newer spelling of `security` and `ask`; read all three through [`ExecSettings::security`]
    /// and [`ExecSettings::ask`].
    pub mode: Option<ExecMode>,
    pub security: Option<ExecSecurity>,
    pub ask: Option<ExecAsk>,
    /// One command's time; read it through [`ExecSettings::timeout`].
    #[serde(alias = "timeoutSec")]
    pub timeout_seconds: Option<u64>,
}

impl ExecSettings {
    /// Which commands may run, by whichever key says it.
    pub fn security(&self) -> Option<ExecSecurity> {
        self.security.or(self.mode.map(|mode| match mode {
            ExecMode::Deny => ExecSecurity::Deny,
            ExecMode::Full => ExecSecurity::Full,
            ExecMode::Allowlist | ExecMode::Ask | ExecMode::Auto => ExecSecurity::Allowlist,
        }))
    }

    /// When somebody must agree first, by whichever key says it. `auto` would have a model
    /// decide; here a person does.
    pub fn ask(&self) -> Option<ExecAsk> {
        self.ask.or(self.mode.map(|mode| match mode {
            ExecMode::Deny | ExecMode::Allowlist | ExecMode::Full => ExecAsk::Off,
            ExecMode::Ask | ExecMode::Auto => ExecAsk::OnMiss,
        }))
    }

    pub fn timeout(&self) -> Option<std::time::Duration> {
        self.timeout_seconds.map(std::time::Duration::from_secs)
    }
}

/// `tools.exec.host`.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum ExecHost {
    Auto,
    Sandbox,
    Gateway,
    Node,
}

/// `tools.exec.mode`.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum ExecMode {
    Deny,
    Allowlist,
    Ask,
    Auto,
    Full,
}

/// `tools.exec.security`.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum ExecSecurity {
    Deny,
    Allowlist,
    Full,
}

/// `tools.exec.ask`.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum ExecAsk {
    Off,
    OnMiss,
    Always,
}

/// `logging`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct LoggingSettings {
    /// Least severity in the file.
    pub level: Option<LogLevel>,
    /// The file; `<state>/logs/gateway.log` when unset.
    pub file: Option<String>,
    pub max_file_bytes: Option<u64>,
    /// Least severity on the console.
    pub console_level: Option<LogLevel>,
    pub console_style: ConsoleStyle,
}

/// A severity.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    #[serde(alias = "off")]
    Silent,
    #[serde(alias = "fatal")]
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

/// `logging.consoleStyle`.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum ConsoleStyle {
    #[default]
    #[serde(alias = "compact")]
    Pretty,
    Json,
}
