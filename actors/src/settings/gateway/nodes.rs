//! `gateway.nodes`: what nodes may do, and how they are paired.

use serde::Deserialize;

/// `gateway.nodes`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct NodeSettings {
    pub commands: NodeCommandSettings,
    /// Older spelling of `commands.allow`; read through [`NodeSettings::allowed`].
    pub allow_commands: Vec<String>,
    /// Older spelling of `commands.deny`; read through [`NodeSettings::denied`].
    pub deny_commands: Vec<String>,
    pub pairing: NodePairingSettings,
}

impl NodeSettings {
    /// Commands that are allowed beyond the platform's defaults.
    pub fn allowed(&self) -> impl Iterator<Item = &str> {
        self.commands.allow.iter().chain(&self.allow_commands).map(String::as_str)
    }

    /// Commands that are refused whatever else allows them.
    pub fn denied(&self) -> impl Iterator<Item = &str> {
        self.commands.deny.iter().chain(&self.deny_commands).map(String::as_str)
    }
}

/// `gateway.nodes.commands`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct NodeCommandSettings {
    pub allow: Vec<String>,
    pub deny: Vec<String>,
}

/// `gateway.nodes.pairing`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct NodePairingSettings {
    /// Approve a direct local client with the shared secret without asking.
    pub auto_approve_local: bool,
    /// Approve a node's first pairing from these addresses; never an operator's.
    pub auto_approve_cidrs: Vec<String>,
    /// Approve a node's first pairing when its key is found over SSH on the machine that it came from.
    pub ssh_verify: SshVerifySettings,
    /// Approve also what a direct local node may be asked to do: without it `tidegate nodes approve` does.
    pub approve_local_surface: bool,
}

impl Default for NodePairingSettings {
    fn default() -> Self {
        Self {
            auto_approve_local: true,
            auto_approve_cidrs: Vec::new(),
            ssh_verify: SshVerifySettings::default(),
            approve_local_surface: false,
        }
    }
}

/// `gateway.nodes.pairing.sshVerify`: `false`, `true`, or an object, which means `true`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SshVerifySettings {
    pub enabled: bool,
    /// Whom to log in as; unset leaves it to ssh.
    pub user: Option<String>,
    /// The key file to log in with; unset leaves it to ssh.
    pub identity: Option<String>,
    /// For the whole of it.
    pub timeout_ms: u64,
    /// Only machines at these addresses are asked; none: those in private networks.
    pub cidrs: Vec<String>,
}

impl Default for SshVerifySettings {
    fn default() -> Self {
        Self { enabled: true, user: None, identity: None, timeout_ms: 7000, cidrs: Vec::new() }
    }
}

impl<'de> Deserialize<'de> for SshVerifySettings {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SshVerifyVisitor)
    }
}

struct SshVerifyVisitor;

impl<'de> serde::de::Visitor<'de> for SshVerifyVisitor {
    type Value = SshVerifySettings;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("true, false or an object with user, identity, timeoutMs and cidrs")
    }

    fn visit_bool<E>(self, enabled: bool) -> Result<Self::Value, E> {
        Ok(SshVerifySettings { enabled, ..SshVerifySettings::default() })
    }

    fn visit_map<A: serde::de::MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        #[derive(Deserialize)]
        #[serde(default, rename_all = "camelCase")]
        struct Fields {
            user: Option<String>,
            identity: Option<String>,
            timeout_ms: u64,
            cidrs: Vec<String>,
        }
        impl Default for Fields {
            fn default() -> Self {
                let SshVerifySettings { user, identity, timeout_ms, cidrs, .. } =
                    SshVerifySettings::default();
                Self { user, identity, timeout_ms, cidrs }
            }
        }
        let map = serde::de::value::MapAccessDeserializer::new(map);
        let Fields { user, identity, timeout_ms, cidrs } = Fields::deserialize(map)?;
        Ok(SshVerifySettings { enabled: true, user, identity, timeout_ms, cidrs })
    }
}
