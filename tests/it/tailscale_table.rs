//! The rows of the decision table that need Tailscale: each is one connect at the listener of the gateway's own Serve
//! or Funnel route, with headers as Tailscale writes them or as somebody forges them.

use crate::support::fake_tailscale::{FakeTailscale, LAPTOP, NAME, OWNER};
use crate::support::gateway::config_with;
use crate::support::{Connect, Gateway, Identity, Outcome, Setup, Upgrade, eventually};
use serde_json::{Value, json};

const SECRET: &str = "secret-of-the-tailnet-77aa";
const STRANGER: &str = "203.0.113.60";

const HTTP_403: &str = "http:403";
const NO_SECRET: &str = "INVALID_REQUEST AUTH_TOKEN_MISSING 1008 (token_missing)";
const NO_PASSWORD: &str = "INVALID_REQUEST AUTH_PASSWORD_MISSING 1008 (password_missing)";
const WRONG_SECRET: &str = "INVALID_REQUEST AUTH_TOKEN_MISMATCH 1008 (token_mismatch)";
const WRONG_PASSWORD: &str = "INVALID_REQUEST AUTH_PASSWORD_MISMATCH 1008 (password_mismatch)";
const NOT_PAIRED: &str = "NOT_PAIRED PAIRING_REQUIRED 1008 (not-paired)";
const NO_DEVICE: &str = "NOT_PAIRED DEVICE_IDENTITY_REQUIRED 1008 ()";
const NO_UI_DEVICE: &str = "INVALID_REQUEST CONTROL_UI_DEVICE_IDENTITY_REQUIRED 1008 ()";
const FOREIGN_PAGE: &str = "INVALID_REQUEST CONTROL_UI_ORIGIN_NOT_ALLOWED 1008 (origin not allowed)";
const NO_PAGE: &str = "INVALID_REQUEST CONTROL_UI_ORIGIN_NOT_ALLOWED 1008 (origin missing or invalid)";
const LIMITED: &str = "INVALID_REQUEST AUTH_RATE_LIMITED 1008 (rate_limited)";

