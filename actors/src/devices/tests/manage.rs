//! Who may do what to whose device, and that it takes effect at once.

use super::*;

struct Scene {
    door: Door,
    admin: Live,
    /// A paired device that may pair, and nothing more.
    helper: Live,
    /// Came in with the secret, for pairing only.
    cli: Live,
    admin_key: Arc<Key>,
    helper_key: Arc<Key>,
    helper_token: String,
}

async fn scene() -> Scene {
    let door = Door::token();
    door.with_events();
    let (admin_key, helper_key) = (Key::new(), Key::new());
    let admin = door.come_in(&operator().secret().admin().device(&admin_key)).await;
    let helper_visit = operator().secret().scopes(&["pairing"]).device(&helper_key);
    let helper_token = door.token_of(&helper_visit).await;
    let helper = door.come_in(&helper_visit).await;
    let cli = door.come_in(&cli().secret().scopes(&["pairing"])).await;
    Scene { door, admin, helper, cli, admin_key, helper_key, helper_token }
}

impl Scene {
    async fn approve(&self, live: &Live, request_id: &str) -> String {
        let approve = ApproveRequest { rights: live.rights(), request_id: request_id.to_owned() };
        said(self.door.devices.send(approve).await.unwrap())
    }

    async fn rotate(
        &self,
        live: &Live,
        key: &Key,
        role: Role,
        scopes: Option<&[&str]>,
    ) -> Result<Rotated, String> {
        let scopes = scopes.map(|names| names.iter().copied().collect());
        let rotate = RotateToken { rights: live.rights(), device_id: key.id(), role, scopes };
        self.door.devices.send(rotate).await.unwrap().map_err(|error| error.to_string())
    }

    async fn revoke(&self, live: &Live, key: &Key) -> String {
        let revoke = RevokeToken { rights: live.rights(), device_id: key.id(), role: Role::Operator };
        said(self.door.devices.send(revoke).await.unwrap())
    }

    async fn remove(&self, live: &Live, device_id: &str) -> String {
        let remove = RemoveDevice { rights: live.rights(), device_id: device_id.to_owned() };
        said(self.door.devices.send(remove).await.unwrap())
    }

    async fn list(&self, live: &Live) -> DeviceList {
        self.door.devices.send(ListDevices { rights: Some(live.rights()) }).await.unwrap()
    }
}

fn said<T>(outcome: Result<T, ManageError>) -> String {
    outcome.map_or_else(|error| error.to_string(), |_| "done".to_owned())
}

fn remote(visit: Visit) -> Visit {
    visit.secret().header("host", "gw.example").new_device()
}

#[actix::test]
async fn nobody_approves_more_than_they_hold() {
    let scene = scene().await;
    let admin_request = scene.door.request_id(&remote(operator().admin())).await;
    let node_request = scene.door.request_id(&remote(node())).await;
    let read_request = scene.door.request_id(&remote(operator())).await;
    let modest = scene.door.request_id(&remote(operator().scopes(&["pairing"]))).await;
    let denied = "device pairing approval denied";
    for request in [&admin_request, &node_request, &read_request] {
        assert_eq!(scene.approve(&scene.cli, request).await, denied);
        assert_eq!(scene.approve(&scene.helper, request).await, denied);
    }
    assert_eq!(scene.approve(&scene.helper, &modest).await, denied, "a device never approves another");
    assert_eq!(scene.approve(&scene.cli, &modest).await, "done");
    assert_eq!(scene.approve(&scene.cli, "nope").await, denied);
    assert_eq!(scene.approve(&scene.admin, "nope").await, "unknown requestId");
    for request in [&admin_request, &node_request] {
        assert_eq!(scene.approve(&scene.admin, request).await, "done");
    }
    let own = scene
        .door
        .request_id(&operator().secret().header("host", "gw.example").admin().device(&scene.helper_key))
        .await;
    assert_eq!(scene.approve(&scene.helper, &own).await, denied, "nor itself");
}

#[actix::test]
async fn a_device_that_is_no_admin_sees_itself_alone() {
    let mut scene = scene().await;
    let stranger = Key::new();
    scene.door.request_id(&operator().secret().header("host", "gw.example").device(&stranger)).await;
    let list = scene.list(&scene.helper).await;
    assert!(list.pending.is_empty());
    assert_eq!(
        list.paired.iter().map(|view| view.claim.device_id.clone()).collect::<Vec<_>>(),
        [scene.helper_key.id()]
    );
    assert_eq!(list.paired[0].connected, Some(true));
    for live in [&scene.admin, &scene.cli] {
        let list = scene.list(live).await;
        assert_eq!((list.pending.len(), list.paired.len()), (1, 2));
    }
    // Nor does it hear of others.
    let reject = RejectRequest {
        rights: scene.helper.rights(),
        request_id: scene.list(&scene.admin).await.pending[0].request_id.clone(),
    };
    assert_eq!(said(scene.door.devices.send(reject).await.unwrap()), "device pairing rejection denied");
    let rename = RenameDevice {
        rights: scene.admin.rights(),
        device_id: scene.helper_key.id(),
        label: " Kitchen ".into(),
    };
    assert_eq!(scene.door.devices.send(rename).await.unwrap().unwrap(), "Kitchen");
    assert_eq!(scene.helper.event().await.0, "device.pair.changed");
    assert_eq!(scene.admin.event().await.0, "device.pair.requested");
}

