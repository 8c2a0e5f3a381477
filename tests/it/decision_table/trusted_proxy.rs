//! A proxy that has authenticated the user and says who it is.

use super::*;

const USER: &str = "owner@example.com";

fn config(allow_loopback: bool) -> Setup {
    Setup::new().no_token().config(settings(allow_loopback))
}

fn settings(allow_loopback: bool) -> Value {
    let proxy = json!({
        "userHeader": "x-forwarded-user", "requiredHeaders": ["x-forwarded-proto"], "allowUsers": [USER],
        "allowLoopback": allow_loopback,
    });
    config_with(json!({"gateway": {
        "trustedProxies": ["127.0.0.1"],
        "auth": {"mode": "trusted-proxy", "trustedProxy": proxy},
        "controlUi": {"allowedOrigins": ["https://gw.example"]},
    }}))
}

/// As the proxy sends it for the owner's page; `None` leaves a header out.
fn proxied(
    row: Row,
    user: Option<&'static str>,
    proto: Option<&'static str>,
    from: Option<&'static str>,
) -> Row {
    let headers = [("X-Forwarded-User", user), ("X-Forwarded-Proto", proto), ("X-Forwarded-For", from)];
    let there = headers.into_iter().filter_map(|(name, value)| Some((name, value?)));
    there.fold(row, |row, (name, value)| row.header(name, value))
}

fn for_owner(row: Row) -> Row {
    proxied(row, Some(USER), Some("https"), Some("203.0.113.9"))
}

fn own_page(row: Row) -> Row {
    row.header("Origin", "https://gw.example")
}

fn unauthorized(reason: &'static str) -> Expect {
    Refused(INVALID, "AUTH_UNAUTHORIZED", 1008, reason)
}

fn no_header() -> Expect {
    let reason = "trusted_proxy_missing_header_x-forwarded-proto";
    Refused(INVALID, "AUTH_IDENTITY_HEADER_REQUIRED", 1008, reason)
}

fn ui(name: &'static str, expect: Expect) -> Row {
    row(name, expect, |stage| Connect::control_ui().device(&stage.identity))
}

#[actix_web::test]
async fn on_this_host_where_the_owner_allows_it() {
    let (proto, from) = (Some("https"), Some("203.0.113.9"));
    let bare =
        |name: &'static str, expect: Expect| row(name, expect, |_| Connect::control_ui().scopes(ADMIN));
    let rows = vec![
        own_page(for_owner(ui("user allowed, device, allowed Origin", pairing("not-paired")))),
        own_page(for_owner(bare("user allowed, no device, asks admin", Hello(&[], false)))),
        for_owner(ui("foreign Origin", foreign_origin())).header("Origin", "https://evil.example"),
        own_page(proxied(
            ui("user not in allowUsers", unauthorized("trusted_proxy_user_not_allowed")),
            Some("stranger@example.com"),
            proto,
            from,
        )),
        own_page(proxied(
            ui("user header missing", unauthorized("trusted_proxy_user_missing")),
            None,
            proto,
            from,
        )),
        own_page(proxied(
            ui("user header blank", unauthorized("trusted_proxy_user_missing")),
            Some("  "),
            proto,
            from,
        )),
        own_page(proxied(ui("required header missing", no_header()), Some(USER), None, from)),
        own_page(proxied(ui("client address missing", Http(403)), Some(USER), proto, None)),
        own_page(proxied(ui("X-Forwarded-For: 127.0.0.1", Http(403)), Some(USER), proto, Some("127.0.0.1"))),
        for_owner(row("node role, device", pairing("not-paired"), |stage| {
            Connect::node(&[]).device(&stage.identity)
        })),
        own_page(for_owner(bare("x-openclaw-scopes, no device, asks admin", Hello(&[], false))))
            .header("x-openclaw-scopes", "operator.admin"),
        row("direct local, no headers, no credential", no_header(), |stage| {
            Connect::cli().device(&stage.identity)
        }),
        row("direct local, password that is not configured", no_header(), |stage| {
            Connect::cli().device(&stage.identity).auth("password", "guess")
        }),
    ];
    judge(config(true), ("", ""), rows).await;
}

#[actix_web::test]
async fn not_on_this_host_unless_the_owner_allows_it() {
    let forged = unauthorized("trusted_proxy_loopback_source");
    let rows = vec![
        own_page(for_owner(ui("forged user header from a local process", forged))),
        own_page(proxied(ui("the same without forwarding headers", Http(403)), Some(USER), None, None)),
    ];
    judge(config(false), ("", ""), rows).await;
}

#[actix_web::test]
async fn whoever_the_settings_let_in_leaves_when_they_change() {
    let gateway = config(true).start().await;
    let upgrade = Upgrade::to(gateway.port)
        .header("X-Forwarded-User", USER)
        .header("X-Forwarded-Proto", "https")
        .header("X-Forwarded-For", "203.0.113.9")
        .origin("https://gw.example");
    let mut page = Connect::control_ui().over(&upgrade).await.session();
    let mut changed = settings(true);
    changed["gateway"]["auth"]["trustedProxy"]["allowUsers"] = json!(["another@example.com"]);
    gateway.write_config(&changed);
    assert_eq!(page.end().await, Incoming::Close { code: 4001, reason: "gateway auth changed".into() });
}
