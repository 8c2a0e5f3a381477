//! The proof that a peer holds the private key of the device it claims to be.
//!
//! A device is an Ed25519 key; its id is the SHA-256 of the raw public key. To connect it signs a line of fields
//! that holds everything the connection will be judged by, and the nonce of this very socket's challenge.

use aws_lc_rs::{digest, signature};
use base64::Engine;
use base64::alphabet::{STANDARD, URL_SAFE};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

/// How far a signature's time may be from ours, either way.
pub const SIGNATURE_SKEW_MS: i64 = 120_000;
const KEY_BYTES: usize = 32;
const SIGNATURE_BYTES: usize = 64;

/// The fields a device signs. The same struct builds the line on the client's side.
#[derive(Debug, Clone, Copy)]
pub struct Statement<'a> {
    pub device_id: &'a str,
    pub client_id: &'a str,
    pub client_mode: &'a str,
    pub role: &'a str,
    pub scopes: &'a [String],
    pub signed_at_ms: i64,
    /// The credential sent: shared token, else device token, else bootstrap token, else empty.
    pub token: &'a str,
    pub nonce: &'a str,
    pub platform: Option<&'a str>,
    pub device_family: Option<&'a str>,
}

/// A statement with the key and the signature that should prove it, both as sent (base64).
#[derive(Debug, Clone, Copy)]
pub struct Proof<'a> {
    pub statement: Statement<'a>,
    pub public_key: &'a str,
    pub signature: &'a str,
}

/// A verified device key.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct DeviceKey([u8; KEY_BYTES]);

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DeviceAuthError {
    #[error("device identity mismatch")]
    IdMismatch,
    #[error("device public key invalid")]
    PublicKeyInvalid,
    #[error("device signature expired")]
    Expired,
    #[error("device nonce required")]
    NonceMissing,
    #[error("device nonce mismatch")]
    NonceMismatch,
    #[error("device signature invalid")]
    SignatureInvalid,
}

impl DeviceAuthError {
    /// `details.code` on the wire.
    pub fn code(self) -> &'static str {
        match self {
            Self::IdMismatch => "DEVICE_AUTH_DEVICE_ID_MISMATCH",
            Self::PublicKeyInvalid => "DEVICE_AUTH_PUBLIC_KEY_INVALID",
            Self::Expired => "DEVICE_AUTH_SIGNATURE_EXPIRED",
            Self::NonceMissing => "DEVICE_AUTH_NONCE_REQUIRED",
            Self::NonceMismatch => "DEVICE_AUTH_NONCE_MISMATCH",
            Self::SignatureInvalid => "DEVICE_AUTH_SIGNATURE_INVALID",
        }
    }

    /// `details.reason` on the wire.
    pub fn reason(self) -> &'static str {
        match self {
            Self::IdMismatch => "device-id-mismatch",
            Self::PublicKeyInvalid => "device-public-key",
            Self::Expired => "device-signature-stale",
            Self::NonceMissing => "device-nonce-missing",
            Self::NonceMismatch => "device-nonce-mismatch",
            Self::SignatureInvalid => "device-signature",
        }
    }
}

impl Proof<'_> {
    /// Checks everything in the order in which the errors are promised: id, key, time, nonce, signature.
    pub fn verify(&self, challenge_nonce: &str, now_ms: i64) -> Result<DeviceKey, DeviceAuthError> {
        let statement = &self.statement;
        let key = DeviceKey::decode(self.public_key).ok_or(DeviceAuthError::IdMismatch)?;
        if key.device_id() != statement.device_id {
            return Err(DeviceAuthError::IdMismatch);
        }
        if key.is_weak() {
            return Err(DeviceAuthError::PublicKeyInvalid);
        }
        if now_ms.abs_diff(statement.signed_at_ms) > SIGNATURE_SKEW_MS.unsigned_abs() {
            return Err(DeviceAuthError::Expired);
        }
        if statement.nonce.trim().is_empty() {
            return Err(DeviceAuthError::NonceMissing);
        }
        if statement.nonce != challenge_nonce {
            return Err(DeviceAuthError::NonceMismatch);
        }
        let signature =
            decode_exact::<SIGNATURE_BYTES>(self.signature).ok_or(DeviceAuthError::SignatureInvalid)?;
        if key.signed(&statement.line_v3(), &signature) || key.signed(&statement.line_v2(), &signature) {
            Ok(key)
        } else {
            Err(DeviceAuthError::SignatureInvalid)
        }
    }
}

