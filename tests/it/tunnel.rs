//! Gateways that are reached through SSH, with a real OpenSSH server in between.

use crate::support::gateway::{TIDEGATE, TOKEN, clean_environment};
use crate::support::node_host::ready;
use crate::support::official::{NodeHost, Official};
use crate::support::ports::free_port;
use crate::support::sshd::{children, is_alive};
use crate::support::{Gateway, Sshd, eventually, within};
use serde_json::{Value, json};
use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use tempfile::TempDir;

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

/// A machine that reaches gateways through this server only: its own home, state and `ssh`.
struct Laptop<'a> {
    home: TempDir,
    sshd: &'a Sshd,
}

impl<'a> Laptop<'a> {
    fn new(sshd: &'a Sshd) -> Self {
        let laptop = Self { home: tempfile::tempdir().unwrap(), sshd };
        fs::create_dir_all(laptop.state()).unwrap();
        laptop
    }

    fn with_config(sshd: &'a Sshd, config: &Value) -> Self {
        let laptop = Self::new(sshd);
        fs::write(laptop.state().join("tidegate.json"), config.to_string()).unwrap();
        laptop
    }

    fn state(&self) -> PathBuf {
        self.home.path().join("state")
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(TIDEGATE);
        command.args(args).current_dir(self.home.path()).stdin(Stdio::null()).process_group(0);
        clean_environment(&mut command, self.home.path());
        command.env("TIDEGATE_STATE_DIR", self.state()).env("PATH", self.sshd.path());
        command
    }

    async fn run(&self, args: &[&str]) -> Output {
        finish(self.command(args)).await
    }

    async fn ok(&self, args: &[&str]) -> String {
        let output = self.run(args).await;
        assert!(output.status.success(), "tidegate {args:?}: {}", said(&output));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    async fn json(&self, args: &[&str]) -> Value {
        let args = [args, &["--json"][..]].concat();
        serde_json::from_str(&self.ok(&args).await).unwrap()
    }

    async fn fails(&self, args: &[&str]) -> (i32, String) {
        refused(self.command(args)).await
    }

    /// Starts a command that stays, with its output in a file.
    fn start(&self, args: &[&str]) -> NodeHost {
        let path = self.home.path().join("console");
        let console = File::options().create(true).append(true).open(&path).unwrap();
        let mut command = self.command(args);
        command.stdout(console.try_clone().unwrap()).stderr(console);
        NodeHost::spawned(command.spawn().unwrap(), path)
    }

    /// Processes that were started from this home, whoever their parent is now.
    fn processes(&self) -> Vec<String> {
        let mark = format!("HOME={}\0", self.home.path().display());
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let Ok(pid) = entry.file_name().to_string_lossy().parse::<u32>() else { continue };
            let read = |name: &str| fs::read(entry.path().join(name)).unwrap_or_default();
            if contains(&read("environ"), mark.as_bytes()) && is_alive(pid) {
                found.push(String::from_utf8_lossy(&read("cmdline")).replace('\0', " "));
            }
        }
        found
    }

