//! Where commands go by default, what they find there, and several gateways on one machine.

use crate::support::gateway::{TIDEGATE, TOKEN, clean_environment};
use crate::support::official::NodeHost;
use crate::support::ports::free_port;
use crate::support::{Connect, Gateway, Setup, Sshd, eventually, within};
use serde_json::{Value, json};
use std::ffi::OsString;
use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use tempfile::TempDir;

/// A machine with nothing on it but a home.
struct Machine {
    home: TempDir,
    path: Option<OsString>,
}

impl Machine {
    fn new() -> Self {
        Self { home: tempfile::tempdir().unwrap(), path: None }
    }

    fn with_config(config: &Value) -> Self {
        let machine = Self::new();
        machine.write(None, config);
        machine
    }

    fn state(&self, profile: Option<&str>) -> PathBuf {
        self.home.path().join(profile.map_or(".tidegate".to_owned(), |name| format!(".tidegate-{name}")))
    }

    fn write(&self, profile: Option<&str>, config: &Value) {
        fs::create_dir_all(self.state(profile)).unwrap();
        fs::write(self.state(profile).join("tidegate.json"), config.to_string()).unwrap();
    }

    fn config(&self) -> Value {
        serde_json::from_slice(&fs::read(self.state(None).join("tidegate.json")).unwrap()).unwrap()
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(TIDEGATE);
        command.args(args).current_dir(self.home.path()).stdin(Stdio::null()).process_group(0);
        clean_environment(&mut command, self.home.path());
        if let Some(path) = &self.path {
            command.env("PATH", path);
        }
        command
    }

    async fn run(&self, args: &[&str]) -> Output {
        let mut command = self.command(args);
        within(&format!("tidegate {args:?}"), tokio::task::spawn_blocking(move || command.output().unwrap()))
            .await
            .unwrap()
    }

