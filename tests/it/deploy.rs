//! The files in `deploy/`: true for our binary, and as hardened as they say.

use super::support::gateway::TIDEGATE;
use super::support::{Setup, within};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;
use tokio::net::UnixDatagram;

/// The exposure that `systemd-analyze security` may find at most, times ten.
const EXPOSURE: &str = "15";

/// Keys that only a newer systemd knows; older ones say so and go on.
const NEWER: [&str; 2] = ["RestartSteps", "RestartMaxDelaySec"];

#[test]
fn the_units_are_valid() {
    for (name, scope) in [
        ("tidegate.service", "--system"),
        ("tidegate@rescue.service", "--system"),
        ("tidegate-node.service", "--user"),
        ("tidegate-tunnel.service", "--user"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let unit = installed(name, &folder);
        let Some((_, said)) = systemd_analyze(&folder, &["verify", "--man=no", scope], &unit) else { return };
        let complaints: Vec<&str> = said.lines().filter(|line| is_about(line, name)).collect();
        assert_eq!(complaints, Vec::<&str>::new());
    }
}

#[test]
fn the_gateway_unit_is_hardened() {
    let folder = tempfile::tempdir().unwrap();
    let unit = installed("tidegate.service", &folder);
    let threshold = format!("--threshold={EXPOSURE}");
    let args = ["security", "--offline=true", "--no-pager", &threshold];
    let Some((success, said)) = systemd_analyze(&folder, &args, &unit) else { return };
    assert!(success, "{said}");
}

#[test]
fn the_units_start_commands_that_exist() {
    for (name, words) in [
        ("tidegate.service", &["gateway", "run"][..]),
        ("tidegate-node.service", &["node", "run"]),
        ("tidegate-tunnel.service", &["tunnel"]),
    ] {
        let start = start_command(&read(name));
        takes(words, start.split_whitespace().skip(1));
    }
}

/// `tidegate` has this command, with every flag that it is given.
fn takes<'a>(words: &[&str], mut args: impl Iterator<Item = &'a str>) {
    assert_eq!(args.by_ref().take(words.len()).collect::<Vec<_>>(), words);
    let help = Command::new(TIDEGATE).args(words).arg("--help").output().unwrap();
    let help = String::from_utf8_lossy(&help.stdout).into_owned();
    for flag in args.filter(|arg| arg.starts_with("--")) {
        assert!(help.contains(flag), "`tidegate {words:?}` does not take {flag}:\n{help}");
    }
}

#[test]
fn a_profiles_unit_is_the_gateways_own_with_names_of_its_own() {
    let plain = read("tidegate.service");
    let template = read("tidegate@rescue.service");
    let own = template
        .replace(" --profile %i", "")
        .replace("/etc/tidegate/%i.environment", "/etc/tidegate/environment")
        .replace("tidegate-%i", "tidegate");
    let settings = |text: &str| -> Vec<String> {
        let lines = text.lines().filter(|line| !line.starts_with(['#']) && !line.starts_with("Description="));
        lines.map(str::to_owned).collect()
    };
    assert_eq!(settings(&own), settings(&plain));
}

#[test]
fn the_launchd_agent_is_a_property_list_that_starts_a_command_that_exists() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/launchd/tidegate.tunnel.plist");
    let script = "import json,plistlib,sys; print(json.dumps(plistlib.load(open(sys.argv[1],'rb'))))";
    let output = Command::new("python3").args(["-c", script]).arg(path).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let list: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(list["KeepAlive"], serde_json::json!({"SuccessfulExit": false}));
    assert_eq!(list["RunAtLoad"], true);
    let args: Vec<&str> =
        list["ProgramArguments"].as_array().unwrap().iter().map(|arg| arg.as_str().unwrap()).collect();
    let (shell, program) = args.split_at(4);
    takes(&["tunnel"], program.iter().skip(1).copied());
    assert!(!args.iter().any(|arg| arg.contains("/tmp/")), "everybody may write there: {args:?}");
    // Only what may pass is tried again.
    let home = tempfile::tempdir().unwrap();
    fs::create_dir_all(home.path().join("Library/Logs")).unwrap();
    for (code, seen) in [(0, 0), (1, 1), (69, 69), (2, 0), (77, 0), (78, 0)] {
        let ends = ["/bin/sh", "-c", &format!("echo trouble >&2; exit {code}")].map(str::to_owned);
        let mut command = Command::new(shell[0]);
        let status = command.args(&shell[1..]).args(ends).env("HOME", home.path()).status().unwrap();
        assert_eq!(status.code(), Some(seen), "{code}");
    }
    let log = fs::read_to_string(home.path().join("Library/Logs/tidegate.tunnel.log")).unwrap();
    assert_eq!(log, "trouble\n".repeat(6));
}

