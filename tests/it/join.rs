//! Joining with one paste: setup codes, join addresses, and what they leave behind.

use crate::support::gateway::config_with;
use crate::support::http::get;
use crate::support::schema::assert_valid as valid;
use crate::support::{Connect, Gateway, Identity, Newcomer, Outcome, Setup, Socket, eventually};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

/// A gateway on loopback that says that others reach it there, as behind a tunnel.
async fn reachable() -> Gateway {
    let gateway = Gateway::start().await;
    let url = format!("ws://127.0.0.1:{}", gateway.port);
    published(gateway, &url).await
}

/// The gateway with this as its public address.
async fn published(gateway: Gateway, url: &str) -> Gateway {
    let entries = json!({"device-pair": {"config": {"publicUrl": url}}});
    gateway.write_config(&config_with(json!({"plugins": {"entries": entries}})));
    gateway.restart().await
}

async fn mint(operator: &mut Socket, params: Value) -> Value {
    let made = operator.ok("device.pair.setupCode", params).await;
    valid("DevicePairSetupCodeResult", &made);
    made
}

fn decoded(made: &Value) -> Value {
    let code = made["setupCode"].as_str().unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(code).unwrap()).unwrap()
}

fn joining<'a>(token: &'a Value, identity: &'a Identity) -> Connect<'a> {
    Connect::node(&["system.run", "system.which"])
        .auth("bootstrapToken", token.as_str().unwrap())
        .device(identity)
}

/// The id of the approved node that is connected now, once there is one.
async fn joined(operator: &mut Socket) -> String {
    eventually("a node to be connected and approved", async || {
        let list = operator.ok("node.list", json!({})).await;
        let nodes = list["nodes"].as_array().unwrap();
        let node =
            nodes.iter().find(|node| node["connected"] == true && node["approvalState"] == "approved")?;
        Some(node["nodeId"].as_str().unwrap().to_owned())
    })
    .await
}

/// The line to paste, from the command line of the gateway's host.
async fn pasted(gateway: &Gateway, more: &[&str]) -> String {
    let output = gateway.cli(&[&["devices", "join-code"], more].concat()).await;
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    let line = text.lines().next().unwrap();
    line.strip_prefix("tidegate node run --pair ").unwrap_or_else(|| panic!("{text}")).to_owned()
}

#[tokio::test]
async fn a_node_joins_with_one_paste_and_needs_no_code_afterwards() {
    let gateway = reachable().await;
    let mut operator = gateway.operator().await;
    let code = pasted(&gateway, &[]).await;
    let mut newcomer = Newcomer::new();
    newcomer.start(newcomer.tidegate(&["node", "run", "--display-name", "attic", "--pair", &code]));
    let id = joined(&mut operator).await;
    let device = operator.ok("device.pair.list", json!({})).await["paired"][0].clone();
    assert_eq!((&device["deviceId"], &device["approvedVia"]), (&json!(id), &json!("bootstrap")));
    let params = json!({"nodeId": id, "command": "system.run", "params": {"command": ["echo", "in"]},
        "idempotencyKey": "k1"});
    assert_eq!(operator.ok("node.invoke", params).await["payload"]["stdout"], "in\n");
    // The same line again, as a service would, and then nothing at all.
    for args in [&["node", "run", "--pair", &code][..], &["node", "run"]] {
        newcomer.start(newcomer.tidegate(args));
        assert_eq!(joined(&mut operator).await, id, "{args:?}");
        newcomer.stop();
        eventually("the node to be gone", async || {
            let list = operator.ok("node.list", json!({})).await;
            (list["nodes"][0]["connected"] == false).then_some(())
        })
        .await;
    }
    let token =
        decoded(&json!({"setupCode": code.strip_prefix("oc-pair://").unwrap()}))["bootstrapToken"].clone();
    for text in [newcomer.log(), gateway.log(), gateway.console()] {
        assert!(!text.contains(token.as_str().unwrap()), "the token is in a log: {text}");
    }
}

#[tokio::test]
async fn the_official_node_host_joins_with_the_same_code_unmodified() {
    let gateway = reachable().await;
    let mut operator = gateway.operator().await;
    let code = pasted(&gateway, &["--no-qr"]).await;
    let mut newcomer = Newcomer::new();
    newcomer.start(newcomer.openclaw(&["node", "run", "--pair", &code]));
    let id = joined(&mut operator).await;
    let which =
        json!({"nodeId": id, "command": "system.which", "params": {"bins": ["sh"]}, "idempotencyKey": "k1"});
    operator.ok("node.invoke", which).await;
    newcomer.stop_kindly().await;
    eventually("the node to be gone", async || {
        let list = operator.ok("node.list", json!({})).await;
        (list["nodes"][0]["connected"] == false).then_some(())
    })
    .await;
    newcomer.start(newcomer.openclaw(&["node", "run"]));
    assert_eq!(joined(&mut operator).await, id, "with the token of the device, at the remembered gateway");
}

