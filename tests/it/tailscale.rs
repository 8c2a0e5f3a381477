//! The way in through the tailnet: the claim on the port, how it ends, and what the gateway says of it.

use crate::support::fake_tailscale::{FakeTailscale, LAPTOP, NAME, OWNER, TAGGED};
use crate::support::gateway::{clean_environment, config_with, merge};
use crate::support::node_host::{
    NativeNode, let_devices_in, official_health_and_node_work, official_node_in, ready,
};
use crate::support::official::Official;
use crate::support::{Connect, Gateway, Identity, Incoming, Setup, Upgrade, eventually, http};
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use serde_json::{Value, json};
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

const SECRET: &str = "secret-of-the-tailnet-77aa";

fn serve(extra: Value) -> Setup {
    let mut config = config_with(json!({"gateway": {
        "tailscale": {"mode": "serve"},
        "auth": {"mode": "token", "token": SECRET, "allowTailscale": true},
    }}));
    merge(&mut config, json!({"gateway": extra}));
    Setup::new().no_token().config(config)
}

fn funnel() -> Setup {
    let auth = json!({"mode": "password", "password": SECRET});
    Setup::new().no_token().config(config_with(json!({
        "gateway": {"tailscale": {"mode": "funnel"}, "auth": auth},
    })))
}

async fn claimed(fake: &FakeTailscale) -> u16 {
    eventually("the claim", async || fake.target()).await
}

async fn released(fake: &FakeTailscale) {
    eventually("the claim to fall", async || fake.target().is_none().then_some(())).await;
}

/// The processes whose parent is this one.
fn children(parent: u32) -> Vec<i32> {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        after_name.split_whitespace().nth(1) == Some(parent.to_string().as_str())
    })
    .collect()
}

/// What the fake program says to these arguments before it ends.
fn asked_by_hand(fake: &FakeTailscale, args: &[&str]) -> (bool, String) {
    let mut command = Command::new(fake.program());
    clean_environment(&mut command, fake.program().parent().unwrap());
    let output = command.args(args).stdin(Stdio::null()).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

/// The fake `tailscale`, run by a person; it ends with this.
struct ByHand(Child);

impl ByHand {
    fn run(fake: &FakeTailscale, args: &[&str]) -> Self {
        let mut command = Command::new(fake.program());
        clean_environment(&mut command, fake.program().parent().unwrap());
        command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).process_group(0);
        Self(command.spawn().unwrap())
    }
}

impl Drop for ByHand {
    fn drop(&mut self) {
        let _ = killpg(Pid::from_raw(self.0.id().cast_signed()), Signal::SIGKILL);
        let _ = self.0.wait();
    }
}

fn control_ui(identity: &Identity) -> Connect<'_> {
    Connect::control_ui().device(identity).scopes(&["operator.admin"])
}

/// What a browser on a machine of the tailnet sends.
fn browser(port: u16) -> Upgrade {
    Upgrade::to(port).header("Host", NAME).origin(&format!("https://{NAME}"))
}

#[test]
fn the_fake_refuses_what_tailscale_refuses() {
    let fake = FakeTailscale::start();
    for (args, said) in [
        (&["serve", "--yes", "--background", "3000"][..], "flag provided but not defined"),
        (&["funnel", "--https=8444", "3000"], "port 8444 is not allowed for funnel"),
        (&["serve", "3000", "4000"], "invalid argument format"),
        (&["whois", "--json", "100.64.0.200"], "no match for IP:port"),
        (&["dance"], "unknown subcommand"),
    ] {
        let (success, found) = asked_by_hand(&fake, args);
        assert!(!success && found.contains(said), "{args:?}: {found}");
    }
    assert!(asked_by_hand(&fake, &["serve", "--yes", "--bg", "3000"]).0);
    let (success, found) = asked_by_hand(&fake, &["serve", "--yes", "--bg=false", "4000"]);
    assert!(!success && found.contains("listener already exists for port 443"), "{found}");
    assert_eq!(fake.target(), Some(3000));
    fake.lacks("https");
    let (success, found) = asked_by_hand(&fake, &["serve", "--https=8443", "--bg", "3000"]);
    assert!(success && found.contains("not enabled on your tailnet"), "{found}");
    let absent = FakeTailscale::without_daemon();
    let (success, found) = asked_by_hand(&absent, &["status", "--json"]);
    assert!(!success && found.contains("failed to connect to local tailscaled"), "{found}");
}