    async fn ok(&self, args: &[&str]) -> String {
        let output = self.run(args).await;
        assert!(output.status.success(), "tidegate {args:?}: {}", said(&output));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    async fn json(&self, args: &[&str]) -> Value {
        serde_json::from_str(&self.ok(&[args, &["--json"][..]].concat()).await).unwrap()
    }

    async fn fails(&self, args: &[&str]) -> (i32, String) {
        let output = self.run(args).await;
        assert!(!output.status.success(), "tidegate {args:?} succeeded: {}", said(&output));
        (output.status.code().unwrap(), said(&output))
    }

    fn start(&self, args: &[&str]) -> NodeHost {
        let path = self.home.path().join(args.join("-"));
        let console = File::create(&path).unwrap();
        let mut command = self.command(args);
        command.stdout(console.try_clone().unwrap()).stderr(console);
        NodeHost::spawned(command.spawn().unwrap(), path)
    }
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[actix_web::test]
async fn a_remote_gateway_is_set_shown_used_and_cleared() {
    let gateway = Gateway::start().await;
    let url = format!("ws://127.0.0.1:{}", gateway.port);
    let machine = Machine::new();
    let (code, refused) = machine.fails(&["remote", "set", "ws://203.0.113.9:18789"]).await;
    assert!(refused.contains("unencrypted"), "{code} {refused}");
    let (code, _) = machine.fails(&["remote", "set"]).await;
    assert_eq!(code, 2);
    machine.ok(&["remote", "set", &url, "--token", TOKEN]).await;
    machine.ok(&["health"]).await;
    let shown = machine.json(&["remote", "show"]).await;
    assert_eq!((&shown["mode"], &shown["source"]), (&json!("remote"), &json!("gateway.remote")), "{shown}");
    assert_eq!(shown["target"], url, "{shown}");
    let plain = machine.ok(&["remote", "show"]).await;
    assert!(plain.contains(&url) && !plain.contains(TOKEN) && !shown.to_string().contains(TOKEN), "{plain}");
    let cleared = machine.ok(&["remote", "clear"]).await;
    assert!(cleared.contains("the gateway of this machine") && !cleared.contains("problem"), "{cleared}");
    assert_eq!(machine.config()["gateway"], json!({"mode": "local"}));
    machine.fails(&["health"]).await;
    // On the gateway's own machine this would keep it from starting again.
    let output = gateway.cli(&["remote", "set", "wss://elsewhere.example", "--token", "t-elsewhere"]).await;
    assert!(said(&output).contains(&format!("(pid {})", gateway.pid())), "{}", said(&output));
}

#[actix_web::test]
async fn another_address_takes_nothing_over_from_the_former_one() {
    let machine = Machine::new();
    let pin = "ab".repeat(32);
    let set = ["remote", "set", "wss://one.example", "--tls-fingerprint", &pin, "--token", "for-one"];
    machine.ok(&set).await;
    // The same address, but for white space: everything stays.
    machine.ok(&["remote", "set", " wss://one.example "]).await;
    let remote = machine.config()["gateway"]["remote"].clone();
    assert_eq!(remote, json!({"url": "wss://one.example", "tlsFingerprint": pin, "token": "for-one"}));
    let ssh =
        ["remote", "set", "--ssh", "ann@box:2222", "--ssh-host-key-policy", "openssh", "--token", "for-box"];
    machine.ok(&ssh).await;
    let remote = machine.config()["gateway"]["remote"].clone();
    let expected = json!({
        "url": "ws://127.0.0.1:18789", "transport": "ssh", "sshTarget": "ann@box:2222",
        "sshHostKeyPolicy": "openssh", "token": "for-box",
    });
    assert_eq!(remote, expected);
    // Another host behind the same local address is another gateway.
    let output = machine.run(&["remote", "set", "--ssh", "ann@other"]).await;
    assert!(said(&output).contains("token of the former one was removed"), "{}", said(&output));
    let remote = machine.config()["gateway"]["remote"].clone();
    let expected = json!({"url": "ws://127.0.0.1:18789", "transport": "ssh", "sshTarget": "ann@other"});
    assert_eq!(remote, expected);
    machine.ok(&["remote", "set", "--ssh", "ann@other", "--port", "19000"]).await;
    let remote = machine.config()["gateway"]["remote"].clone();
    assert_eq!(
        (&remote["url"], &remote["remotePort"]),
        (&json!("ws://127.0.0.1:19000"), &json!(19000)),
        "{remote}"
    );
    machine.ok(&["remote", "set", "wss://two.example"]).await;
    assert_eq!(machine.config()["gateway"]["remote"], json!({"url": "wss://two.example"}));
}

#[actix_web::test]
async fn a_pin_makes_the_address_one_with_tls_and_never_stands_beside_one_without() {
    let machine = Machine::new();
    let pin = "ab".repeat(32);
    machine.ok(&["remote", "set", "--ssh", "ann@box", "--tls-fingerprint", &pin, "--token", "t"]).await;
    let pinned = json!({"url": "wss://127.0.0.1:18789", "transport": "ssh", "sshTarget": "ann@box",
        "tlsFingerprint": pin, "token": "t"});
    assert_eq!(machine.config()["gateway"]["remote"], pinned);
    let shown = machine.json(&["remote", "show"]).await;
    assert_eq!(shown["target"], "wss://127.0.0.1:18789 through SSH to ann@box", "{shown}");
    // Said again without the pin it is the same gateway.
    machine.ok(&["remote", "set", "--ssh", "ann@box"]).await;
    assert_eq!(machine.config()["gateway"]["remote"], pinned);
    for address in [&["ws://10.1.1.1:1"][..], &["ws://127.0.0.1:1", "--ssh", "ann@box"]] {
        let (code, said) =
            machine.fails(&[&["remote", "set"], address, &["--tls-fingerprint", &pin]].concat()).await;
        assert!(code == 2 && said.contains("wss://"), "{code} {said}");
        assert_eq!(machine.config()["gateway"]["remote"], pinned, "nothing is written");
    }
}

#[actix_web::test]
async fn a_gateway_that_is_not_reached_is_named_with_the_reason_and_what_to_do() {
    let machine = Machine::new();
    let closed = format!("ws://127.0.0.1:{}", free_port());
    let plain = Gateway::start().await;
    let without_tls = format!("wss://127.0.0.1:{}", plain.port);
    for (url, reason, help) in [
        (closed.as_str(), "Connection refused", "is it running?"),
        ("ws://nowhere.invalid.local:1", "failed to lookup address", "check its spelling"),
        (without_tls.as_str(), "corrupt message", ""),
    ] {
        let (code, said) = machine.fails(&["health", "--url", url, "--token", "t"]).await;
        assert!(code == 69 && said.contains(reason) && said.contains(help), "{url}: {code} {said}");
        let output = machine.run(&["health", "--url", url, "--token", "t", "--json"]).await;
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert!(answer["error"]["message"].as_str().unwrap().contains(reason), "{answer}");
        let (_, said) = machine.fails(&["gateway", "probe", "--url", url, "--token", "t"]).await;
        let row = said.lines().find(|line| line.contains("not reached")).unwrap();
        assert!(row.contains(reason), "{said}");
    }
    let (code, said) = machine.fails(&["health", "--url", "ws://203.0.113.9:1", "--token", "t"]).await;
    assert!(code == 77 && said.contains("unencrypted"), "{code} {said}");
}

#[actix_web::test]
async fn whoever_is_locked_out_hears_for_how_long() {
    let config = json!({"gateway": {"auth": {"rateLimit": {"exemptLoopback": false, "maxAttempts": 1}}}});
    let gateway = Setup::new().config(config).start().await;
    let (machine, url) = (Machine::new(), format!("ws://127.0.0.1:{}", gateway.port));
    let wrong = ["health", "--url", &url, "--token", "wrong"];
    let said = eventually("the lockout", async || {
        let (_, said) = machine.fails(&wrong).await;
        said.contains("too many").then_some(said)
    })
    .await;
    assert!(said.contains("; wait ") && said.contains(" s, then try again"), "{said}");
    let output = machine.run(&[&wrong[..], &["--json"]].concat()).await;
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(answer["error"]["retryAfterMs"].as_u64().unwrap() > 0, "{answer}");
}

#[actix_web::test]
async fn the_secret_of_this_machine_stays_here_while_another_gateway_has_its_port() {
    // It stands for the far end of a tunnel; its token would let this machine in.
    let other = Setup::new().no_token().config(json!({"gateway": {"auth": {"token": TOKEN}}})).start().await;
    let machine = Machine::with_config(&json!({"gateway": {"port": other.port, "auth": {"token": TOKEN}}}));
    let (code, said) = machine.fails(&["health"]).await;
    let address = format!("ws://127.0.0.1:{}", other.port);
    for words in ["no gateway of this machine runs", "`tidegate gateway run`", &address, "--token"] {
        assert!(code == 69 && said.contains(words), "no {words}: {code} {said}");
    }
    machine.ok(&["health", "--token", TOKEN]).await;
    let (code, said) = machine.fails(&["node", "run"]).await;
    assert!(code == 77 && said.contains("token missing"), "{code} {said}");
    assert!(said.contains("its secret is not sent there"), "{said}");
}

#[actix_web::test]
async fn a_profiles_node_finds_its_own_gateway_and_takes_its_token_to_no_other() {
    let machine = Machine::new();
    let (main, rescue) = (free_port(), free_port());
    machine.write(None, &json!({"gateway": {"port": main}}));
    // The port that it really has is on its command line alone.
    machine.write(Some("rescue"), &json!({"gateway": {"port": main}}));
    let main_gateway = machine.start(&["gateway", "run"]);
    let gateway = machine.start(&["--profile", "rescue", "gateway", "run", "--port", &rescue.to_string()]);
    let line = eventually("the banner's line", async || {
        let log = gateway.log();
        let line = log.lines().find(|line| line.trim_start().starts_with("add this machine"))?;
        Some(line.split_once("tidegate ")?.1.to_owned())
    })
    .await;
    assert_eq!(line, "--profile rescue node run");
    let mut node = machine.start(&line.split(' ').collect::<Vec<_>>());
    let list = ["--profile", "rescue", "nodes", "list"];
    eventually("the node at its own gateway", async || {
        let nodes = machine.json(&list).await;
        nodes.to_string().contains("\"connected\":true").then_some(())
    })
    .await;
    eventually("the other gateway to run", async || {
        machine.run(&["health"]).await.status.success().then_some(())
    })
    .await;
    assert!(!machine.ok(&["nodes", "list"]).await.contains("connected"));
    node.kill();
    // With its own gateway gone, the port of its config is that of another one, which hears nothing.
    drop(gateway);
    let mut node = machine.start(&["--profile", "rescue", "node", "run", "--port", &main.to_string()]);
    let status = eventually("the node host to be refused", async || node.ended()).await;
    assert_eq!(status.code(), Some(77), "{}", node.log());
    assert!(node.log().contains("token missing"), "{}", node.log());
    drop(main_gateway);
}

#[actix_web::test]
async fn a_probe_tells_of_every_target_and_why_one_fails() {
    let gateway = Gateway::start().await;
    let sshd = Sshd::start().await;
    let closed = free_port();
    let mut machine = Machine::with_config(&json!({"gateway": {
        "mode": "remote", "port": closed, "auth": {"token": "of-this-machine"},
        "remote": {"transport": "ssh", "sshTarget": sshd.target(), "remotePort": gateway.port, "token": TOKEN},
    }}));
    machine.path = Some(sshd.path());
    let probe = machine.json(&["gateway", "probe"]).await;
    assert_eq!((&probe["ok"], &probe["primaryTargetId"]), (&json!(true), &json!("configRemote")), "{probe}");
    assert_eq!(probe["capability"], "admin_capable", "{probe}");
    let [remote, local] = probe["targets"].as_array().unwrap().as_slice() else { panic!("{probe}") };
    assert_eq!((&remote["kind"], &remote["connect"]["ok"]), (&json!("sshTunnel"), &json!(true)), "{probe}");
    assert!(remote["connect"]["latencyMs"].is_u64() && remote["connect"]["rpcOk"] == true, "{probe}");
    assert_eq!(remote["auth"]["role"], "operator", "{probe}");
    assert!(remote["auth"]["scopes"].as_array().unwrap().contains(&json!("operator.admin")), "{probe}");
    assert_eq!((&local["id"], &local["connect"]["ok"]), (&json!("localLoopback"), &json!(false)), "{probe}");
    assert!(local["connect"]["error"]["message"].as_str().unwrap().contains(&closed.to_string()), "{probe}");
    let plain = machine.ok(&["gateway", "probe"]).await;
    assert!(plain.contains("Remote (configured)") && plain.contains("not reached"), "{plain}");
    assert!(!plain.contains(TOKEN), "{plain}");
    // An address on the line comes first, and its token goes nowhere else.
    let url = format!("ws://127.0.0.1:{}", gateway.port);
    let probe = machine.json(&["gateway", "probe", "--url", &url, "--token", TOKEN]).await;
    let ids: Vec<_> = probe["targets"].as_array().unwrap().iter().map(|target| &target["id"]).collect();
    assert_eq!(ids, ["explicit", "configRemote", "localLoopback"], "{probe}");
    // Nothing reachable: an answer all the same, and an exit code.
    let nowhere =
        Machine::with_config(&json!({"gateway": {"port": closed, "auth": {"token": "some-token"}}}));
    let output = nowhere.run(&["gateway", "probe", "--json"]).await;
    assert_eq!(output.status.code(), Some(69));
    let probe: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&probe["ok"], &probe["capability"]), (&json!(false), &json!("unknown")), "{probe}");
}

