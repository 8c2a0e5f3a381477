//! A gateway with TLS: what it shows, who accepts it, and what happens when its files change.

use crate::support::gateway::{TIDEGATE, clean_environment, config_with};
use crate::support::official::{NodeHost, Official};
use crate::support::{Gateway, Setup, eventually, http, tls, within};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use serde_json::{Value, json};
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, SystemTime};
use tidegate::client::{Client, ClientError, ConnectOptions, Credentials, Endpoint, Pin};
use tidegate_protocol::Scope;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

fn with_tls(tls: Value) -> Setup {
    let mut config = config_with(json!({"gateway": {"tls": {"enabled": true}}}));
    crate::support::gateway::merge(&mut config["gateway"]["tls"], tls);
    Setup::new().config(config)
}

async fn started() -> Gateway {
    with_tls(json!({})).start().await
}

fn certificate(gateway: &Gateway) -> std::path::PathBuf {
    gateway.state().join("gateway/tls/gateway-cert.pem")
}

fn key(gateway: &Gateway) -> std::path::PathBuf {
    gateway.state().join("gateway/tls/gateway-key.pem")
}

fn operator(gateway: &Gateway, pin: Option<&str>) -> ConnectOptions {
    let endpoint = Endpoint::plain("127.0.0.1", gateway.port).secured(pin.and_then(Pin::parse));
    let auth = Credentials { token: Some(gateway.token()), ..Credentials::default() };
    ConnectOptions::operator(endpoint, auth, [Scope::Read])
}

async fn shown(gateway: &Gateway) -> String {
    tls::shown(gateway.port).await.unwrap().pin()
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// A pair that is good for so many days.
fn write_pair(certificate: &Path, key: &Path, days: u64) {
    let own = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    params.not_after = (SystemTime::now() + Duration::from_secs(days * 24 * 3600)).into();
    fs::create_dir_all(certificate.parent().unwrap()).unwrap();
    fs::write(certificate, params.self_signed(&own).unwrap().pem()).unwrap();
    fs::write(key, own.serialize_pem()).unwrap();
}

#[actix_web::test]
async fn the_certificate_of_the_first_start_stays_and_is_told_to_the_owner() {
    let gateway = started().await;
    let pin = shown(&gateway).await;
    eventually("the fingerprint on the console", async || gateway.console().contains(&pin).then_some(()))
        .await;
    assert!(gateway.console().contains(&format!("wss://127.0.0.1:{}", gateway.port)));
    for file in [certificate(&gateway), key(&gateway)] {
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600, "{}", file.display());
    }
    let status = gateway.cli_json(&["gateway", "status", "--json"]).await;
    assert_eq!(status["tlsFingerprint"], pin.as_str());
    assert_eq!(status["probe"]["ok"], true, "{status}");
    assert!(text(&gateway.cli(&["gateway", "status"]).await).contains(&pin));
    let gateway = gateway.restart().await;
    assert_eq!(shown(&gateway).await, pin);
}

#[actix_web::test]
async fn commands_on_the_same_machine_just_work() {
    let gateway = started().await;
    for command in [&["health"][..], &["status", "--deep"], &["nodes", "list"], &["gateway", "probe"]] {
        let output = gateway.cli(command).await;
        assert!(output.status.success(), "{command:?}: {}", text(&output));
    }
}

#[actix_web::test]
async fn a_client_accepts_the_pinned_certificate_and_no_other() {
    let gateway = started().await;
    let pin = shown(&gateway).await;
    let (client, _) = Client::connect(&operator(&gateway, Some(&pin))).await.unwrap();
    client.call::<Value>("health", &json!({})).await.unwrap();
    let other = format!("sha256:{}", "ab".repeat(32));
    match Client::connect(&operator(&gateway, Some(&other))).await.map(|_| ()) {
        Err(ClientError::WrongPin { expected, found, .. }) => {
            assert_eq!((expected, found), (other.clone(), pin.clone()))
        }
        unexpected => panic!("{unexpected:?}"),
    }
    match Client::connect(&operator(&gateway, None)).await.map(|_| ()) {
        Err(ClientError::NoPin { found, .. }) => assert_eq!(found, pin),
        unexpected => panic!("{unexpected:?}"),
    }
    let url = format!("wss://127.0.0.1:{}", gateway.port);
    let token = gateway.token();
    let with = async |pin: &str| {
        gateway.cli(&["health", "--url", &url, "--token", &token, "--tls-fingerprint", pin]).await
    };
    assert!(with(&pin).await.status.success());
    // The spelling of openssl.
    let hex = pin.trim_start_matches("sha256:").to_uppercase();
    let pairs: Vec<&str> = (0..32).map(|at| &hex[2 * at..2 * at + 2]).collect();
    assert!(with(&pairs.join(":")).await.status.success());
    let refused = with(&other).await;
    assert_eq!(refused.status.code(), Some(77));
    assert!(text(&refused).contains(&other) && text(&refused).contains(&pin), "{}", text(&refused));
}

