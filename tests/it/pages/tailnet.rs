//! `deploy/tailscale.md`. What stands for a machine of the tailnet is a loopback port: there is no `https` in front of
//! it, which is Tailscale's part. `lan` has machines with addresses of their own, and `https`.

mod lan;

use super::{answers, serves, waiting};
use crate::support::fake_tailscale::{FakeTailscale, LAPTOP, NAME};
use crate::support::official::NodeHost;
use crate::support::page::{Desk, Page};
use crate::support::ports::free_port;
use crate::support::{Connect, Identity, Upgrade, eventually};

/// A machine of a tailnet, with its gateway.
struct Home {
    fake: FakeTailscale,
    desk: Desk,
    port: u16,
}

impl Home {
    fn new() -> Self {
        let port = free_port();
        Self::at(FakeTailscale::start(), Desk::new().env("TIDEGATE_GATEWAY_PORT", port), port)
    }

    fn at(fake: FakeTailscale, desk: Desk, port: u16) -> Self {
        desk.has("tailscale", &format!("exec '{}' \"$@\"", fake.program().display()));
        Self { fake, desk, port }
    }

    async fn runs(&self, line: &str) -> NodeHost {
        let gateway = self.desk.start(line);
        answers(&self.desk).await;
        eventually("the route", async || self.fake.target()).await;
        gateway
    }

    /// Follows the parts on other machines of the tailnet, for which the page's examples are `names` here.
    async fn lets_others_in(&self, page: &Page, laptop: &Desk, attic: &Desk, names: &Names<'_>) {
        let token = self.desk.token();
        let commands = page
            .part("Who is let in")
            .with(&[("wss://HOST.TAILNET.ts.net", names.url), ("--token TOKEN", &format!("--token {token}"))])
            .commands();
        let [set, status, ..] = commands.as_slice() else { panic!("{commands:?}") };
        laptop.ok(set).await;
        let (code, said) = laptop.fails(status).await;
        assert!(code == 77 && said.contains("tidegate devices approve"), "{code} {said}");
        self.lets_in(page).await;
        laptop.ok(status).await;

        let examples = [("TOKEN=...", &*format!("TOKEN={token}")), ("HOST.TAILNET.ts.net", names.host)];
        let commands =
            page.part("A node").with(&examples).with(&[("--port 443 --tls", names.port)]).commands();
        let [node, approvals @ ..] = commands.as_slice() else { panic!("{commands:?}") };
        let mut host = attic.start(node);
        let [list, device, pending, surface] = approvals else { panic!("{approvals:?}") };
        let request = waiting(&self.desk, list).await;
        self.desk.ok(&device.replace("REQUEST-ID", &request)).await;
        let request = eventually("the node's commands to wait", async || {
            let shown = self.desk.json(pending).await;
            let list = shown.as_array().or_else(|| shown["pending"].as_array())?;
            if let Some(status) = host.ended() {
                panic!("the node host ended ({status}): {}", host.log());
            }
            Some(list.first()?["requestId"].as_str()?.to_owned())
        })
        .await;
        self.desk.ok(&surface.replace("REQUEST-ID", &request)).await;
        serves(&self.desk).await;
    }

    /// The desk's owner lets in whoever asks, with the commands of the page.
    async fn lets_in(&self, page: &Page) {
        let commands = page.part("Who is let in").commands();
        let [.., list, approve] = commands.as_slice() else { panic!("{commands:?}") };
        let request = waiting(&self.desk, list).await;
        self.desk.ok(&approve.replace("REQUEST-ID", &request)).await;
    }
}

/// The way to the gateway in the place of the page's examples.
struct Names<'a> {
    url: &'a str,
    host: &'a str,
    port: &'a str,
}

fn page() -> Page {
    Page::of("deploy/tailscale.md")
}

fn browser(port: u16) -> Upgrade {
    Upgrade::to(port).header("Host", NAME).origin(&format!("https://{NAME}"))
}