#[test]
fn services_of_a_user_give_up_where_trying_again_changes_nothing() {
    for name in ["tidegate-node.service", "tidegate-tunnel.service"] {
        let unit = read(name);
        assert!(unit.lines().any(|line| line == "RestartPreventExitStatus=2 77 78"), "{name}");
    }
    let node = read("tidegate-node.service");
    let limit =
        |key: &str| node.lines().find_map(|line| line.strip_prefix(key)).unwrap().parse::<u32>().unwrap();
    assert!(limit("StartLimitBurst=") * pause(&node) < limit("StartLimitIntervalSec="));
}

/// Seconds between two starts.
fn pause(unit: &str) -> u32 {
    unit.lines().find_map(|line| line.strip_prefix("RestartSec=")).unwrap().parse().unwrap()
}

/// `Type=notify` and `WatchdogSec` are only true if the gateway speaks to the service manager.
#[tokio::test]
async fn the_service_manager_hears_ready_then_the_watchdog_then_stopping() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    for tls in [false, true] {
        let setup = Setup::new().env("NOTIFY_SOCKET", path.to_str().unwrap()).env("WATCHDOG_USEC", "1000000");
        let config = serde_json::json!({"gateway": {"mode": "local", "tls": {"enabled": tls}}});
        let mut gateway = setup.config(config).start().await;
        hear("READY=1", &manager).await;
        hear("WATCHDOG=1", &manager).await;
        hear("WATCHDOG=1", &manager).await;
        gateway.terminate();
        hear("STOPPING=1", &manager).await;
        assert_eq!(gateway.ended().await.code(), Some(0));
    }
}

/// Waits for a datagram that says `word`, whatever comes before it.
async fn hear(word: &str, manager: &UnixDatagram) {
    within(word, async {
        let mut buffer = [0; 1024];
        loop {
            let size = manager.recv(&mut buffer).await.unwrap();
            if String::from_utf8_lossy(&buffer[..size]).lines().any(|line| line == word) {
                return;
            }
        }
    })
    .await;
}

/// The unit as an administrator would install it, but starting the binary under test.
fn installed(name: &str, folder: &TempDir) -> PathBuf {
    let text = read(name);
    let start = start_command(&text);
    let program = start.split_whitespace().next().unwrap();
    let path = folder.path().join(name);
    fs::write(&path, text.replace(program, TIDEGATE)).unwrap();
    path
}

fn read(name: &str) -> String {
    // A template stands for each of its instances.
    let name = name.replace("@rescue", "@");
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/systemd").join(name)).unwrap()
}

fn start_command(unit: &str) -> String {
    unit.lines().find_map(|line| line.strip_prefix("ExecStart=")).unwrap().to_owned()
}

fn is_about(line: &str, unit: &str) -> bool {
    line.contains(unit) && !NEWER.iter().any(|key| line.contains(key))
}

/// None where there is no systemd, which is where nobody will use these files.
fn systemd_analyze(home: &TempDir, args: &[&str], unit: &Path) -> Option<(bool, String)> {
    let mut command = Command::new("systemd-analyze");
    command.args(args).arg(unit).env("XDG_RUNTIME_DIR", home.path()).env("HOME", home.path());
    let output = match command.output() {
        Ok(output) => output,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            eprintln!("no systemd-analyze on this machine, nothing to check the units with");
            return None;
        }
        Err(error) => panic!("{error}"),
    };
    let text = [output.stdout, output.stderr].concat();
    Some((output.status.success(), String::from_utf8_lossy(&text).into_owned()))
}
