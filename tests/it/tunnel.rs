//! Gateways that are reached through SSH, with a real OpenSSH server in between.

use crate::support::gateway::{TIDEGATE, TOKEN, clean_environment};
use crate::support::laptop::{ByHand, Laptop};
use crate::support::node_host::{official_commands_work, official_node_in, ready};
use crate::support::official::{NodeHost, Official};
use crate::support::page::Page;
use crate::support::ports::free_port;
use crate::support::{Connect, Gateway, Identity, Sshd, Upgrade, eventually};
use serde_json::json;
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

/// Commands that only read, one of each kind.
const READING: &[&[&str]] = &[
    &["health"],
    &["status"],
    &["status", "--deep"],
    &["gateway", "health"],
    &["gateway", "status", "--require-rpc"],
    &["gateway", "probe"],
    &["gateway", "call", "health"],
    &["nodes", "status"],
    &["nodes", "list"],
    &["nodes", "pending"],
    &["devices", "list"],
    &["pairing", "list"],
    &["channels", "status"],
    &["sessions"],
];

#[actix_web::test]
async fn every_command_works_through_a_tunnel_made_by_hand() {
    let gateway = Gateway::start().await;
    let sshd = Sshd::start().await;
    // The same port at both ends, as on two machines: here another loopback address stands for the other machine.
    let near = format!("127.0.0.2:{}", gateway.port);
    let _tunnel = ByHand::open(&sshd, &near, gateway.port).await;
    let laptop = Laptop::new(&sshd);
    let url = format!("ws://{near}");
    for command in READING {
        laptop.json(&[command, &["--url", &url, "--token", TOKEN][..]].concat()).await;
    }
    laptop.ok(&["logs", "--limit", "5", "--url", &url, "--token", TOKEN]).await;
    // Or once and for all.
    laptop.ok(&["remote", "set", &url, "--token", TOKEN]).await;
    for command in READING {
        laptop.json(command).await;
    }
    let list = laptop.ok(&["devices", "list"]).await;
    assert!(!list.contains("pending"), "{list}");
}

#[actix_web::test]
async fn a_tunnel_may_begin_at_any_port_for_programs_and_only_at_the_gateways_own_for_pages() {
    let gateway = Gateway::start().await;
    let sshd = Sshd::start().await;
    let port = free_port();
    let _tunnel = ByHand::open(&sshd, &format!("127.0.0.1:{port}"), gateway.port).await;
    let laptop = Laptop::new(&sshd);
    let url = format!("ws://127.0.0.1:{port}");
    for command in READING {
        laptop.json(&[command, &["--url", &url, "--token", TOKEN][..]].concat()).await;
    }
    let devices = gateway.cli_json(&["devices", "list", "--json"]).await;
    assert_eq!(devices["pending"], json!([]), "{devices}");
    let page = Upgrade::to(port).origin(&format!("http://127.0.0.1:{port}"));
    let identity = Identity::new();
    let ui = Connect::control_ui().token(TOKEN).device(&identity);
    assert_eq!(ui.over(&page).await.refusal().detail(), "CONTROL_UI_ORIGIN_NOT_ALLOWED");
}

#[actix_web::test]
async fn every_command_works_with_ssh_named_on_its_line_and_leaves_nothing_behind() {
    let gateway = Gateway::start().await;
    let sshd = Sshd::start().await;
    let laptop = Laptop::new(&sshd);
    let (target, port) = (sshd.target(), gateway.port.to_string());
    for command in READING {
        let way = ["--ssh", &target, "--port", &port, "--token", TOKEN];
        laptop.json(&[command, &way[..]].concat()).await;
        laptop.is_quiet().await;
    }
    // The gateway took it for a caller of its own machine: no device had to be paired.
    let devices = gateway.cli_json(&["devices", "list", "--json"]).await;
    assert_eq!((&devices["pending"], &devices["paired"]), (&json!([]), &json!([])), "{devices}");
    let (code, said) = laptop.fails(&["health", "--ssh", &target, "--port", &port]).await;
    assert_eq!(code, 77, "{said}");
    assert!(said.contains("--token"), "{said}");
    laptop.ok(&["logs", "--limit", "5", "--ssh", &target, "--port", &port, "--token", TOKEN]).await;
}

#[actix_web::test]
async fn the_ssh_transport_of_the_config_is_used_by_every_command() {
    let gateway = Gateway::start().await;
    let sshd = Sshd::start().await;
    let laptop = Laptop::new(&sshd);
    let identity = sshd.file("user_key").display().to_string();
    sshd.write_client(&sshd.file("other_key").display().to_string(), "");
    let url = format!("ws://127.0.0.1:{}", gateway.port);
    let target = sshd.target();
    let set = ["remote", "set", &url, "--ssh", &target, "--ssh-identity", &identity, "--token", TOKEN];
    laptop.ok(&set).await;
    for command in READING {
        laptop.json(command).await;
    }
    laptop.is_quiet().await;
    let shown = laptop.json(&["remote", "show"]).await;
    assert_eq!(shown["remote"]["sshTarget"], target, "{shown}");
    assert!(!shown.to_string().contains(TOKEN), "{shown}");
}