#[actix_web::test]
async fn the_claim_is_released_when_the_gateway_stops() {
    let fake = FakeTailscale::start();
    let mut gateway = fake.known_to(serve(json!({}))).start().await;
    let target = claimed(&fake).await;
    assert_ne!(target, gateway.port, "the route has a listener of its own");
    gateway.terminate();
    assert_eq!(gateway.ended().await.code(), Some(0));
    released(&fake).await;
}

#[actix_web::test]
async fn the_claim_is_released_when_the_gateway_is_killed_or_crashes() {
    for signal in [Signal::SIGKILL, Signal::SIGABRT] {
        let fake = FakeTailscale::start();
        let mut gateway = fake.known_to(serve(json!({}))).start().await;
        claimed(&fake).await;
        // It alone, not its group: nobody else tells the program to end.
        kill(Pid::from_raw(gateway.pid().cast_signed()), signal).unwrap();
        gateway.ended().await;
        released(&fake).await;
    }
}

#[actix_web::test]
async fn a_gateway_that_was_killed_claims_again_at_its_next_start() {
    let fake = FakeTailscale::start();
    let mut gateway = fake.known_to(serve(json!({}))).start().await;
    for _ in 0..3 {
        claimed(&fake).await;
        gateway = gateway.restart().await;
    }
    claimed(&fake).await;
}

#[actix_web::test]
async fn a_lost_claim_is_taken_again_and_the_tree_shows_it() {
    let fake = FakeTailscale::start();
    let gateway = fake.known_to(serve(json!({}))).start().await;
    let target = claimed(&fake).await;
    let holders = children(gateway.pid());
    assert_eq!(holders.len(), 1, "the program is the gateway's own child");
    kill(Pid::from_raw(holders[0]), Signal::SIGKILL).unwrap();
    let part = eventually("the restart", async || {
        let status = gateway.cli_json(&["status", "--deep", "--json"]).await;
        let tree = status["tree"].as_array().unwrap().clone();
        let remote = tree.into_iter().find(|part| part["name"] == "remote").unwrap();
        let part = remote["children"].as_array().unwrap().first().cloned()?;
        (part["restarts"] == 1 && status["tailscale"]["state"] == "active").then_some(part)
    })
    .await;
    assert_eq!(part["path"], "remote/tailscale");
    assert_eq!(part["state"], "running");
    assert!(part["lastError"].as_str().unwrap().contains("the program that held the Tailscale route ended"));
    assert_eq!(claimed(&fake).await, target, "the listener stays the same");
}

#[actix_web::test]
async fn a_daemon_that_restarts_gets_the_claim_again() {
    let mut fake = FakeTailscale::start();
    let gateway = fake.known_to(serve(json!({}))).start().await;
    let target = claimed(&fake).await;
    fake.stop_daemon();
    let state = async || gateway.cli_json(&["status", "--json"]).await["tailscale"]["state"].clone();
    eventually("the loss to be seen", async || (state().await == "waiting").then_some(())).await;
    fake.start_daemon();
    assert_eq!(claimed(&fake).await, target);
    eventually("the gateway to know", async || (state().await == "active").then_some(())).await;
}

#[actix_web::test]
async fn a_port_that_somebody_configured_is_named_and_left_alone() {
    let fake = FakeTailscale::start();
    fake.serves_already(443, "http://127.0.0.1:3000");
    let before = fake.config();
    for setup in [fake.known_to(serve(json!({}))), fake.on_path_of(serve(json!({})))] {
        let exit = setup.refuse().await;
        assert_eq!(exit.code(), Some(1), "{}", exit.stderr);
        for word in [&format!("https://{NAME}/ -> http://127.0.0.1:3000"), "443", "not changed"] {
            assert!(exit.stderr.contains(word), "no word of {word}: {}", exit.stderr);
        }
        assert_eq!(fake.config(), before);
    }
}

