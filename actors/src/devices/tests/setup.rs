//! Setup codes, and keys that are read on a node's own machine.

use super::*;
use crate::pairings::{MAX_CODES, Seed};
use std::time::Duration;
use tidegate_protocol::setup_code::Access;

const STRANGER: &str = "203.0.113.9";
const BAD_CODE: &str = "INVALID_REQUEST AUTH_BOOTSTRAP_TOKEN_INVALID 1008 (bootstrap_token_invalid)";
const WAITS: &str = "NOT_PAIRED PAIRING_REQUIRED 1008 (not-paired)";

async fn mint(door: &Door, access: Access) -> Result<Minted, MintError> {
    let url = "wss://gateway.example".to_owned();
    door.devices.send(MintCode { access, url, tls_fingerprint: None, join: true }).await.unwrap()
}

async fn token(door: &Door, access: Access) -> String {
    mint(door, access).await.unwrap().payload.bootstrap_token
}

fn with_code(visit: Visit, token: &str) -> Visit {
    visit.from(STRANGER).auth(json!({"bootstrapToken": token})).new_device()
}

#[actix::test]
async fn a_setup_code_lets_one_device_in_once_and_only_for_what_it_is() {
    let door = Door::token();
    let code = token(&door, Access::Node).await;
    for wrong in [operator(), node().scopes(&["read"])] {
        assert_eq!(door.answer(&with_code(wrong, &code)).await, BAD_CODE);
    }
    assert_eq!(door.answer(&with_code(node(), &code)).await, "hello: +token");
    for door in [&door, &door.restarted()] {
        assert_eq!(door.answer(&with_code(node(), &code)).await, BAD_CODE);
    }
    let list = door.devices.send(ListDevices { rights: None }).await.unwrap();
    assert_eq!((list.paired.len(), list.paired[0].approved_via.as_str()), (1, "bootstrap"));
}

#[actix::test]
async fn two_devices_that_show_a_code_at_the_same_moment_do_not_both_get_in() {
    let door = Door::token();
    let code = token(&door, Access::Node).await;
    let visits: Vec<Visit> = (0..8).map(|_| with_code(node(), &code)).collect();
    let answers = futures_util::future::join_all(visits.iter().map(|visit| door.answer(visit))).await;
    assert_eq!(answers.iter().filter(|answer| answer.starts_with("hello")).count(), 1, "{answers:?}");
}

#[actix::test]
async fn a_paired_device_uses_a_code_up_as_well() {
    let door = Door::token();
    let key = Key::new();
    let code = token(&door, Access::Node).await;
    let visit = with_code(node(), &code).device(&key);
    let first = door.token_of(&visit).await;
    assert_eq!(door.answer(&visit).await, BAD_CODE);
    let code = token(&door, Access::Node).await;
    let visit = with_code(node(), &code).device(&key);
    assert_eq!(door.token_of(&visit).await, first, "its token stays");
    assert_eq!(door.answer(&with_code(node(), &code)).await, BAD_CODE);
}

#[actix::test]
async fn full_and_limited_codes_bring_an_operators_token_too() {
    for (access, admin) in [(Access::Full, true), (Access::Limited, false)] {
        let door = Door::token();
        let key = Key::new();
        let code = token(&door, access).await;
        let admission = door.knock(&with_code(node(), &code).device(&key)).await.unwrap();
        let [(token, record)] = admission.other_tokens.as_slice() else { panic!("one more token") };
        assert_eq!((record.role, record.scopes.holds("operator.admin")), (Role::Operator, admin));
        let visit = operator().from(STRANGER).device_token(token.expose()).device(&key);
        assert_eq!(door.answer(&visit).await, "hello:operator.read +token");
        let more = visit.scopes(&["pairing"]);
        let expected = if admin {
            "hello:operator.pairing +token"
        } else {
            "INVALID_REQUEST AUTH_SCOPE_MISMATCH 1008 (scope_mismatch)"
        };
        assert_eq!(door.answer(&more).await, expected, "{access:?}");
    }
}

