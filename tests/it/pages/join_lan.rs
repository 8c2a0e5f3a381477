//! `deploy/join-a-node.md` and the README's way over the LAN, with machines of their own on one network. The module's name ends in `lan` for those who
//! can't make namespaces.

use super::{answers, serves, waiting};
use crate::support::page::{Desk, Page};
use crate::support::{Lan, eventually};
use serde_json::json;
use std::net::Ipv4Addr;

fn page() -> Page {
    Page::of("deploy/join-a-node.md")
}

/// The first step: the gateway can be reached by others.
async fn open_to_others(home: &Desk) {
    let commands =
        page().part("1. Let others reach").with(&[("A-LONG-SECRET", "a-long-secret-77f0")]).commands();
    assert_eq!(commands.len(), 3, "{commands:?}");
    for line in commands {
        home.ok(&line).await;
    }
}

#[actix_web::test]
async fn a_second_machine_can_be_joined_and_removed_by_the_page() {
    let (_lan, [home, attic]) = Lan::new(["home", "attic"]);
    let (home, attic) = (Desk::on(&home), Desk::on(&attic));
    open_to_others(&home).await;
    let gateway = home.start("tidegate gateway run");
    answers(&home).await;

    let commands = page().part("2. Make a code").commands();
    let [make] = commands.as_slice() else { panic!("{commands:?}") };
    let line = home.ok(make).await.lines().next().unwrap().to_owned();
    let commands = page().part("3. Paste it").commands();
    let [paste, renew, remove] = commands.as_slice() else { panic!("{commands:?}") };
    assert!(line.starts_with(paste.strip_suffix("...").unwrap()), "{line}");
    let mut node = attic.start(&line);
    serves(&home).await;

    node.kill();
    eventually("the node to be gone", async || {
        let list = home.json("tidegate nodes list").await;
        (!list.to_string().contains("\"connected\":true")).then_some(())
    })
    .await;
    // "From now on this is enough."
    let node = attic.start("tidegate node run");
    serves(&home).await;
    drop((node, gateway));

    let old = home.home().join(".tidegate/gateway/tls");
    std::fs::remove_dir_all(old).unwrap();
    let _gateway = home.start("tidegate gateway run");
    answers(&home).await;
    let status = home.json("tidegate gateway status").await;
    let pin = status["tlsFingerprint"].as_str().unwrap();
    let (code, said) = attic.fails("tidegate node run").await;
    assert!(code == 77 && said.contains(pin), "{code} {said}");
    let node = attic.start(&renew.replace("SHA256", pin));
    serves(&home).await;
    drop(node);
    eventually("the node to be gone", async || {
        let list = home.json("tidegate nodes list").await;
        (!list.to_string().contains("\"connected\":true")).then_some(())
    })
    .await;
    let mut node = attic.start("tidegate node run");
    serves(&home).await;

    let devices = home.json("tidegate devices list").await;
    let id = devices["paired"][0]["deviceId"].as_str().unwrap();
    home.ok(&remove.replace("ID", id)).await;
    let status = eventually("the node host to end", async || node.ended()).await;
    assert!(!status.success(), "{}", node.log());
    assert_eq!(home.json("tidegate devices list").await["paired"], json!([]));
}

#[actix_web::test]
async fn a_node_from_the_pages_network_is_paired_and_its_commands_wait() {
    let (_lan, [place, attic]) = Lan::in_network(Ipv4Addr::new(192, 168, 1, 0), ["home", "attic"]);
    let (home, attic) = (Desk::on(&place), Desk::on(&attic));
    open_to_others(&home).await;
    let text = page();
    for (key, value) in [("autoApproveCidrs", "[\"192.168.1.0/24\"]"), ("sshVerify", "false")] {
        if key == "autoApproveCidrs" {
            text.with(&[(&format!("`{key}: {value}`"), "")]);
        }
        home.ok(&format!("tidegate config set gateway.nodes.pairing.{key} '{value}'")).await;
    }
    let _gateway = home.start("tidegate gateway run");
    answers(&home).await;
    let status = home.json("tidegate gateway status").await;
    let pin = status["tlsFingerprint"].as_str().unwrap_or_else(|| panic!("{status}")).to_owned();
    let line = format!(
        "TIDEGATE_GATEWAY_TOKEN=a-long-secret-77f0 tidegate node run --host {} --tls-fingerprint '{pin}'",
        place.address()
    );
    let _node = attic.start(&line);
    let request = waiting(&home, "tidegate nodes pending").await;
    home.ok(&format!("tidegate nodes approve {request}")).await;
    serves(&home).await;
    assert_eq!(home.json("tidegate devices list").await["paired"][0]["approvedVia"], "trusted-cidr");
}

#[actix_web::test]
async fn the_readmes_way_over_the_lan_can_be_followed() {
    let (_lan, [place, laptop, attic]) = Lan::new(["home", "laptop", "attic"]);
    let part = Page::of("README.md").part("Other machines");
    let row = part.line("| the LAN, with TLS |");
    let [bind, tls, set] = row.split('`').skip(1).step_by(2).collect::<Vec<_>>()[..] else { panic!("{row}") };
    let (home, laptop, attic) = (Desk::on(&place), Desk::on(&laptop), Desk::on(&attic));
    for setting in [bind, tls] {
        let (key, value) = setting.split_once(": ").unwrap();
        home.ok(&format!("tidegate config set {key} '{value}'")).await;
    }
    home.ok("tidegate config set gateway.auth.token '\"a-long-secret-77f0\"'").await;
    let gateway = home.start("tidegate gateway run");
    answers(&home).await;
    let status = home.json("tidegate gateway status").await;
    let pin = status["tlsFingerprint"].as_str().unwrap();
    assert!(gateway.log().contains(pin), "{}", gateway.log());
    let at = |line: &str| {
        line.replace("//host:", &format!("//{}:", place.address()))
            .replace("SHA256", pin)
            .replace("TOKEN", "a-long-secret-77f0")
    };
    laptop.ok(&at(set)).await;
    assert_eq!(laptop.fails("tidegate status").await.0, 77);
    let request = waiting(&home, "tidegate devices list").await;
    home.ok(&format!("tidegate devices approve {request}")).await;
    for line in ["tidegate status", "tidegate remote show", "tidegate gateway probe", "tidegate nodes list"] {
        laptop.ok(line).await;
    }
    let shown = home.ok("tidegate audit").await;
    assert!(shown.contains("192.168.77."), "{shown}");

    let code = home.ok(&part.commands()[0]).await;
    let _node = attic.start(code.lines().next().unwrap());
    serves(&home).await;
    laptop.ok("tidegate remote clear").await;
    let all = home.ok("tidegate status --all-profiles").await;
    assert!(all.contains("running"), "{all}");
}