impl Statement<'_> {
    /// The line most clients sign.
    pub fn line_v3(&self) -> String {
        let platform = normalised(self.platform);
        let family = normalised(self.device_family);
        format!("v3|{}|{platform}|{family}", self.common())
    }

    /// The older line without platform and family, which browsers still sign.
    pub fn line_v2(&self) -> String {
        format!("v2|{}", self.common())
    }

    fn common(&self) -> String {
        let Self { device_id, client_id, client_mode, role, signed_at_ms, token, nonce, .. } = self;
        let scopes = self.scopes.join(",");
        format!("{device_id}|{client_id}|{client_mode}|{role}|{scopes}|{signed_at_ms}|{token}|{nonce}")
    }
}

impl DeviceKey {
    /// Reads a raw key of exactly 32 bytes in either base64 alphabet, padded or not.
    pub fn decode(text: &str) -> Option<Self> {
        decode_exact(text).map(Self)
    }

    pub fn from_bytes(bytes: [u8; KEY_BYTES]) -> Self {
        Self(bytes)
    }

    /// Lower-case hex of the key's SHA-256.
    pub fn device_id(&self) -> String {
        digest::digest(&digest::SHA256, &self.0).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The spelling that goes on the wire and into the store.
    pub fn encode(&self) -> String {
        base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(self.0)
    }

    /// Low-order keys accept signatures that nobody made; keys of more than one spelling have no single id.
    fn is_weak(&self) -> bool {
        is_low_order(&self.0) || !is_canonical(&self.0)
    }

    fn signed(&self, line: &str, signature: &[u8; SIGNATURE_BYTES]) -> bool {
        let Some(commitment) = signature.first_chunk::<KEY_BYTES>() else { return false };
        // The library checks the equation and that S is below the group's order; the rest of strictness is ours.
        !is_low_order(commitment)
            && signature::UnparsedPublicKey::new(&signature::ED25519, &self.0)
                .verify(line.as_bytes(), signature)
                .is_ok()
    }
}

impl std::fmt::Debug for DeviceKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "DeviceKey({})", self.encode())
    }
}

/// Trimmed, with A to Z lowered: what goes into the signed line, and what devices are compared by.
pub fn normalised(text: Option<&str>) -> String {
    text.unwrap_or_default().trim().to_ascii_lowercase()
}

fn decode_exact<const N: usize>(text: &str) -> Option<[u8; N]> {
    let text = text.trim();
    let alphabet = if text.contains(['+', '/']) { &STANDARD } else { &URL_SAFE };
    let lenient = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    GeneralPurpose::new(alphabet, lenient).decode(text).ok()?.try_into().ok()
}

/// The y coordinates of the eight points of low order, the sign bit left out.
const LOW_ORDER: [[u8; KEY_BYTES]; 5] = [
    [0; KEY_BYTES],
    little_endian(1),
    [
        0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98, 0xf0, 0xd5,
        0xdf, 0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53, 0xfc, 0x05,
    ],
    [
        0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67, 0x0f, 0x2a,
        0x20, 0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac, 0x03, 0x7a,
    ],
    below_modulus(1),
];

const fn little_endian(value: u8) -> [u8; KEY_BYTES] {
    let mut bytes = [0; KEY_BYTES];
    bytes[0] = value;
    bytes
}

/// p - `distance`, where p = 2^255 - 19.
const fn below_modulus(distance: u8) -> [u8; KEY_BYTES] {
    let mut bytes = [0xff; KEY_BYTES];
    bytes[0] = 0xed - distance;
    bytes[KEY_BYTES - 1] = 0x7f;
    bytes
}

fn without_sign(point: &[u8; KEY_BYTES]) -> [u8; KEY_BYTES] {
    let mut y = *point;
    y[KEY_BYTES - 1] &= 0x7f;
    y
}

fn is_low_order(point: &[u8; KEY_BYTES]) -> bool {
    let y = without_sign(point);
    LOW_ORDER.contains(&y) || !is_canonical(point)
}

