//! The decision table: one test a configuration, one line a row.

use super::*;

const ORIGIN_REFUSED: &str = "INVALID_REQUEST CONTROL_UI_ORIGIN_NOT_ALLOWED 1008 (origin not allowed)";
const ORIGIN_MISSING: &str = "INVALID_REQUEST CONTROL_UI_ORIGIN_NOT_ALLOWED 1008 (origin missing or invalid)";
const NO_DEVICE: &str = "NOT_PAIRED DEVICE_IDENTITY_REQUIRED 1008";
const NO_UI_DEVICE: &str = "INVALID_REQUEST CONTROL_UI_DEVICE_IDENTITY_REQUIRED 1008";
const TOKEN_MISSING: &str = "INVALID_REQUEST AUTH_TOKEN_MISSING 1008 (token_missing)";
const TOKEN_WRONG: &str = "INVALID_REQUEST AUTH_TOKEN_MISMATCH 1008 (token_mismatch)";
const DEVICE_TOKEN_WRONG: &str = "INVALID_REQUEST AUTH_DEVICE_TOKEN_MISMATCH 1008 (device_token_mismatch)";
const CODE_WRONG: &str = "INVALID_REQUEST AUTH_BOOTSTRAP_TOKEN_INVALID 1008 (bootstrap_token_invalid)";
const RATE_LIMITED: &str = "INVALID_REQUEST AUTH_RATE_LIMITED 1008 (rate_limited)";
const PROTOCOL: &str = "INVALID_REQUEST PROTOCOL_MISMATCH 1002";
const NOT_PAIRED: &str = "NOT_PAIRED PAIRING_REQUIRED 1008 (not-paired)";
const HELLO: &str = "hello:";
const HELLO_TOKEN: &str = "hello: +token";
const HELLO_READ: &str = "hello:operator.read +token";
const HELLO_ADMIN: &str = "hello:operator.admin +token";

