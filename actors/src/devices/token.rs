//! Device tokens.
//!
//! A device is shown the same token at every connect until it is rotated, and yet the database holds only the token's
//! digest. So a token is not stored but derived: HMAC-SHA256, keyed by a secret that lies beside the database in a
//! file of its own, over the device, the role and a random salt that is new at every rotation. Whoever copies the
//! database alone can neither use nor compute a token; whoever has the file alone lacks the salts. If the file is
//! lost, tokens in the hands of devices still match their digests; a device that must be shown its token gets a new
//! one.

use crate::pairings::{IssuedToken, TokenRecord};
use crate::randomness;
use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use tidegate_protocol::Role;

/// The key that tokens are derived with: one an installation.
#[derive(Clone)]
pub struct TokenKey(hmac::Key);

impl TokenKey {
    /// Reads the key, or makes one (mode 0600) where there is none.
    ///
    /// # Errors
    /// If the file can't be read or made, or holds something else.
    pub fn load_or_create(path: &Path) -> io::Result<Self> {
        match File::open(path) {
            Ok(mut file) => {
                let mut bytes = Vec::new();
                file.read_to_end(&mut bytes)?;
                let key: [u8; 32] = bytes.try_into().map_err(|_| wrong_size(path))?;
                Ok(Self::from_bytes(&key))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Self::create(path),
            Err(error) => Err(error),
        }
    }

    fn create(path: &Path) -> io::Result<Self> {
        let key: [u8; 32] = randomness::bytes()?;
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(&key)?;
        file.sync_all()?;
        Ok(Self::from_bytes(&key))
    }

    pub fn from_bytes(key: &[u8; 32]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, key))
    }

    /// A new token for a device in a role.
    ///
    /// # Errors
    /// If the machine has no random numbers.
    pub fn issue(&self, device_id: &str, role: Role) -> io::Result<IssuedToken> {
        let salt = randomness::bytes()?;
        Ok(self.derive(device_id, role, salt).hidden())
    }

    /// The token that `record` stands for; `None` if it was made with another key.
    pub fn recall(&self, device_id: &str, record: &TokenRecord) -> Option<IssuedToken> {
        let issued = self.derive(device_id, record.role, record.salt);
        record.digest.is(issued.expose()).then(|| issued.hidden())
    }

    fn derive(&self, device_id: &str, role: Role, salt: [u8; 16]) -> IssuedToken {
        let mut context = hmac::Context::with_key(&self.0);
        for part in [b"tidegate device token 1".as_slice(), device_id.as_bytes(), role.as_str().as_bytes()] {
            context.update(part);
            context.update(&[0]);
        }
        context.update(&salt);
        IssuedToken::new(URL_SAFE_NO_PAD.encode(context.sign().as_ref()), salt)
    }
}

fn wrong_size(path: &Path) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{} is no device token key", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_recalled_until_it_is_rotated_and_bound_to_device_and_role() {
        let key = TokenKey::from_bytes(&[7; 32]);
        let issued = key.issue("device-a", Role::Operator).unwrap();
        let record = issued.record(Role::Operator, 1);
        assert_eq!(issued.expose().len(), 43);
        assert_eq!(key.recall("device-a", &record).unwrap().expose(), issued.expose());
        assert!(key.recall("device-b", &record).is_none(), "another device");
        let node = TokenRecord { role: Role::Node, ..record.clone() };
        assert!(key.recall("device-a", &node).is_none(), "another role");
        assert!(TokenKey::from_bytes(&[8; 32]).recall("device-a", &record).is_none(), "another key");
        assert_ne!(key.issue("device-a", Role::Operator).unwrap().expose(), issued.expose());
        assert_eq!(format!("{issued:?}"), "[redacted]");
    }

    #[test]
    fn the_key_is_made_once_and_private() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("device-token.key");
        let issued = TokenKey::load_or_create(&path).unwrap().issue("a", Role::Node).unwrap();
        let again = TokenKey::load_or_create(&path).unwrap();
        assert!(again.recall("a", &issued.record(Role::Node, 1)).is_some());
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::write(&path, "short").unwrap();
        assert!(TokenKey::load_or_create(&path).is_err());
    }
}
