//! `discovery.*`: how a gateway lets itself be found.

use serde::Deserialize;

/// `discovery`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct DiscoverySettings {
    pub mdns: MdnsSettings,
    pub wide_area: WideAreaSettings,
}

/// `discovery.mdns`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct MdnsSettings {
    pub mode: MdnsMode,
    /// The host's name on the LAN instead of its own. This and the rest OpenClaw knows as environment variables only:
    /// `OPENCLAW_MDNS_HOSTNAME`.
    pub hostname: Option<String>,
    /// `OPENCLAW_SSH_PORT`: told in full mode.
    pub ssh_port: Option<u16>,
    /// `OPENCLAW_CLI_PATH`: told in full mode instead of this program's path.
    pub cli_path: Option<String>,
    /// `OPENCLAW_TAILNET_DNS`: the MagicDNS name, where it can't be asked for.
    pub tailnet_dns: Option<String>,
}

/// `discovery.mdns.mode`: what the LAN is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MdnsMode {
    /// Nothing.
    Off,
    /// What a client needs to connect.
    #[default]
    Minimal,
    /// That, and the SSH port, the path of the program and the name in the tailnet.
    Full,
}

/// `discovery.wideArea`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct WideAreaSettings {
    /// A domain of one's own whose DNS server lists gateways, such as `openclaw.internal`.
    pub domain: Option<String>,
}