#[tokio::test]
async fn the_official_command_line_makes_a_join_address_and_the_official_client_takes_it() {
    let gateway = reachable().await;
    let mut operator = gateway.operator().await;
    let official = crate::support::official::Official::of(&gateway);
    let made = official.json(&["devices", "join-code", "--json"]).await;
    let url = made["joinUrl"].as_str().unwrap();
    let mut newcomer = Newcomer::new();
    newcomer.start(newcomer.openclaw(&["connect", url]));
    joined(&mut operator).await;
}

#[tokio::test]
async fn a_join_address_gives_its_code_out_once_and_ours_takes_it_too() {
    let gateway = reachable().await;
    let mut operator = gateway.operator().await;
    let url = pasted(&gateway, &["--join-url"]).await;
    let path = url.strip_prefix(&format!("http://127.0.0.1:{}", gateway.port)).unwrap().to_owned();
    assert_eq!(path.len(), "/j/".len() + 22, "{path}");
    let mut newcomer = Newcomer::new();
    newcomer.start(newcomer.tidegate(&["node", "run", "--pair", &url]));
    joined(&mut operator).await;
    let late = Newcomer::new();
    let output = late.run(late.tidegate(&["node", "run", "--pair", &url])).await;
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(words.contains("used already") && words.contains("tidegate devices join-code"), "{words}");
    assert!(!output.status.success());
}

