//! Device identities: an Ed25519 key, and the signed block that a `connect` carries.

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

/// The key of one device, kept for as long as the test needs it.
pub struct Identity {
    key: Ed25519KeyPair,
}

/// Which of the two signature payloads to sign: CLI and node host sign v3, the Control UI signs v2.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PayloadVersion {
    V2,
    V3,
}

/// Everything that a signature covers.
#[derive(Clone, Debug)]
pub struct Signed<'a> {
    pub version: PayloadVersion,
    pub client_id: &'a str,
    pub client_mode: &'a str,
    pub role: &'a str,
    pub scopes: &'a [String],
    pub signed_at: i64,
    pub token: &'a str,
    pub nonce: &'a str,
    pub platform: &'a str,
    pub device_family: &'a str,
}

impl Identity {
    pub fn new() -> Self {
        Self { key: Ed25519KeyPair::generate().unwrap() }
    }

    /// The raw 32 bytes of the public key.
    pub fn public_key(&self) -> &[u8] {
        self.key.public_key().as_ref()
    }

    /// Lower-case hex SHA-256 of the raw public key: the device's id, and for a node its node id too.
    pub fn id(&self) -> String {
        digest(&SHA256, self.public_key()).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The text that is signed.
    pub fn payload(&self, signed: &Signed<'_>) -> String {
        let common = format!(
            "{}|{}|{}|{}|{}|{}|{}|{}",
            self.id(),
            signed.client_id,
            signed.client_mode,
            signed.role,
            signed.scopes.join(","),
            signed.signed_at,
            signed.token,
            signed.nonce,
        );
        match signed.version {
            PayloadVersion::V2 => format!("v2|{common}"),
            PayloadVersion::V3 => format!(
                "v3|{common}|{}|{}",
                signed.platform.trim().to_ascii_lowercase(),
                signed.device_family.trim().to_ascii_lowercase()
            ),
        }
    }

    /// The `device` block of a `connect`.
    pub fn block(&self, signed: &Signed<'_>) -> Value {
        json!({
            "id": self.id(),
            "publicKey": URL_SAFE_NO_PAD.encode(self.public_key()),
            "signature": URL_SAFE_NO_PAD.encode(self.key.sign(self.payload(signed).as_bytes())),
            "signedAt": signed.signed_at,
            "nonce": signed.nonce,
        })
    }
}