#[actix::test]
async fn a_join_address_hands_its_code_out_once() {
    let door = Door::token();
    let minted = mint(&door, Access::Node).await.unwrap();
    let seed = minted.join.unwrap();
    let redeem =
        async |door: &Door, seed: &Seed| door.devices.send(RedeemJoin(seed.clone())).await.unwrap().unwrap();
    assert!(redeem(&door, &Seed::random().unwrap()).await.is_none());
    assert_eq!(redeem(&door, &seed).await.unwrap(), minted.payload);
    for door in [&door, &door.restarted()] {
        assert!(redeem(door, &seed).await.is_none(), "only once");
        // What was handed out can still be used.
    }
    assert_eq!(door.answer(&with_code(node(), &minted.payload.bootstrap_token)).await, "hello: +token");
    let used = mint(&door, Access::Node).await.unwrap();
    door.answer(&with_code(node(), &used.payload.bootstrap_token)).await;
    assert!(redeem(&door, &used.join.unwrap()).await.is_none(), "a used code is not handed out");
}

#[actix::test]
async fn what_became_of_a_code_is_told_and_kept() {
    let door = Door::token();
    let mut admin = door.with_events().come_in(&cli().secret().scopes(&["admin", "pairing"])).await;
    let minted = mint(&door, Access::Node).await.unwrap();
    let status = async |door: &Door| {
        let setup_id = minted.setup_id.clone();
        door.devices.send(SetupStatus { setup_id }).await.unwrap()
    };
    assert_eq!(status(&door).await, None);
    let key = Key::new();
    let admission =
        door.knock(&with_code(node(), &minted.payload.bootstrap_token).device(&key)).await.unwrap();
    let (event, payload) = admin.event().await;
    assert_eq!((event.as_str(), &payload["decision"]), ("device.pair.resolved", &json!("approved")));
    let uncertain = status(&door).await.unwrap();
    assert_eq!((uncertain.device_id.as_str(), uncertain.delivered), (key.id().as_str(), false));
    door.devices.send(CodeDelivered(admission.joined_with.unwrap())).await.unwrap();
    let (event, payload) = admin.event().await;
    assert_eq!(event, "device.pair.setup.completed");
    assert_eq!((&payload["setupId"], &payload["access"]), (&json!(minted.setup_id), &json!("node")));
    assert!(status(&door.restarted()).await.unwrap().delivered);
}

#[actix::test]
async fn codes_expire_and_only_so_many_wait_at_a_time() {
    let door = Door::token();
    let code = token(&door, Access::Node).await;
    for _ in 1..MAX_CODES {
        mint(&door, Access::Node).await.unwrap();
    }
    assert!(matches!(mint(&door, Access::Node).await, Err(MintError::TooMany)));
    let age =
        |db: &rusqlite::Connection| Ok(db.execute("UPDATE setup_codes SET expires_at = ?1", [now_ms()])?);
    door.gateway.store.write(age).await.unwrap();
    let later = door.restarted();
    assert_eq!(later.answer(&with_code(node(), &code)).await, BAD_CODE);
    mint(&later, Access::Node).await.unwrap();
}

#[actix::test]
async fn the_database_knows_no_code() {
    let door = Door::token();
    let minted = mint(&door, Access::Full).await.unwrap();
    let dump = |db: &rusqlite::Connection| {
        let mut query = db.prepare("SELECT quote(setup_codes.digest) || url || setup_id FROM setup_codes")?;
        let rows = query.query_map([], |row| row.get::<_, String>(0))?;
        Ok(rows.collect::<Result<Vec<_>, _>>()?.concat())
    };
    let kept = door.gateway.store.read(dump).await.unwrap();
    assert!(!kept.contains(&minted.payload.bootstrap_token) && !kept.contains(minted.join.unwrap().as_str()));
}

/// A gateway on a LAN at 10.0.0.1 that asks machines with `probe`.
fn on_lan(probe: Probe, pairing: Value) -> Door {
    let settings = json!({"gateway": {
        "bind": "lan", "auth": {"mode": "token", "token": SECRET}, "nodes": {"pairing": pairing},
    }});
    let settings = SettingsHandle::new(serde_json::from_value(settings).unwrap(), StatePaths::new("unused"));
    let mut door = Door::on_with(Gateway::new(settings, Store::temporary().unwrap()), probe);
    door.local = "10.0.0.1:18789";
    door
}