#[tokio::test]
async fn the_answer_at_a_join_address_is_the_code_for_the_first_and_404_for_all_others() {
    let gateway = reachable().await;
    let mut operator = gateway.operator().await;
    let made =
        mint(&mut operator, json!({"bootstrapProfile": "node", "includeQr": false, "joinUrl": true})).await;
    let path = &made["joinUrl"].as_str().unwrap()[format!("http://127.0.0.1:{}", gateway.port).len()..];
    for wrong in ["/j/0123456789012345678901", "/j/x", &format!("{path}?x=1"), &format!("{path}x")] {
        let answer = get(gateway.port, wrong).await;
        assert_eq!((answer.status, answer.body.as_str()), (404, r#"{"error":"not_found"}"#), "{wrong}");
        assert!(answer.head.contains("cache-control: no-store"), "{wrong}: {answer:?}");
    }
    let answer = get(gateway.port, path).await;
    assert_eq!(answer.status, 200);
    assert!(answer.head.contains("cache-control: no-store"), "{answer:?}");
    assert!(answer.head.contains("content-type: application/json; charset=utf-8"), "{answer:?}");
    let payload = answer.json();
    assert_eq!(payload, decoded(&made));
    assert_eq!(get(gateway.port, path).await.status, 404);
    let identity = Identity::new();
    joining(&payload["bootstrapToken"], &identity).to(gateway.port).await.session();
}

#[tokio::test]
async fn whoever_guesses_join_addresses_is_slowed_and_strangers_are_shut_out() {
    let config = config_with(json!({
        "gateway": {"auth": {"rateLimit": {"exemptLoopback": false, "maxAttempts": 4}}},
    }));
    let gateway = Setup::new().config(config).start().await;
    for _ in 0..4 {
        assert_eq!(get(gateway.port, "/j/0123456789012345678901").await.status, 404);
    }
    let answer = get(gateway.port, "/j/0123456789012345678901").await;
    assert_eq!((answer.status, answer.body.as_str()), (429, r#"{"error":"rate_limited"}"#));
    assert!(answer.head.contains("retry-after: "), "{answer:?}");
    gateway.operator().await;
}

#[tokio::test]
async fn operators_hear_of_the_device_its_surface_and_the_code() {
    let gateway = reachable().await;
    let mut operator = gateway.operator().await;
    let made = mint(&mut operator, json!({"bootstrapProfile": "node"})).await;
    let status = json!({"setupId": made["setupId"]});
    assert_eq!(operator.ok("device.pair.setupStatus", status.clone()).await, json!({}));
    let identity = Identity::new();
    let (hello, _node) = joining(&decoded(&made)["bootstrapToken"], &identity).to(gateway.port).await.hello();
    assert_eq!(hello["auth"]["method"], "bootstrap-token");
    assert_eq!(hello["auth"]["deviceToken"].as_str().unwrap().len(), 43);
    let resolved = operator.event("device.pair.resolved").await;
    assert_eq!((&resolved["deviceId"], &resolved["decision"]), (&json!(identity.id()), &json!("approved")));
    assert_eq!(operator.event("node.pair.resolved").await["decision"], "approved");
    let completed = operator.event("device.pair.setup.completed").await;
    valid("DevicePairSetupCompletedEvent", &completed);
    assert_eq!((&completed["setupId"], &completed["access"]), (&made["setupId"], &json!("node")));
    let status = operator.ok("device.pair.setupStatus", status).await;
    valid("DevicePairSetupStatusResult", &status);
    assert_eq!(status["completion"]["deviceId"], identity.id());
}

#[tokio::test]
async fn a_code_lets_one_device_in_once_and_a_second_surface_waits() {
    let gateway = reachable().await;
    let mut operator = gateway.operator().await;
    let made = mint(&mut operator, json!({"bootstrapProfile": "node"})).await;
    let token = decoded(&made)["bootstrapToken"].clone();
    let (first, second) = (Identity::new(), Identity::new());
    let (hello, node) = joining(&token, &first).to(gateway.port).await.hello();
    joined(&mut operator).await;
    for identity in [&first, &second] {
        let refused = joining(&token, identity).to(gateway.port).await.refusal();
        assert_eq!((refused.detail(), refused.code), ("AUTH_BOOTSTRAP_TOKEN_INVALID", 1008));
    }
    node.close().await;
    // What it offers later is a wish like any other.
    let device_token = hello["auth"]["deviceToken"].as_str().unwrap();
    let wider = Connect::node(&["system.run", "system.which", "fs.listDir"]);
    let _node = wider.auth("deviceToken", device_token).device(&first).to(gateway.port).await.session();
    let waiting = operator.event("node.pair.requested").await;
    assert_eq!(waiting["nodeId"], first.id());
    // A restart forgets nothing of this.
    let gateway = gateway.restart().await;
    let refused = joining(&token, &second).to(gateway.port).await.refusal();
    assert_eq!(refused.detail(), "AUTH_BOOTSTRAP_TOKEN_INVALID");
}

#[tokio::test]
async fn a_code_is_bound_to_its_role() {
    let gateway = reachable().await;
    let mut operator = gateway.operator().await;
    let made = mint(&mut operator, json!({"bootstrapProfile": "node"})).await;
    let token = decoded(&made)["bootstrapToken"].as_str().unwrap().to_owned();
    let identity = Identity::new();
    let as_operator = Connect::cli().auth("bootstrapToken", &token).device(&identity).to(gateway.port).await;
    assert_eq!(as_operator.refusal().detail(), "AUTH_BOOTSTRAP_TOKEN_INVALID");
    let greedy = joining(&json!(token), &identity).scopes(&["operator.admin"]).to(gateway.port).await;
    assert_eq!(greedy.refusal().detail(), "AUTH_BOOTSTRAP_TOKEN_INVALID");
    assert!(matches!(joining(&json!(token), &identity).to(gateway.port).await, Outcome::Hello(..)));
}

#[tokio::test]
async fn full_access_brings_an_operators_token_and_its_picture_is_a_png() {
    let gateway = reachable().await;
    let mut operator = gateway.operator().await;
    let made = mint(&mut operator, json!({})).await;
    assert_eq!((&made["access"], &made["auth"]), (&json!("full"), &json!("token")));
    assert!(made["qrDataUrl"].as_str().unwrap().starts_with("data:image/png;base64,"));
    let identity = Identity::new();
    let (hello, _node) = joining(&decoded(&made)["bootstrapToken"], &identity).to(gateway.port).await.hello();
    let other = &hello["auth"]["deviceTokens"][0];
    assert_eq!(other["role"], "operator");
    assert!(other["scopes"].as_array().unwrap().contains(&json!("operator.admin")));
    let token = other["deviceToken"].as_str().unwrap();
    let connect = Connect::cli().auth("deviceToken", token).scopes(&["operator.admin"]).device(&identity);
    assert_eq!(connect.to(gateway.port).await.hello().0["auth"]["scopes"], json!(["operator.admin"]));
}

#[tokio::test]
async fn full_access_is_not_sent_over_a_network_in_the_clear() {
    let gateway = published(Gateway::start().await, "ws://192.168.7.7:18789").await;
    let mut operator = gateway.operator().await;
    let made = mint(&mut operator, json!({})).await;
    assert_eq!((&made["access"], &made["accessDowngraded"]), (&json!("limited"), &json!(true)));
    let refused = operator.refused("device.pair.setupCode", json!({"joinUrl": true})).await;
    assert!(refused["message"].as_str().unwrap().contains("wss://"), "{refused}");
}

#[tokio::test]
async fn a_gateway_that_nobody_reaches_makes_no_code_and_says_what_to_set() {
    let gateway = Gateway::start().await;
    let output = gateway.cli(&["devices", "join-code"]).await;
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success());
    for key in ["only bound to loopback", "gateway.bind", "plugins.entries.device-pair.config.publicUrl"] {
        assert!(words.contains(key), "{key}: {words}");
    }
    let made =
        gateway.cli_json(&["devices", "join-code", "--public-url", "wss://gateway.example", "--json"]).await;
    assert_eq!(
        (&made["urlSource"], &made["gatewayUrl"]),
        (&json!("request.publicUrl"), &json!("wss://gateway.example"))
    );
    assert!(made["command"].as_str().unwrap().starts_with("tidegate node run --pair oc-pair://"));
}

#[tokio::test]
async fn a_phone_can_read_the_picture_of_a_code() {
    let gateway = reachable().await;
    let output = gateway.cli(&["devices", "join-code"]).await;
    let text = String::from_utf8(output.stdout).unwrap();
    let (line, picture) = text.split_once("\n\n").unwrap();
    let code = line.strip_prefix("tidegate node run --pair oc-pair://").unwrap();
    // What any reader sees in it: the modules of the code that carries this text, two in a character.
    let modules = qrcode::QrCode::with_error_correction_level(code, qrcode::EcLevel::L).unwrap();
    let width = modules.width();
    let rows: Vec<Vec<char>> = picture.lines().map(|line| line.chars().collect()).collect();
    let is_dark = |x: usize, y: usize| match rows[(y + 4) / 2][x + 4] {
        '█' => false,
        '▀' => (y + 4) % 2 == 1,
        '▄' => (y + 4).is_multiple_of(2),
        ' ' => true,
        other => panic!("{other:?} in {picture}"),
    };
    assert_eq!((rows.len(), rows[0].len()), ((width + 8).div_ceil(2), width + 8), "{picture}");
    for (at, color) in modules.into_colors().into_iter().enumerate() {
        assert_eq!(is_dark(at % width, at / width), color == qrcode::Color::Dark, "module {at}: {picture}");
    }
}

#[tokio::test]
async fn an_address_that_is_none_makes_no_code() {
    let gateway = Gateway::start().await;
    for url in ["nonsense", "ftp://gateway.example", "wss://"] {
        let output = gateway.cli(&["devices", "join-code", "--public-url", url]).await;
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{url}: {words}");
        assert!(words.contains(url), "{words}");
    }
}

#[tokio::test]
async fn a_certificate_that_others_do_not_trust_makes_no_join_address() {
    let bound = json!({"bind": "custom", "customBindHost": "127.0.0.1", "tls": {"enabled": true}});
    let gateway = Setup::new().config(config_with(json!({"gateway": bound}))).start().await;
    let output = gateway.cli(&["devices", "join-code", "--join-url"]).await;
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{words}");
    assert!(words.contains("others trust") && words.contains("without --join-url"), "{words}");
    // The code itself has the fingerprint in it.
    let code = pasted(&gateway, &["--no-qr"]).await;
    let code = json!({"setupCode": code.strip_prefix("oc-pair://").unwrap()});
    assert_eq!(decoded(&code)["tlsFingerprint"].as_str().unwrap().len(), 64);
}

#[tokio::test]
async fn only_admins_make_codes() {
    let gateway = reachable().await;
    let scopes = ["operator.pairing", "operator.write"];
    let mut writer = Connect::cli().token(&gateway.token()).scopes(&scopes).to(gateway.port).await.session();
    for method in ["device.pair.setupCode", "device.pair.setupStatus"] {
        let refused = writer.refused(method, json!({"setupId": "x"})).await;
        assert_eq!(refused["details"]["missingScope"], "operator.admin", "{method}: {refused}");
    }
}

#[tokio::test]
async fn what_is_no_code_is_refused_before_anything_is_sent() {
    let newcomer = Newcomer::new();
    let old = json!({"url": "ws://127.0.0.1:9", "bootstrapToken": "t", "expiresAtMs": 1});
    let expired = URL_SAFE_NO_PAD.encode(old.to_string());
    for (text, says) in
        [("nonsense", "no setup code"), (&expired, "has expired"), ("http://10.0.0.1/j/x", "https://")]
    {
        let output = newcomer.run(newcomer.tidegate(&["node", "run", "--pair", text])).await;
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && words.contains(says), "{text}: {words}");
    }
}

#[tokio::test]
async fn a_code_is_read_from_standard_input_as_well() {
    let gateway = reachable().await;
    let mut operator = gateway.operator().await;
    let code = pasted(&gateway, &[]).await;
    let mut newcomer = Newcomer::new();
    let file = newcomer.home().join("code");
    std::fs::write(&file, format!("{code}\n")).unwrap();
    let mut command = newcomer.tidegate(&["node", "run", "--pair", "-"]);
    command.stdin(std::fs::File::open(&file).unwrap());
    newcomer.start(command);
    joined(&mut operator).await;
}