#[actix_web::test]
async fn a_port_that_another_program_holds_is_named_and_left_alone() {
    let fake = FakeTailscale::start();
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = other.local_addr().unwrap().port();
    let _holder = ByHand::run(&fake, &["serve", &port.to_string()]);
    assert_eq!(claimed(&fake).await, port);
    let before = fake.config();
    let exit = fake.known_to(serve(json!({}))).refuse().await;
    assert_eq!(exit.code(), Some(1));
    for word in [&format!("http://127.0.0.1:{port}"), "by a program that runs"] {
        assert!(exit.stderr.contains(word), "no word of {word}: {}", exit.stderr);
    }
    assert_eq!(fake.config(), before);
}

#[actix_web::test]
async fn another_port_of_the_machine_may_be_served_by_somebody_else() {
    let fake = FakeTailscale::start();
    fake.serves_already(8443, "http://127.0.0.1:3000");
    let gateway = fake.known_to(serve(json!({}))).start().await;
    claimed(&fake).await;
    drop(gateway);
    released(&fake).await;
    assert_eq!(fake.config()["TCP"], json!({"8443": {"HTTPS": true}}));
}

#[actix_web::test]
async fn a_daemon_that_is_still_starting_is_waited_for() {
    let mut fake = FakeTailscale::without_daemon();
    fake.is_in_state("NoState");
    let gateway = fake.known_to(serve(json!({}))).start().await;
    let state = async || gateway.cli_json(&["status", "--json"]).await["tailscale"].clone();
    let waits_for = async |reason: &str| {
        eventually(reason, async || {
            let now = state().await;
            (now["state"] == "waiting" && now["reason"] == reason).then_some(())
        })
        .await;
    };
    waits_for("daemon not reachable").await;
    let console = gateway.console();
    assert!(console.contains("waiting for the local daemon"), "{console}");
    fake.start_daemon();
    waits_for("NoState").await;
    fake.is_in_state("Starting");
    waits_for("Starting").await;
    assert!(gateway.log().contains("waiting for the local Tailscale daemon"), "progress is logged");
    assert_eq!(fake.target(), None, "nothing is claimed yet");
    fake.is_in_state("Running");
    claimed(&fake).await;
}

#[actix_web::test]
async fn a_daemon_that_stays_in_its_start_or_needs_a_person_ends_the_gateway() {
    let fake = FakeTailscale::start();
    for (state, said) in [
        ("NeedsLogin", "tailscale up"),
        ("NeedsMachineAuth", "admin console"),
        ("Stopped", "tailscale up"),
        ("Starting", "still starting"),
        ("NoState", "still starting"),
    ] {
        fake.is_in_state(state);
        let hasty = serve(json!({"tailscale": {"startupWaitSeconds": 0}}));
        let exit = fake.known_to(hasty).refuse().await;
        assert_eq!(exit.code(), Some(1), "{state}: {}", exit.stderr);
        assert!(exit.stderr.contains(state) && exit.stderr.contains(said), "{state}: {}", exit.stderr);
    }
    assert_eq!(fake.target(), None);
}

#[actix_web::test]
async fn a_daemon_that_needs_a_person_after_its_start_ends_the_gateway() {
    let fake = FakeTailscale::start();
    fake.is_in_state("Starting");
    let mut gateway = fake.known_to(serve(json!({}))).start().await;
    fake.is_in_state("NeedsLogin");
    assert_eq!(gateway.ended().await.code(), Some(1));
    assert!(gateway.console().contains("NeedsLogin"), "{}", gateway.console());
}