#[actix_web::test]
async fn serve_can_be_followed() {
    let page = page();
    let configs = page.part("Serve").blocks("json5");
    let [served, anonymous] = configs.as_slice() else { panic!("{configs:?}") };
    let mut home = Home::new();
    let near = home.fake.tailnet_port(LAPTOP);
    home.desk.writes_config(served);
    let gateway = home.runs("tidegate gateway run").await;
    let url = format!("https://{NAME}");
    assert!(gateway.log().contains(&url), "{}", gateway.log());
    for line in ["tidegate status", "tidegate gateway status"] {
        assert!(home.desk.ok(line).await.contains(&url), "{line}");
    }

    let identity = Identity::new();
    let ui = Connect::control_ui().device(&identity).scopes(&["operator.admin"]);
    assert_eq!(ui.over(&browser(near)).await.hello().0["auth"]["method"], "tailscale");
    let url = format!("ws://127.0.0.1:{near}");
    let names = Names { url: &url, host: "127.0.0.1", port: &format!("--port {near}") };
    home.lets_others_in(&page, &Desk::new(), &Desk::new(), &names).await;
    drop(gateway);

    home.desk.writes_config(anonymous);
    let _gateway = home.runs("tidegate gateway run").await;
    assert_eq!(ui.over(&browser(near)).await.refusal().detail(), "AUTH_TOKEN_MISSING");
}

#[actix_web::test]
async fn serve_can_be_a_flag() {
    let home = Home::new();
    let text = page();
    text.with(&[("`tidegate gateway run --tailscale serve`", "")]);
    home.runs("tidegate gateway run --tailscale serve").await;
}

#[actix_web::test]
async fn a_route_by_hand_can_be_followed() {
    let mut home = Home::new();
    let near = home.fake.tailnet_port(LAPTOP);
    let page = page();
    let own = page
        .part("A route of your own")
        .with(&[("18789", &home.port.to_string()), ("HOST.TAILNET.ts.net", NAME)]);
    let commands = own.commands();
    assert!(commands.len() == 1 && commands[0].starts_with("tailscale serve --bg "), "{commands:?}");
    home.desk.ok(&commands[0]).await;
    home.desk.writes_config(&own.blocks("json5")[0]);
    let _gateway = home.runs("tidegate gateway run").await;
    assert_eq!(home.fake.target(), Some(home.port));

    let (identity, token) = (Identity::new(), home.desk.token());
    let ui = Connect::control_ui().device(&identity).scopes(&["operator.admin"]);
    assert_eq!(ui.over(&browser(near)).await.refusal().detail(), "AUTH_TOKEN_MISSING");
    assert_eq!(ui.token(&token).over(&browser(near)).await.refusal().detail(), "PAIRING_REQUIRED");
    home.lets_in(&page).await;
    let ui = Connect::control_ui().device(&identity).scopes(&["operator.admin"]);
    ui.token(&token).over(&browser(near)).await.session();
    let laptop = Desk::new();
    let line = format!("tidegate health --url ws://127.0.0.1:{near} --token {token}");
    assert_eq!(laptop.fails(&line).await.0, 77);
    home.lets_in(&page).await;
    laptop.ok(&line).await;
}

#[actix_web::test]
async fn funnel_can_be_followed() {
    let mut home = Home::new();
    let near = home.fake.internet_port("203.0.113.60");
    let page = page();
    let funnel = page.part("Funnel").with(&[("PASSWORD=...", "PASSWORD=a-long-one-77f0")]);
    home.desk.writes_config(&funnel.blocks("json5")[0]);
    let commands = funnel.commands();
    let [run] = commands.as_slice() else { panic!("{commands:?}") };
    // Commands on the host need the password, too.
    home.desk = home.desk.env("TIDEGATE_GATEWAY_PASSWORD", "a-long-one-77f0");
    let _gateway = home.runs(run).await;
    let stranger = Desk::new();
    let line = format!("tidegate health --url ws://127.0.0.1:{near} --password");
    let (code, said) = stranger.fails(&format!("{line} a-long-one-77f0")).await;
    assert!(code == 77 && said.contains("tidegate devices approve"), "{code} {said}");
    home.lets_in(&page).await;
    stranger.ok(&format!("{line} a-long-one-77f0")).await;

    let wrong = Connect::cli().auth("password", "a guess");
    for _ in 0..10 {
        let refused = wrong.over(&browser(near)).await.refusal();
        assert_eq!(refused.detail(), "AUTH_PASSWORD_MISMATCH", "{refused:?}");
    }
    let refused = wrong.over(&browser(near)).await.refusal();
    assert_eq!(refused.detail(), "AUTH_RATE_LIMITED", "{refused:?}");
    let minutes =
        refused.error["retryAfterMs"].as_u64().or(refused.error["details"]["retryAfterMs"].as_u64());
    assert!(minutes.is_some_and(|wait| wait > 240_000 && wait <= 300_000), "{refused:?}");
}
