//! The proof that a connection holds its device's key: everything that it signs, and every trick against it.

use crate::support::gateway::TOKEN;
use crate::support::identity::PayloadVersion;
use crate::support::{Connect, Gateway, Identity, Refused, Upgrade};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

fn assert_proof(refused: &Refused, message: &str, code: &str, reason: &str) {
    assert_eq!(refused.error["code"], "INVALID_REQUEST", "{refused:?}");
    assert_eq!(refused.error["message"], message, "{refused:?}");
    assert_eq!(refused.error["details"], json!({"code": code, "reason": reason}));
    assert_eq!((refused.code, refused.reason.as_str()), (1008, message));
}

fn assert_bad_signature(refused: &Refused) {
    let code = "DEVICE_AUTH_SIGNATURE_INVALID";
    assert_proof(refused, "device signature invalid", code, "device-signature");
}

fn with_device(identity: &Identity) -> Connect<'_> {
    Connect::cli().token(TOKEN).device(identity)
}

#[actix_web::test]
async fn both_signature_versions_and_both_spellings_of_the_key_are_accepted() {
    let gateway = Gateway::start().await;
    for version in [PayloadVersion::V2, PayloadVersion::V3] {
        let identity = Identity::new();
        with_device(&identity).payload_version(version).to(gateway.port).await.session();
    }
    let identity = Identity::new();
    let standard = json!(STANDARD.encode(identity.public_key()));
    with_device(&identity).tampered("publicKey", standard).to(gateway.port).await.session();
}

#[actix_web::test]
async fn an_id_that_is_not_the_keys_hash_is_refused() {
    let gateway = Gateway::start().await;
    let (identity, other) = (Identity::new(), Identity::new());
    let cases = [
        ("id", json!(other.id())),
        ("id", json!(identity.id().to_uppercase())),
        ("publicKey", json!(URL_SAFE_NO_PAD.encode(other.public_key()))),
        ("publicKey", json!(URL_SAFE_NO_PAD.encode(&identity.public_key()[..31]))),
        ("publicKey", json!("!!!")),
    ];
    for (field, value) in cases {
        let refused = with_device(&identity).tampered(field, value.clone()).to(gateway.port).await.refusal();
        assert_eq!(refused.detail(), "DEVICE_AUTH_DEVICE_ID_MISMATCH", "{field} {value}: {refused:?}");
        assert_proof(
            &refused,
            "device identity mismatch",
            "DEVICE_AUTH_DEVICE_ID_MISMATCH",
            "device-id-mismatch",
        );
    }
}

#[actix_web::test]
async fn a_weak_key_proves_nothing() {
    let gateway = Gateway::start().await;
    let mut order_two = [0_u8; 32];
    order_two[0] = 1;
    for key in [[0_u8; 32], order_two] {
        let identity = Identity::new();
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &key);
        let id: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        let refused = with_device(&identity)
            .tampered("id", json!(id))
            .tampered("publicKey", json!(URL_SAFE_NO_PAD.encode(key)))
            .tampered("signature", json!(URL_SAFE_NO_PAD.encode([0_u8; 64])))
            .to(gateway.port)
            .await
            .refusal();
        assert!(refused.detail().starts_with("DEVICE_AUTH_"), "{refused:?}");
    }
}

#[actix_web::test]
async fn a_proof_older_or_newer_than_two_minutes_is_stale() {
    let gateway = Gateway::start().await;
    let identity = Identity::new();
    for skew in [-125_000, 125_000, -660_000, 660_000] {
        let refused = with_device(&identity).clock_skew_ms(skew).to(gateway.port).await.refusal();
        let code = "DEVICE_AUTH_SIGNATURE_EXPIRED";
        assert_proof(&refused, "device signature expired", code, "device-signature-stale");
    }
    for skew in [-100_000, 100_000] {
        with_device(&identity).clock_skew_ms(skew).to(gateway.port).await.session();
    }
}

#[actix_web::test]
async fn a_proof_is_bound_to_this_sockets_challenge() {
    let gateway = Gateway::start().await;
    let identity = Identity::new();
    let refused = with_device(&identity).nonce("my-own").to(gateway.port).await.refusal();
    assert_proof(&refused, "device nonce mismatch", "DEVICE_AUTH_NONCE_MISMATCH", "device-nonce-mismatch");
    for blank in ["", "  "] {
        let refused = with_device(&identity).nonce(blank).to(gateway.port).await.refusal();
        assert_eq!(refused.code, 1008);
        assert!(
            refused.detail() == "DEVICE_AUTH_NONCE_REQUIRED"
                || refused.error["message"].as_str().unwrap().contains("nonce"),
            "{refused:?}"
        );
    }
}

#[actix_web::test]
async fn a_recorded_proof_opens_no_second_socket() {
    let gateway = Gateway::start().await;
    let identity = Identity::new();
    let mut first = Upgrade::to(gateway.port).open().await.unwrap();
    let challenge = first.event("connect.challenge").await;
    let recorded = with_device(&identity).params_for(&challenge);
    let mut replay = Connect::cli();
    replay.params = recorded;
    let refused = replay.to(gateway.port).await.refusal();
    assert_eq!(refused.detail(), "DEVICE_AUTH_NONCE_MISMATCH", "{refused:?}");
}

#[actix_web::test]
async fn everything_that_is_signed_is_checked() {
    let gateway = Gateway::start().await;
    let identity = Identity::new();
    let changes: [(&str, Value); 6] = [
        ("/client/id", json!("gateway-client")),
        ("/client/mode", json!("backend")),
        ("/scopes", json!(["operator.admin"])),
        ("/auth/token", json!(format!(" {TOKEN}"))),
        ("/client/platform", json!("darwin")),
        ("/client/deviceFamily", json!("Mac")),
    ];
    for (pointer, value) in changes {
        let mut socket = Upgrade::to(gateway.port).open().await.unwrap();
        let challenge = socket.event("connect.challenge").await;
        let mut params = with_device(&identity).params_for(&challenge);
        *params.pointer_mut(pointer).unwrap() = value;
        socket.send(&json!({"type": "req", "id": "1", "method": "connect", "params": params})).await;
        let refused = crate::support::connect::outcome(socket).await.refusal();
        assert_eq!(refused.detail(), "DEVICE_AUTH_SIGNATURE_INVALID", "{pointer}: {refused:?}");
        assert_bad_signature(&refused);
    }
    let mut socket = Upgrade::to(gateway.port).open().await.unwrap();
    let challenge = socket.event("connect.challenge").await;
    let mut params = with_device(&identity).params_for(&challenge);
    params["role"] = json!("node");
    socket.send(&json!({"type": "req", "id": "1", "method": "connect", "params": params})).await;
    assert_bad_signature(&crate::support::connect::outcome(socket).await.refusal());
}

#[actix_web::test]
async fn signatures_that_are_cut_or_changed_are_invalid() {
    let gateway = Gateway::start().await;
    let identity = Identity::new();
    for signature in
        [json!("AAAA"), json!(URL_SAFE_NO_PAD.encode([7_u8; 64])), json!(URL_SAFE_NO_PAD.encode([7_u8; 63]))]
    {
        assert_bad_signature(
            &with_device(&identity).tampered("signature", signature).to(gateway.port).await.refusal(),
        );
    }
}
