//! Who gets in, as a table: each row is one connect against a gateway of its own, and the answer it must get.
//!
//! A row starts its own gateway, because refusals slow the next guess down and pairings change the next answer.

mod lan;
mod trusted_proxy;

use crate::support::gateway::config_with;
use crate::support::identity::PayloadVersion;
use crate::support::{Connect, Gateway, Identity, Incoming, Outcome, Setup, Upgrade};
use serde_json::{Value, json};

const SECRET: &str = "secret-of-the-table-1d0b";

/// What a row may use: the gateway, a device of its own, and the token that device was given beforehand.
struct Stage {
    gateway: Gateway,
    identity: Identity,
    device_token: String,
    /// The name of the secret's field in `auth`, and of the other one.
    field: &'static str,
    other_field: &'static str,
}

/// What happened to the row's device before its connect.
#[derive(Clone, Copy, PartialEq)]
enum Before {
    Nothing,
    /// Paired as an operator with `operator.read`.
    Paired,
    /// Paired, and then removed by an administrator.
    Removed,
}

enum Expect {
    /// A hello with exactly these scopes, and a device token or none.
    Hello(&'static [&'static str], bool),
    /// An error with this code, detail code, close code, and reason (`reason` or `authReason` of the details).
    Refused(&'static str, &'static str, u16, &'static str),
    Http(u16),
}
use Expect::{Hello, Http, Refused};

type MakeConnect = Box<dyn for<'s> Fn(&'s Stage) -> Connect<'s>>;
type MakeUpgrade = Box<dyn Fn(Upgrade, u16) -> Upgrade>;
/// The way from the row's client to the gateway.
type Way<'a> = &'a dyn Fn(&Gateway) -> Upgrade;

struct Row {
    name: &'static str,
    before: Before,
    connect: MakeConnect,
    upgrade: MakeUpgrade,
    expect: Expect,
}

fn row(
    name: &'static str,
    expect: Expect,
    connect: impl for<'s> Fn(&'s Stage) -> Connect<'s> + 'static,
) -> Row {
    Row {
        name,
        before: Before::Nothing,
        connect: Box::new(connect),
        upgrade: Box::new(|upgrade, _| upgrade),
        expect,
    }
}

impl Row {
    fn before(mut self, before: Before) -> Self {
        self.before = before;
        self
    }

    fn upgrade(mut self, upgrade: impl Fn(Upgrade, u16) -> Upgrade + 'static) -> Self {
        self.upgrade = Box::new(upgrade);
        self
    }

    fn header(self, name: &'static str, value: &'static str) -> Self {
        let before = self.upgrade;
        Self { upgrade: Box::new(move |upgrade, port| before(upgrade, port).header(name, value)), ..self }
    }

    fn own_origin(self) -> Self {
        self.upgrade(|upgrade, port| upgrade.origin(&format!("http://127.0.0.1:{port}")))
    }

    /// Runs the row; the difference, if there is one.
    async fn judge(
        &self,
        setup: &Setup,
        (field, other_field): (&'static str, &'static str),
        way: Way<'_>,
    ) -> Result<(), String> {
        let gateway = setup.clone().start().await;
        let mut stage =
            Stage { gateway, identity: Identity::new(), device_token: String::new(), field, other_field };
        if self.before != Before::Nothing {
            stage.pair(self.before).await;
        }
        let port = stage.gateway.port;
        let upgrade = (self.upgrade)(way(&stage.gateway), port);
        let outcome = (self.connect)(&stage).over(&upgrade).await;
        self.compare(&outcome).map_err(|found| format!("{}: {found}", self.name))
    }