#[actix::test]
async fn nobody_mints_more_than_they_hold() {
    let scene = scene().await;
    let denied = "device token rotation denied";
    let rotate = |live, key, role, scopes| scene.rotate(live, key, role, scopes);
    let nobody = Key::new();
    let helper = &scene.helper;
    assert_eq!(rotate(helper, &*scene.admin_key, Role::Operator, None).await.unwrap_err(), denied);
    assert_eq!(rotate(helper, &*scene.helper_key, Role::Node, None).await.unwrap_err(), denied);
    let admin_scope: &[&str] = &["operator.admin"];
    assert_eq!(
        rotate(helper, &*scene.helper_key, Role::Operator, Some(admin_scope)).await.unwrap_err(),
        denied
    );
    assert_eq!(rotate(&scene.cli, &*scene.admin_key, Role::Operator, None).await.unwrap_err(), denied);
    assert_eq!(rotate(helper, &*nobody, Role::Operator, None).await.unwrap_err(), denied);
    let unknown = rotate(&scene.admin, &*nobody, Role::Operator, None).await.unwrap_err();
    assert_eq!(unknown, "unknown deviceId/role");
    let beyond = rotate(&scene.admin, &*scene.helper_key, Role::Operator, Some(admin_scope)).await;
    assert_eq!(beyond.unwrap_err(), denied, "not even an admin mints what was never approved");
    assert!(!scene.helper.caller.is_revoked());
    let still = scene
        .door
        .token_of(
            &operator().scopes(&["pairing"]).device(&scene.helper_key).device_token(&scene.helper_token),
        )
        .await;
    assert_eq!(still, scene.helper_token, "nothing changed");
    assert_eq!(scene.revoke(helper, &scene.admin_key).await, "device token revocation denied");
    assert_eq!(scene.remove(helper, &scene.admin_key.id()).await, "device pairing removal denied");
}

#[actix::test]
async fn rotating_ends_connections_and_shows_the_token_to_its_device_only() {
    let scene = scene().await;
    let rotated = scene.rotate(&scene.admin, &scene.helper_key, Role::Operator, None).await.unwrap();
    assert!(rotated.token.is_none() && scene.helper.is_ended() && scene.helper.ticket.is_void());
    assert!(!scene.admin.caller.is_revoked());
    let old = operator().scopes(&["pairing"]).device(&scene.helper_key).device_token(&scene.helper_token);
    assert!(scene.door.answer(&old).await.contains("AUTH_DEVICE_TOKEN_MISMATCH"));

    let own = scene.door.come_in(&operator().secret().scopes(&["pairing"]).device(&scene.helper_key)).await;
    let rotated = scene.rotate(&own, &scene.helper_key, Role::Operator, None).await.unwrap();
    assert_eq!(rotated.closing, Closing(true), "it gets its answer first");
    let token = rotated.token.unwrap().expose().to_owned();
    let new = operator().scopes(&["pairing"]).device(&scene.helper_key).device_token(&token);
    assert_eq!(scene.door.token_of(&new).await, token);
}

#[actix::test]
async fn revoking_and_removing_end_connections_within_the_call() {
    let scene = scene().await;
    assert_eq!(scene.revoke(&scene.admin, &scene.helper_key).await, "done");
    assert!(scene.helper.is_ended());
    assert_eq!(scene.remove(&scene.cli, "nope").await, "unknown deviceId");
    assert_eq!(scene.remove(&scene.cli, &scene.helper_key.id()).await, "done");
    assert_eq!(scene.list(&scene.admin).await.paired.len(), 1);
    assert!(!scene.admin.caller.is_revoked());
}

#[actix::test]
async fn a_connection_that_is_not_listed_yet_does_not_escape() {
    let scene = scene().await;
    let key = Key::new();
    let admission = scene.door.knock(&operator().secret().device(&key)).await.unwrap();
    assert!(!admission.ticket.is_void());
    assert_eq!(scene.remove(&scene.admin, &key.id()).await, "done");
    assert!(admission.ticket.is_void());
}

#[actix::test]
async fn forgetting_a_node_leaves_its_other_role() {
    let scene = scene().await;
    let (both, only) = (Key::new(), Key::new());
    scene.door.token_of(&operator().secret().device(&both)).await;
    let request_id = scene.door.request_id(&node().secret().device(&both)).await;
    assert_eq!(scene.approve(&scene.admin, &request_id).await, "done");
    let live = scene.door.come_in(&node().secret().device(&both)).await;
    let operator_live = scene.door.come_in(&operator().secret().device(&both)).await;
    scene.door.token_of(&node().secret().device(&only)).await;
    for (key, had) in [(&both, true), (&only, true), (&scene.admin_key, false)] {
        assert_eq!(scene.door.devices.send(ForgetNode { device_id: key.id() }).await.unwrap().unwrap(), had);
    }
    assert!(live.is_ended() && !operator_live.caller.is_revoked());
    let left = scene.list(&scene.admin).await.paired;
    assert!(left.iter().any(|view| view.claim.device_id == both.id() && view.roles == [Role::Operator]));
    assert!(left.iter().all(|view| view.claim.device_id != only.id()));
}

#[actix::test]
async fn a_new_secret_ends_what_the_old_one_opened() {
    let scene = scene().await;
    let by_token = scene
        .door
        .come_in(&operator().scopes(&["pairing"]).device(&scene.helper_key).device_token(&scene.helper_token))
        .await;
    let same = (*scene.door.gateway.settings.get()).clone();
    scene.door.gateway.settings.replace(same);
    // Whoever answers a question has heard of what was changed before it.
    scene.list(&scene.admin).await;
    assert!(!scene.cli.caller.is_revoked(), "the same secret changes nothing");
    let mut settings = (*scene.door.gateway.settings.get()).clone();
    settings.gateway.auth.token = Some(crate::settings::Secret::new("another"));
    scene.door.gateway.settings.replace(settings);
    scene.list(&scene.admin).await;
    assert!(scene.cli.is_ended() && scene.cli.ticket.is_void());
    assert!(!by_token.caller.is_revoked());
}