#[actix_web::test]
async fn a_remote_gateways_pin_comes_from_the_config() {
    let gateway = started().await;
    let pin = shown(&gateway).await;
    let laptop = tempfile::tempdir().unwrap();
    let health = async |pin: &str| {
        let remote = json!({"url": format!("wss://127.0.0.1:{}", gateway.port), "token": gateway.token(), "tlsFingerprint": pin});
        let config = json!({"gateway": {"mode": "remote", "remote": remote}});
        fs::write(laptop.path().join("tidegate.json"), config.to_string()).unwrap();
        let mut command = Command::new(TIDEGATE);
        clean_environment(&mut command, laptop.path());
        command.args(["health", "--state-dir"]).arg(laptop.path());
        tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
    };
    let output = health(&pin).await;
    assert!(output.status.success(), "{}", text(&output));
    let other = "cd".repeat(32);
    let refused = health(&other).await;
    assert!(text(&refused).contains(&other) && text(&refused).contains(&pin), "{}", text(&refused));
}

/// `tidegate node run` against this gateway with a fingerprint.
fn node(gateway: &Gateway, home: &Path, options: &[&str]) -> NodeHost {
    let path = home.join("node-host.log");
    let log = File::options().create(true).append(true).open(&path).unwrap();
    let mut command = Command::new(TIDEGATE);
    command.args(["node", "run", "--port", &gateway.port.to_string()]).args(options);
    clean_environment(&mut command, home);
    command.env("TIDEGATE_STATE_DIR", home.join("state")).env("TIDEGATE_GATEWAY_TOKEN", gateway.token());
    command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).process_group(0);
    NodeHost::spawned(command.spawn().unwrap(), path)
}

async fn connections(node: &NodeHost, number: usize) {
    let what = format!("connection {number} of the node host");
    let connected = || node.log().lines().filter(|line| line.contains("connected gateway=")).count();
    eventually(&what, async || (connected() >= number).then_some(())).await;
}

#[actix_web::test]
async fn a_pinned_node_host_comes_back_after_a_restart_and_stops_at_another_certificate() {
    let mut gateway = started().await;
    let pin = shown(&gateway).await;
    let home = tempfile::tempdir().unwrap();
    let mut host = node(&gateway, home.path(), &["--tls-fingerprint", &pin]);
    connections(&host, 1).await;
    gateway = gateway.restart().await;
    connections(&host, 2).await;

    gateway.kill();
    write_pair(&certificate(&gateway), &key(&gateway), 1000);
    let gateway = gateway.restart().await;
    let other = shown(&gateway).await;
    let status = eventually("the node host to stop", async || host.ended()).await;
    assert!(!status.success());
    assert!(host.log().contains(&pin) && host.log().contains(&other), "{}", host.log());
}

#[actix_web::test]
async fn a_node_host_of_the_same_state_follows_its_own_gateways_certificate() {
    let gateway = started().await;
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("node-host.log");
    let log = File::create(&path).unwrap();
    let mut command = gateway.command(&["node", "run"]);
    command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).process_group(0);
    let host = NodeHost::spawned(command.spawn().unwrap(), path);
    connections(&host, 1).await;
    let mut gateway = gateway;
    gateway.kill();
    write_pair(&certificate(&gateway), &key(&gateway), 1000);
    let _gateway = gateway.restart().await;
    connections(&host, 2).await;
}

#[actix_web::test]
async fn changed_files_are_taken_up_without_a_restart_and_broken_ones_are_not() {
    let gateway = started().await;
    let first = shown(&gateway).await;
    let (client, _events) = Client::connect(&operator(&gateway, Some(&first))).await.unwrap();
    write_pair(&certificate(&gateway), &key(&gateway), 1000);
    let second =
        eventually("the new certificate", async || Some(shown(&gateway).await).filter(|pin| *pin != first))
            .await;
    client.call::<Value>("health", &json!({})).await.expect("who is connected stays connected");

    fs::write(certificate(&gateway), "not a certificate").unwrap();
    eventually("a word about the broken file", async || {
        gateway.log().contains("refused, the last good").then_some(())
    })
    .await;
    assert_eq!(shown(&gateway).await, second);
    write_pair(&certificate(&gateway), &key(&gateway), 1000);
    eventually("the repaired certificate", async || Some(shown(&gateway).await).filter(|pin| *pin != second))
        .await;
}