/// The 37 rows that token and password mode share; `missing` and `wrong` are the mode's own refusals.
async fn secret_on_loopback(door: &Door, missing: &str, wrong: &str) {
    let evil = "https://evil.example";
    rows(
        door,
        vec![
            ("cli, secret, no device, asks admin", cli().secret().admin(), "hello:operator.admin"),
            ("backend, secret, no device, asks admin", backend().secret().admin(), "hello:operator.admin"),
            ("test client, secret, no device, asks admin", operator().secret().admin(), HELLO),
            ("operator, secret, new device, asks read", operator().secret().new_device(), HELLO_READ),
            (
                "operator, secret, new device, asks admin",
                operator().secret().admin().new_device(),
                HELLO_ADMIN,
            ),
            (
                "operator, secret in the token field",
                operator().auth(json!({"token": SECRET})).new_device(),
                HELLO_READ,
            ),
            (
                "operator, secret in the password field",
                operator().auth(json!({"password": SECRET})).new_device(),
                HELLO_READ,
            ),
            (
                "operator, secret with blanks",
                operator().auth(json!({"token": format!(" {SECRET}\n")})).new_device(),
                HELLO_READ,
            ),
            ("operator, no credential, no device", operator(), NO_DEVICE),
            ("operator, blank credential, no device", operator().auth(json!({"token": " "})), NO_DEVICE),
            ("Control UI, no credential, no device", control_ui().page(OWN_PAGE), NO_UI_DEVICE),
            ("operator, no credential, device", operator().new_device(), missing),
            ("operator, wrong secret, no device", operator().wrong_secret(), wrong),
            ("operator, wrong secret, device", operator().wrong_secret().new_device(), wrong),
            (
                "operator, bogus deviceToken",
                operator().device_token("bogus").new_device(),
                DEVICE_TOKEN_WRONG,
            ),
            (
                "operator, bogus bootstrapToken",
                operator().auth(json!({"bootstrapToken": "bogus"})).new_device(),
                CODE_WRONG,
            ),
            ("node, secret, no device", node().secret(), NO_DEVICE),
            ("node, secret, new device", node().secret().new_device(), HELLO_TOKEN),
            ("node, secret, new device, asks admin", node().secret().admin().new_device(), NOT_PAIRED),
            (
                "webchat UI, secret, device, own page",
                webchat().secret().page(OWN_PAGE).new_device(),
                HELLO_READ,
            ),
            (
                "Control UI, secret, device, own page, asks admin",
                control_ui().secret().admin().page(OWN_PAGE).new_device(),
                HELLO_ADMIN,
            ),
            (
                "Control UI, secret, device, own page, another build",
                control_ui().secret().page(OWN_PAGE).build("x").new_device(),
                HELLO_READ,
            ),
            ("Control UI, secret, no device, own page", control_ui().secret().page(OWN_PAGE), NO_UI_DEVICE),
            ("TUI, secret, no device", visit("openclaw-tui", "ui").secret(), NO_UI_DEVICE),
            ("Control UI, secret, device, no page", control_ui().secret().new_device(), ORIGIN_MISSING),
            (
                "Control UI, secret, device, null page",
                control_ui().secret().page("null").new_device(),
                ORIGIN_MISSING,
            ),
            ("cli, secret, device, own page", cli().secret().page(OWN_PAGE).new_device(), NOT_PAIRED),
            ("cli, secret, no device, own page, asks admin", cli().secret().admin().page(OWN_PAGE), HELLO),
            ("cli, secret, foreign page", cli().secret().page(evil), ORIGIN_REFUSED),
            (
                "Control UI, secret, foreign page",
                control_ui().secret().page(evil).new_device(),
                ORIGIN_REFUSED,
            ),
            (
                "secret, Host = page = evil.example",
                cli().secret().header("host", "evil.example").page("http://evil.example"),
                ORIGIN_REFUSED,
            ),
            (
                "secret, page on another port of localhost",
                cli().secret().page("http://localhost:3000"),
                ORIGIN_REFUSED,
            ),
            (
                "cli, secret, foreign Host, no page, asks admin",
                cli().secret().admin().header("host", "evil.example"),
                HELLO,
            ),
            (
                "operator, secret, foreign Host, new device",
                operator().secret().header("host", "evil.example").new_device(),
                NOT_PAIRED,
            ),
            (
                "X-Forwarded-For, no proxy configured",
                operator().secret().header("x-forwarded-for", "203.0.113.9"),
                "http:403",
            ),
            ("CF-Connecting-IP", operator().secret().header("cf-connecting-ip", "203.0.113.9"), "http:403"),
            (
                "Tailscale headers, no secret",
                operator().header("tailscale-user-login", "owner@example.com"),
                "http:403",
            ),
            ("protocol 99", operator().secret().protocol(99, 99), PROTOCOL),
            ("protocol 3, operator", operator().secret().protocol(3, 3), PROTOCOL),
            ("protocol 3, node, device", node().secret().protocol(3, 3).new_device(), HELLO_TOKEN),
            ("protocol 2, node, device", node().secret().protocol(2, 2).new_device(), PROTOCOL),
            ("protocol 3, probe", visit("cli", "probe").secret().protocol(3, 3), HELLO),
            ("protocol 3..4, operator", cli().secret().protocol(3, 4), "hello:operator.read"),
            ("role admin", operator().secret().role("admin"), "INVALID_REQUEST 1008"),
        ],
    )
    .await;
}

