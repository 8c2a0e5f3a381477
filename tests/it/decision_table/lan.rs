//! A gateway on all addresses, and clients on another machine. 192.0.2.0/24 counts as public.

use super::*;
use crate::support::{Host, Lan};
use std::net::{Ipv4Addr, SocketAddr};

const PUBLIC: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 0);

fn setup(home: &Host) -> Setup {
    let config = json!({"gateway": {"bind": "lan", "auth": {"mode": "token", "token": SECRET}}});
    Setup::new().no_token().config(config_with(config)).on(home)
}

fn from_lan(home: &Host, laptop: &Host) -> impl Fn(&Gateway) -> Upgrade + use<> {
    let (home, laptop) = (home.clone(), laptop.clone());
    move |gateway| Upgrade::at(home.socket_address(gateway.port)).from(&laptop)
}

fn rows() -> Vec<Row> {
    let webchat = |name, expect| row(name, expect, |stage| stage.device(Connect::webchat_ui()));
    vec![
        row("cli, secret, no device, asks admin", Hello(&[], false), |stage| {
            stage.with_secret(Connect::cli().scopes(ADMIN))
        }),
        row("backend helper, secret, no device, asks admin", Hello(&[], false), |stage| {
            stage.with_secret(Connect::backend().scopes(ADMIN))
        }),
        row("operator, secret, new device", pairing("not-paired"), |stage| stage.device(Connect::cli())),
        row("node, secret, new device", pairing("not-paired"), |stage| stage.device(Connect::node(&[]))),
        row(
            "operator, no credential, device",
            Refused(INVALID, "AUTH_TOKEN_MISSING", 1008, "token_missing"),
            |stage| Connect::cli().device(&stage.identity),
        ),
        row(
            "operator, wrong secret, device",
            Refused(INVALID, "AUTH_TOKEN_MISMATCH", 1008, "token_mismatch"),
            |stage| Connect::cli().token("wrong").device(&stage.identity),
        ),
        row("operator, secret, X-Forwarded-For: 127.0.0.1", Http(403), |stage| stage.device(Connect::cli()))
            .header("X-Forwarded-For", "127.0.0.1"),
        webchat("webchat UI, secret, device, Origin http://localhost", pairing("not-paired"))
            .upgrade(|upgrade, port| upgrade.origin(&format!("http://localhost:{port}"))),
        webchat("webchat UI, secret, device, foreign Origin", foreign_origin())
            .header("Origin", "https://evil.example"),
        row("device paired on loopback, its deviceToken", Hello(READ, true), |stage| {
            stage.device_token(Connect::cli())
        })
        .before(Before::Paired),
        row("device paired on loopback, secret, broader scopes", pairing("scope-upgrade"), |stage| {
            stage.device(Connect::cli().scopes(ADMIN))
        })
        .before(Before::Paired),
    ]
}

/// A page that was loaded from the address that it dials.
fn same_origin(expect: Expect, home: &Host) -> Row {
    let address = home.address();
    row("webchat UI, secret, device, Origin = Host = LAN address", expect, |stage| {
        stage.device(Connect::webchat_ui())
    })
    .upgrade(move |upgrade, port| upgrade.origin(&format!("http://{address}:{port}")))
}

#[actix_web::test]
async fn token_from_a_public_address() {
    let (_lan, [home, laptop]) = Lan::in_network(PUBLIC, ["home", "laptop"]);
    let mut rows = rows();
    rows.push(same_origin(foreign_origin(), &home));
    judge_from(setup(&home), ("token", "password"), &from_lan(&home, &laptop), rows).await;
}

#[actix_web::test]
async fn a_page_from_the_private_address_that_it_dials_is_the_gateways_own() {
    let (_lan, [home, laptop]) = Lan::new(["home", "laptop"]);
    let foreign = |name, host: &'static str| {
        row(name, foreign_origin(), |stage| stage.device(Connect::webchat_ui())).upgrade(
            move |upgrade, port| {
                upgrade.header("Host", &format!("{host}:{port}")).origin(&format!("http://{host}:{port}"))
            },
        )
    };
    let rows = vec![
        same_origin(pairing("not-paired"), &home),
        foreign("Host = Origin = an address that the host lacks", "192.168.77.99"),
        foreign("Host = Origin = a name that resolves here", "evil.example"),
        foreign("Host = Origin = somebody's .local", "printer.local"),
        foreign("Host = Origin = somebody's .ts.net", "box.tail1234.ts.net"),
    ];
    judge_from(setup(&home), ("token", "password"), &from_lan(&home, &laptop), rows).await;
}

#[actix_web::test]
async fn guesses_lock_their_address_out_and_not_the_owner() {
    let (_lan, [home, laptop, phone]) = Lan::in_network(PUBLIC, ["home", "laptop", "phone"]);
    let gateway = setup(&home).start().await;
    let at: SocketAddr = home.socket_address(gateway.port);
    let (stranger, other) = (Upgrade::at(at).from(&laptop), Upgrade::at(at).from(&phone));
    for n in 0..10 {
        let refused = Connect::cli().token("guess").over(&stranger).await.refusal();
        assert_eq!(refused.detail(), "AUTH_TOKEN_MISMATCH", "guess {n}: {refused:?}");
    }
    for secret in ["guess", SECRET] {
        let refused = Connect::cli().token(secret).over(&stranger).await.refusal();
        assert_eq!(refused.detail(), "AUTH_RATE_LIMITED", "{refused:?}");
        assert_eq!((refused.code, refused.error["retryable"].clone()), (1008, json!(true)));
        assert!(refused.error["retryAfterMs"].as_u64().unwrap() > 0);
    }
    let (hello, _) = Connect::cli().token(SECRET).over(&gateway.upgrade()).await.hello();
    assert_eq!(hello["auth"]["scopes"], json!(READ));
    Connect::cli().token(SECRET).over(&other).await.session();

    let token = SECRET;
    let audit = gateway.cli_json(&["audit", "--json", "--token", token]).await;
    let of = |code: &str| {
        let events = audit["events"].as_array().unwrap();
        events.iter().find(|event| event["code"] == code).cloned().unwrap_or_default()
    };
    let (guesses, locked) = (of("AUTH_TOKEN_MISMATCH"), of("AUTH_RATE_LIMITED"));
    assert_eq!((&guesses["tries"], &locked["tries"]), (&json!(10), &json!(2)), "{audit}");
    assert_eq!(guesses["address"], laptop.address().to_string());
    assert_eq!(guesses["clientId"], "cli");
    assert!(!audit.to_string().contains("guess"), "{audit}");
}