    async fn is_quiet(&self) {
        eventually("every process of the command to be gone", async || {
            self.processes().is_empty().then_some(())
        })
        .await;
    }
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

async fn finish(mut command: Command) -> Output {
    within(
        &format!("{command:?}"),
        tokio::task::spawn_blocking(move || command.stdin(Stdio::null()).output().unwrap()),
    )
    .await
    .unwrap()
}

async fn refused(command: Command) -> (i32, String) {
    let shown = format!("{command:?}");
    let output = finish(command).await;
    assert!(!output.status.success(), "{shown} succeeded: {}", said(&output));
    (output.status.code().unwrap(), said(&output))
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// `ssh -N -L` by hand, until it is dropped.
struct ByHand(Child);

impl ByHand {
    async fn open(sshd: &Sshd, from: &str, to: u16) -> Self {
        let forward = format!("{from}:127.0.0.1:{to}");
        let tunnel = Self(sshd.ssh(&["-N", "-L", &forward]).stderr(Stdio::null()).spawn().unwrap());
        eventually("the tunnel to stand", async || std::net::TcpStream::connect(from).ok()).await;
        tunnel
    }
}

impl Drop for ByHand {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

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
async fn a_tunnel_by_hand_from_another_port_asks_to_approve_the_device_once() {
    let gateway = Gateway::start().await;
    let sshd = Sshd::start().await;
    let port = free_port();
    let _tunnel = ByHand::open(&sshd, &format!("127.0.0.1:{port}"), gateway.port).await;
    let laptop = Laptop::new(&sshd);
    let url = format!("ws://127.0.0.1:{port}");
    let command = ["nodes", "list", "--url", &url, "--token", TOKEN];
    let (code, said) = laptop.fails(&command).await;
    assert_eq!(code, 77, "{said}");
    assert!(said.contains("tidegate devices approve "), "{said}");
    let request = said.split("devices approve ").nth(1).unwrap().split_whitespace().next().unwrap();
    gateway.cli_json(&["devices", "approve", request, "--json"]).await;
    laptop.ok(&command).await;
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

#[actix_web::test]
async fn each_way_to_fail_has_a_sentence_that_says_what_to_do() {
    let sshd = Sshd::start().await;
    let laptop = Laptop::new(&sshd);
    let target = sshd.target();
    let tunnel = async |target: &str, more: &[&str]| {
        let (code, said) = laptop.fails(&[&["health", "--ssh", target][..], more].concat()).await;
        assert_eq!(said.trim().lines().count(), 1, "{said}");
        (code, said)
    };

    let nothing = free_port().to_string();
    let (code, said) = tunnel(&target, &["--port", &nothing]).await;
    assert!(code == 69 && said.contains(&format!("nothing listens on port {nothing}")), "{code} {said}");

    sshd.know_nobody();
    let (code, said) = tunnel(&target, &[]).await;
    assert!(code == 77 && said.contains("accept it once with `ssh -p"), "{code} {said}");
    sshd.know_host("other_key.pub");
    let (code, said) = tunnel(&target, &[]).await;
    assert!(code == 77 && said.contains("CHANGED") && said.contains("ssh-keygen -R"), "{code} {said}");
    sshd.know_host("host_key.pub");

    let other = sshd.file("other_key").display().to_string();
    sshd.write_client(&other, "");
    let (code, said) = tunnel(&target, &[]).await;
    assert!(code == 77 && said.contains("ssh-add") && said.contains("authorized_keys"), "{code} {said}");
    let (code, said) = tunnel(&target, &["--ssh-identity", "/no/such/key"]).await;
    assert!(code == 1 && said.contains("/no/such/key"), "{code} {said}");

    let closed = format!("127.0.0.1:{}", free_port());
    let (code, said) = tunnel(&closed, &[]).await;
    assert!(code == 69 && said.contains("refuses SSH connections"), "{code} {said}");
    let (code, said) = tunnel("nobody@no-such-host.invalid", &[]).await;
    assert!(code == 69 && said.contains("check its spelling"), "{code} {said}");

    for bad in ["-oProxyCommand=touch x", "a@-box", "a b", "box;id"] {
        let (code, said) = laptop.fails(&["health", &format!("--ssh={bad}")]).await;
        assert!(code == 2 && said.contains("no SSH target"), "{code} {said}");
    }
}

#[actix_web::test]
async fn a_server_that_forwards_nothing_and_a_machine_without_ssh_say_so() {
    let sshd = Sshd::with("AllowTcpForwarding no").await;
    let laptop = Laptop::new(&sshd);
    let target = sshd.target();
    let (code, said) = laptop.fails(&["health", "--ssh", &target]).await;
    assert!(code == 77 && said.contains("AllowTcpForwarding"), "{code} {said}");
    let mut command = laptop.command(&["health", "--ssh", &target]);
    command.env("PATH", laptop.home.path());
    let (code, said) = refused(command).await;
    assert!(code == 1 && said.contains("openssh-client"), "{code} {said}");
    laptop.is_quiet().await;
}

#[actix_web::test]
async fn a_key_that_may_do_nothing_but_reach_the_gateway_is_enough() {
    let gateway = Gateway::start().await;
    let sshd = Sshd::start().await;
    let laptop = Laptop::new(&sshd);
    let (target, port) = (sshd.target(), gateway.port.to_string());
    let health = ["health", "--ssh", &target, "--port", &port, "--token", TOKEN];
    sshd.restrict(&format!("restrict,port-forwarding,permitopen=\"127.0.0.1:{port}\""));
    laptop.ok(&health).await;
    sshd.restrict("restrict,port-forwarding,permitopen=\"127.0.0.1:1\"");
    let (code, said) = laptop.fails(&health).await;
    assert!(code == 77 && said.contains("permitopen"), "{code} {said}");
}

#[actix_web::test]
async fn a_machine_without_a_network_says_so() {
    let sshd = Sshd::start().await;
    let laptop = Laptop::new(&sshd);
    let mut command = Command::new("unshare");
    command.args(["-n", TIDEGATE, "health", "--ssh", "ann@192.0.2.1"]).current_dir(laptop.home.path());
    clean_environment(&mut command, laptop.home.path());
    command.env("TIDEGATE_STATE_DIR", laptop.state()).env("PATH", sshd.path());
    let (code, said) = refused(command).await;
    if said.contains("unshare failed") {
        eprintln!("skipped: no network namespaces on this machine");
        return;
    }
    assert!(code == 69 && said.contains("no route to 192.0.2.1"), "{code} {said}");
}

#[actix_web::test]
async fn the_openssh_policy_leaves_host_keys_to_the_users_own_config() {
    let gateway = Gateway::start().await;
    let sshd = Sshd::start().await;
    sshd.know_nobody();
    let key = sshd.file("user_key").display().to_string();
    sshd.write_client(&key, "StrictHostKeyChecking no");
    let policy = |policy: &str| {
        json!({"gateway": {"mode": "remote", "remote": {
            "transport": "ssh", "sshTarget": sshd.target(), "remotePort": gateway.port, "token": TOKEN,
            "sshHostKeyPolicy": policy,
        }}})
    };
    let strict = Laptop::with_config(&sshd, &policy("strict"));
    let (code, said) = strict.fails(&["health"]).await;
    assert!(code == 77 && said.contains("not known"), "{code} {said}");
    Laptop::with_config(&sshd, &policy("openssh")).ok(&["health"]).await;
}

/// The `tidegate` lines of a part of the page on tunnels, with its examples replaced by what there is here.
fn page(part: &str, replace: &[(&str, &str)]) -> Vec<Vec<String>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/ssh-tunnel.md");
    let text = fs::read_to_string(path).unwrap();
    let part = text.split("\n## ").find(|found| found.starts_with(part)).unwrap().to_owned();
    let lines = part.lines().filter(|line| line.starts_with("tidegate "));
    let filled = |line: &str| replace.iter().fold(line.to_owned(), |line, (from, to)| line.replace(from, to));
    lines.map(|line| filled(line).split_whitespace().skip(1).map(str::to_owned).collect()).collect()
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
    // On one machine the two ends need two ports, so the device has to be approved.
    let meeting = free_port().to_string();
    let back = format!("127.0.0.1:{meeting}:127.0.0.1:{}", gateway.port);
    let _laptop = ByHand(sshd.ssh(&["-N", "-R", &back]).stderr(Stdio::null()).spawn().unwrap());
    let near = format!("127.0.0.1:{meeting}");
    eventually("the tunnel to stand", async || std::net::TcpStream::connect(&near).ok()).await;
    let followed = page("A laptop's gateway", &[("ann@server", &sshd.target()), ("TOKEN", TOKEN)]);
    let [status] = followed.as_slice() else { panic!("{followed:?}") };
    let args: Vec<&str> = status.iter().map(String::as_str).chain(["--port", &meeting]).collect();
    let (code, said) = phone.fails(&args).await;
    assert!(code == 77 && said.contains("tidegate devices approve "), "{code} {said}");
    let request = said.split("devices approve ").nth(1).unwrap().split_whitespace().next().unwrap();
    gateway.cli_json(&["devices", "approve", request, "--json"]).await;
    phone.ok(&args).await;
}

#[actix_web::test]
async fn the_official_clients_work_through_a_tunnel() {
    let gateway = Gateway::start().await;
    let sshd = Sshd::start().await;
    let near = format!("127.0.0.2:{}", gateway.port);
    let _tunnel = ByHand::open(&sshd, &near, gateway.port).await;
    let official = Official::remote(&format!("ws://{near}"), TOKEN);
    assert_eq!(official.json(&["health", "--json"]).await["ok"], true);
    official.ok(&["status"]).await;
    official.json(&["nodes", "list", "--json"]).await;
    let _host = official.node_host_at("127.0.0.2", gateway.port, "shed");
    let id = ready(&gateway, "shed").await;
    let described = official.json(&["nodes", "describe", "--node", "shed", "--json"]).await;
    assert!(described.to_string().contains(&id), "{described}");
}