async fn paired_on_loopback(door: &Door) {
    let key = Key::new();
    let paired = operator().device(&key);
    let token = door.token_of(&paired.clone().secret()).await;
    let other = Key::new();
    let node_key = Key::new();
    door.token_of(&node().secret().device(&node_key)).await;
    rows(
        door,
        vec![
            ("its deviceToken, same scopes", paired.clone().device_token(&token), HELLO_READ),
            ("its deviceToken as token", paired.clone().auth(json!({"token": token})), HELLO_READ),
            (
                "wrong secret, right deviceToken",
                paired.clone().auth(json!({"token": "no", "deviceToken": token})),
                HELLO_READ,
            ),
            ("its deviceToken, no scopes", paired.clone().device_token(&token).scopes(&[]), HELLO_TOKEN),
            (
                "its deviceToken, broader scopes",
                paired.clone().device_token(&token).admin(),
                "INVALID_REQUEST AUTH_SCOPE_MISMATCH 1008 (scope_mismatch)",
            ),
            ("its deviceToken, role node", node().device(&key).device_token(&token), DEVICE_TOKEN_WRONG),
            (
                "its deviceToken, another device",
                operator().device(&other).device_token(&token),
                DEVICE_TOKEN_WRONG,
            ),
            ("its deviceToken, no device", operator().device_token(&token), NO_DEVICE),
            (
                "secret, role node",
                node().device(&key).secret(),
                "NOT_PAIRED PAIRING_REQUIRED 1008 (role-upgrade)",
            ),
            (
                "secret, other platform",
                paired.clone().secret().platform("darwin"),
                "NOT_PAIRED PAIRING_REQUIRED 1008 (metadata-upgrade)",
            ),
            (
                "deviceToken, other platform",
                paired.clone().device_token(&token).platform("darwin"),
                "NOT_PAIRED PAIRING_REQUIRED 1008 (metadata-upgrade)",
            ),
            (
                "paired node, secret, role operator",
                operator().device(&node_key).secret(),
                "NOT_PAIRED PAIRING_REQUIRED 1008 (role-upgrade)",
            ),
            ("a paired node gets no scopes", node().device(&node_key).secret().admin(), HELLO_TOKEN),
            ("secret, broader scopes", paired.clone().secret().admin(), HELLO_ADMIN),
            (
                "then the same deviceToken carries them",
                paired.clone().device_token(&token).admin(),
                HELLO_ADMIN,
            ),
        ],
    )
    .await;
    let rights = door.come_in(&cli().secret().admin()).await.rights();
    door.devices.send(RemoveDevice { rights, device_id: key.id() }).await.unwrap().unwrap();
    rows(door, vec![("deviceToken of a removed pairing", paired.device_token(&token), DEVICE_TOKEN_WRONG)])
        .await;
}

#[actix::test]
async fn token_loopback() {
    let door = Door::token();
    secret_on_loopback(&door, TOKEN_MISSING, TOKEN_WRONG).await;
    paired_on_loopback(&door).await;
}

#[actix::test]
async fn password_loopback() {
    let door = Door::open(json!({"auth": {"mode": "password", "password": SECRET}}));
    let missing = "INVALID_REQUEST AUTH_PASSWORD_MISSING 1008 (password_missing)";
    let wrong = "INVALID_REQUEST AUTH_PASSWORD_MISMATCH 1008 (password_mismatch)";
    secret_on_loopback(&door, missing, wrong).await;
    paired_on_loopback(&door).await;
}

#[actix::test]
async fn none_loopback() {
    let door = Door::open(json!({"auth": {"mode": "none"}}));
    rows(
        &door,
        vec![
            ("cli, nothing, asks admin", cli().admin(), NO_DEVICE),
            ("cli, some token, asks admin", cli().secret().admin(), NO_DEVICE),
            ("backend, nothing, asks admin", backend().admin(), "hello:operator.admin"),
            ("backend in a page", backend().admin().page(OWN_PAGE), NO_DEVICE),
            ("operator, new device", operator().new_device(), HELLO_READ),
            ("node, no device", node(), NO_DEVICE),
            ("node, new device", node().new_device(), HELLO_TOKEN),
            ("foreign page", operator().page("https://evil.example").new_device(), ORIGIN_REFUSED),
            (
                "rebinding",
                operator().header("host", "evil.example").page("http://evil.example").new_device(),
                ORIGIN_REFUSED,
            ),
            ("X-Forwarded-For", operator().header("x-forwarded-for", "203.0.113.9").new_device(), "http:403"),
            ("webchat UI, device, own page", webchat().page(OWN_PAGE).new_device(), HELLO_READ),
        ],
    )
    .await;
}