#[actix_web::test]
async fn a_probe_makes_no_new_device() {
    let gateway = Gateway::start().await;
    let machine = Machine::new();
    let url = format!("ws://127.0.0.1:{}", gateway.port);
    machine.ok(&["gateway", "probe", "--url", &url, "--token", TOKEN]).await;
    assert!(!machine.state(None).join("cli/identity.json").exists());
    let devices = gateway.cli_json(&["devices", "list", "--json"]).await;
    assert_eq!(devices["paired"], json!([]), "{devices}");
}

#[actix_web::test]
async fn a_credential_for_another_gateway_never_opens_this_one() {
    let config = json!({"gateway": {"remote": {"url": "wss://g.example", "token": "of-the-other-one"}}});
    let gateway = Setup::new().no_token().config(config).start().await;
    assert_ne!(gateway.token(), "of-the-other-one");
    let refused = Connect::cli().token("of-the-other-one").to(gateway.port).await.refusal();
    assert_eq!(refused.detail(), "AUTH_TOKEN_MISMATCH");
    Connect::cli().to(gateway.port).await.refusal();
}

#[actix_web::test]
async fn gateway_and_commands_agree_on_the_token_when_file_and_environment_differ() {
    let config = json!({"gateway": {"auth": {"token": "from-the-file"}}});
    let gateway = Setup::new().config(config).start().await;
    gateway.cli_json(&["health", "--json"]).await;
    Connect::cli().token("from-the-file").to(gateway.port).await.session();
}

