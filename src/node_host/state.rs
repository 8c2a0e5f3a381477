//! What a node host keeps between runs: its name, its choice of commands, the tokens gateways gave it, and a lock.

use std::{
    collections::BTreeMap,
    fs::File,
    io,
    path::{Path, PathBuf},
};

use nix::fcntl::Flock;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::NodeHostError;
use crate::{
    client::{Endpoint, Pin},
    config::private,
    lock::{self, NotLocked},
};

/// `node.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Memory {
    version: u32,
    /// Tells this installation from others in presence lists. It is no credential.
    pub(crate) instance_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) display_name: Option<String>,
    /// The commands to declare; all when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) commands: Option<Vec<String>>,
    /// The gateway that this node joined with a setup code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    gateway: Option<Joined>,
    /// Device tokens by gateway address.
    #[serde(default)]
    tokens: BTreeMap<String, Token>,
}

/// Where a gateway is, as it is kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Joined {
    url: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tls_fingerprint: Option<String>,
}

/// A device token. `Debug` doesn't show it.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Token {
    device_id: String,
    token: String,
}

impl std::fmt::Debug for Token {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Token").field("device_id", &self.device_id).finish_non_exhaustive()
    }
}

/// The folder of this node host, locked for as long as this lives.
#[derive(Debug)]
pub(crate) struct NodeState {
    path: PathBuf,
    pub(crate) memory: Memory,
    _lock: Flock<File>,
}

impl NodeState {
    /// Opens `folder`; fails when another node host has it open.
    pub(crate) fn open(folder: &Path) -> Result<Self, NodeHostError> {
        let failed = |source| NodeHostError::State { path: folder.to_owned(), source };
        private::folder(folder).map_err(failed)?;
        let lock = lock(folder)?;
        let path = folder.join("node.json");
        let memory = match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map_err(|error| NodeHostError::State { path: path.clone(), source: error.into() })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Memory {
                version: 1,
                instance_id: Uuid::new_v4().to_string(),
                display_name: None,
                commands: None,
                gateway: None,
                tokens: BTreeMap::new(),
            },
            Err(error) => return Err(failed(error)),
        };
        Ok(Self { path, memory, _lock: lock })
    }

    /// The token that the gateway at `url` gave to this device.
    pub(crate) fn token(&self, url: &str, device_id: &str) -> Option<String> {
        let token = self.memory.tokens.get(url)?;
        (token.device_id == device_id).then(|| token.token.clone())
    }

    /// Keeps a token, or forgets one.
    pub(crate) fn set_token(
        &mut self,
        url: &str,
        device_id: &str,
        token: Option<&str>,
    ) -> Result<(), NodeHostError> {
        let new = token.map(|token| Token { device_id: device_id.to_owned(), token: token.to_owned() });
        if self.memory.tokens.get(url) == new.as_ref() {
            return Ok(());
        }
        match new {
            Some(token) => self.memory.tokens.insert(url.to_owned(), token),
            None => self.memory.tokens.remove(url),
        };
        self.save()
    }

    /// The gateway that this node joined.
    pub(crate) fn joined(&self) -> Option<Endpoint> {
        let joined = self.memory.gateway.as_ref()?;
        let pin = joined.tls_fingerprint.as_deref().and_then(Pin::parse);
        Some(Endpoint { pin, ..Endpoint::parse(&joined.url).ok()? })
    }

    /// Keeps where the gateway is that this node joined.
    pub(crate) fn set_joined(&mut self, endpoint: &Endpoint) -> Result<(), NodeHostError> {
        let tls_fingerprint = endpoint.pin.map(|pin| pin.to_string());
        self.memory.gateway = Some(Joined { url: endpoint.to_string(), tls_fingerprint });
        self.save()
    }

    pub(crate) fn save(&self) -> Result<(), NodeHostError> {
        let failed = |source| NodeHostError::State { path: self.path.clone(), source };
        let text = serde_json::to_vec_pretty(&self.memory).map_err(|error| failed(error.into()))?;
        private::write(&self.path, &text).map_err(failed)
    }
}

fn lock(folder: &Path) -> Result<Flock<File>, NodeHostError> {
    let path = folder.join("node.lock");
    lock::take(&path).map_err(|error| match error {
        NotLocked::Io(source) => NodeHostError::State { path, source },
        NotLocked::Held(pid) => {
            NodeHostError::AlreadyRunning { folder: folder.to_owned(), holder: Holder(pid) }
        }
    })
}

/// The process that holds the lock, as far as it is known.
#[derive(Debug)]
pub struct Holder(Option<u32>);

impl std::fmt::Display for Holder {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(pid) => write!(out, " (process {pid})"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_host_on_the_same_folder_is_told_who_has_it() {
        let folder = tempfile::tempdir().unwrap();
        let first = NodeState::open(folder.path()).unwrap();
        let text = NodeState::open(folder.path()).unwrap_err().to_string();
        assert!(text.contains(&format!("process {}", std::process::id())), "{text}");
        drop(first);
        NodeState::open(folder.path()).unwrap();
    }

    #[test]
    fn what_is_kept_comes_back_and_tokens_belong_to_their_device() {
        let folder = tempfile::tempdir().unwrap();
        let mut state = NodeState::open(folder.path()).unwrap();
        state.memory.display_name = Some("box".into());
        state.set_token("ws://a:1", "dev", Some("t-1")).unwrap();
        assert!(!format!("{state:?}").contains("t-1"));
        let id = state.memory.instance_id.clone();
        drop(state);
        let mut state = NodeState::open(folder.path()).unwrap();
        assert_eq!(
            (state.memory.instance_id.clone(), state.memory.display_name.as_deref()),
            (id, Some("box"))
        );
        assert_eq!(state.token("ws://a:1", "dev").as_deref(), Some("t-1"));
        assert_eq!(state.token("ws://a:1", "other"), None);
        state.set_token("ws://a:1", "dev", None).unwrap();
        assert_eq!(state.token("ws://a:1", "dev"), None);
    }
}