#[actix::test]
async fn token_lan() {
    let mut door = Door::open(json!({"bind": "lan", "auth": {"mode": "token", "token": SECRET}}));
    let key = Key::new();
    let token = door.token_of(&operator().secret().device(&key)).await;
    door.local = "192.0.2.2:18789";
    let here = "192.0.2.2";
    let there = |visit: Visit| visit.from(here);
    rows(
        &door,
        vec![
            ("cli, secret, no device, asks admin", there(cli().secret().admin()), HELLO),
            ("backend, secret, no device, asks admin", there(backend().secret().admin()), HELLO),
            ("operator, secret, new device", there(operator().secret().new_device()), NOT_PAIRED),
            ("node, secret, new device", there(node().secret().new_device()), NOT_PAIRED),
            ("operator, no credential, device", there(operator().new_device()), TOKEN_MISSING),
            ("operator, wrong secret, device", there(operator().wrong_secret().new_device()), TOKEN_WRONG),
            (
                "X-Forwarded-For: 127.0.0.1",
                there(operator().secret().header("x-forwarded-for", "127.0.0.1")),
                "http:403",
            ),
            (
                "webchat UI, page = Host = public address",
                there(webchat().secret().page("http://192.0.2.2:18789").new_device()),
                ORIGIN_REFUSED,
            ),
            (
                "webchat UI, page on localhost",
                there(webchat().secret().page("http://localhost:18789").new_device()),
                NOT_PAIRED,
            ),
            (
                "webchat UI, foreign page",
                there(webchat().secret().page("https://evil.example").new_device()),
                ORIGIN_REFUSED,
            ),
            (
                "paired on loopback, its deviceToken",
                there(operator().device(&key).device_token(&token)),
                HELLO_READ,
            ),
            (
                "paired on loopback, secret, broader scopes",
                there(operator().device(&key).secret().admin()),
                "NOT_PAIRED PAIRING_REQUIRED 1008 (scope-upgrade)",
            ),
        ],
    )
    .await;
    for _ in 0..10 {
        assert_eq!(door.answer(&there(operator().wrong_secret())).await, TOKEN_WRONG);
    }
    rows(
        &door,
        vec![
            ("the 11th guess", there(operator().wrong_secret()), RATE_LIMITED),
            ("the right secret during the lockout", there(cli().secret()), RATE_LIMITED),
            (
                "with a decoy deviceToken",
                there(operator().auth(json!({"token": SECRET, "deviceToken": "x"})).new_device()),
                RATE_LIMITED,
            ),
            ("a paired device meanwhile", there(operator().device(&key).device_token(&token)), HELLO_READ),
            (
                "a paired device meanwhile, token field",
                there(operator().device(&key).auth(json!({"token": token}))),
                HELLO_READ,
            ),
        ],
    )
    .await;
    door.local = "127.0.0.1:18789";
    rows(&door, vec![("the right secret from loopback", cli().secret(), "hello:operator.read")]).await;
    door.local = "10.1.2.3:18789";
    let private = webchat().secret().from("10.1.2.9").page("http://10.1.2.3:18789").new_device();
    rows(&door, vec![("webchat UI, page = Host = private address", private, NOT_PAIRED)]).await;
}

