//! Where a gateway listens, seen from its own machine and from others. The module's name ends in `lan` for those who
//! can't make namespaces.

use crate::support::gateway::{TIDEGATE, clean_environment, config_with};
use crate::support::official::NodeHost;
use crate::support::{Connect, Gateway, Host, Lan, Setup, Upgrade, eventually};
use serde_json::{Value, json};
use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Output, Stdio};

const TOKEN: &str = "a-token-of-the-lan-77f0";

fn with(gateway: Value, home: &Host) -> Setup {
    let mut config = config_with(json!({"gateway": {"auth": {"token": TOKEN}}}));
    crate::support::gateway::merge(&mut config["gateway"], gateway);
    Setup::new().no_token().config(config).on(home)
}

/// Addresses of the home machine on which something listens on the gateway's port.
fn listening(gateway: &Gateway, home: &Host) -> Vec<String> {
    let mut ss = home.command("ss");
    let output = ss.args(["-Hltn", &format!("sport = :{}", gateway.port)]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let mut addresses: Vec<String> = text
        .lines()
        .filter_map(|line| line.split_whitespace().nth(3)?.rsplit_once(':'))
        .map(|(address, _)| address.to_owned())
        .collect();
    addresses.sort();
    addresses
}

fn ip(host: &Host, args: &[&str]) {
    assert!(host.command("ip").args(args).status().unwrap().success(), "ip {args:?}");
}

async fn reaches(from: &Host, to: SocketAddr) -> bool {
    Upgrade::at(to).from(from).open().await.is_ok()
}

#[tokio::test]
async fn lan_is_all_addresses_of_both_families() {
    let (_lan, [home, laptop]) = Lan::new(["home", "laptop"]);
    ip(&home, &["addr", "add", "fd77::1/64", "dev", "eth0", "nodad"]);
    ip(&laptop, &["addr", "add", "fd77::2/64", "dev", "eth0", "nodad"]);
    let gateway = with(json!({"bind": "lan"}), &home).start().await;
    assert_eq!(listening(&gateway, &home), ["0.0.0.0", "[::]"]);
    assert!(reaches(&laptop, home.socket_address(gateway.port)).await);
    let v6 = SocketAddr::new("fd77::1".parse().unwrap(), gateway.port);
    let refused = Connect::cli().token("wrong").over(&Upgrade::at(v6).from(&laptop)).await.refusal();
    assert_eq!(refused.detail(), "AUTH_TOKEN_MISMATCH");
    assert!(gateway.cli(&["health"]).await.status.success());
    let audit = gateway.cli_json(&["audit", "--json"]).await;
    assert_eq!(audit["events"][0]["address"], "fd77::", "the household, not the address: {audit}");
}

#[tokio::test]
async fn tailnet_is_the_tailscale_address_and_loopback_and_nothing_else() {
    let tailnet = Ipv4Addr::new(100, 100, 1, 0);
    let (_lan, [home, laptop]) = Lan::in_network(tailnet, ["home", "laptop"]);
    home.add_address(Ipv4Addr::new(192, 168, 9, 1));
    laptop.add_address(Ipv4Addr::new(192, 168, 9, 2));
    let gateway = with(json!({"bind": "tailnet"}), &home).start().await;
    assert_eq!(listening(&gateway, &home), ["100.100.1.1", "127.0.0.1"]);
    assert!(reaches(&laptop, home.socket_address(gateway.port)).await);
    assert!(!reaches(&laptop, SocketAddr::from(([192, 168, 9, 1], gateway.port))).await);
    assert!(gateway.cli(&["health"]).await.status.success());
}

#[tokio::test]
async fn without_tailscale_tailnet_is_loopback_alone_and_says_so() {
    let (_lan, [home, laptop]) = Lan::new(["home", "laptop"]);
    let gateway = with(json!({"bind": "tailnet"}), &home).start().await;
    assert_eq!(listening(&gateway, &home), ["127.0.0.1", "[::1]"]);
    assert!(!reaches(&laptop, home.socket_address(gateway.port)).await);
    assert!(gateway.log().contains("no Tailscale address"), "{}", gateway.log());
}

#[tokio::test]
async fn custom_is_the_given_address_and_loopback() {
    let (_lan, [home, laptop]) = Lan::new(["home", "laptop"]);
    home.add_address(Ipv4Addr::new(192, 168, 9, 1));
    laptop.add_address(Ipv4Addr::new(192, 168, 9, 2));
    let custom = json!({"bind": "custom", "customBindHost": home.address().to_string()});
    let gateway = with(custom, &home).start().await;
    assert_eq!(listening(&gateway, &home), ["127.0.0.1", "192.168.77.1"]);
    assert!(reaches(&laptop, home.socket_address(gateway.port)).await);
    assert!(!reaches(&laptop, SocketAddr::from(([192, 168, 9, 1], gateway.port))).await);
    assert!(gateway.cli(&["health"]).await.status.success());

    let nowhere = json!({"bind": "custom", "customBindHost": "192.168.55.55"});
    let exit = with(nowhere, &home).refuse().await;
    assert_eq!(exit.code(), Some(1));
    assert!(
        exit.stderr.contains("192.168.55.55") && exit.stderr.contains("no such address"),
        "{}",
        exit.stderr
    );
}

#[tokio::test]
async fn auto_is_loopback_where_there_is_one() {
    let (_lan, [home, laptop]) = Lan::new(["home", "laptop"]);
    let gateway = with(json!({"bind": "auto"}), &home).start().await;
    assert_eq!(listening(&gateway, &home), ["127.0.0.1", "[::1]"]);
    assert!(!reaches(&laptop, home.socket_address(gateway.port)).await);
}

#[tokio::test]
async fn auto_on_a_host_without_loopback_is_open_only_with_auth() {
    let (_lan, [home]) = Lan::new(["home"]);
    ip(&home, &["addr", "flush", "dev", "lo"]);
    let open = config_with(json!({"gateway": {"bind": "auto", "auth": {"mode": "none"}}}));
    let exit = Setup::new().no_token().config(open).on(&home).refuse().await;
    assert_eq!(exit.code(), Some(78), "{}", exit.stderr);
    assert!(exit.stderr.contains("OPENCLAW_GATEWAY_TOKEN"), "{}", exit.stderr);
    let exit = with(json!({"bind": "loopback"}), &home).refuse().await;
    assert_eq!(exit.code(), Some(1), "{}", exit.stderr);
}

#[tokio::test]
async fn auto_on_a_host_without_loopback_is_all_addresses() {
    let (_lan, [home, laptop]) = Lan::new(["home", "laptop"]);
    ip(&home, &["addr", "flush", "dev", "lo"]);
    let (folder, port) = (tempfile::tempdir().unwrap(), crate::support::ports::free_port());
    let log = folder.path().join("log");
    let file = File::create(&log).unwrap();
    let mut command = home.command(TIDEGATE);
    command.args(["gateway", "run", "--bind", "auto", "--port", &port.to_string(), "--token", TOKEN]);
    clean_environment(&mut command, folder.path());
    command.stdin(Stdio::null()).stdout(file.try_clone().unwrap()).stderr(file).process_group(0);
    let gateway = NodeHost::spawned(command.spawn().unwrap(), log);
    eventually("the gateway on the LAN", async || {
        reaches(&laptop, home.socket_address(port)).await.then_some(())
    })
    .await;
    assert!(gateway.log().contains("no loopback address"), "{}", gateway.log());
}

#[tokio::test]
async fn a_gateway_without_ipv6_listens_on_ipv4() {
    let (_lan, [home]) = Lan::new(["home"]);
    let off = "for conf in all lo; do echo 1 > /proc/sys/net/ipv6/conf/$conf/disable_ipv6; done";
    assert!(home.command("sh").args(["-ec", off]).status().unwrap().success());
    let gateway = with(json!({}), &home).start().await;
    assert_eq!(listening(&gateway, &home), ["127.0.0.1"]);
}

/// Runs `tidegate` on this machine with nothing but a state folder of its own.
async fn cli(host: &Host, folder: &Path, args: &[&str]) -> Output {
    let mut command = host.command(TIDEGATE);
    command.args(args).stdin(Stdio::null());
    clean_environment(&mut command, folder);
    command.env("TIDEGATE_STATE_DIR", folder.join("state"));
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

async fn pin(gateway: &Gateway) -> String {
    let status = gateway.cli_json(&["gateway", "status", "--json"]).await;
    status["tlsFingerprint"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_laptop_comes_in_with_tls_and_a_pin_and_a_stranger_does_not() {
    let (_lan, [home, laptop, stranger]) = Lan::new(["home", "laptop", "stranger"]);
    let gateway = with(json!({"bind": "lan", "tls": {"enabled": true}}), &home).start().await;
    let (folder, url) =
        (tempfile::tempdir().unwrap(), format!("wss://{}", home.socket_address(gateway.port)));
    let pin = pin(&gateway).await;
    let ask = async |host: &Host, token: &str, pin: &str| {
        let args = ["status", "--url", &url, "--token", token, "--tls-fingerprint", pin];
        cli(host, folder.path(), &args).await
    };
    let unpaired = ask(&laptop, TOKEN, &pin).await;
    assert_eq!(unpaired.status.code(), Some(77), "{}", text(&unpaired));
    let request = gateway.cli_json(&["devices", "list", "--json"]).await["pending"][0]["requestId"].clone();
    assert!(gateway.cli(&["devices", "approve", request.as_str().unwrap()]).await.status.success());
    let paired = ask(&laptop, TOKEN, &pin).await;
    assert!(paired.status.success(), "{}", text(&paired));
    let other_pin = ask(&laptop, TOKEN, &"ab".repeat(32)).await;
    assert!(text(&other_pin).contains(&pin), "{}", text(&other_pin));
    let guess = ask(&stranger, "guess", &pin).await;
    assert_eq!(guess.status.code(), Some(77), "{}", text(&guess));
}

/// `tidegate node run` on this machine against a gateway at home.
fn node(host: &Host, folder: &Path, home: &Host, port: u16, options: &[&str]) -> NodeHost {
    let log = folder.join("node-host.log");
    let file = File::create(&log).unwrap();
    let mut command = host.command(TIDEGATE);
    command.args(["node", "run", "--host", &home.address().to_string(), "--port", &port.to_string()]);
    command.args(options);
    clean_environment(&mut command, folder);
    command.env("TIDEGATE_STATE_DIR", folder.join("state")).env("TIDEGATE_GATEWAY_TOKEN", TOKEN);
    command.stdin(Stdio::null()).stdout(file.try_clone().unwrap()).stderr(file).process_group(0);
    NodeHost::spawned(command.spawn().unwrap(), log)
}

#[tokio::test]
async fn a_node_on_the_lan_is_approved_and_works_with_and_without_tls() {
    let (_lan, [home, laptop]) = Lan::new(["home", "laptop"]);
    for tls in [false, true] {
        let gateway = with(json!({"bind": "lan", "tls": {"enabled": tls}}), &home).start().await;
        let pin = if tls { pin(&gateway).await } else { String::new() };
        let mut options = vec!["--display-name", "kitchen"];
        if tls {
            options.extend(["--tls-fingerprint", &pin]);
        }
        let folder = tempfile::tempdir().unwrap();
        let _node = node(&laptop, folder.path(), &home, gateway.port, &options);
        approve(&gateway, &["devices", "list"], &["devices", "approve"]).await;
        approve(&gateway, &["nodes", "list"], &["nodes", "approve"]).await;
        let which = ["nodes", "invoke", "--node", "kitchen", "--command", "system.which", "--params"];
        let which = [&which[..], &["{\"bins\":[\"sh\"]}"]].concat();
        let answer = eventually("the node's answer", async || {
            let output = gateway.cli(&which).await;
            output.status.success().then(|| text(&output))
        })
        .await;
        assert!(answer.contains("/sh"), "{answer}");
    }
}

/// Approves the first request that waits.
async fn approve(gateway: &Gateway, list: &[&str], approve: &[&str]) {
    let request = eventually("a request to approve", async || {
        let answer = gateway.cli_json(&[list, &["--json"]].concat()).await;
        answer["pending"][0]["requestId"].as_str().map(str::to_owned)
    })
    .await;
    let output = gateway.cli(&[approve, &[request.as_str()]].concat()).await;
    assert!(output.status.success(), "{}", text(&output));
}

#[tokio::test]
async fn a_man_in_the_middle_with_another_certificate_gets_nothing() {
    let (_lan, [home, laptop, mallory]) = Lan::new(["home", "laptop", "mallory"]);
    let tls = json!({"bind": "lan", "tls": {"enabled": true}});
    let gateway = with(tls.clone(), &home).start().await;
    let pin = pin(&gateway).await;
    let folder = tempfile::tempdir().unwrap();
    let mut node = node(&laptop, folder.path(), &home, gateway.port, &["--tls-fingerprint", &pin]);
    eventually("the node to ask to be paired", async || {
        node.log().contains("has to be approved").then_some(())
    })
    .await;

    // Mallory takes over the address, with a gateway of her own on the same port.
    home.drop_address(home.address());
    mallory.add_address(home.address());
    let hers = with(tls, &mallory).start_at(gateway.port).await;
    ip(&laptop, &["neigh", "flush", "all"]);
    let found = self::pin(&hers).await;
    let status = eventually("the node host to stop", async || node.ended()).await;
    assert!(!status.success());
    assert!(node.log().contains(&pin) && node.log().contains(&found), "{}", node.log());
    let audit = hers.cli_json(&["audit", "--json"]).await;
    assert_eq!(audit["events"], json!([]), "nothing was said to her");
}

#[tokio::test]
async fn plain_text_leaves_the_private_network_for_nobody() {
    let public = Ipv4Addr::new(198, 51, 100, 0);
    let (_lan, [home, laptop]) = Lan::in_network(public, ["home", "laptop"]);
    let gateway = with(json!({"bind": "lan"}), &home).start().await;
    let folder = tempfile::tempdir().unwrap();
    let address = SocketAddr::new(IpAddr::V4(home.address()), gateway.port);
    let url = format!("ws://{address}");
    let output = cli(&laptop, folder.path(), &["health", "--url", &url, "--token", TOKEN]).await;
    assert_eq!(output.status.code(), Some(77));
    assert!(text(&output).contains("unencrypted"), "{}", text(&output));
    let (host, port) = (home.address().to_string(), gateway.port.to_string());
    let output = cli(&laptop, folder.path(), &["node", "run", "--host", &host, "--port", &port]).await;
    assert!(!output.status.success() && text(&output).contains("unencrypted"), "{}", text(&output));
}
