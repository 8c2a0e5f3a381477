//! Guessing, minting and losing credentials, seen from the wire.

use crate::support::gateway::{TOKEN, config_with};
use crate::support::{Connect, Gateway, Identity, Incoming, Outcome, Setup, Upgrade};
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;

async fn behind_a_proxy() -> Gateway {
    let config = json!({"gateway": {"trustedProxies": ["127.0.0.1"]}});
    Setup::new().config(config_with(config)).start().await
}

fn from(gateway: &Gateway, client: &str) -> Upgrade {
    Upgrade::to(gateway.port).header("X-Forwarded-For", client)
}

/// Guesses until the answer is a lockout, which must come by the eleventh at the latest.
async fn locked_out_after(
    gateway: &Gateway,
    client: &str,
    guess: impl Fn(usize) -> Connect<'static>,
) -> usize {
    for n in 0..11 {
        let refused = guess(n).over(&from(gateway, client)).await.refusal();
        if refused.detail() == "AUTH_RATE_LIMITED" {
            assert!(refused.error["retryAfterMs"].as_u64().unwrap() > 200_000, "{refused:?}");
            return n;
        }
    }
    panic!("eleven guesses and no limit");
}

fn stranger() -> &'static Identity {
    Box::leak(Box::new(Identity::new()))
}

#[actix_web::test]
async fn no_decoy_gets_a_guesser_past_the_limit() {
    let gateway = behind_a_proxy().await;
    let decoy = |n: usize| {
        Connect::cli().token(&format!("guess-{n}")).auth("deviceToken", "decoy").device(stranger())
    };
    assert_eq!(locked_out_after(&gateway, "203.0.113.1", decoy).await, 10);
    let right = decoy(0).token(TOKEN).over(&from(&gateway, "203.0.113.1")).await.refusal();
    assert_eq!(right.detail(), "AUTH_RATE_LIMITED", "the right secret does not end a lockout");
    let both_fields = |n: usize| Connect::test().token(&format!("a{n}")).auth("password", &format!("b{n}"));
    assert_eq!(locked_out_after(&gateway, "203.0.113.2", both_fields).await, 10);
    let one_household = |n: usize| from(&gateway, &format!("2001:db8:1:2::{n:x}"));
    for n in 0..10 {
        Connect::cli().token("guess").over(&one_household(n)).await.refusal();
    }
    let refused = Connect::cli().token(TOKEN).over(&one_household(11)).await.refusal();
    assert_eq!(refused.detail(), "AUTH_RATE_LIMITED", "an IPv6 guesser has many addresses and one network");
}

#[actix_web::test]
async fn setup_codes_and_device_tokens_are_limited_too() {
    let gateway = behind_a_proxy().await;
    let code = |n: usize| Connect::cli().auth("bootstrapToken", &format!("code-{n}")).device(stranger());
    assert_eq!(locked_out_after(&gateway, "203.0.113.3", code).await, 10);
    let token = |n: usize| Connect::cli().auth("deviceToken", &format!("token-{n}")).device(stranger());
    assert_eq!(locked_out_after(&gateway, "203.0.113.4", token).await, 10);
}

#[actix_web::test]
async fn a_device_that_rotates_its_own_token_gets_it_and_is_then_closed() {
    let gateway = Gateway::start().await;
    let identity = Identity::new();
    let scopes = ["operator.pairing"];
    let connect = Connect::cli().token(TOKEN).scopes(&scopes).device(&identity);
    let (hello, mut session) = connect.to(gateway.port).await.hello();
    let old = hello["auth"]["deviceToken"].as_str().unwrap().to_owned();
    let params = json!({"deviceId": identity.id(), "role": "operator"});
    let rotated = session.ok("device.token.rotate", params).await;
    assert_eq!(session.end().await, Incoming::Close { code: 4001, reason: "device removed".into() });
    let new = rotated["token"].as_str().expect("its own new token").to_owned();
    assert!(rotated.get("tokenDelivery").is_none() && new != old);
    let by = |token: &str| Connect::cli().scopes(&scopes).auth("deviceToken", token).device(&identity);
    let refused = by(&old).to(gateway.port).await.refusal();
    assert_eq!(refused.detail(), "AUTH_DEVICE_TOKEN_MISMATCH", "{refused:?}");
    let (hello, _session) = by(&new).to(gateway.port).await.hello();
    assert_eq!(hello["auth"]["deviceToken"], new, "the same token until the next rotation");
}