#[actix_web::test]
async fn what_tailscale_lacks_is_said_in_one_sentence() {
    let no_https = FakeTailscale::start();
    no_https.lacks("https");
    let no_funnel = FakeTailscale::start();
    no_funnel.lacks("funnel");
    let read_only = FakeTailscale::start();
    read_only.is_read_only();
    let absent = FakeTailscale::without_daemon();
    for (setup, said) in [
        (no_https.known_to(serve(json!({}))), "Serve is not enabled on your tailnet"),
        (no_funnel.known_to(funnel()), "https://login.tailscale.com/f/funnel"),
        (read_only.known_to(serve(json!({}))), "tailscale set --operator"),
        (
            absent.known_to(serve(json!({}))).env("TIDEGATE_TAILSCALE", "/nowhere/tailscale"),
            "Tailscale was not found",
        ),
    ] {
        let exit = setup.refuse().await;
        assert_eq!(exit.code(), Some(1), "{}", exit.stderr);
        assert!(exit.stderr.contains(said), "no word of {said}: {}", exit.stderr);
        let all = format!("{}{}", exit.stdout, exit.stderr);
        assert_eq!(all.matches(said).count(), 1, "once is enough: {all}");
    }
}

#[actix_web::test]
async fn the_address_is_printed_and_in_both_statuses() {
    let fake = FakeTailscale::start();
    let gateway = fake.known_to(serve(json!({}))).start().await;
    let url = format!("https://{NAME}");
    eventually("the banner", async || gateway.console().contains(&url).then_some(())).await;
    for command in [&["status"][..], &["gateway", "status"]] {
        let human = gateway.cli(command).await;
        let human = String::from_utf8_lossy(&human.stdout).into_owned();
        assert!(human.contains(&format!("serve, {url}")), "{human}");
        let json = gateway.cli_json(&[command, &["--json"]].concat()).await;
        assert_eq!(json["tailscale"], json!({"state": "active", "url": url, "mode": "serve"}));
    }
    drop(gateway);
    let plain = Gateway::start().await;
    let json = plain.cli_json(&["status", "--json"]).await;
    assert_eq!(json["tailscale"], json!({"state": "off", "mode": "off"}));
}

#[actix_web::test]
async fn the_mode_can_be_a_flag() {
    let fake = FakeTailscale::start();
    let config = config_with(json!({"gateway": {"auth": {"mode": "password", "password": SECRET}}}));
    let setup = Setup::new().no_token().config(config).arg("--tailscale").arg("funnel");
    let gateway = fake.known_to(setup).start().await;
    claimed(&fake).await;
    let funnel = &fake.config()["Foreground"];
    let session = funnel.as_object().unwrap().values().next().unwrap();
    assert_eq!(session["AllowFunnel"], json!({format!("{NAME}:443"): true}));
    drop(gateway);
    let exit = Setup::new().arg("--tailscale").arg("sometimes").refuse().await;
    assert_eq!(exit.code(), Some(78), "{}", exit.stderr);
    assert!(exit.stderr.contains("gateway.tailscale.mode"), "{}", exit.stderr);
}

#[actix_web::test]
async fn a_route_beside_an_open_door_does_not_start() {
    let fake = FakeTailscale::start();
    for (gateway, key) in [
        (json!({"bind": "lan"}), "gateway.bind"),
        (json!({"auth": {"mode": "none", "token": null}}), "gateway.auth.mode"),
        (json!({"tailscale": {"mode": "funnel"}}), "gateway.auth.password"),
    ] {
        let exit = fake.known_to(serve(gateway)).refuse().await;
        assert_eq!(exit.code(), Some(78), "{}", exit.stderr);
        assert!(exit.stderr.contains(key), "{}", exit.stderr);
    }
    assert_eq!(fake.questions("status"), 0, "nobody was asked");
}

#[actix_web::test]
async fn a_browser_in_the_tailnet_needs_no_secret() {
    let mut fake = FakeTailscale::start();
    let laptop = fake.tailnet_port(LAPTOP);
    let server = fake.tailnet_port(TAGGED);
    for setup in [fake.known_to(serve(json!({}))), fake.on_path_of(serve(json!({})))] {
        let gateway = setup.start().await;
        claimed(&fake).await;
        let identity = Identity::new();
        let (hello, _socket) = control_ui(&identity).over(&browser(laptop)).await.hello();
        assert_eq!(hello["auth"]["scopes"], json!(["operator.admin"]));
        assert_eq!(hello["auth"]["method"], "tailscale");
        // A machine without a person can claim to be one, but Tailscale takes that out.
        let forged = browser(server).header("Tailscale-User-Login", OWNER);
        let refused = control_ui(&identity).over(&forged).await.refusal();
        assert_eq!(refused.detail(), "AUTH_TOKEN_MISSING", "{refused:?}");
        drop(gateway);
        released(&fake).await;
    }
}