    fn compare(&self, outcome: &Outcome) -> Result<(), String> {
        match (&self.expect, outcome) {
            (Hello(scopes, token), Outcome::Hello(hello, _)) => {
                let auth = &hello["auth"];
                let fits = auth["scopes"] == json!(scopes) && auth["deviceToken"].is_string() == *token;
                if fits { Ok(()) } else { Err(format!("hello with {auth}")) }
            }
            (Refused(code, detail, close, reason), Outcome::Refused(refused)) => {
                let details = &refused.error["details"];
                let said = details["reason"].as_str().or(details["authReason"].as_str()).unwrap_or_default();
                let fits = refused.error["code"] == *code
                    && refused.detail() == *detail
                    && refused.code == *close
                    && (reason.is_empty() || said == *reason);
                if fits { Ok(()) } else { Err(format!("{refused:?}")) }
            }
            (Http(status), Outcome::Http(answer)) if answer.status == *status => Ok(()),
            (_, Outcome::Hello(hello, _)) => Err(format!("let in with {}", hello["auth"])),
            (_, Outcome::Refused(refused)) => Err(format!("{refused:?}")),
            (_, Outcome::Http(answer)) => Err(format!("{answer:?}")),
        }
    }
}

impl Stage {
    async fn pair(&mut self, before: Before) {
        let connect = self.with_secret(Connect::cli()).device(&self.identity);
        let (hello, socket) = connect.over(&self.gateway.upgrade()).await.hello();
        self.device_token = hello["auth"]["deviceToken"].as_str().expect("a device token").to_owned();
        socket.close().await;
        if before == Before::Removed {
            let admin = self.with_secret(Connect::backend()).scopes(&["operator.admin", "operator.pairing"]);
            let mut admin = admin.over(&self.gateway.upgrade()).await.session();
            admin.ok("device.pair.remove", json!({"deviceId": self.identity.id()})).await;
        }
    }

    fn with_secret<'a>(&self, connect: Connect<'a>) -> Connect<'a> {
        if self.field.is_empty() { connect } else { connect.auth(self.field, SECRET) }
    }

    fn device(&self, connect: Connect<'static>) -> Connect<'_> {
        self.with_secret(connect).device(&self.identity)
    }

    fn device_token<'s>(&'s self, connect: Connect<'s>) -> Connect<'s> {
        connect.device(&self.identity).auth("deviceToken", &self.device_token)
    }
}

/// Judges every row, and fails with all differences at once.
async fn judge(setup: Setup, fields: (&'static str, &'static str), rows: Vec<Row>) {
    judge_from(setup, fields, &Gateway::upgrade, rows).await;
}

/// The same with clients elsewhere.
async fn judge_from(setup: Setup, fields: (&'static str, &'static str), way: Way<'_>, rows: Vec<Row>) {
    let mut differences = Vec::new();
    for row in rows {
        if let Err(difference) = row.judge(&setup, fields, way).await {
            differences.push(difference);
        }
    }
    assert!(differences.is_empty(), "{} rows differ:\n{}", differences.len(), differences.join("\n"));
}

const INVALID: &str = "INVALID_REQUEST";
const UNPAIRED: &str = "NOT_PAIRED";
const READ: &[&str] = &["operator.read"];
const ADMIN: &[&str] = &["operator.admin"];

fn foreign_origin() -> Expect {
    Refused(INVALID, "CONTROL_UI_ORIGIN_NOT_ALLOWED", 1008, "origin not allowed")
}

fn no_device() -> Expect {
    Refused(UNPAIRED, "DEVICE_IDENTITY_REQUIRED", 1008, "")
}

fn pairing(reason: &'static str) -> Expect {
    Refused(UNPAIRED, "PAIRING_REQUIRED", 1008, reason)
}

/// The rows that hold for a shared secret on loopback, whatever it is called.
fn shared_secret_rows(missing: Expect, mismatch: fn() -> Expect) -> Vec<Row> {
    let mut rows = helper_rows();
    rows.extend(credential_rows(missing, mismatch));
    rows.extend(browser_rows());
    rows.extend(protocol_rows());
    rows.extend(paired_rows());
    rows
}

