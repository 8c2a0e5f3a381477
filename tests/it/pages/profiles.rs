//! `deploy/README.md`: the system service and one more beside it. No service manager runs where tests do: what the
//! units say is started as they say it, in a folder that stands for the whole system.

use crate::support::eventually;
use crate::support::gateway::TIDEGATE;
use crate::support::official::NodeHost;
use crate::support::page::{Desk, Page};
use crate::support::ports::free_port;
use std::fs;
use std::path::Path;

/// Starts what an installed unit starts, for this instance of it.
fn serve(desk: &Desk, unit: &str, instance: &str) -> NodeHost {
    let root = desk.home();
    let text =
        fs::read_to_string(root.join("etc/systemd/system").join(unit)).unwrap().replace("%i", instance);
    let value = |key: &str| {
        let found = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        found.unwrap_or_else(|| panic!("no {key} in {unit}")).to_owned()
    };
    let files = value("EnvironmentFile");
    let file = root.join(files.trim_start_matches(['-', '/']));
    assert!(file.exists(), "the page made {}", file.display());
    let state = root.join("var/lib");
    fs::create_dir_all(state.join(value("StateDirectory"))).unwrap();
    let environment = value("Environment").replace("%S", &state.display().to_string());
    let start = value("ExecStart").replace("/usr/", &format!("{}/usr/", root.display()));
    desk.start(&format!("set -a; . {}; set +a; {environment} {start}", file.display()))
}

#[actix_web::test]
async fn a_gateway_and_a_second_one_beside_it_can_be_set_up_by_the_page() {
    let desk = Desk::new();
    let root = desk.home().display().to_string();
    for folder in ["usr/local/bin", "etc/systemd/system", "var/lib"] {
        fs::create_dir_all(desk.home().join(folder)).unwrap();
    }
    desk.has("sudo", "exec \"$@\"");
    desk.has("systemctl", &format!("echo \"$@\" >> {root}/asked"));
    let project = Path::new(env!("CARGO_MANIFEST_DIR")).display().to_string();
    let page = Page::of("deploy/README.md");
    let here = |part: &str, more: &[(&str, &str)]| {
        let (etc, lib) = (format!("{root}/etc/"), format!("{root}/var/lib/"));
        let page = page.part(part).with(more);
        let page = page.with(&[(" deploy/", &format!(" {project}/deploy/")), (" /etc/", &format!(" {etc}"))]);
        page.with(&[("=/var/lib/", &format!("={lib}"))]).commands()
    };
    let binary = [("target/release/tidegate", TIDEGATE), (" /usr/", &format!(" {root}/usr/"))];
    let (first, second) = (here("The gateway, as a system", &binary), here("One more gateway", &[]));

    let mut running = Vec::new();
    for (commands, unit, instance, state) in [
        (&first, "tidegate.service", "", "tidegate"),
        (&second, "tidegate@.service", "rescue", "tidegate-rescue"),
    ] {
        for line in commands {
            if line.contains("journalctl") {
                continue;
            }
            if line.contains("enable --now") {
                desk.ok(line).await;
                // The page's own way to give each a port; the first has one of its own here, too.
                let folder = desk.home().join("var/lib").join(state);
                fs::create_dir_all(&folder).unwrap();
                let config = format!("{{gateway: {{port: {}}}}}", free_port());
                fs::write(folder.join("tidegate.json"), config).unwrap();
                running.push(serve(&desk, unit, instance));
                continue;
            }
            if line.contains("tidegate status") {
                eventually(line, async || desk.run(line).await.status.success().then_some(())).await;
                continue;
            }
            desk.ok(line).await;
        }
    }
    let asked = fs::read_to_string(desk.home().join("asked")).unwrap();
    let expected = "daemon-reload\nenable --now tidegate\ndaemon-reload\nenable --now tidegate@rescue\n";
    assert_eq!(asked, expected);
    let all = second.last().unwrap();
    let found = eventually("both to run", async || {
        let all = desk.json(all).await;
        let running = all["profiles"].as_array()?.iter().filter(|one| one["version"].is_string()).count();
        (running == 2).then_some(all)
    })
    .await;
    let services: Vec<_> = found["profiles"].as_array().unwrap().iter().map(|one| &one["service"]).collect();
    assert_eq!(services, ["tidegate", "tidegate@rescue"]);
    assert_eq!(running.len(), 2);
}