#[actix_web::test]
async fn a_certificate_of_ours_that_is_about_to_end_is_renewed() {
    let mut gateway = started().await;
    gateway.kill();
    write_pair(&certificate(&gateway), &key(&gateway), 10);
    let ending = fs::read(certificate(&gateway)).unwrap();
    let gateway = gateway.restart().await;
    assert_ne!(fs::read(certificate(&gateway)).unwrap(), ending);
    assert!(gateway.cli(&["health"]).await.status.success());
}

#[actix_web::test]
async fn a_first_start_that_was_killed_between_key_and_certificate_is_no_trouble() {
    let gateway = started().await;
    fs::remove_file(certificate(&gateway)).unwrap();
    let gateway = gateway.restart().await;
    assert!(gateway.cli(&["health"]).await.status.success());
}

#[actix_web::test]
async fn configured_files_are_used_as_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name).display().to_string();
    write_pair(Path::new(&file("c.pem")), Path::new(&file("k.pem")), 10);
    let paths = json!({"certPath": file("c.pem"), "keyPath": file("k.pem")});
    let gateway = with_tls(paths.clone()).start().await;
    assert!(gateway.cli(&["health"]).await.status.success());
    assert!(!certificate(&gateway).exists());

    fs::remove_file(file("k.pem")).unwrap();
    let exit = with_tls(paths.clone()).refuse().await;
    assert_eq!(exit.code(), Some(78), "{}", exit.stderr);
    assert!(exit.stderr.contains("k.pem"), "{}", exit.stderr);

    fs::remove_file(file("c.pem")).unwrap();
    let made = with_tls(paths.clone()).start().await;
    eventually("a warning", async || made.console().contains("autoGenerate: false").then_some(())).await;
    assert!(Path::new(&file("c.pem")).exists() && made.cli(&["health"]).await.status.success());
    drop(made);
    for name in ["c.pem", "k.pem"] {
        fs::remove_file(file(name)).unwrap();
    }
    let mut nothing_made = paths;
    nothing_made["autoGenerate"] = json!(false);
    let exit = with_tls(nothing_made).refuse().await;
    assert_eq!(exit.code(), Some(78), "{}", exit.stderr);
    assert!(exit.stderr.contains("gateway.tls.certPath"), "{}", exit.stderr);
}

#[actix_web::test]
async fn a_client_without_a_pin_trusts_the_authorities_of_its_machine() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name).display().to_string();
    let authority = |name: &str| {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        (params, KeyPair::generate().unwrap())
    };
    let (root, root_key) = authority("root");
    let root_pem = root.self_signed(&root_key).unwrap().pem();
    let root = Issuer::new(root, root_key);
    let (middle, middle_key) = authority("middle");
    let middle_pem = middle.signed_by(&middle_key, &root).unwrap().pem();
    let middle = Issuer::new(middle, middle_key);
    let own = KeyPair::generate().unwrap();
    let leaf =
        CertificateParams::new(vec!["localhost".to_owned()]).unwrap().signed_by(&own, &middle).unwrap();
    fs::write(file("leaf.pem"), leaf.pem()).unwrap();
    fs::write(file("key.pem"), own.serialize_pem()).unwrap();
    fs::write(file("bundle.pem"), format!("{root_pem}{middle_pem}")).unwrap();
    fs::write(file("root.pem"), root_pem).unwrap();

    let paths =
        json!({"certPath": file("leaf.pem"), "keyPath": file("key.pem"), "caPath": file("bundle.pem")});
    let gateway = with_tls(paths).start().await;
    assert_eq!(tls::shown(gateway.port).await.unwrap().chain.len(), 2, "the root stays at home");
    let url = format!("wss://localhost:{}", gateway.port);
    let health = async |roots: &str| {
        let mut command = gateway.command(&["health", "--url", &url, "--token", &gateway.token()]);
        command.env("SSL_CERT_FILE", roots);
        tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
    };
    let output = health(&file("root.pem")).await;
    assert!(output.status.success(), "{}", text(&output));
    let output = health("/nonexistent").await;
    assert!(!output.status.success(), "{}", text(&output));
}

#[actix_web::test]
async fn tls_1_2_and_1_3_are_spoken_and_nothing_older() {
    let gateway = started().await;
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let stream = TcpStream::connect(("127.0.0.1", gateway.port)).await.unwrap();
        let mut shown = tls::over(stream, &[version]).await.unwrap();
        assert_eq!(shown.stream.get_ref().1.protocol_version(), Some(version.version));
        let request = "GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        shown.stream.write_all(request.as_bytes()).await.unwrap();
        assert_eq!(http::exchange(shown.stream, b"").await.status, 200);
    }
    for minor in [1, 2] {
        let answer = answer_to(&gateway, &client_hello(minor)).await;
        assert!(answer.is_empty() || answer[0] == ALERT, "TLS 1.{}: {answer:?}", minor - 1);
    }
}