fn helper_rows() -> Vec<Row> {
    vec![
        row("cli, secret, no device, asks admin", Hello(ADMIN, false), |stage| {
            stage.with_secret(Connect::cli().scopes(ADMIN))
        }),
        row("backend helper, secret, no device, asks admin", Hello(ADMIN, false), |stage| {
            stage.with_secret(Connect::backend().scopes(ADMIN))
        }),
        row("test client, secret, no device, asks admin", Hello(&[], false), |stage| {
            stage.with_secret(Connect::test().scopes(ADMIN))
        }),
        row("operator, secret, new device, asks read", Hello(READ, true), |stage| {
            stage.device(Connect::cli())
        }),
        row("operator, secret, new device, asks admin", Hello(ADMIN, true), |stage| {
            stage.device(Connect::cli().scopes(ADMIN))
        }),
        row("operator, v2 signature, new device", Hello(READ, true), |stage| {
            stage.device(Connect::cli().payload_version(PayloadVersion::V2))
        }),
        row("operator, secret in the other field", Hello(READ, true), |stage| {
            Connect::cli().device(&stage.identity).auth(stage.other_field, SECRET)
        }),
    ]
}

fn credential_rows(missing: Expect, mismatch: fn() -> Expect) -> Vec<Row> {
    vec![
        row("operator, no credential, no device", no_device(), |_| Connect::cli()),
        row("operator, no credential, device", missing, |stage| Connect::cli().device(&stage.identity)),
        row("operator, wrong secret, no device", mismatch(), |stage| {
            Connect::cli().auth(stage.field, "wrong")
        }),
        row("operator, wrong secret, device", mismatch(), |stage| {
            Connect::cli().auth(stage.field, "wrong").device(&stage.identity)
        }),
        row(
            "operator, bogus deviceToken",
            Refused(INVALID, "AUTH_DEVICE_TOKEN_MISMATCH", 1008, "device_token_mismatch"),
            |stage| Connect::cli().auth("deviceToken", "bogus").device(&stage.identity),
        ),
        row(
            "operator, bogus bootstrapToken",
            Refused(INVALID, "AUTH_BOOTSTRAP_TOKEN_INVALID", 1008, "bootstrap_token_invalid"),
            |stage| Connect::cli().auth("bootstrapToken", "bogus").device(&stage.identity),
        ),
        row("node, secret, no device", no_device(), |stage| stage.with_secret(Connect::node(&[]))),
        row("node, secret, new device", Hello(&[], true), |stage| stage.device(Connect::node(&[]))),
        row("node, secret, new device, asks operator.admin", pairing("not-paired"), |stage| {
            stage.device(Connect::node(&[]).scopes(ADMIN))
        }),
    ]
}

fn browser_rows() -> Vec<Row> {
    let no_origin = || Refused(INVALID, "CONTROL_UI_ORIGIN_NOT_ALLOWED", 1008, "origin missing or invalid");
    let needs_device = || Refused(INVALID, "CONTROL_UI_DEVICE_IDENTITY_REQUIRED", 1008, "");
    vec![
        row("webchat UI, secret, device, own Origin", Hello(READ, true), |stage| {
            stage.device(Connect::webchat_ui())
        })
        .own_origin(),
        row("Control UI, secret, device, own Origin, asks admin", Hello(ADMIN, true), |stage| {
            stage.device(Connect::control_ui().scopes(ADMIN))
        })
        .own_origin(),
        row("Control UI, secret, device, own Origin, another build", Hello(READ, true), |stage| {
            stage.device(Connect::control_ui().set("/client/buildId", json!("of-another-build")))
        })
        .own_origin(),
        row("Control UI, secret, no device, own Origin", needs_device(), |stage| {
            stage.with_secret(Connect::control_ui())
        })
        .own_origin(),
        row("TUI, secret, no device", needs_device(), |stage| stage.with_secret(Connect::tui())),
        row("Control UI, secret, device, no Origin", no_origin(), |stage| {
            stage.device(Connect::control_ui())
        }),
        row("Control UI, secret, device, Origin null", no_origin(), |stage| {
            stage.device(Connect::control_ui())
        })
        .header("Origin", "null"),
        row("a page posing as the CLI, secret, device, own Origin", pairing("not-paired"), |stage| {
            stage.device(Connect::cli())
        })
        .own_origin(),
        row("cli, secret, foreign Origin", foreign_origin(), |stage| stage.with_secret(Connect::cli()))
            .header("Origin", "https://evil.example"),
        row("node, secret, device, foreign Origin", foreign_origin(), |stage| {
            stage.device(Connect::node(&[]))
        })
        .header("Origin", "https://evil.example"),
        row("Control UI, secret, device, foreign Origin", foreign_origin(), |stage| {
            stage.device(Connect::control_ui())
        })
        .header("Origin", "https://evil.example"),
        row("cli, secret, Host = Origin = evil.example", foreign_origin(), |stage| {
            stage.with_secret(Connect::cli())
        })
        .header("Host", "evil.example")
        .header("Origin", "http://evil.example"),
        row("operator, secret, X-Forwarded-For", Http(403), |stage| stage.device(Connect::cli()))
            .header("X-Forwarded-For", "203.0.113.9"),
        row("operator, Tailscale headers, no secret", Http(403), |stage| {
            Connect::cli().device(&stage.identity)
        })
        .header("Tailscale-User-Login", "owner@example.com")
        .header("Tailscale-User-Name", "Owner"),
    ]
}