/// A machine with the node whose key is this one; the test's other keys are strangers there.
fn machine() -> (&'static Arc<Key>, Probe) {
    static KEY: std::sync::OnceLock<Arc<Key>> = std::sync::OnceLock::new();
    let key = KEY.get_or_init(Key::new);
    let probe: Probe = |_| {
        let key = KEY.get_or_init(Key::new);
        let identity = Identity { device_id: key.id(), public_key: key.public().encode() };
        Box::pin(async {
            tokio::time::sleep(Duration::from_millis(30)).await;
            Ok(vec![identity])
        })
    };
    (key, probe)
}

async fn retry_hint(door: &Door, visit: &Visit) -> Value {
    let Err(Knock::Refused(refusal)) = door.knock(visit).await else { panic!("not asked to wait") };
    refusal.error.details.unwrap()["recommendedNextStep"].clone()
}

/// Asks until the answer is this one.
async fn until(door: &Door, visit: &Visit, expected: &str) {
    for _ in 0..100 {
        if door.answer(visit).await == expected {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never {expected}");
}

#[actix::test]
async fn a_node_whose_key_is_on_its_own_machine_is_paired() {
    let (key, probe) = machine();
    let door = on_lan(probe, json!({}));
    let visit = node().secret().from("10.0.0.9").device(key);
    assert_eq!(retry_hint(&door, &visit).await, "wait_then_retry");
    until(&door, &visit, "hello: +token").await;
    let list = door.devices.send(ListDevices { rights: None }).await.unwrap();
    assert_eq!((list.paired[0].approved_via.as_str(), list.pending.len()), ("ssh-verified", 0));
}

#[actix::test]
async fn a_node_whose_key_is_not_there_waits_for_a_person_and_is_not_looked_for_again() {
    let (_, probe) = machine();
    let door = on_lan(probe, json!({}));
    let visit = node().secret().from("10.0.0.9").new_device();
    assert_eq!(retry_hint(&door, &visit).await, "wait_then_retry");
    for _ in 0..100 {
        if retry_hint(&door, &visit).await.is_null() {
            return assert_eq!(door.answer(&visit).await, WAITS);
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it is still being looked for");
}

#[actix::test]
async fn nobody_but_a_new_node_on_a_private_network_is_looked_for() {
    let (key, probe) = machine();
    let rows = [
        ("an operator", json!({}), operator().secret().from("10.0.0.9").device(key)),
        (
            "a node that wants scopes",
            json!({}),
            node().scopes(&["read"]).secret().from("10.0.0.9").device(key),
        ),
        ("from elsewhere", json!({}), node().secret().from("203.0.113.9").device(key)),
        ("turned off", json!({"sshVerify": false}), node().secret().from("10.0.0.9").device(key)),
        (
            "outside the networks that are named",
            json!({"sshVerify": {"cidrs": ["10.1.0.0/16"]}}),
            node().secret().from("10.0.0.9").device(key),
        ),
    ];
    for (name, pairing, visit) in rows {
        let door = on_lan(probe, pairing);
        assert!(retry_hint(&door, &visit).await.is_null(), "{name}");
    }
    let proxied =
        json!({"bind": "lan", "auth": {"mode": "token", "token": SECRET}, "trustedProxies": ["10.0.0.2"]});
    let mut door = Door::open(proxied);
    door.local = "10.0.0.1:18789";
    let visit = node().secret().from("10.0.0.2").header("x-forwarded-for", "10.0.0.9").device(key);
    assert!(retry_hint(&door, &visit).await.is_null(), "behind a proxy");
}

#[actix::test]
async fn settings_that_changed_meanwhile_are_heeded() {
    let (key, probe) = machine();
    let door = on_lan(probe, json!({}));
    let visit = node().secret().from("10.0.0.9").device(key);
    retry_hint(&door, &visit).await;
    let mut settings = (*door.gateway.settings.get()).clone();
    settings.gateway.nodes.pairing.ssh_verify.enabled = false;
    door.gateway.settings.replace(settings);
    for _ in 0..100 {
        if retry_hint(&door, &visit).await.is_null() {
            return assert_eq!(door.answer(&visit).await, WAITS);
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it is still being looked for");
}