const ALERT: u8 = 21;

/// A hello of TLS 1.`minor - 1` that offers AES with RSA, and no extension.
fn client_hello(minor: u8) -> Vec<u8> {
    let mut hello = vec![3, minor];
    hello.extend([7; 32]);
    hello.extend([0, 0, 4, 0, 0x2f, 0, 0x35, 1, 0]);
    let mut message = vec![1, 0, 0, u8::try_from(hello.len()).unwrap()];
    message.extend(hello);
    let mut record = vec![22, 3, 1, 0, u8::try_from(message.len()).unwrap()];
    record.extend(message);
    record
}

/// What comes until the gateway closes.
async fn answer_to(gateway: &Gateway, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(("127.0.0.1", gateway.port)).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    let _ = within("the end of the connection", stream.read_to_end(&mut answer)).await;
    answer
}

#[actix_web::test]
async fn plain_http_is_not_served_where_tls_is() {
    let gateway = started().await;
    for request in [
        "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "\n\n\n\n\n\n",
    ] {
        let answer = answer_to(&gateway, request.as_bytes()).await;
        assert!(!String::from_utf8_lossy(&answer).contains("HTTP"), "{answer:?}");
    }
    let url = format!("ws://127.0.0.1:{}", gateway.port);
    let output = gateway.cli(&["health", "--url", &url, "--token", &gateway.token()]).await;
    assert_eq!(output.status.code(), Some(69), "{}", text(&output));
    assert!(text(&output).contains("wss://"), "{}", text(&output));
}

#[actix_web::test]
async fn a_peer_that_ignores_the_close_frame_is_ended_under_tls_too() {
    let gateway = started().await;
    let mut shown = tls::shown(gateway.port).await.unwrap();
    let upgrade = format!(
        "GET / HTTP/1.1\r\nHost: localhost:{}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        gateway.port
    );
    // A masked text frame that is no request.
    let frame = [0x81, 0x82, 0, 0, 0, 0, b'h', b'i'];
    shown.stream.write_all(upgrade.as_bytes()).await.unwrap();
    shown.stream.write_all(&frame).await.unwrap();
    let mut answer = Vec::new();
    let _ = within("the end", shown.stream.read_to_end(&mut answer)).await;
    assert!(String::from_utf8_lossy(&answer).starts_with("HTTP/1.1 101"), "{answer:?}");
}

#[actix_web::test]
async fn half_a_handshake_ends_and_keeps_nobody_out() {
    let gateway = started().await;
    let half = &client_hello(3)[..20];
    let mut silent = Vec::new();
    for _ in 0..300 {
        let mut stream = TcpStream::connect(("127.0.0.1", gateway.port)).await.unwrap();
        stream.write_all(half).await.unwrap();
        silent.push(stream);
    }
    assert!(gateway.cli(&["health"]).await.status.success());
    for stream in &mut silent {
        let mut answer = Vec::new();
        let _ = within("the end of half a handshake", stream.read_to_end(&mut answer)).await;
    }
}

#[actix_web::test]
async fn the_official_clients_accept_the_same_pin() {
    let gateway = started().await;
    let pin = shown(&gateway).await;
    let official = Official::with_certificate(&gateway, &certificate(&gateway));
    assert_eq!(official.json(&["health", "--json"]).await["ok"], true);
    let hex = pin.trim_start_matches("sha256:");
    let _host = official.node_host_with("garage", &["--tls", "--tls-fingerprint", hex]);
    eventually("the official node", async || {
        let nodes = gateway.cli_json(&["nodes", "status", "--json"]).await;
        let nodes = nodes["nodes"].as_array()?.clone();
        nodes.iter().any(|node| node["displayName"] == "garage" && node["connected"] == true).then_some(())
    })
    .await;
}

#[actix_web::test]
async fn a_stopping_gateway_says_goodbye_under_tls_too() {
    let mut gateway = started().await;
    let pin = shown(&gateway).await;
    let (client, _events) = Client::connect(&operator(&gateway, Some(&pin))).await.unwrap();
    gateway.terminate();
    let ended = within("the end", client.ended()).await;
    assert_eq!((ended.code, ended.reason.as_str()), (1012, "service restart"));
    assert!(gateway.ended().await.success());
}