fn protocol_rows() -> Vec<Row> {
    let mismatch = || Refused(INVALID, "PROTOCOL_MISMATCH", 1002, "");
    vec![
        row("protocol 99", mismatch(), |stage| stage.with_secret(Connect::cli().protocol(99, 99))),
        row("protocol 3, operator", mismatch(), |stage| stage.with_secret(Connect::cli().protocol(3, 3))),
        row("protocol 3, node, device", Hello(&[], true), |stage| {
            stage.device(Connect::node(&[]).protocol(3, 3))
        }),
        row("protocol 2, node, device", mismatch(), |stage| stage.device(Connect::node(&[]).protocol(2, 2))),
        row("protocol 3..4, operator", Hello(READ, false), |stage| {
            stage.with_secret(Connect::cli().protocol(3, 4))
        }),
        row("role admin", Refused(INVALID, "", 1008, ""), |stage| {
            stage.with_secret(Connect::cli().role("admin"))
        }),
    ]
}

fn paired_rows() -> Vec<Row> {
    let device_token = || Refused(INVALID, "AUTH_DEVICE_TOKEN_MISMATCH", 1008, "device_token_mismatch");
    let rows = vec![
        row("paired device, its deviceToken, same scopes", Hello(READ, true), |stage| {
            stage.device_token(Connect::cli())
        }),
        row("paired device, its deviceToken in the token field", Hello(READ, true), |stage| {
            Connect::cli().device(&stage.identity).token(&stage.device_token)
        }),
        row("paired device, wrong secret and its deviceToken", Hello(READ, true), |stage| {
            stage.device_token(Connect::cli().auth(stage.field, "wrong"))
        }),
        row(
            "paired device, its deviceToken, broader scopes",
            Refused(INVALID, "AUTH_SCOPE_MISMATCH", 1008, "scope_mismatch"),
            |stage| stage.device_token(Connect::cli().scopes(ADMIN)),
        ),
        row("paired operator device, its deviceToken, role node", device_token(), |stage| {
            stage.device_token(Connect::node(&[]))
        }),
        row("paired device, secret, broader scopes", Hello(ADMIN, true), |stage| {
            stage.device(Connect::cli().scopes(ADMIN))
        }),
        row("paired operator device, secret, role node", pairing("role-upgrade"), |stage| {
            stage.device(Connect::node(&[]))
        }),
        row("paired device, secret, other platform", pairing("metadata-upgrade"), |stage| {
            stage.device(Connect::cli().set("/client/platform", json!("darwin")))
        }),
        row("another device with this deviceToken", device_token(), |stage| {
            let stranger: &'static Identity = Box::leak(Box::new(Identity::new()));
            Connect::cli().device(stranger).auth("deviceToken", &stage.device_token)
        }),
    ];
    let mut rows: Vec<Row> = rows.into_iter().map(|row| row.before(Before::Paired)).collect();
    rows.push(
        row("deviceToken of a removed pairing", device_token(), |stage| stage.device_token(Connect::cli()))
            .before(Before::Removed),
    );
    rows
}

#[actix_web::test]
async fn token_on_loopback() {
    let rows = shared_secret_rows(Refused(INVALID, "AUTH_TOKEN_MISSING", 1008, "token_missing"), || {
        Refused(INVALID, "AUTH_TOKEN_MISMATCH", 1008, "token_mismatch")
    });
    let setup = Setup::new().no_token().env("OPENCLAW_GATEWAY_TOKEN", SECRET);
    judge(setup, ("token", "password"), rows).await;
}