#[actix_web::test]
async fn nothing_stays_behind_when_the_command_is_killed() {
    let gateway = Gateway::start().await;
    let sshd = Sshd::start().await;
    let laptop = Laptop::new(&sshd);
    let (target, port) = (sshd.target(), gateway.port.to_string());
    let args = ["logs", "--follow", "--ssh", &target, "--port", &port, "--token", TOKEN];
    for signal in [nix::sys::signal::Signal::SIGKILL, nix::sys::signal::Signal::SIGTERM] {
        let mut child = laptop.command(&args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        eventually("the tunnel's processes", async || (laptop.processes().len() >= 3).then_some(())).await;
        // The process alone, not its group.
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(child.id().cast_signed()), signal).unwrap();
        child.wait().unwrap();
        laptop.is_quiet().await;
    }
}

#[actix_web::test]
async fn a_node_host_behind_a_tunnel_survives_the_ssh_server() {
    let gateway = Gateway::start().await;
    let mut sshd = Sshd::start().await;
    let (target, port) = (sshd.target(), gateway.port.to_string());
    let home = tempfile::tempdir().unwrap();
    let mut command = Command::new(TIDEGATE);
    command.args(["node", "run", "--ssh", &target, "--port", &port, "--display-name", "attic"]);
    clean_environment(&mut command, home.path());
    command.env("TIDEGATE_STATE_DIR", home.path().join("state")).env("PATH", sshd.path());
    command.env("TIDEGATE_GATEWAY_TOKEN", TOKEN).stdin(Stdio::null()).process_group(0);
    let path = home.path().join("console");
    let console = File::create(&path).unwrap();
    command.stdout(console.try_clone().unwrap()).stderr(console);
    let mut host = NodeHost::spawned(command.spawn().unwrap(), path);
    let id = ready(&gateway, "attic").await;
    sshd.stop();
    let mut operator = gateway.operator().await;
    eventually("the node to be gone", async || {
        let list = operator.ok("node.list", json!({})).await;
        (list["nodes"][0]["connected"] == false).then_some(())
    })
    .await;
    sshd.run().await;
    assert_eq!(ready(&gateway, "attic").await, id);
    assert!(host.log().contains("tunnel was lost"), "{}", host.log());
    host.terminate();
    let status = eventually("the node host to end", async || host.ended()).await;
    assert!(status.success(), "{}", host.log());
}

#[actix_web::test]
async fn whoever_follows_the_log_through_a_tunnel_survives_the_ssh_server() {
    let gateway = Gateway::start().await;
    let mut sshd = Sshd::start().await;
    let home = Laptop::new(&sshd);
    let (target, port) = (sshd.target(), gateway.port.to_string());
    let mut logs = home.start(&["logs", "--follow", "--ssh", &target, "--port", &port, "--token", TOKEN]);
    eventually("the log", async || logs.log().contains("listening").then_some(())).await;
    let home = home.home;
    sshd.stop();
    eventually("the loss to be told", async || logs.log().contains("gateway is gone").then_some(())).await;
    sshd.run().await;
    let before = logs.log().len();
    eventually("the log to go on", async || {
        gateway.operator().await;
        logs.log()[before..].contains("connected").then_some(())
    })
    .await;
    logs.terminate();
    eventually("the command to end", async || logs.ended()).await;
    Laptop { home, sshd: &sshd }.is_quiet().await;
}

#[actix_web::test]
async fn a_tunnel_in_the_foreground_is_held_open_and_ends_when_asked() {
    let gateway = Gateway::start().await;
    let mut sshd = Sshd::start().await;
    let home = Laptop::new(&sshd);
    let (target, remote, local) = (sshd.target(), gateway.port.to_string(), free_port().to_string());
    let args = ["tunnel", &target, "--local-port", &local, "--remote-port", &remote];
    let mut tunnel = home.start(&args);
    let address = format!("127.0.0.1:{local}");
    eventually("the tunnel to stand", async || std::net::TcpStream::connect(&address).ok()).await;
    eventually("how to use it", async || tunnel.log().contains("--url ws://").then_some(())).await;
    let url = format!("http://{address}/healthz");
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    assert!(client.get(&url).send().await.unwrap().status().is_success());
    let (code, said) = home.fails(&args).await;
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("--local-port"), "{said}");
    let home = home.home;
    sshd.stop();
    eventually("the loss to be told", async || tunnel.log().contains("was lost").then_some(())).await;
    sshd.run().await;
    eventually("the tunnel to stand again", async || {
        client.get(&url).send().await.ok().filter(|answer| answer.status().is_success())
    })
    .await;
    tunnel.terminate();
    let status = eventually("the tunnel to end", async || tunnel.ended()).await;
    assert!(status.success(), "{}", tunnel.log());
    Laptop { home, sshd: &sshd }.is_quiet().await;
}

