//! The harness itself: what it signs verifies, what it frees is free.

use crate::support::Identity;
use crate::support::identity::{PayloadVersion, Signed};
use crate::support::ports::free_port;
use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

#[test]
fn a_device_block_verifies_against_the_documented_payload() {
    let identity = Identity::new();
    let scopes = ["operator.read".to_owned(), "operator.write".to_owned()];
    let signed = Signed {
        version: PayloadVersion::V3,
        client_id: "cli",
        client_mode: "cli",
        role: "operator",
        scopes: &scopes,
        signed_at: 1_795_365_826_112,
        token: "tok",
        nonce: "n-1",
        platform: " Linux ",
        device_family: "Linux",
    };
    let text = identity.payload(&signed);
    let expected = format!(
        "v3|{}|cli|cli|operator|operator.read,operator.write|1795365826112|tok|n-1|linux|linux",
        identity.id()
    );
    assert_eq!(text, expected);
    let block = identity.block(&signed);
    let signature = URL_SAFE_NO_PAD.decode(block["signature"].as_str().unwrap()).unwrap();
    UnparsedPublicKey::new(&ED25519, identity.public_key()).verify(text.as_bytes(), &signature).unwrap();
}

#[test]
fn two_free_ports_differ() {
    assert_ne!(free_port(), free_port());
}
