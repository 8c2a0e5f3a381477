//! Being found, and finding: on a LAN by multicast DNS, elsewhere by a zone of one's own.

use crate::support::gateway::{TIDEGATE, clean_environment};
use crate::support::{Gateway, Host, eventually};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Output};

/// What is told in every mode, besides TLS.
const ALWAYS: [&str; 6] =
    ["displayName", "gatewayDirectReachable", "gatewayPort", "lanHost", "role", "transport"];

/// `tidegate ARGS` by somebody on `host` who has no gateway and no config.
async fn somebody(host: &Host, args: &[&str]) -> Output {
    let mut command = host.command(TIDEGATE);
    command.args(args);
    run(command, tempfile::tempdir().unwrap().path()).await
}

async fn run(mut command: Command, home: &Path) -> Output {
    clean_environment(&mut command, home);
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// What `tidegate gateway discover` finds from there.
async fn discovered(host: &Host, args: &[&str]) -> Vec<Value> {
    let args = [&["gateway", "discover", "--json"], args].concat();
    let answer: Value = serde_json::from_str(&stdout(&somebody(host, &args).await)).unwrap();
    assert_eq!(answer["problems"], json!([]));
    answer["beacons"].as_array().unwrap().clone()
}

/// Looks until the gateways that are found from there are the ones that are `wanted`, by their ports.
async fn discovers(host: &Host, wanted: &[&Gateway]) -> Vec<Value> {
    let mut ports: Vec<u16> = wanted.iter().map(|gateway| gateway.port).collect();
    ports.sort_unstable();
    eventually(&format!("gateways to be found at {ports:?}"), async || {
        let beacons = discovered(host, &[]).await;
        let mut found: Vec<u16> =
            beacons.iter().map(|beacon| beacon["port"].as_u64().unwrap() as u16).collect();
        found.sort_unstable();
        (found == ports).then_some(beacons)
    })
    .await
}

/// The state of the beacon in `status --deep`; null when there is none.
async fn beacon_state(gateway: &Gateway) -> Value {
    let status = gateway.cli_json(&["status", "--deep", "--json"]).await;
    let discovery = part(&status["tree"], "discovery").expect("the tree has it");
    assert_eq!(part(&discovery["children"], "keeper").unwrap()["state"], "running");
    part(&discovery["children"], "mdns").map(|mdns| mdns["state"].clone()).unwrap_or_default()
}

/// The part of this name, wherever it is in the tree.
fn part<'a>(parts: &'a Value, name: &str) -> Option<&'a Value> {
    let parts = parts.as_array()?;
    let here = parts.iter().find(|part| part["name"] == name);
    here.or_else(|| parts.iter().find_map(|above| part(&above["children"], name)))
}

/// Whether the gateway's process has the daemon's thread.
fn has_daemon(gateway: &Gateway) -> bool {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", gateway.pid())).unwrap();
    tasks
        .flatten()
        .any(|task| std::fs::read_to_string(task.path().join("comm")).unwrap_or_default().starts_with("mDNS"))
}

mod lan {
    use super::*;
    use crate::support::dns_sd::{KIND, Script};
    use crate::support::{Lan, Setup};
    use std::collections::BTreeSet;

    fn on_lan(host: &Host) -> Setup {
        Setup::new().on(host).arg("--bind").arg("lan")
    }

    fn keys(told: &Value) -> BTreeSet<&str> {
        told["txt"].as_object().unwrap().keys().map(String::as_str).collect()
    }