/// Headers of an upgrade.
#[derive(Clone)]
struct Head(Vec<(&'static str, String)>);

impl Head {
    /// As Tailscale passes it on for a machine of the tailnet, without a person.
    fn from(address: &str) -> Self {
        let host = NAME.to_owned();
        Self(vec![
            ("Host", host.clone()),
            ("X-Forwarded-For", address.to_owned()),
            ("X-Forwarded-Proto", "https".to_owned()),
            ("X-Forwarded-Host", host),
        ])
    }

    /// With the person that `whois` names.
    fn owner() -> Self {
        Self::from(LAPTOP).with("Tailscale-User-Login", OWNER).with("Tailscale-User-Name", "The Owner")
    }

    /// From the internet.
    fn public() -> Self {
        Self::from(STRANGER).with("Tailscale-Funnel-Request", "?1")
    }

    /// With this value instead of any other.
    fn with(self, name: &'static str, value: &str) -> Self {
        let mut head = self.without(name);
        head.0.push((name, value.to_owned()));
        head
    }

    /// With this value after the others.
    fn and(mut self, name: &'static str, value: &str) -> Self {
        self.0.push((name, value.to_owned()));
        self
    }

    fn without(mut self, name: &str) -> Self {
        self.0.retain(|(have, _)| *have != name);
        self
    }

    fn page(self) -> Self {
        self.with("Origin", &format!("https://{NAME}"))
    }

    fn at(&self, port: u16) -> Upgrade {
        self.0.iter().fold(Upgrade::to(port), |upgrade, (name, value)| upgrade.header(name, value))
    }
}

/// A gateway with its route.
struct Stage {
    fake: FakeTailscale,
    gateway: Gateway,
    /// The listener behind the route.
    route: u16,
}

impl Stage {
    async fn start(gateway: Value) -> Self {
        let fake = FakeTailscale::start();
        let setup = Setup::new().no_token().config(config_with(json!({"gateway": gateway})));
        let gateway = fake.known_to(setup).start().await;
        let route = eventually("the claim", async || fake.target()).await;
        Self { fake, gateway, route }
    }

    async fn serve(allow: bool) -> Self {
        Self::start(json!({
            "tailscale": {"mode": "serve"},
            "auth": {"mode": "token", "token": SECRET, "allowTailscale": allow},
        }))
        .await
    }

    async fn funnel() -> Self {
        Self::start(json!({
            "tailscale": {"mode": "funnel"},
            "auth": {"mode": "password", "password": SECRET},
        }))
        .await
    }

    /// Judges every row at the route's listener, each with a device of its own, and names all that differ.
    async fn judge(&self, rows: Vec<Row>) {
        let mut differences = Vec::new();
        for Row { name, head, connect, device, expected } in rows {
            let identity = Identity::new();
            let connect = if device { connect.device(&identity) } else { connect };
            let found = said(connect.over(&head.at(self.route)).await);
            if found != expected {
                differences.push(format!("{name}: {found}, not {expected}"));
            }
        }
        assert!(differences.is_empty(), "{} rows differ:\n{}", differences.len(), differences.join("\n"));
    }
}

struct Row {
    name: &'static str,
    head: Head,
    connect: Connect<'static>,
    device: bool,
    expected: &'static str,
}

fn row(name: &'static str, head: Head, connect: Connect<'static>, expected: &'static str) -> Row {
    Row { name, head, connect, device: true, expected }
}

fn no_device(row: Row) -> Row {
    Row { device: false, ..row }
}

fn said(outcome: Outcome) -> String {
    match outcome {
        Outcome::Http(answer) => format!("http:{}", answer.status),
        Outcome::Hello(hello, _) => format!("hello:{}", hello["auth"]["scopes"]),
        Outcome::Refused(refused) => {
            let details = &refused.error["details"];
            let why = details["reason"].as_str().or(details["authReason"].as_str()).unwrap_or_default();
            let code = refused.error["code"].as_str().unwrap_or_default();
            format!("{code} {} {} ({why})", refused.detail(), refused.code)
        }
    }
}

fn admin(connect: Connect<'static>) -> Connect<'static> {
    connect.scopes(&["operator.admin"])
}

#[actix_web::test]
async fn tailscale_serve_for_people() {
    let stage = Stage::serve(true).await;
    let guest = || Head::owner().with("Tailscale-User-Login", "guest@example.com").page();
    let ui = || admin(Connect::control_ui());
    let (chain, two) = (format!("{LAPTOP}, 100.64.0.8"), "X-Forwarded-For");
    let chained = Head::owner().with(two, &chain).page();
    let doubled = Head::owner().with(two, "100.64.0.8").and(two, LAPTOP).page();
    let elsewhere = "evil.tail9999.ts.net";
    let foreign_name = Head::owner()
        .with("Host", elsewhere)
        .with("X-Forwarded-Host", elsewhere)
        .with("Origin", &format!("https://{elsewhere}"));
    stage
        .judge(vec![
            row(
                "Control UI, identity, own Origin",
                Head::owner().page(),
                ui(),
                r#"hello:["operator.admin"]"#,
            ),
            no_device(row("Control UI, no device", Head::owner().page(), ui(), NO_UI_DEVICE)),
            row("Control UI, no Origin", Head::owner(), ui(), NO_PAGE),
            row("Control UI, another person than whois says", guest(), ui(), NO_SECRET),
            row("Control UI, a chain of addresses", chained, ui(), HTTP_403),
            row("Control UI, two address headers", doubled, ui(), HTTP_403),
            row("webchat UI, identity", Head::owner().page(), Connect::webchat_ui(), NOT_PAIRED),
            row("webchat UI, another person", guest(), Connect::webchat_ui(), NO_SECRET),
            row(
                "webchat UI, an address that whois does not know",
                Head::owner().with("X-Forwarded-For", "100.64.0.99").page(),
                Connect::webchat_ui(),
                NO_SECRET,
            ),
            row("webchat UI, a tagged machine", Head::from(LAPTOP).page(), Connect::webchat_ui(), NO_SECRET),
            row(
                "webchat UI, a wrong secret as well",
                Head::owner().page(),
                Connect::webchat_ui().token("wrong"),
                WRONG_SECRET,
            ),
            row(
                "webchat UI, foreign Origin",
                Head::owner().with("Origin", "https://evil.example"),
                Connect::webchat_ui(),
                FOREIGN_PAGE,
            ),
            row("webchat UI, somebody else's .ts.net", foreign_name, Connect::webchat_ui(), FOREIGN_PAGE),
            no_device(row("identity, no device", Head::owner(), admin(Connect::test()), NO_DEVICE)),
            row("identity, cli, device, no Origin", Head::owner(), Connect::cli(), NOT_PAIRED),
            row("identity, node role, device", Head::owner(), Connect::node(&[]), NO_SECRET),
        ])
        .await;
}

#[actix_web::test]
async fn tailscale_serve_for_what_is_no_person() {
    let stage = Stage::serve(true).await;
    let plain = || Connect::cli().token(SECRET);
    stage
        .judge(vec![
            row(
                "identity from the internet",
                Head::owner().with("Tailscale-Funnel-Request", "?1").page(),
                Connect::control_ui(),
                HTTP_403,
            ),
            row("a local process, no headers", Head(vec![]), plain(), HTTP_403),
            row(
                "a local process, only the identity",
                Head(vec![("Tailscale-User-Login", OWNER.to_owned())]),
                plain(),
                HTTP_403,
            ),
            row("no X-Forwarded-For", Head::owner().without("X-Forwarded-For"), plain(), HTTP_403),
            row("no X-Forwarded-Proto", Head::owner().without("X-Forwarded-Proto"), plain(), HTTP_403),
            row("no X-Forwarded-Host", Head::owner().without("X-Forwarded-Host"), plain(), HTTP_403),
            row("X-Forwarded-For: 127.0.0.1", Head::from("127.0.0.1"), plain(), HTTP_403),
            no_device(row(
                "secret, cli, no device, asks admin",
                Head::from(LAPTOP),
                admin(plain()),
                "hello:[]",
            )),
            no_device(row(
                "secret, helper, no device, asks admin",
                Head::from(LAPTOP),
                admin(Connect::backend().token(SECRET)),
                "hello:[]",
            )),
            row("secret, operator, new device", Head::from(LAPTOP), plain(), NOT_PAIRED),
            row("secret, node, new device", Head::from(LAPTOP), Connect::node(&[]).token(SECRET), NOT_PAIRED),
        ])
        .await;
    let identity = Identity::new();
    let named = Connect::control_ui().device(&identity);
    assert_eq!(
        said(named.over(&Head::owner().page().at(stage.gateway.port)).await),
        HTTP_403,
        "ordinary listener"
    );
    let local = Connect::cli().token(SECRET).device(&identity).to(stage.gateway.port).await.hello().0;
    assert_eq!(local["auth"]["scopes"], json!(["operator.read"]), "direct local on the ordinary listener");
    assert!(local["auth"]["deviceToken"].is_string());
}

#[actix_web::test]
async fn tailscale_serve_where_a_proxy_user_is_believed_elsewhere() {
    let stage = Stage::start(json!({
        "tailscale": {"mode": "serve"},
        "trustedProxies": ["127.0.0.1"],
        "auth": {"mode": "trusted-proxy", "trustedProxy": {
            "userHeader": "x-forwarded-user", "allowLoopback": true,
        }},
    }))
    .await;
    let forged = Head::owner().with("X-Forwarded-User", "admin@example.com").page();
    let refused = "INVALID_REQUEST AUTH_UNAUTHORIZED 1008 (trusted_proxy_untrusted_source)";
    stage
        .judge(vec![row("a proxy's user, sent by the client", forged, Connect::control_ui(), refused)])
        .await;
}

#[actix_web::test]
async fn tailscale_serve_with_identities_off() {
    let stage = Stage::serve(false).await;
    let webchat = Connect::webchat_ui;
    stage
        .judge(vec![
            row("webchat UI, identity", Head::owner().page(), webchat(), NO_SECRET),
            row("Control UI, identity", Head::owner().page(), Connect::control_ui(), NO_SECRET),
            row("webchat UI, the secret", Head::owner().page(), webchat().token(SECRET), NOT_PAIRED),
        ])
        .await;
    assert_eq!(stage.fake.questions("whois"), 0, "nobody is asked whose name does not count");
}

#[actix_web::test]
async fn tailscale_funnel() {
    let stage = Stage::funnel().await;
    let ui = Connect::control_ui;
    let forged = Head::public().with("Tailscale-User-Login", OWNER).page();
    stage
        .judge(vec![
            row("public, no secret", Head::public().page(), ui(), NO_PASSWORD),
            row("public, forged identity", forged, ui(), NO_PASSWORD),
            row(
                "public, the password, new device",
                Head::public(),
                Connect::cli().auth("password", SECRET),
                NOT_PAIRED,
            ),
            row("a tailnet peer, identity", Head::owner().page(), ui(), NO_PASSWORD),
            row(
                "a marker that Tailscale does not write",
                Head::public().with("Tailscale-Funnel-Request", "1"),
                ui(),
                HTTP_403,
            ),
            row(
                "a local process, no headers",
                Head(vec![]),
                Connect::cli().auth("password", SECRET),
                HTTP_403,
            ),
        ])
        .await;
    assert_eq!(stage.fake.questions("whois"), 0, "a Funnel request never gets a name");
}

#[actix_web::test]
async fn guesses_over_funnel_lock_their_sender_out_and_nobody_else() {
    let stage = Stage::funnel().await;
    let guess = async |address: &str, password: &str| {
        let head = Head::from(address).with("Tailscale-Funnel-Request", "?1");
        said(Connect::cli().auth("password", password).over(&head.at(stage.route)).await)
    };
    for n in 0..10 {
        assert_eq!(guess(STRANGER, "wrong").await, WRONG_PASSWORD, "guess {n}");
    }
    assert_eq!(guess(STRANGER, "wrong").await, LIMITED);
    assert_eq!(guess(STRANGER, SECRET).await, LIMITED);
    assert_eq!(guess("203.0.113.61", SECRET).await, "hello:[]");
}
