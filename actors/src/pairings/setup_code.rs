//! Setup codes as they are kept: who may come in with one, and what became of it.
//!
//! A code is never stored. Its token is derived from a random seed; the database has the token's digest, and whoever
//! shows the token proves to have had the code. Where the code can be fetched once from a join address, the seed is
//! the last part of that address: who has it can be told the token again, and nobody else can compute it.

use crate::randomness;
use crate::secret::{SecretDigest, sha256};
use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use std::io;
use tidegate_protocol::setup_code::{Access, SetupPayload};

/// How long a code may be used.
pub const CODE_LIFETIME_MS: i64 = 10 * 60 * 1000;

/// How long it is known what became of a code.
pub(crate) const CODE_MEMORY_MS: i64 = 24 * 3600 * 1000;

/// Codes that may wait to be used at one time.
pub(crate) const MAX_CODES: usize = 32;

/// Characters of a seed as it stands in a join address.
const SEED_CHARS: usize = 22;

/// A code that lets one device in once, without another secret.
#[derive(Debug, Clone)]
pub struct SetupCode {
    /// Names the code without opening anything.
    pub setup_id: String,
    pub digest: SecretDigest,
    pub access: Access,
    /// Where the gateway is for whoever joins.
    pub url: String,
    /// Of the certificate that the gateway itself serves there.
    pub tls_fingerprint: Option<String>,
    /// Whether the code can still be fetched from its join address.
    pub join_open: bool,
    pub created_at_ms: i64,
    pub expires_at_ms: i64,
    pub used: Option<Used>,
}

/// What became of a code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Used {
    pub at_ms: i64,
    pub device_id: String,
    pub device_name: Option<String>,
    /// Whether the device was sent the token it is known by from now on.
    pub delivered: bool,
}

impl SetupCode {
    /// Whether a device may still come in with it.
    pub fn is_open(&self, now_ms: i64) -> bool {
        self.used.is_none() && now_ms < self.expires_at_ms
    }

    /// What the code says; `token` is the one that belongs to it.
    pub fn payload(&self, token: &str) -> SetupPayload {
        SetupPayload {
            url: self.url.clone(),
            bootstrap_token: token.to_owned(),
            expires_at_ms: Some(self.expires_at_ms),
            tls_fingerprint: self.tls_fingerprint.clone(),
        }
    }
}

/// What a code's token is made from.
#[derive(Clone)]
pub struct Seed(String);

impl Seed {
    /// A new one.
    ///
    /// # Errors
    /// If the machine has no random numbers.
    pub fn random() -> io::Result<Self> {
        let bytes: [u8; 16] = randomness::bytes()?;
        Ok(Self(URL_SAFE_NO_PAD.encode(bytes)).hidden())
    }

    /// The last part of a join address, if it can be one.
    pub fn parse(text: &str) -> Option<Self> {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        (text.len() == SEED_CHARS && text.bytes().all(fits)).then(|| Self(text.to_owned()))
    }

    /// As it stands in a join address.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The token that belongs to it.
    pub fn token(&self) -> String {
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.0.as_bytes());
        URL_SAFE_NO_PAD.encode(hmac::sign(&key, b"tidegate setup code 1").as_ref())
    }

    pub fn digest(&self) -> SecretDigest {
        SecretDigest::from_digest(sha256(self.token().as_bytes()))
    }

    /// The same, with its token, kept out of the logs from now on.
    fn hidden(self) -> Self {
        crate::redaction::hide(&self.0);
        crate::redaction::hide(&self.token());
        self
    }
}

impl std::fmt::Debug for Seed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[redacted]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_token_again_and_no_other_seed_does() {
        let seed = Seed::random().unwrap();
        assert_eq!((seed.as_str().len(), seed.token().len()), (22, 43));
        let again = Seed::parse(seed.as_str()).unwrap();
        assert_eq!(again.token(), seed.token());
        assert!(seed.digest().is(&again.token()));
        assert_ne!(Seed::random().unwrap().token(), seed.token());
        assert_eq!(format!("{seed:?}"), "[redacted]");
    }

    #[test]
    fn only_what_can_be_the_end_of_a_join_address_is_looked_up() {
        for text in
            ["", "short", "../../../../etc/passwd", "0123456789012345678901/", "01234567890123456789012"]
        {
            assert!(Seed::parse(text).is_none(), "{text}");
        }
    }
}