#[actix::test]
async fn token_configured_proxy() {
    let door = Door::open(json!({
        "auth": {"mode": "token", "token": SECRET}, "trustedProxies": ["127.0.0.1"],
    }));
    let via = |visit: Visit, chain: &str| visit.header("x-forwarded-for", chain);
    let device = || operator().secret().new_device();
    rows(
        &door,
        vec![
            ("secret, device", via(device(), "203.0.113.9"), NOT_PAIRED),
            ("spoofed loopback", via(device(), "127.0.0.1"), "http:403"),
            ("garbage", via(device(), "garbage"), "http:403"),
            ("only X-Real-IP", device().header("x-real-ip", "203.0.113.9"), "http:403"),
            ("loopback, then client", via(device(), "127.0.0.1, 203.0.113.9"), NOT_PAIRED),
            ("client, then loopback", via(device(), "203.0.113.9, 127.0.0.1"), NOT_PAIRED),
            ("cli, secret, no device, asks admin", via(cli().secret().admin(), "203.0.113.9"), HELLO),
            ("no header: direct local", device(), HELLO_READ),
            (
                "Tailscale headers, no secret",
                via(
                    operator().new_device().header("tailscale-user-login", "owner@example.com"),
                    "203.0.113.9",
                ),
                TOKEN_MISSING,
            ),
        ],
    )
    .await;
    for _ in 0..10 {
        assert_eq!(door.answer(&via(operator().wrong_secret(), "203.0.113.50")).await, TOKEN_WRONG);
    }
    rows(
        &door,
        vec![
            ("guesses by 203.0.113.50, 11th", via(operator().wrong_secret(), "203.0.113.50"), RATE_LIMITED),
            ("another client meanwhile", via(device(), "203.0.113.51"), NOT_PAIRED),
        ],
    )
    .await;
}

fn trusted_proxy(allow_loopback: bool) -> Door {
    Door::open(json!({
        "auth": {"mode": "trusted-proxy", "trustedProxy": {
            "userHeader": "x-forwarded-user", "requiredHeaders": ["x-forwarded-proto"],
            "allowUsers": ["owner@example.com"], "allowLoopback": allow_loopback,
        }},
        "trustedProxies": ["127.0.0.1"],
        "controlUi": {"allowedOrigins": ["https://gw.example"]},
    }))
}

fn through_proxy(visit: Visit) -> Visit {
    visit.header("x-forwarded-for", "203.0.113.9").header("x-forwarded-proto", "https")
}

fn as_owner(visit: Visit) -> Visit {
    through_proxy(visit).header("x-forwarded-user", "owner@example.com")
}

#[actix::test]
async fn trusted_proxy_loopback() {
    let door = trusted_proxy(true);
    let page = "https://gw.example";
    let unauthorised = |reason: &str| format!("INVALID_REQUEST AUTH_UNAUTHORIZED 1008 ({reason})");
    let not_allowed = unauthorised("trusted_proxy_user_not_allowed");
    let missing = unauthorised("trusted_proxy_user_missing");
    let header_missing =
        "INVALID_REQUEST AUTH_IDENTITY_HEADER_REQUIRED 1008 (trusted_proxy_missing_header_x-forwarded-proto)";
    let ui = || control_ui().page(page).new_device();
    let user = |visit: Visit, user: &str| through_proxy(visit).header("x-forwarded-user", user);
    rows(
        &door,
        vec![
            ("allowed user, Control UI, device, allowed page", as_owner(ui()), NOT_PAIRED),
            ("device-less Control UI, asks admin", as_owner(control_ui().admin().page(page)), HELLO),
            (
                "foreign page",
                as_owner(control_ui().page("https://evil.example").new_device()),
                ORIGIN_REFUSED,
            ),
            ("user not in allowUsers", user(ui(), "mallory@example.com"), &not_allowed),
            ("user header missing", through_proxy(ui()), &missing),
            ("user header blank", user(ui(), " "), &missing),
            (
                "required header missing",
                ui().header("x-forwarded-for", "203.0.113.9").header("x-forwarded-user", "owner@example.com"),
                header_missing,
            ),
            (
                "client address missing",
                ui().header("x-forwarded-proto", "https").header("x-forwarded-user", "owner@example.com"),
                "http:403",
            ),
            (
                "X-Forwarded-For: 127.0.0.1",
                ui().header("x-forwarded-for", "127.0.0.1").header("x-forwarded-user", "owner@example.com"),
                "http:403",
            ),
            ("node role through the proxy, device", as_owner(node().new_device()), NOT_PAIRED),
            (
                "x-openclaw-scopes grants nothing",
                as_owner(operator().admin().header("x-openclaw-scopes", "operator.admin")),
                HELLO,
            ),
            ("direct local, no headers, no credential", operator().new_device(), header_missing),
            (
                "direct local, password that is not configured",
                cli().auth(json!({"password": "x"})),
                header_missing,
            ),
        ],
    )
    .await;
}

