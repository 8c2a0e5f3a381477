//! A device's token: as the device is given it, and as it is kept.

use crate::secret::{SecretDigest, sha256};
use tidegate_protocol::{Role, Scopes};

/// A token in the clear, for the device it is bound to and for nobody else.
#[derive(Clone)]
pub struct IssuedToken {
    token: String,
    salt: [u8; 16],
}

/// The device's token for one role. Only its digest is kept, with the salt that the token was derived from.
#[derive(Debug, Clone)]
pub struct TokenRecord {
    pub role: Role,
    pub scopes: Scopes,
    pub salt: [u8; 16],
    pub digest: SecretDigest,
    pub created_at_ms: i64,
    pub rotated_at_ms: Option<i64>,
    pub revoked_at_ms: Option<i64>,
    pub last_used_at_ms: Option<i64>,
}

impl TokenRecord {
    /// When the token that is valid now was made.
    pub fn issued_at_ms(&self) -> i64 {
        self.rotated_at_ms.unwrap_or(self.created_at_ms)
    }
}

impl IssuedToken {
    /// A token and the salt that it was derived with.
    pub(crate) fn new(token: String, salt: [u8; 16]) -> Self {
        Self { token, salt }
    }

    /// A token whose holder just proved it.
    pub(crate) fn presented(token: &str, record: &TokenRecord) -> Self {
        Self { token: token.to_owned(), salt: record.salt }.hidden()
    }

    /// The same, kept out of the logs from now on.
    pub(crate) fn hidden(self) -> Self {
        crate::redaction::hide(&self.token);
        self
    }

    /// The token itself: for the hello of its device, never for a log.
    pub fn expose(&self) -> &str {
        &self.token
    }

    pub(crate) fn record(&self, role: Role, now_ms: i64) -> TokenRecord {
        TokenRecord {
            role,
            scopes: Scopes::none(),
            salt: self.salt,
            digest: SecretDigest::from_digest(sha256(self.token.as_bytes())),
            created_at_ms: now_ms,
            rotated_at_ms: None,
            revoked_at_ms: None,
            last_used_at_ms: None,
        }
    }
}

impl std::fmt::Debug for IssuedToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[redacted]")
    }
}