#[actix_web::test]
async fn password_on_loopback() {
    let rows =
        shared_secret_rows(Refused(INVALID, "AUTH_PASSWORD_MISSING", 1008, "password_missing"), || {
            Refused(INVALID, "AUTH_PASSWORD_MISMATCH", 1008, "password_mismatch")
        });
    let config = json!({"gateway": {"auth": {"mode": "password", "password": SECRET}}});
    judge(Setup::new().no_token().config(config_with(config)), ("password", "token"), rows).await;
}

#[actix_web::test]
async fn no_auth_on_loopback() {
    let rows = vec![
        row("cli, nothing, asks admin", no_device(), |_| Connect::cli().scopes(ADMIN)),
        row("backend helper, nothing, asks admin", Hello(ADMIN, false), |_| Connect::backend().scopes(ADMIN)),
        row("operator, new device", Hello(READ, true), |stage| Connect::cli().device(&stage.identity)),
        row("node, no device", no_device(), |_| Connect::node(&[])),
        row("node, new device", Hello(&[], true), |stage| Connect::node(&[]).device(&stage.identity)),
        row("foreign Origin", foreign_origin(), |stage| Connect::cli().device(&stage.identity))
            .header("Origin", "https://evil.example"),
        row("Host = Origin = evil.example", foreign_origin(), |stage| Connect::cli().device(&stage.identity))
            .header("Host", "evil.example")
            .header("Origin", "http://evil.example"),
        row("X-Forwarded-For", Http(403), |stage| Connect::cli().device(&stage.identity))
            .header("X-Forwarded-For", "203.0.113.9"),
        row("webchat UI, device, own Origin", Hello(READ, true), |stage| {
            Connect::webchat_ui().device(&stage.identity)
        })
        .own_origin(),
    ];
    let config = json!({"gateway": {"auth": {"mode": "none"}}});
    judge(Setup::new().no_token().config(config_with(config)), ("", ""), rows).await;
}

#[actix_web::test]
async fn token_behind_a_configured_proxy() {
    let forwarded = |value: &'static str| ("X-Forwarded-For", value);
    let unpaired = |name: &'static str, header: (&'static str, &'static str)| {
        row(name, pairing("not-paired"), |stage| stage.device(Connect::cli())).header(header.0, header.1)
    };
    let refused = |name: &'static str, header: (&'static str, &'static str)| {
        row(name, Http(403), |stage| stage.device(Connect::cli())).header(header.0, header.1)
    };
    let rows = vec![
        unpaired("X-Forwarded-For: 203.0.113.9", forwarded("203.0.113.9")),
        refused("X-Forwarded-For: 127.0.0.1", forwarded("127.0.0.1")),
        refused("X-Forwarded-For: garbage", forwarded("garbage")),
        refused("only X-Real-IP", ("X-Real-IP", "203.0.113.9")),
        unpaired("chain '127.0.0.1, 203.0.113.9'", forwarded("127.0.0.1, 203.0.113.9")),
        unpaired("chain '203.0.113.9, 127.0.0.1'", forwarded("203.0.113.9, 127.0.0.1")),
        row("cli, no device, asks admin, X-Forwarded-For", Hello(&[], false), |stage| {
            stage.with_secret(Connect::cli().scopes(ADMIN))
        })
        .header("X-Forwarded-For", "203.0.113.9"),
        row("no header: direct local", Hello(READ, true), |stage| stage.device(Connect::cli())),
        row(
            "Tailscale headers and X-Forwarded-For, no secret",
            Refused(INVALID, "AUTH_TOKEN_MISSING", 1008, "token_missing"),
            |stage| Connect::cli().device(&stage.identity),
        )
        .header("X-Forwarded-For", "203.0.113.9")
        .header("Tailscale-User-Login", "owner@example.com"),
    ];
    let config =
        json!({"gateway": {"trustedProxies": ["127.0.0.1"], "auth": {"mode": "token", "token": SECRET}}});
    judge(Setup::new().no_token().config(config_with(config)), ("token", "password"), rows).await;
}