/// Whether y is below the modulus. The few that are not are second spellings of tiny values.
fn is_canonical(point: &[u8; KEY_BYTES]) -> bool {
    let y = without_sign(point);
    y.iter().rev().lt(below_modulus(0).iter().rev())
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use signature::KeyPair;

    const NONCE: &str = "fdfce268-3f77-4563-8588-ac8032a9f88c";

    /// A connect of the official node host, as recorded.
    const NODE_HOST: Proof<'static> = Proof {
        statement: Statement {
            device_id: "b1e1338d087dcb28779fae4da931c58df46bb97ea3ac30985602c92a9180390e",
            client_id: "node-host",
            client_mode: "node",
            role: "node",
            scopes: &[],
            signed_at_ms: 1_795_366_255_165,
            token: "5AaC6zCy36FybWvYspvLWvaaG6nvkpA1t3UTC-4PQCU",
            nonce: NONCE,
            platform: Some("linux"),
            device_family: Some("Linux"),
        },
        public_key: "fpIPBBG-SCqBQ7V9Wk2dMT3BV-F3Sba-trwILjHxoTo",
        signature: "9OBs5jiPanwnqqHiy2NHRAbPCYSlQsQtvetw5vixOt_ZrX72I-MWOon9BDkrrqh0vfRWPYBMF45563HlB0QYCQ",
    };

    fn verdict(proof: Proof<'_>) -> Result<DeviceKey, DeviceAuthError> {
        proof.verify(NONCE, NODE_HOST.statement.signed_at_ms)
    }

    fn changed(edit: impl FnOnce(&mut Statement<'static>)) -> Result<DeviceKey, DeviceAuthError> {
        let mut proof = NODE_HOST;
        edit(&mut proof.statement);
        verdict(proof)
    }

    #[test]
    fn a_recorded_node_host_is_believed() {
        let key = verdict(NODE_HOST).unwrap();
        assert_eq!(key.encode(), NODE_HOST.public_key);
        assert_eq!(key.device_id(), NODE_HOST.statement.device_id);
    }

    #[test]
    fn a_recorded_browser_signs_the_older_line() {
        let scopes = ["admin", "read", "write", "approvals", "questions", "pairing"]
            .map(|scope| format!("operator.{scope}"));
        let nonce = "407d651e-12d8-48d9-aa16-e4dfce73f120";
        let statement = Statement {
            device_id: "7645d5c7464f98b1c0646a4d76b7ba7d464caad4e9c25fc9425db36bae9502cb",
            client_id: "openclaw-control-ui",
            client_mode: "webchat",
            role: "operator",
            scopes: &scopes,
            signed_at_ms: 1_795_368_693_712,
            token: "tok-gw2-0002",
            nonce,
            platform: Some("Linux x86_64"),
            device_family: None,
        };
        let proof = Proof {
            statement,
            public_key: "UvPlKZo4kRHYkU2KIb-d0LrQ-EizrxsizCz8yjok3eM",
            signature: "VdnHcy1wrJ-lc35xp2ITYVGHEdG27DicLFyt_zWTon-1jqaMZ-ygLIwCGA-nIGFSKGEiVsuA9EmAA9jqueB_DA",
        };
        assert!(proof.verify(nonce, statement.signed_at_ms).is_ok());
    }

    #[test]
    fn every_signed_field_is_bound() {
        let scopes = &*vec!["operator.admin".to_owned()].leak();
        let invalid = Err(DeviceAuthError::SignatureInvalid);
        assert_eq!(changed(|s| s.client_id = "cli"), invalid);
        assert_eq!(changed(|s| s.client_mode = "cli"), invalid);
        assert_eq!(changed(|s| s.role = "operator"), invalid);
        assert_eq!(changed(|s| s.scopes = scopes), invalid);
        assert_eq!(changed(|s| s.signed_at_ms += 1), invalid);
        assert_eq!(changed(|s| s.token = ""), invalid);
        assert_eq!(changed(|s| s.platform = Some("darwin")), invalid);
        assert_eq!(changed(|s| s.device_family = None), invalid);
        assert_eq!(changed(|s| s.device_id = "00"), Err(DeviceAuthError::IdMismatch));
        assert!(changed(|s| s.platform = Some(" LINUX ")).is_ok(), "case and blanks do not count");
    }

    #[test]
    fn time_and_nonce_are_checked_before_the_signature() {
        let signed_at = NODE_HOST.statement.signed_at_ms;
        for skew in [-119_000, 120_000] {
            assert!(NODE_HOST.verify(NONCE, signed_at + skew).is_ok());
        }
        for skew in [-120_001, 121_000, i64::MIN / 2] {
            assert_eq!(NODE_HOST.verify(NONCE, signed_at + skew), Err(DeviceAuthError::Expired));
        }
        assert_eq!(changed(|s| s.signed_at_ms = i64::MIN), Err(DeviceAuthError::Expired));
        assert_eq!(changed(|s| s.nonce = "  "), Err(DeviceAuthError::NonceMissing));
        assert_eq!(changed(|s| s.nonce = "mine"), Err(DeviceAuthError::NonceMismatch));
    }

    #[test]
    fn keys_and_signatures_have_exactly_their_length() {
        let short = URL_SAFE_NO_PAD.encode([7; 31]);
        let long = URL_SAFE_NO_PAD.encode([7; 65]);
        assert_eq!(verdict(Proof { public_key: &short, ..NODE_HOST }), Err(DeviceAuthError::IdMismatch));
        assert_eq!(verdict(Proof { public_key: "", ..NODE_HOST }), Err(DeviceAuthError::IdMismatch));
        for signature in [long.as_str(), "", "!!", &NODE_HOST.signature[..84]] {
            assert_eq!(
                verdict(Proof { signature, ..NODE_HOST }),
                Err(DeviceAuthError::SignatureInvalid),
                "{signature}"
            );
        }
    }

    #[test]
    fn the_standard_alphabet_is_read_too() {
        let bytes = DeviceKey::decode(NODE_HOST.public_key).unwrap().0;
        let standard = base64::engine::general_purpose::STANDARD.encode(bytes);
        assert!(verdict(Proof { public_key: &standard, ..NODE_HOST }).is_ok());
    }

    #[test]
    fn weak_keys_are_refused_before_their_signature_is_looked_at() {
        let zero_signature = URL_SAFE_NO_PAD.encode([0; SIGNATURE_BYTES]);
        let mut weak: Vec<[u8; 32]> = LOW_ORDER.to_vec();
        weak.extend((0..19).map(|more| {
            let mut second_spelling = below_modulus(0);
            second_spelling[0] = 0xed + more;
            second_spelling
        }));
        for mut bytes in weak {
            for sign in [0x00, 0x80] {
                bytes[31] = (bytes[31] & 0x7f) | sign;
                let key = DeviceKey(bytes);
                let (id, text) = (key.device_id(), key.encode());
                let statement = Statement { device_id: &id, ..NODE_HOST.statement };
                let proof = Proof { statement, public_key: &text, signature: &zero_signature };
                assert_eq!(verdict(proof), Err(DeviceAuthError::PublicKeyInvalid), "{bytes:02x?}");
            }
        }
    }

    #[test]
    fn a_signature_has_one_spelling() {
        const ORDER: [u8; 32] = [
            0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14,
            0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
        ];
        let mut bytes = decode_exact::<SIGNATURE_BYTES>(NODE_HOST.signature).unwrap();
        let mut carry = 0;
        for (digit, more) in bytes[32..].iter_mut().zip(ORDER) {
            let sum = u16::from(*digit) + u16::from(more) + carry;
            (*digit, carry) = (sum.to_le_bytes()[0], sum >> 8);
        }
        let malleated = URL_SAFE_NO_PAD.encode(bytes);
        let refused = Err(DeviceAuthError::SignatureInvalid);
        assert_eq!(verdict(Proof { signature: &malleated, ..NODE_HOST }), refused);
        let zero = URL_SAFE_NO_PAD.encode([0; SIGNATURE_BYTES]);
        assert_eq!(verdict(Proof { signature: &zero, ..NODE_HOST }), refused);
    }

    #[test]
    fn what_this_module_writes_it_reads() {
        let pair = signature::Ed25519KeyPair::generate().unwrap();
        let key = DeviceKey::from_bytes(pair.public_key().as_ref().try_into().unwrap());
        let (id, public_key) = (key.device_id(), key.encode());
        let statement = Statement { device_id: &id, ..NODE_HOST.statement };
        for line in [statement.line_v3(), statement.line_v2()] {
            let signature = URL_SAFE_NO_PAD.encode(pair.sign(line.as_bytes()));
            assert_eq!(verdict(Proof { statement, public_key: &public_key, signature: &signature }), Ok(key));
        }
    }
}
