//! The device identity: an Ed25519 key in a file that only its owner can read.

use std::{
    fs, io,
    io::Write,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use aws_lc_rs::{
    encoding::AsBigEndian,
    signature::{Ed25519KeyPair, KeyPair},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use serde::{Deserialize, Serialize};
use tidegate_actors::randomness;
use tidegate_protocol::{
    connect::{Challenge, ConnectParams, DeviceBlock},
    device_auth::{DeviceKey, Statement},
};

use super::ClientError;
use crate::config::private;

/// A device's key. The private half leaves neither this type nor its file.
pub struct DeviceIdentity {
    key: Ed25519KeyPair,
    id: String,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Stored {
    version: u32,
    device_id: String,
    /// base64url of the 32-byte seed.
    private_key: String,
}

impl DeviceIdentity {
    /// Reads the identity at `path`, or makes one there.
    pub fn load_or_create(path: &Path) -> Result<Self, ClientError> {
        match fs::read(path) {
            Ok(bytes) => Self::read(path, &bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Self::create(path),
            Err(error) => Err(fail(path, error)),
        }
    }

    /// Reads the identity at `path`; `None` when there is none.
    pub fn load(path: &Path) -> Result<Option<Self>, ClientError> {
        match fs::read(path) {
            Ok(bytes) => Self::read(path, &bytes).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(fail(path, error)),
        }
    }

    /// A new identity that is kept nowhere.
    pub fn ephemeral() -> Result<Self, ClientError> {
        let memory = Path::new("(memory)");
        let seed: [u8; 32] = randomness::bytes().map_err(|error| fail(memory, error))?;
        let key = Ed25519KeyPair::from_seed_unchecked(&seed).map_err(|_| fail(memory, "not a seed"))?;
        Ok(Self::of(key))
    }

    /// Lowercase hex SHA-256 of the public key.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// base64url of the public key.
    pub fn public_key(&self) -> String {
        BASE64.encode(self.key.public_key())
    }

    /// Proves this device over `challenge`, for exactly these params.
    pub fn sign(&self, challenge: &Challenge, params: &ConnectParams) -> DeviceBlock {
        let statement = Statement {
            device_id: &self.id,
            client_id: params.client.id.as_str(),
            client_mode: params.client.mode.as_str(),
            role: params.role.as_deref().unwrap_or("operator"),
            scopes: &params.scopes,
            signed_at_ms: challenge.ts,
            token: params.signed_token(),
            nonce: &challenge.nonce,
            platform: Some(&params.client.platform),
            device_family: params.client.device_family.as_deref(),
        };
        DeviceBlock {
            id: self.id.clone(),
            public_key: self.public_key(),
            signature: BASE64.encode(self.key.sign(statement.line_v3().as_bytes())),
            signed_at: challenge.ts,
            nonce: challenge.nonce.clone(),
        }
    }

    fn of(key: Ed25519KeyPair) -> Self {
        let mut public = [0; 32];
        public.copy_from_slice(key.public_key().as_ref());
        let id = DeviceKey::from_bytes(public).device_id();
        Self { key, id }
    }

    fn read(path: &Path, bytes: &[u8]) -> Result<Self, ClientError> {
        let mode = fs::metadata(path).map_err(|error| fail(path, error))?.permissions().mode();
        if mode & 0o077 != 0 {
            return Err(fail(path, format!("others can read it (mode {:o}); run chmod 600", mode & 0o777)));
        }
        let stored: Stored = serde_json::from_slice(bytes).map_err(|error| fail(path, error))?;
        let seed = BASE64.decode(&stored.private_key).map_err(|_| fail(path, "the key is not base64url"))?;
        let key = Ed25519KeyPair::from_seed_unchecked(&seed).map_err(|_| fail(path, "the key is damaged"))?;
        let identity = Self::of(key);
        if identity.id != stored.device_id {
            return Err(fail(path, "the device id does not belong to the key"));
        }
        Ok(identity)
    }

    fn create(path: &Path) -> Result<Self, ClientError> {
        let identity = Self::ephemeral()?;
        let seed = identity.key.seed().map_err(|_| fail(path, "the key has no seed"))?;
        let seed = seed.as_be_bytes().map_err(|_| fail(path, "the key has no seed"))?;
        let stored =
            Stored { version: 1, device_id: identity.id.clone(), private_key: BASE64.encode(seed.as_ref()) };
        let text = serde_json::to_vec_pretty(&stored).map_err(|error| fail(path, error))?;
        match write_private(path, &text) {
            Ok(()) => Ok(identity),
            // Another process was quicker: its key is the identity.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let bytes = fs::read(path).map_err(|error| fail(path, error))?;
                Self::read(path, &bytes)
            }
            Err(error) => Err(fail(path, error)),
        }
    }
}

impl std::fmt::Debug for DeviceIdentity {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("DeviceIdentity").field("id", &self.id).finish_non_exhaustive()
    }
}

/// Writes a new file, whole or not at all, readable by its owner only. It must not exist.
fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        private::folder(folder)?;
    }
    let mut draft = path.as_os_str().to_owned();
    draft.push(format!(".{}", std::process::id()));
    let draft = PathBuf::from(draft);
    let written = (|| {
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        // A link, unlike a rename, fails when the name is taken.
        fs::hard_link(&draft, path)
    })();
    let _ = fs::remove_file(&draft);
    written
}

fn fail(path: &Path, problem: impl std::fmt::Display) -> ClientError {
    ClientError::Identity { path: path.to_owned(), problem: problem.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_is_made_once_and_kept_private() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/identity.json");
        let first = DeviceIdentity::load_or_create(&path).unwrap();
        let again = DeviceIdentity::load_or_create(&path).unwrap();
        assert_eq!(first.id(), again.id());
        assert_eq!(first.public_key(), again.public_key());
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn an_open_or_damaged_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("identity.json");
        DeviceIdentity::load_or_create(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let error = DeviceIdentity::load_or_create(&path).unwrap_err().to_string();
        assert!(error.contains("chmod 600"), "{error}");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, "{").unwrap();
        assert!(DeviceIdentity::load_or_create(&path).is_err());
    }
}