#[actix_web::test]
async fn a_misspelt_param_is_no_permission() {
    let gateway = Gateway::start().await;
    let identity = Identity::new();
    Connect::cli().token(TOKEN).device(&identity).to(gateway.port).await.session();
    let mut owner = gateway.operator().await;
    let params = json!({"deviceId": identity.id(), "role": "operator", "scope": []});
    let error = owner.refused("device.token.rotate", params).await;
    assert_eq!(error["code"], "INVALID_REQUEST");
    let message = error["message"].as_str().unwrap();
    assert_eq!(message, "invalid device.token.rotate params: at root: unexpected property 'scope'");
}

#[actix_web::test]
async fn a_device_that_is_no_admin_hears_of_no_other() {
    let config = json!({"gateway": {"nodes": {"pairing": {"autoApproveLocal": false}}}});
    let gateway = Setup::new().config(config_with(config)).start().await;
    let mut owner = gateway.operator().await;
    let helper = Identity::new();
    let connect = || Connect::cli().token(TOKEN).scopes(&["operator.pairing"]).device(&helper);
    let waiting = connect().to(gateway.port).await.refusal();
    let request = waiting.error["details"]["requestId"].clone();
    owner.ok("device.pair.approve", json!({"requestId": request})).await;
    let mut session = connect().to(gateway.port).await.session();
    let other = Identity::new();
    let refused = Connect::cli().token(TOKEN).device(&other).to(gateway.port).await.refusal();
    let heard = |event: &Value| event["deviceId"] == other.id();
    owner.event_where("device.pair.requested", heard).await;
    let denied = json!({"requestId": refused.error["details"]["requestId"]});
    let error = session.refused("device.pair.reject", denied.clone()).await;
    assert_eq!(error["message"], "device pairing rejection denied");
    owner.ok("device.pair.reject", denied).await;
    let list = session.ok("device.pair.list", json!({})).await;
    assert_eq!(list["paired"].as_array().unwrap().len(), 1);
    let leaked: Vec<&Value> = session
        .kept()
        .filter(|frame| frame["event"].as_str().is_some_and(|e| e.starts_with("device.")))
        .collect();
    assert!(leaked.is_empty(), "{leaked:?}");
}

#[actix_web::test]
async fn the_owners_programs_are_exempt_from_the_lockout_as_configured() {
    let limit = |exempt: bool| {
        let limit = json!({"maxAttempts": 2, "exemptLoopback": exempt});
        Setup::new().config(config_with(json!({"gateway": {"auth": {"rateLimit": limit}}})))
    };
    for (exempt, detail) in [(true, "AUTH_TOKEN_MISMATCH"), (false, "AUTH_RATE_LIMITED")] {
        let gateway = limit(exempt).start().await;
        for _ in 0..2 {
            let refused = Connect::cli().token("guess").to(gateway.port).await.refusal();
            assert_eq!(refused.detail(), "AUTH_TOKEN_MISMATCH");
        }
        let third = Connect::cli().token("guess").to(gateway.port).await.refusal();
        assert_eq!(third.detail(), detail, "exemptLoopback: {exempt}");
        let right = Connect::cli().token(TOKEN).to(gateway.port).await;
        assert_eq!(matches!(right, Outcome::Hello(..)), exempt);
    }
}

#[actix_web::test]
async fn the_database_alone_holds_no_token() {
    let gateway = Gateway::start().await;
    let identity = Identity::new();
    let (hello, session) = Connect::cli().token(TOKEN).device(&identity).to(gateway.port).await.hello();
    let token = hello["auth"]["deviceToken"].as_str().unwrap().as_bytes().to_vec();
    session.close().await;
    for entry in std::fs::read_dir(gateway.state()).unwrap() {
        let path = entry.unwrap().path();
        let Ok(bytes) = std::fs::read(&path) else { continue };
        assert!(!bytes.windows(token.len()).any(|window| window == token), "{}", path.display());
    }
    let key = gateway.state().join("device-token.key");
    let mode = std::fs::metadata(key).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[actix_web::test]
async fn whoever_changes_the_secret_hears_that_it_is_done_before_its_connection_ends() {
    let auth = |token: &str| json!({"gateway": {"auth": {"mode": "token", "token": token}}});
    let gateway = Setup::new().no_token().config(config_with(auth(TOKEN))).start().await;
    let admin = || Connect::cli().token(TOKEN).scopes(&["operator.admin"]);
    let mut writer = admin().to(gateway.port).await.session();
    let other = admin().to(gateway.port).await.session();
    let hash = writer.ok("config.get", json!({})).await["hash"].clone();
    let patch = json!({"raw": auth("tok-another-77c1").to_string(), "baseHash": hash});
    assert_eq!(writer.ok("config.patch", patch).await["ok"], true);
    for mut session in [writer, other] {
        assert_eq!(
            session.end().await,
            Incoming::Close { code: 4001, reason: "gateway auth changed".into() }
        );
    }
}