#[actix_web::test]
async fn a_secret_that_can_not_be_had_stops_the_command_before_anything_is_sent() {
    let gateway = Gateway::start().await;
    let url = format!("ws://127.0.0.1:{}", gateway.port);
    let machine = Machine::with_config(&json!({"gateway": {
        "mode": "remote", "auth": {"token": TOKEN},
        "remote": {"url": url, "token": {"source": "env", "provider": "default", "id": "NO_SUCH_SECRET"}},
    }}));
    for command in [&["health"][..], &["node", "run"]] {
        let (code, said) = machine.fails(command).await;
        assert_eq!(code, 78, "{said}");
        assert!(said.contains("gateway.remote.token") && said.contains("NO_SUCH_SECRET"), "{said}");
    }
    assert!(!gateway.log().contains("\"connected\""), "{}", gateway.log());
}

#[actix_web::test]
async fn profiles_are_gateways_of_their_own_and_all_of_them_are_listed() {
    let machine = Machine::new();
    let (one, two) = (free_port(), free_port());
    machine.write(None, &json!({"gateway": {"port": one}}));
    machine.write(Some("rescue"), &json!({"gateway": {"port": two}}));
    machine.write(Some("idle"), &json!({}));
    let mut main = machine.start(&["gateway", "run"]);
    let _rescue = machine.start(&["--profile", "rescue", "gateway", "run"]);
    let all = eventually("both gateways to run", async || {
        let all = machine.json(&["status", "--all-profiles"]).await;
        let versions = all["profiles"].as_array()?.iter().filter(|profile| profile["version"].is_string());
        (versions.count() == 2).then_some(all)
    })
    .await;
    let facts: Vec<_> = all["profiles"]
        .as_array()
        .unwrap()
        .iter()
        .map(|profile| {
            (
                profile["profile"].as_str().unwrap(),
                profile["running"] == true,
                profile["service"].as_str().unwrap(),
            )
        })
        .collect();
    let expected = [
        ("default", true, "tidegate"),
        ("idle", false, "tidegate@idle"),
        ("rescue", true, "tidegate@rescue"),
    ];
    assert_eq!(facts, expected);
    assert_eq!(
        (&all["profiles"][0]["port"], &all["profiles"][2]["port"]),
        (&json!(one), &json!(two)),
        "{all}"
    );
    assert_eq!(all["profiles"][0]["pid"], main.pid(), "{all}");
    // Each with a token of its own, and neither takes the other's state.
    let token = |profile| fs::read_to_string(machine.state(profile).join("gateway-token")).unwrap();
    assert_ne!(token(None), token(Some("rescue")));
    machine.ok(&["--profile", "rescue", "health"]).await;
    let (_, said) = machine.fails(&["--profile", "rescue", "gateway", "run", "--port", "0"]).await;
    assert!(said.contains("another gateway (pid "), "{said}");
    main.kill();
    let plain = machine.ok(&["status", "--all-profiles"]).await;
    let line = |name: &str| plain.lines().find(|line| line.starts_with(name)).unwrap().to_owned();
    assert!(line("default").contains("stopped") && line("rescue").contains("running"), "{plain}");
}