#[actix_web::test]
async fn guesses_through_a_proxy_lock_their_client_out_and_nobody_else() {
    let config =
        json!({"gateway": {"trustedProxies": ["127.0.0.1"], "auth": {"mode": "token", "token": SECRET}}});
    let gateway = Setup::new().no_token().config(config_with(config)).start().await;
    let by = |client: &str| Upgrade::to(gateway.port).header("X-Forwarded-For", client);
    let identity = Identity::new();
    for n in 0..10 {
        let refused = Connect::cli().token("guess").over(&by("203.0.113.50")).await.refusal();
        assert_eq!(refused.detail(), "AUTH_TOKEN_MISMATCH", "guess {n}: {refused:?}");
    }
    for secret in ["guess", SECRET] {
        let refused = Connect::cli().token(secret).over(&by("203.0.113.50")).await.refusal();
        assert_eq!(refused.detail(), "AUTH_RATE_LIMITED", "{refused:?}");
        assert_eq!(refused.error["retryable"], true);
        assert!(refused.error["retryAfterMs"].as_u64().unwrap() > 0);
        assert_eq!(refused.code, 1008);
    }
    let other = Connect::cli().token(SECRET).device(&identity).over(&by("203.0.113.51")).await.refusal();
    assert_eq!(other.detail(), "PAIRING_REQUIRED");
    Connect::cli().token(SECRET).to(gateway.port).await.session();
}

#[actix_web::test]
async fn without_silent_pairing_a_new_device_waits_for_the_owner() {
    let rows = vec![
        row("operator, secret, new device", pairing("not-paired"), |stage| stage.device(Connect::cli())),
        row("node, secret, new device", pairing("not-paired"), |stage| stage.device(Connect::node(&[]))),
        row("cli, secret, no device, asks admin", Hello(ADMIN, false), |stage| {
            stage.with_secret(Connect::cli().scopes(ADMIN))
        }),
    ];
    let config = json!({"gateway": {
        "auth": {"mode": "token", "token": SECRET},
        "nodes": {"pairing": {"autoApproveLocal": false}},
    }});
    judge(Setup::new().no_token().config(config_with(config)), ("token", "password"), rows).await;
}

#[actix_web::test]
async fn tailscale_identity_means_nothing_on_the_ordinary_listener() {
    let rows = vec![
        row("Control UI, no secret", Http(403), |stage| Connect::control_ui().device(&stage.identity))
            .own_origin()
            .header("Tailscale-User-Login", "owner@example.com")
            .header("Tailscale-User-Name", "Owner")
            .header("X-Forwarded-For", "100.64.0.7"),
        row("Tailscale-User-Login alone", Http(403), |stage| Connect::cli().device(&stage.identity))
            .header("Tailscale-User-Login", "owner@example.com"),
        row(
            "no headers, no secret",
            Refused(INVALID, "AUTH_TOKEN_MISSING", 1008, "token_missing"),
            |stage| Connect::cli().device(&stage.identity),
        ),
    ];
    let config = json!({"gateway": {"auth": {"mode": "token", "token": SECRET, "allowTailscale": true}}});
    judge(Setup::new().no_token().config(config_with(config)), ("token", "password"), rows).await;
}

#[actix_web::test]
async fn an_unpaired_device_is_told_what_to_do() {
    let config = json!({"gateway": {"nodes": {"pairing": {"autoApproveLocal": false}}}});
    let gateway = Setup::new().config(config_with(config)).start().await;
    let identity = Identity::new();
    let connect = Connect::cli().token(&gateway.token()).device(&identity);
    let refused = connect.to(gateway.port).await.refusal();
    assert_eq!(refused.error["message"], "pairing required: device is not approved yet");
    let details = &refused.error["details"];
    assert_eq!(details["deviceId"], identity.id());
    assert_eq!(details["requestedRole"], "operator");
    assert_eq!(details["requestedScopes"], json!(["operator.read"]));
    let request = details["requestId"].as_str().unwrap();
    assert!(refused.reason.contains(request), "{refused:?}");
    let again = connect.to(gateway.port).await.refusal();
    assert_eq!(again.error["details"]["requestId"], Value::from(request), "the same request keeps its id");
}