#[actix::test]
async fn trusted_proxy_no_loopback() {
    let door = trusted_proxy(false);
    let forged = control_ui().page("https://gw.example").new_device();
    rows(
        &door,
        vec![
            (
                "forged user header from a local process",
                as_owner(forged.clone()),
                "INVALID_REQUEST AUTH_UNAUTHORIZED 1008 (trusted_proxy_loopback_source)",
            ),
            (
                "same without forwarding headers",
                forged.header("x-forwarded-user", "owner@example.com"),
                "http:403",
            ),
        ],
    )
    .await;
}

#[actix::test]
async fn token_no_silent_pairing() {
    let door = Door::open(json!({
        "auth": {"mode": "token", "token": SECRET}, "nodes": {"pairing": {"autoApproveLocal": false}},
    }));
    rows(
        &door,
        vec![
            ("operator, secret, new device", operator().secret().new_device(), NOT_PAIRED),
            ("node, secret, new device", node().secret().new_device(), NOT_PAIRED),
            ("cli, secret, no device, asks admin", cli().secret().admin(), "hello:operator.admin"),
            ("backend, secret, device", backend().secret().new_device(), "hello:operator.read"),
        ],
    )
    .await;
}

#[actix::test]
async fn allow_tailscale_ordinary_listener() {
    let door = Door::open(json!({"auth": {"mode": "token", "token": SECRET, "allowTailscale": true}}));
    let identity = |visit: Visit| visit.header("tailscale-user-login", "owner@example.com");
    rows(
        &door,
        vec![
            (
                "Tailscale headers, Control UI, no secret",
                identity(control_ui().page(OWN_PAGE).new_device()).header("x-forwarded-for", "100.64.0.7"),
                "http:403",
            ),
            ("Tailscale-User-Login alone", identity(control_ui().page(OWN_PAGE).new_device()), "http:403"),
            ("no headers, no secret", webchat().page(OWN_PAGE).new_device(), TOKEN_MISSING),
        ],
    )
    .await;
}

#[actix::test]
async fn a_page_that_guesses_is_locked_out_and_the_owner_is_not() {
    let door = Door::token();
    let guess = control_ui().page(OWN_PAGE).wrong_secret().new_device();
    for _ in 0..10 {
        assert_eq!(door.answer(&guess).await, TOKEN_WRONG);
    }
    rows(
        &door,
        vec![
            ("the 11th", guess, RATE_LIMITED),
            ("with the right secret", control_ui().page(OWN_PAGE).secret().new_device(), RATE_LIMITED),
            ("the CLI", cli().secret(), "hello:operator.read"),
        ],
    )
    .await;
    let Err(Knock::Refused(refusal)) = door.knock(&cli().wrong_secret()).await else { panic!("let in") };
    assert_eq!(refusal.delay, Some(Duration::from_millis(250)));
    let Err(Knock::Refused(refusal)) = door.knock(&cli().wrong_secret()).await else { panic!("let in") };
    assert_eq!(refusal.delay, Some(Duration::from_millis(500)));
}

#[actix::test]
async fn a_gateway_without_its_secret_lets_nobody_in() {
    let door = Door::open(json!({"auth": {"mode": "token"}}));
    for secret in ["undefined", "null", ""] {
        let answer = door.answer(&operator().auth(json!({"token": secret})).new_device()).await;
        assert!(answer.starts_with("INVALID_REQUEST AUTH_TOKEN"), "{answer}");
    }
}