#[actix_web::test]
async fn the_route_is_plain_behind_tailscale_even_where_the_gateway_speaks_tls() {
    let mut fake = FakeTailscale::start();
    let laptop = fake.tailnet_port(LAPTOP);
    let gateway = fake.known_to(serve(json!({"tls": {"enabled": true}}))).start().await;
    claimed(&fake).await;
    let identity = Identity::new();
    let (hello, _socket) = control_ui(&identity).over(&browser(laptop)).await.hello();
    assert_eq!(hello["auth"]["method"], "tailscale");
    drop(gateway);
}

#[actix_web::test]
async fn an_address_that_changes_hands_takes_nobody_with_it() {
    let fake = FakeTailscale::start();
    let gateway = fake.known_to(serve(json!({}))).start().await;
    let port = claimed(&fake).await;
    let identity = Identity::new();
    let by = |login: &str| {
        browser(port)
            .header("X-Forwarded-For", LAPTOP)
            .header("X-Forwarded-Proto", "https")
            .header("X-Forwarded-Host", NAME)
            .header("Tailscale-User-Login", login)
    };
    let lets_in = async |login: &str| {
        matches!(control_ui(&identity).over(&by(login)).await, crate::support::Outcome::Hello(..))
    };
    assert!(lets_in(OWNER).await);
    fake.knows(LAPTOP, "guest@example.com", "A Guest");
    assert!(lets_in("guest@example.com").await, "the new owner at once");
    eventually("the old owner to be forgotten", async || (!lets_in(OWNER).await).then_some(())).await;
    fake.forgets(LAPTOP);
    eventually("the guest to be forgotten", async || (!lets_in("guest@example.com").await).then_some(()))
        .await;
    drop(gateway);
}

#[actix_web::test]
async fn turning_identities_off_ends_what_they_let_in() {
    let mut fake = FakeTailscale::start();
    let laptop = fake.tailnet_port(LAPTOP);
    let gateway = fake.known_to(serve(json!({}))).start().await;
    claimed(&fake).await;
    let identity = Identity::new();
    let mut session = control_ui(&identity).over(&browser(laptop)).await.session();
    gateway.write_config(&config_with(json!({"gateway": {
        "tailscale": {"mode": "serve"},
        "auth": {"mode": "token", "token": SECRET, "allowTailscale": false},
    }})));
    assert!(matches!(session.end().await, Incoming::Close { code: 4001, .. }));
    let refused = control_ui(&identity).over(&browser(laptop)).await.refusal();
    assert_eq!(refused.detail(), "AUTH_TOKEN_MISSING");
}

#[actix_web::test]
async fn a_name_opens_nothing_over_http() {
    let fake = FakeTailscale::start();
    let gateway = fake.known_to(serve(json!({}))).start().await;
    let port = claimed(&fake).await;
    let named = [
        ("Host", NAME),
        ("X-Forwarded-For", LAPTOP),
        ("X-Forwarded-Proto", "https"),
        ("X-Forwarded-Host", NAME),
        ("Tailscale-User-Login", OWNER),
    ];
    for path in ["/v1/models", "/tools/invoke", "/api/channels/telegram", "/hooks/wake"] {
        let answer = http::request(port, "POST", path, &named).await;
        assert!((400..500).contains(&answer.status), "{path}: {answer:?}");
    }
    let ready = http::request(port, "GET", "/readyz", &named).await.json();
    assert_eq!(ready, json!({"ready": true}), "no details");
    // Without the headers that Tailscale writes, it was not Tailscale.
    assert_eq!(http::get(port, "/").await.status, 403);
    assert_eq!(http::request(port, "GET", "/", &named[..2]).await.status, 403);
    assert_eq!(fake.questions("whois"), 0);
    drop(gateway);
}