/// The `tidegate` lines of a part of the page on tunnels, with its examples replaced by what there is here.
fn page(part: &str, examples: &[(&str, &str)]) -> Vec<Vec<String>> {
    let lines = Page::of("deploy/ssh-tunnel.md").part(part).with(examples).commands();
    let words = |line: String| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    lines.into_iter().map(words).filter(|line| line[0] == "tidegate").map(|line| line[1..].to_vec()).collect()
}

#[actix_web::test]
async fn the_page_for_a_home_desktop_can_be_followed() {
    let gateway = Gateway::start().await;
    let sshd = Sshd::start().await;
    let laptop = Laptop::new(&sshd);
    let port = gateway.port.to_string();
    let followed = page("Home desktop", &[("ann@desktop", &sshd.target()), ("TOKEN", TOKEN)]);
    let mut nodes = Vec::new();
    for line in followed.iter().filter(|line| !line.starts_with(&["gateway".into(), "run".into()])) {
        let mut args: Vec<&str> = line.iter().map(String::as_str).collect();
        match args.as_slice() {
            // Every test's gateway has a port of its own.
            ["remote", "set", ..] => args.extend(["--remote-port", &port]),
            ["node", "run", ..] => {
                nodes.push(laptop.start(&args));
                ready(&gateway, "laptop").await;
                continue;
            }
            _ if args.contains(&"--ssh") => args.extend(["--port", &port]),
            _ => {}
        }
        laptop.ok(&args).await;
    }
    assert!(followed.len() >= 8 && nodes.len() == 1, "{followed:?}");
}

#[actix_web::test]
async fn the_page_for_a_laptop_that_goes_out_to_a_server_can_be_followed() {
    let gateway = Gateway::start().await;
    let sshd = Sshd::start().await;
    let phone = Laptop::new(&sshd);
    // On one machine the two ends need two ports.
    let meeting = free_port().to_string();
    let back = format!("127.0.0.1:{meeting}:127.0.0.1:{}", gateway.port);
    let _laptop = ByHand(sshd.ssh(&["-N", "-R", &back]).stderr(Stdio::null()).spawn().unwrap());
    let near = format!("127.0.0.1:{meeting}");
    eventually("the tunnel to stand", async || std::net::TcpStream::connect(&near).ok()).await;
    let followed = page("A laptop's gateway", &[("ann@server", &sshd.target()), ("TOKEN", TOKEN)]);
    let [status] = followed.as_slice() else { panic!("{followed:?}") };
    let args: Vec<&str> = status.iter().map(String::as_str).chain(["--port", &meeting]).collect();
    phone.ok(&args).await;
}

#[actix_web::test]
async fn the_official_clients_work_through_a_tunnel_made_by_hand() {
    let gateway = Gateway::start().await;
    let sshd = Sshd::start().await;
    let near = format!("127.0.0.2:{}", gateway.port);
    let _tunnel = ByHand::open(&sshd, &near, gateway.port).await;
    let (official, _node, id) = official_at(&gateway, "127.0.0.2", gateway.port).await;
    official_commands_work(&gateway, &official, "shed", &id).await;
    let devices = gateway.cli_json(&["devices", "list", "--json"]).await;
    assert_eq!(devices["pending"], json!([]), "{devices}");
}

#[actix_web::test]
async fn the_official_clients_work_through_a_tunnel_that_tidegate_holds_open() {
    let gateway = Gateway::start().await;
    let sshd = Sshd::start().await;
    let home = Laptop::new(&sshd);
    let (target, remote, local) = (sshd.target(), gateway.port.to_string(), free_port());
    let tunnel =
        home.start(&["tunnel", &target, "--local-port", &local.to_string(), "--remote-port", &remote]);
    eventually("how to use the tunnel", async || tunnel.log().contains("--url ws://").then_some(())).await;
    let (official, _node, id) = official_at(&gateway, "127.0.0.1", local).await;
    official_commands_work(&gateway, &official, "shed", &id).await;
}

/// An official command line for this address, and a node host behind it that is let in: the handle and its id.
async fn official_at(gateway: &Gateway, host: &str, port: u16) -> (Official, NodeHost, String) {
    let official = Official::remote(&format!("ws://{host}:{port}"), TOKEN);
    let start = async || official.node_host_at(host, port, "shed");
    let node = official_node_in(gateway, start).await;
    let id = ready(gateway, "shed").await;
    (official, node, id)
}