    fn plus<'a>(more: &[&'a str]) -> BTreeSet<&'a str> {
        ALWAYS.iter().chain(more).copied().collect()
    }

    #[tokio::test]
    async fn a_gateway_on_the_lan_is_found_from_another_machine() {
        let (_lan, [home, laptop]) = Lan::new(["home", "laptop"]);
        let gateway = on_lan(&home).start().await;
        let beacon = discovers(&laptop, &[&gateway]).await.remove(0);
        let address = home.socket_address(gateway.port);
        assert_eq!(beacon["wsUrl"], format!("ws://{address}"));
        assert_eq!(beacon["addresses"], json!([home.address()]));
        assert_eq!(beacon["hints"]["verified"], false);
        assert!(laptop.connect(address).is_ok());
        assert_eq!(beacon_state(&gateway).await, "running");

        let shown = stdout(&somebody(&laptop, &["gateway", "discover"]).await);
        let name = beacon["displayName"].as_str().unwrap();
        for part in
            [name, &format!("tidegate --url ws://{address} --token TOKEN status"), "None of this is verified"]
        {
            assert!(shown.contains(part), "{part:?} is not in:\n{shown}");
        }
        let columns: BTreeSet<_> = shown
            .lines()
            .filter(|line| line.starts_with("  "))
            .map(|line| line.len() - line.trim_start().split_once(' ').unwrap().1.trim_start().len())
            .collect();
        assert_eq!(columns.len(), 1, "values do not stand under each other:\n{shown}");
    }

    /// `deploy/discovery.md`, step by step.
    #[tokio::test]
    async fn the_page_about_discovery_leads_to_a_connection() {
        let (_lan, [home, laptop]) = Lan::new(["home", "laptop"]);
        let secret = "a-long-random-text";
        let config = json!({"gateway": {"auth": {"token": secret}, "bind": "lan"}});
        let gateway = Setup::new().no_token().on(&home).config(config).start().await;
        discovers(&laptop, &[&gateway]).await;
        let shown = stdout(&somebody(&laptop, &["gateway", "discover"]).await);
        let next = shown.lines().find_map(|line| line.trim().strip_prefix("next:")).unwrap();
        let words: Vec<_> = next.split_whitespace().map(|word| word.replace("TOKEN", secret)).collect();
        assert_eq!(words[0], "tidegate");
        let person = tempfile::tempdir().unwrap();
        let follow = async || {
            let mut command = laptop.command(TIDEGATE);
            command.args(&words[1..]);
            run(command, person.path()).await
        };

        // A device from elsewhere is let in by somebody on the gateway's host.
        assert_eq!(follow().await.status.code(), Some(77));
        let command = |args: &[&str]| {
            let mut command = gateway.command(args);
            command.env("TIDEGATE_GATEWAY_TOKEN", secret);
            command
        };
        let listed = command(&["devices", "list", "--json"]).output().unwrap();
        let listed: Value = serde_json::from_str(&stdout(&listed)).unwrap();
        let request = listed["pending"][0]["requestId"].as_str().unwrap();
        stdout(&command(&["devices", "approve", request]).output().unwrap());
        let status = stdout(&follow().await);
        assert!(status.contains(&format!("ws://{}", home.socket_address(gateway.port))), "{status}");
    }

    #[tokio::test]
    async fn each_mode_tells_its_keys_and_off_tells_nothing() {
        let (_lan, [home, laptop]) = Lan::new(["home", "laptop"]);
        let config = |mode: &str| json!({"discovery": {"mdns": {"mode": mode}}});
        let gateway = on_lan(&home)
            .env("OPENCLAW_SSH_PORT", "2222")
            .env("OPENCLAW_CLI_PATH", "/opt/tidegate")
            .env("OPENCLAW_TAILNET_DNS", "home.tail1.ts.net")
            .env("OPENCLAW_MDNS_HOSTNAME", "attic")
            .config(json!({}))
            .start()
            .await;
        let mut browser = Script::browse(&laptop).await;
        let minimal = browser.until("a gateway", |told| told["event"] == "added").await;
        assert_eq!(keys(&minimal), plus(&[]));
        assert_eq!(minimal["name"], format!("attic:{} (Tidegate)", gateway.port));
        assert_eq!((&minimal["host"], &minimal["port"]), (&json!("attic.local."), &json!(gateway.port)));
        assert_eq!(minimal["addresses"], json!([home.address()]));
        let txt = &minimal["txt"];
        assert_eq!(txt["gatewayPort"], gateway.port.to_string());
        assert_eq!((&txt["lanHost"], &txt["role"]), (&json!("attic.local"), &json!("gateway")));

        gateway.write_config(&config("full"));
        let full = browser.until("more keys", |told| told["txt"]["sshPort"] == "2222").await;
        assert_eq!(keys(&full), plus(&["sshPort", "cliPath", "tailnetDns"]));
        assert_eq!(full["txt"]["cliPath"], "/opt/tidegate");

        gateway.write_config(&config("off"));
        browser.until("the gateway to be gone", |told| told["event"] == "removed").await;
        eventually("the daemon to be gone", async || (!has_daemon(&gateway)).then_some(())).await;
        assert_eq!(beacon_state(&gateway).await, Value::Null);
    }

    #[tokio::test]
    async fn a_changed_address_is_announced() {
        let (_lan, [home, laptop]) = Lan::new(["home", "laptop"]);
        let gateway = on_lan(&home).start().await;
        let mut browser = Script::browse(&laptop).await;
        browser.until("a gateway", |told| told["addresses"] == json!([home.address()])).await;
        let [second, moved] = ["192.168.77.101", "192.168.77.102"].map(|address| address.parse().unwrap());
        home.add_address(second);
        let both = json!([home.address(), second]);
        browser.until("a second address", |told| told["addresses"] == both).await;
        // With the first address of a network the others of the same go.
        home.drop_address(home.address());
        home.add_address(moved);
        browser
            .until("the new address", |told| {
                told["addresses"].as_array().is_some_and(|all| all.contains(&json!(moved)))
            })
            .await;
        let beacon = discovers(&laptop, &[&gateway]).await.remove(0);
        assert_eq!(beacon["addresses"], json!([moved]));
        assert_eq!(beacon["wsUrl"], format!("ws://{moved}:{}", gateway.port));
    }

    #[tokio::test]
    async fn a_gateway_that_ends_says_goodbye() {
        let (_lan, [home, laptop]) = Lan::new(["home", "laptop"]);
        let mut gateway = on_lan(&home).start().await;
        let mut browser = Script::browse(&laptop).await;
        let name = browser.until("a gateway", |told| told["event"] == "added").await["name"].clone();
        gateway.terminate();
        assert_eq!(gateway.ended().await.code(), Some(0));
        browser.until("its goodbye", |told| told["event"] == "removed" && told["name"] == name).await;
    }

    #[tokio::test]
    async fn only_what_a_lan_can_reach_is_announced_on_it() {
        let (_lan, [home, attic, laptop]) = Lan::new(["home", "attic", "laptop"]);
        let on_loopback = Setup::new().on(&home).start().await;
        attic.add_address("192.168.77.102".parse().unwrap());
        let custom = json!({"gateway": {"bind": "custom", "customBindHost": attic.address().to_string()}});
        let on_one_address = Setup::new().on(&attic).config(custom).start().await;
        let beacons = discovers(&laptop, &[&on_one_address]).await;
        assert_eq!(beacons[0]["addresses"], json!([attic.address()]));
        assert!(!has_daemon(&on_loopback) && has_daemon(&on_one_address));
        assert_eq!(beacon_state(&on_loopback).await, Value::Null);
    }

    #[tokio::test]
    async fn gateways_of_one_host_and_hosts_of_one_name_have_names_of_their_own() {
        let (_lan, [home, twin, laptop]) = Lan::new(["home", "twin", "laptop"]);
        let (mut one, two) = (on_lan(&home).start().await, on_lan(&home).start().await);
        // All hosts of a test have this machine's name.
        let clone = on_lan(&twin).start().await;
        let beacons = discovers(&laptop, &[&one, &two, &clone]).await;
        let all = |key: &str| beacons.iter().map(|beacon| beacon[key].to_string()).collect::<BTreeSet<_>>();
        assert_eq!((all("instanceName").len(), all("displayName").len()), (3, 3));
        let urls: BTreeSet<_> =
            beacons.iter().map(|beacon| beacon["wsUrl"].as_str().unwrap().to_owned()).collect();
        let addresses =
            [home.socket_address(one.port), home.socket_address(two.port), twin.socket_address(clone.port)];
        assert_eq!(urls, addresses.map(|address| format!("ws://{address}")).into());

        one.terminate();
        one.ended().await;
        discovers(&laptop, &[&two, &clone]).await;
    }

    #[tokio::test]
    async fn a_name_that_is_taken_gets_a_number() {
        let (_lan, [home, other, laptop]) = Lan::new(["home", "other", "laptop"]);
        let mut gateway = on_lan(&home).start().await;
        let name = discovers(&laptop, &[&gateway]).await[0]["instanceName"].as_str().unwrap().to_owned();
        gateway.terminate();
        gateway.ended().await;
        let same = json!({
            "kind": KIND, "name": name, "host": "other.local.", "port": 4444,
            "addresses": [other.address().to_string()], "txt": {"role": "gateway"},
        });
        let _announced = Script::announce(&other, &same).await;
        let gateway = gateway.restart().await;
        let renamed = eventually("the gateway to be found", async || {
            discovered(&laptop, &[]).await.into_iter().find(|beacon| beacon["port"] == gateway.port)
        })
        .await;
        assert_eq!(renamed["instanceName"], format!("{name} (2)"));
    }

    #[tokio::test]
    async fn forged_hints_steer_nobody() {
        let (_lan, [home, stranger, laptop]) = Lan::new(["home", "stranger", "laptop"]);
        let gateway = on_lan(&home).start().await;
        let forged = json!({
            "kind": KIND, "name": "attic", "host": "evil.local.", "port": 4444,
            "addresses": [stranger.address().to_string()],
            "txt": {
                "role": "gateway", "transport": "gateway", "displayName": "\u{1b}[2Jattic\u{202e}\r\n",
                "lanHost": home.address().to_string(), "gatewayPort": gateway.port.to_string(),
                "tailnetDns": "attic.tail1.ts.net\u{7}", "gatewayTls": "1", "gatewayTlsSha256": "ab".repeat(32),
            },
        });
        let _announced = Script::announce(&stranger, &forged).await;
        let found = eventually("the forged gateway", async || {
            discovered(&laptop, &[]).await.into_iter().find(|beacon| beacon["instanceName"] == "attic")
        })
        .await;
        // Where it really is, not where it says it is: whoever goes there talks to the stranger, and sees that.
        assert_eq!(found["wsUrl"], format!("wss://{}", stranger.socket_address(4444)));
        assert_eq!(found["addresses"], json!([stranger.address()]));
        assert_eq!(found["hints"]["verified"], false);
        let shown = stdout(&somebody(&laptop, &["gateway", "discover"]).await);
        assert!(!shown.chars().any(|c| c != '\n' && (c.is_control() || c == '\u{202e}')), "{shown:?}");
        assert!(shown.contains(&format!("{} (announced, not verified)", "ab".repeat(32))), "{shown}");
        // The command that is offered has no pin in it.
        assert!(shown.contains("--tls-fingerprint SHA256"), "{shown}");
        assert!(!shown.contains(&format!("--tls-fingerprint {}", "ab".repeat(32))), "{shown}");
    }

    #[tokio::test]
    async fn a_domain_lists_the_gateway_where_multicast_does_not_reach() {
        let (_lan, [home, laptop]) = Lan::new(["home", "laptop"]);
        let config = json!({
            "gateway": {"bind": "lan"},
            "discovery": {
                "wideArea": {"domain": "openclaw.internal"},
                "mdns": {"mode": "off", "tailnetDns": "home.tail1.ts.net."},
            },
        });
        let gateway = Setup::new().on(&home).config(config).start().await;
        let address = home.address().to_string();
        let setup = gateway.cli_json(&["dns", "setup", "--address", &address, "--json"]).await;
        assert_eq!((&setup["changed"], &setup["warning"]), (&json!(true), &Value::Null));
        let zone = setup["zoneFile"].as_str().unwrap().to_owned();
        assert_eq!(
            gateway.cli_json(&["dns", "setup", "--address", &address, "--json"]).await["changed"],
            false
        );

        let _server = Script::serve(&home, zone.as_ref(), 5300).await;
        let server = SocketAddr::from((home.address(), 5300)).to_string();
        let found = discovered(&laptop, &["--domain", "openclaw.internal", "--nameserver", &server]).await;
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0]["domain"], "openclaw.internal.");
        assert_eq!(found[0]["wsUrl"], format!("ws://{}", home.socket_address(gateway.port)));
        assert_eq!(found[0]["hints"]["tailnetDns"], "home.tail1.ts.net");

        // A domain that lists nothing is no failure; a server that does not answer for it is told.
        let nothing = somebody(
            &laptop,
            &["gateway", "discover", "--domain", "none.openclaw.internal", "--nameserver", &server],
        )
        .await;
        assert!(stdout(&nothing).contains("No gateway was announced in local., none.openclaw.internal."));
        let refused = somebody(
            &laptop,
            &["gateway", "discover", "--domain", "elsewhere.example", "--nameserver", &server],
        )
        .await;
        assert!(String::from_utf8_lossy(&refused.stderr).contains("elsewhere.example could not be searched"));
    }
}

