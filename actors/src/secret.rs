//! Secrets as the gateway keeps them: their SHA-256, compared in constant time, never shown.

use aws_lc_rs::{constant_time, digest};

/// The digest of a secret. It has no `PartialEq` on purpose: [`SecretDigest::is`] is the only way to compare.
#[derive(Clone)]
pub struct SecretDigest([u8; 32]);

impl SecretDigest {
    /// Surrounding blanks are no part of a secret: they come from files and clipboards.
    pub fn of(text: &str) -> Self {
        Self::from_digest(sha256(text.trim().as_bytes()))
    }

    pub fn from_digest(digest: [u8; 32]) -> Self {
        Self(digest)
    }

    /// Matches nothing: nobody knows a text with this digest.
    pub fn unmatchable() -> Self {
        Self([0; 32])
    }

    pub fn digest(&self) -> &[u8; 32] {
        &self.0
    }

    /// Takes the same time wherever the two differ, and whatever their lengths.
    pub fn is(&self, candidate: &str) -> bool {
        constant_time::verify_slices_are_equal(&self.0, &sha256(candidate.trim().as_bytes())).is_ok()
    }
}

impl std::fmt::Debug for SecretDigest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[redacted]")
    }
}

pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_text_matches_and_blanks_around_it_do_not_count() {
        let secret = SecretDigest::of(" s3cret\n");
        assert!(secret.is("s3cret") && secret.is("\ts3cret "));
        for wrong in ["", "s3cre", "s3cret1", "S3CRET", "s3 cret"] {
            assert!(!secret.is(wrong), "{wrong}");
        }
        assert_eq!(format!("{secret:?}"), "[redacted]");
    }
}
