//! Requests, approvals and tokens over time.

use super::*;
use crate::pairings::REQUEST_LIFETIME_MS;

fn asks(door: &Door) -> Visit {
    assert!(!door.gateway.settings.get().gateway.nodes.pairing.auto_approve_local);
    operator().secret()
}

fn careful() -> Door {
    Door::open(json!({
        "auth": {"mode": "token", "token": SECRET}, "nodes": {"pairing": {"autoApproveLocal": false}},
    }))
}

async fn approve(door: &Door, rights: CallerRights, request_id: &str) -> Result<DeviceView, String> {
    let request_id = request_id.to_owned();
    door.devices.send(ApproveRequest { rights, request_id }).await.unwrap().map_err(|error| error.to_string())
}

#[actix::test]
async fn a_request_keeps_its_id_grows_with_what_is_asked_and_is_granted() {
    let door = careful();
    door.with_events();
    let mut admin = door.come_in(&cli().secret().admin()).await;
    let key = Key::new();
    let first = door.request_id(&asks(&door).device(&key)).await;
    let (event, entry) = admin.event().await;
    assert_eq!((event.as_str(), &entry["requestId"]), ("device.pair.requested", &json!(first)));
    assert_eq!(entry["isRepair"], json!(false));
    assert!(entry.get("remoteIp").is_none() && entry.get("askedAtMs").is_none());
    assert_eq!(door.request_id(&asks(&door).device(&key)).await, first, "the same wish");

    let second = door.request_id(&asks(&door).device(&key).scopes(&["write"])).await;
    assert_ne!(first, second);
    let (event, resolved) = admin.event().await;
    assert_eq!((event.as_str(), &resolved["decision"]), ("device.pair.resolved", &json!("rejected")));
    let (_, entry) = admin.event().await;
    assert_eq!(entry["scopes"], json!(["operator.read", "operator.write"]));

    let restarted = door.restarted();
    assert_eq!(restarted.request_id(&asks(&door).device(&key)).await, second, "it outlives a restart");
    let device = approve(&restarted, admin.rights(), &second).await.unwrap();
    let view = serde_json::to_value(&device).unwrap();
    assert_eq!(view["approvedVia"], json!("owner"));
    assert_eq!(view["tokens"][0]["scopes"], json!(["operator.read", "operator.write"]));
    let (_, resolved) = admin.event().await;
    assert_eq!(resolved["decision"], json!("approved"));
    assert_eq!(restarted.answer(&asks(&door).device(&key)).await, "hello:operator.read +token");
    assert_eq!(approve(&restarted, admin.rights(), &second).await.unwrap_err(), "unknown requestId");
}

#[actix::test]
async fn a_token_stays_the_same_until_it_is_rotated() {
    let door = Door::token();
    let key = Key::new();
    let visit = operator().secret().device(&key);
    let token = door.token_of(&visit).await;
    assert_eq!(token.len(), 43);
    assert_eq!(door.token_of(&visit).await, token);
    assert_eq!(door.restarted().token_of(&visit).await, token);
    assert_eq!(door.restarted().token_of(&operator().device(&key).device_token(&token)).await, token);
    let stored = door.gateway.store.read(|db| {
        let text: String =
            db.query_row("SELECT group_concat(claim || scopes) FROM devices", [], |row| row.get(0))?;
        let digests: i64 =
            db.query_row("SELECT count(*) FROM device_tokens WHERE length(digest) = 32", [], |row| {
                row.get(0)
            })?;
        Ok((text, digests))
    });
    let (text, digests) = stored.await.unwrap();
    assert!(!text.contains(&token) && digests == 1);
}

#[actix::test]
async fn without_the_old_key_tokens_still_work_and_new_ones_are_made() {
    let door = Door::token();
    let (with_secret, with_token) = (Key::new(), Key::new());
    let old = door.token_of(&operator().secret().device(&with_secret)).await;
    let kept = door.token_of(&operator().secret().device(&with_token)).await;
    let devices = Devices::new(door.gateway.clone(), TokenKey::from_bytes(&[8; 32])).start();
    let door = Door { devices, ..door };
    assert_eq!(door.token_of(&operator().device(&with_token).device_token(&kept)).await, kept);
    let new = door.token_of(&operator().secret().device(&with_secret)).await;
    assert_ne!(new, old);
    assert_eq!(door.token_of(&operator().device(&with_secret).device_token(&new)).await, new);
}

#[actix::test]
async fn a_revoked_device_has_to_ask_again_even_at_home() {
    let door = Door::token();
    let key = Key::new();
    let token = door.token_of(&operator().secret().device(&key)).await;
    let admin = door.come_in(&cli().secret().admin()).await;
    let revoke = RevokeToken { rights: admin.rights(), device_id: key.id(), role: Role::Operator };
    door.devices.send(revoke).await.unwrap().unwrap();
    let refused = door.answer(&operator().device(&key).device_token(&token)).await;
    assert!(refused.contains("AUTH_DEVICE_TOKEN_MISMATCH"), "{refused}");
    let request_id = door.request_id(&operator().secret().device(&key)).await;
    approve(&door, admin.rights(), &request_id).await.unwrap();
    assert_ne!(door.token_of(&operator().secret().device(&key)).await, token, "the old one stays dead");
}

#[actix::test]
async fn requests_expire() {
    let door = careful();
    let key = Key::new();
    let id = door.request_id(&asks(&door).device(&key)).await;
    let past = now_ms() - REQUEST_LIFETIME_MS;
    let age =
        move |db: &rusqlite::Connection| Ok(db.execute("UPDATE device_requests SET asked_at = ?1", [past])?);
    door.gateway.store.write(age).await.unwrap();
    let later = door.restarted();
    let list = later.devices.send(ListDevices { rights: None }).await.unwrap();
    assert!(list.pending.is_empty());
    assert_ne!(later.request_id(&asks(&door).device(&key)).await, id);
}

#[actix::test]
async fn a_network_of_nodes_may_skip_the_first_approval_and_nothing_else() {
    let mut door = Door::open(json!({
        "bind": "lan", "auth": {"mode": "token", "token": SECRET},
        "nodes": {"pairing": {"autoApproveCidrs": ["10.0.0.0/8"]}},
    }));
    door.local = "10.0.0.1:18789";
    rows(
        &door,
        vec![
            ("a node from there", node().secret().from("10.0.0.9").new_device(), "hello: +token"),
            (
                "from elsewhere",
                node().secret().from("11.0.0.9").new_device(),
                "NOT_PAIRED PAIRING_REQUIRED 1008 (not-paired)",
            ),
            (
                "an operator from there",
                operator().secret().from("10.0.0.9").new_device(),
                "NOT_PAIRED PAIRING_REQUIRED 1008 (not-paired)",
            ),
        ],
    )
    .await;
}
