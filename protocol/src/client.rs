//! Who a client says it is. Both lists are closed: another name is a malformed `connect`.

use serde::{Deserialize, Serialize};

/// `client.id` of `ConnectParams`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClientId {
    WebchatUi,
    OpenclawControlUi,
    OpenclawBrowserCopilot,
    OpenclawTui,
    Webchat,
    Cli,
    GatewayClient,
    OpenclawMacos,
    OpenclawLinux,
    OpenclawIos,
    OpenclawWatchos,
    OpenclawAndroid,
    NodeHost,
    OpenclawWorker,
    Test,
    Fingerprint,
    OpenclawProbe,
}

/// `client.mode` of `ConnectParams`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClientMode {
    Webchat,
    Cli,
    Ui,
    Backend,
    Node,
    Worker,
    Probe,
    Test,
}

impl ClientId {
    /// The id on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::WebchatUi => "webchat-ui",
            Self::OpenclawControlUi => "openclaw-control-ui",
            Self::OpenclawBrowserCopilot => "openclaw-browser-copilot",
            Self::OpenclawTui => "openclaw-tui",
            Self::Webchat => "webchat",
            Self::Cli => "cli",
            Self::GatewayClient => "gateway-client",
            Self::OpenclawMacos => "openclaw-macos",
            Self::OpenclawLinux => "openclaw-linux",
            Self::OpenclawIos => "openclaw-ios",
            Self::OpenclawWatchos => "openclaw-watchos",
            Self::OpenclawAndroid => "openclaw-android",
            Self::NodeHost => "node-host",
            Self::OpenclawWorker => "openclaw-worker",
            Self::Test => "test",
            Self::Fingerprint => "fingerprint",
            Self::OpenclawProbe => "openclaw-probe",
        }
    }
}

impl ClientMode {
    /// The mode on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Webchat => "webchat",
            Self::Cli => "cli",
            Self::Ui => "ui",
            Self::Backend => "backend",
            Self::Node => "node",
            Self::Worker => "worker",
            Self::Probe => "probe",
            Self::Test => "test",
        }
    }
}

/// `client` of `ConnectParams`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ClientInfo {
    pub id: ClientId,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub display_name: Option<String>,
    pub version: String,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub build_id: Option<String>,
    pub platform: String,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub device_family: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub model_identifier: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub time_zone: Option<String>,
    pub mode: ClientMode,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub instance_id: Option<String>,
}

impl ClientInfo {
    /// Whether a browser page runs this client: such a one must show an `Origin`.
    pub fn is_browser(&self) -> bool {
        matches!(self.id, ClientId::OpenclawControlUi | ClientId::WebchatUi)
            || (self.mode == ClientMode::Webchat)
    }

    /// The two helpers that may act on the shared secret alone, on the gateway's own host.
    pub fn is_local_helper(&self) -> bool {
        matches!(
            (self.id, self.mode),
            (ClientId::Cli, ClientMode::Cli) | (ClientId::GatewayClient, ClientMode::Backend)
        )
    }
}