#[actix_web::test]
async fn the_internet_comes_in_by_password_and_never_by_name() {
    let mut fake = FakeTailscale::start();
    let (stranger, laptop) = (fake.internet_port("203.0.113.60"), fake.tailnet_port(LAPTOP));
    let gateway = fake.known_to(funnel()).start().await;
    claimed(&fake).await;
    let identity = Identity::new();
    for port in [stranger, laptop] {
        let refused = control_ui(&identity).over(&browser(port)).await.refusal();
        assert_eq!(refused.detail(), "AUTH_PASSWORD_MISSING", "{refused:?}");
        let connect = Connect::cli().auth("password", SECRET).device(&identity);
        assert_eq!(connect.over(&browser(port)).await.refusal().detail(), "PAIRING_REQUIRED");
    }
    assert_eq!(fake.questions("whois"), 0);
    drop(gateway);
}

#[actix_web::test]
async fn serve_keeps_the_internet_out() {
    let mut fake = FakeTailscale::start();
    let stranger = fake.internet_port("203.0.113.60");
    let gateway = fake.known_to(serve(json!({}))).start().await;
    claimed(&fake).await;
    let outcome = Connect::cli().token(SECRET).over(&browser(stranger)).await;
    assert!(matches!(outcome, crate::support::Outcome::Http(answer) if answer.status == 0));
    drop(gateway);
}

#[actix_web::test]
async fn a_route_set_up_by_hand_is_an_ordinary_proxy() {
    let mut fake = FakeTailscale::start();
    let laptop = fake.tailnet_port(LAPTOP);
    let config = config_with(json!({"gateway": {
        "trustedProxies": ["127.0.0.1"],
        "controlUi": {"allowedOrigins": [format!("https://{NAME}")]},
        "auth": {"mode": "token", "token": SECRET, "allowTailscale": true},
    }}));
    let gateway = Setup::new().no_token().config(config).start().await;
    fake.serves_already(443, &format!("http://127.0.0.1:{}", gateway.port));
    let identity = Identity::new();
    let refused = control_ui(&identity).over(&browser(laptop)).await.refusal();
    assert_eq!(refused.detail(), "AUTH_TOKEN_MISSING", "a name means nothing here: {refused:?}");
    let refused = control_ui(&identity).token(SECRET).over(&browser(laptop)).await.refusal();
    assert_eq!(refused.detail(), "PAIRING_REQUIRED", "{refused:?}");
    let mut operator = gateway.operator_with(SECRET).await;
    let request = refused.error["details"]["requestId"].clone();
    operator.ok("device.pair.approve", json!({"requestId": request})).await;
    let (hello, _socket) = control_ui(&identity).token(SECRET).over(&browser(laptop)).await.hello();
    assert_eq!(hello["auth"]["scopes"], json!(["operator.admin"]));
    assert_eq!(fake.questions("whois"), 0);
}

#[actix_web::test]
async fn node_hosts_and_the_official_cli_work_through_the_route() {
    let mut fake = FakeTailscale::start();
    let laptop = fake.tailnet_port(LAPTOP);
    let gateway = fake.known_to(Setup::new().config(config_with(json!({
        "gateway": {"tailscale": {"mode": "serve"}},
    }))));
    let gateway = gateway.start().await;
    claimed(&fake).await;
    let official = Official::remote(&format!("ws://127.0.0.1:{laptop}"), &gateway.token());
    let start = async || official.node_host_at("127.0.0.1", laptop, "attic");
    let _theirs = official_node_in(&gateway, start).await;
    let _ours = NativeNode::at(laptop, &gateway.token(), "cellar");
    // A machine in the tailnet is paired by its owner, whoever's it is.
    eventually("our node to be let in", async || {
        let_devices_in(&gateway).await;
        let nodes = gateway.operator().await.ok("node.list", json!({})).await;
        let nodes = nodes["nodes"].as_array().unwrap().clone();
        nodes.iter().any(|node| node["displayName"] == "cellar" && node["connected"] == true).then_some(())
    })
    .await;
    for name in ["attic", "cellar"] {
        let id = ready(&gateway, name).await;
        official_health_and_node_work(&gateway, &official, &id).await;
    }
}