#[tokio::test]
async fn the_zone_is_one_that_a_dns_server_takes() {
    let config = json!({"discovery": {
        "mdns": {"mode": "full", "cliPath": "/opt/with \"quotes\" \\ and ü/tidegate"},
    }});
    let gateway = crate::support::Setup::new().config(config).start().await;
    let args = [
        "dns",
        "setup",
        "--domain",
        "openclaw.internal",
        "--address",
        "100.64.0.7",
        "--address",
        "fd7a:115c:a1e0::7",
    ];
    let setup = gateway.cli_json(&[&args[..], &["--json"]].concat()).await;
    let mut check = Command::new("named-checkzone");
    check.args(["openclaw.internal", setup["zoneFile"].as_str().unwrap()]);
    let checked = run(check, gateway.home()).await;
    assert!(checked.status.success(), "{}", stdout(&checked));
    assert_eq!(setup["warning"], "the gateway does not listen on 100.64.0.7: see gateway.bind");
    let shown = stdout(&gateway.cli(&args).await);
    for part in ["openclaw.internal:53 {", "bind 100.64.0.7 fd7a:115c:a1e0::7", "split DNS", "unchanged"] {
        assert!(shown.contains(part), "{part:?} is not in:\n{shown}");
    }
}

#[tokio::test]
async fn a_setup_that_can_not_work_says_what_to_set() {
    let gateway = Gateway::start().await;
    let nameless = gateway.cli(&["dns", "setup", "--address", "100.64.0.7"]).await;
    assert_eq!(nameless.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&nameless.stderr).contains("discovery.wideArea.domain"));
    let multicast = gateway.cli(&["dns", "setup", "--domain", "home.local", "--address", "100.64.0.7"]).await;
    assert_eq!(multicast.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&multicast.stderr).contains("multicast"));
}
