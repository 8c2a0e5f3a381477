//! `tidegate` as people and scripts use it: JSON where asked, exit codes that mean something, no secret taken along.

use crate::support::fake_models::Answer;
use crate::support::node_host::{NativeNode, ready};
use crate::support::world::{OWNER, World};
use crate::support::{Connect, Gateway, Identity, Node, Setup, eventually};
use serde_json::{Value, json};
use std::process::{Output, Stdio};
use tokio::io::{AsyncBufReadExt, BufReader};

pub(super) fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

pub(super) async fn ok(gateway: &Gateway, args: &[&str]) -> String {
    let output = gateway.cli(args).await;
    assert!(output.status.success(), "tidegate {args:?}: {} {}", output.status, text(&output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub(super) async fn fails(gateway: &Gateway, args: &[&str]) -> (i32, String) {
    let output = gateway.cli(args).await;
    assert!(!output.status.success(), "tidegate {args:?} succeeded: {}", text(&output));
    assert!(!text(&output).contains("panicked"), "{}", text(&output));
    (output.status.code().unwrap(), text(&output))
}

#[actix_web::test]
async fn every_command_that_reads_speaks_json_and_plain_text() {
    let gateway = Gateway::start().await;
    let commands: &[&[&str]] = &[
        &["health"],
        &["status"],
        &["status", "--deep"],
        &["gateway", "health"],
        &["gateway", "status"],
        &["gateway", "probe"],
        &["gateway", "call", "health"],
        &["nodes", "status"],
        &["nodes", "list"],
        &["nodes", "pending"],
        &["devices", "list"],
        &["pairing", "list"],
        &["channels", "status"],
        &["sessions"],
        &["config", "validate"],
    ];
    for command in commands {
        ok(&gateway, command).await;
        let with_json = [command, &["--json"][..]].concat();
        gateway.cli_json(&with_json).await;
    }
}

#[actix_web::test]
async fn the_deep_status_shows_the_tree() {
    let gateway = Gateway::start().await;
    let status = gateway.cli_json(&["status", "--deep", "--json"]).await.to_string();
    let plain = ok(&gateway, &["status", "--deep"]).await;
    for child in ["store", "events", "devices", "nodes", "agent", "channels", "sessions"] {
        assert!(status.contains(child), "no {child} in {status}");
        assert!(plain.contains(child), "no {child} in {plain}");
    }
}

#[actix_web::test]
async fn the_status_names_the_model_of_a_key_in_the_environment() {
    let gateway = Setup::new().env("ANTHROPIC_API_KEY", "sk-test").start().await;
    let said = ok(&gateway, &["status"]).await;
    assert!(said.contains("anthropic/") && !said.contains("none configured"), "{said}");
}

#[actix_web::test]
async fn an_unreachable_gateway_a_wrong_token_and_wrong_arguments_are_told_apart() {
    let mut gateway = Gateway::start().await;
    let (wrong_arguments, _) = fails(&gateway, &["nodes", "no-such-command"]).await;
    assert_eq!(wrong_arguments, 2);
    let url = format!("ws://127.0.0.1:{}", gateway.port);
    let (_, said) = fails(&gateway, &["health", "--url", &url, "--token", "wrong"]).await;
    assert!(said.contains("token mismatch"), "{said}");
    gateway.kill();
    let (code, said) = fails(&gateway, &["health"]).await;
    assert_ne!(code, 2);
    assert!(said.contains(&gateway.port.to_string()), "{said}");
}

#[actix_web::test]
async fn exit_codes_and_json_errors_tell_scripts_what_happened() {
    let mut gateway = Gateway::start().await;
    let url = format!("ws://127.0.0.1:{}", gateway.port);
    let cases: &[(&[&str], i32, &str)] = &[
        (&["gateway", "call", "no.such.method"], 1, "cli_error"),
        (&["health", "--url", &url], 2, "usage"),
        (&["health", "--url", &url, "--token", "wrong"], 77, "not_authorised"),
        (&["config", "set", "gateway.port", "many"], 78, "config"),
        (&["nodes", "no-such-command"], 2, "usage"),
        (&["health", "--port", "many"], 2, "usage"),
        (&["nodes"], 2, "usage"),
        (&["channels", "status", "--channel", "pigeon"], 1, "cli_error"),
    ];
    for (args, code, kind) in cases {
        let output = gateway.cli(&[args, &["--json"][..]].concat()).await;
        assert_eq!(output.status.code(), Some(*code), "{args:?}: {}", text(&output));
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(answer["ok"], false, "{answer}");
        assert_eq!(answer["error"]["type"], *kind, "{answer}");
    }
    gateway.kill();
    let (code, _) = fails(&gateway, &["health"]).await;
    assert_eq!(code, 69);
    gateway.write_config(&json!({"gateway": {"auth": {"mode": "open"}}}));
    let (code, said) = fails(&gateway, &["health"]).await;
    assert_eq!(code, 78, "{said}");
}

#[actix_web::test]
async fn a_program_that_failed_on_a_node_fails_the_command() {
    let gateway = Gateway::start().await;
    let _node = NativeNode::start(&gateway, "kitchen");
    ready(&gateway, "kitchen").await;
    let run = |script: &str| {
        let params = json!({"command": ["/bin/sh", "-c", script]}).to_string();
        ["nodes", "invoke", "kitchen", "--command", "system.run", "--params", &params]
            .map(str::to_owned)
            .to_vec()
    };
    for (script, code) in [("echo fine", 0), ("echo wrong; exit 3", 1), ("kill -9 $$", 1)] {
        let args = run(script);
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let output = gateway.cli(&args).await;
        assert_eq!(output.status.code(), Some(code), "{script}: {}", text(&output));
        let output = gateway.cli(&[&args[..], &["--json"]].concat()).await;
        assert_eq!(output.status.code(), Some(code), "{script}: {}", text(&output));
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(answer["payload"]["success"], code == 0, "{answer}");
    }
    let args = run("exit 3");
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    assert!(text(&gateway.cli(&args).await).contains("exit code 3 on kitchen"));
}

#[actix_web::test]
async fn a_reader_that_has_seen_enough_is_no_error() {
    let gateway = Gateway::start().await;
    let mut command = tokio::process::Command::from(gateway.command(&["gateway", "call", "config.get"]));
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
    drop(child.stdout.take());
    let output = crate::support::within("the command", child.wait_with_output()).await.unwrap();
    assert!(output.status.success(), "{}", text(&output));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

#[actix_web::test]
async fn an_edit_of_the_config_keeps_its_comments() {
    let gateway = Gateway::start().await;
    std::fs::write(gateway.config_path(), "{\n  // mine\n  messages: { ackReaction: 'a' }, // why\n}\n")
        .unwrap();
    ok(&gateway, &["config", "set", "messages.ackReaction", "b"]).await;
    let file = std::fs::read_to_string(gateway.config_path()).unwrap();
    assert!(file.contains("// mine") && file.contains("// why") && file.contains("\"b\""), "{file}");
    ok(&gateway, &["config", "unset", "messages.ackReaction"]).await;
    let (_, said) = fails(&gateway, &["config", "get", "messages.ackReaction"]).await;
    assert!(said.contains("not set"), "{said}");
}

#[actix_web::test]
async fn a_hostile_name_does_not_steer_the_terminal() {
    let gateway = Gateway::start().await;
    let identity = Identity::new();
    let name = "a\u{1b}[2J\nb\u{202e}";
    let connect =
        Connect::cli().token(&gateway.token()).set("/client/displayName", json!(name)).device(&identity);
    let _ = connect.to(gateway.port).await;
    let list = ok(&gateway, &["devices", "list"]).await;
    assert!(!list.contains('\u{1b}') && !list.contains('\u{202e}'), "{list:?}");
}

#[actix_web::test]
async fn another_url_takes_no_credential_along() {
    let gateway = Gateway::start().await;
    let other = Setup::new().no_token().start().await;
    let url = format!("ws://127.0.0.1:{}", other.port);
    let (_, said) = fails(&gateway, &["health", "--url", &url]).await;
    assert!(said.contains("--token") && said.contains("--password"), "{said}");
    ok(&gateway, &["health", "--url", &url, "--token", &other.token()]).await;
    // One made token in sixty-four begins like an option.
    let (_, said) = fails(&gateway, &["health", "--url", &url, "--token", "-u-and-more"]).await;
    assert!(said.contains("token mismatch"), "{said}");
}

#[actix_web::test]
async fn a_node_is_approved_described_invoked_renamed_and_removed() {
    let gateway = Gateway::start().await;
    let mut node = Node::connect(&gateway, &["system.which"]).await;
    let pending = gateway.cli_json(&["nodes", "pending", "--json"]).await.to_string();
    assert!(pending.contains(&node.id()), "{pending}");
    let list = gateway.operator().await.ok("node.pair.list", json!({})).await;
    let request = list["pending"][0]["requestId"].as_str().unwrap().to_owned();
    ok(&gateway, &["nodes", "approve", &request]).await;
    node.socket.event("node.pair.resolved").await;
    let described = gateway.cli_json(&["nodes", "describe", "--node", "test node", "--json"]).await;
    assert!(described.to_string().contains("system.which"), "{described}");
    let args = [
        "nodes",
        "invoke",
        "--node",
        "test node",
        "--command",
        "system.which",
        "--params",
        r#"{"bins":["ls"]}"#,
        "--json",
    ];
    let answering = async {
        let request = node.request().await;
        node.reply(&request, json!({"bins": {"ls": "/bin/ls"}})).await.unwrap();
    };
    let (answer, ()) = futures_util::join!(gateway.cli_json(&args), answering);
    assert!(answer.to_string().contains("/bin/ls"), "{answer}");
    ok(&gateway, &["nodes", "rename", "--node", "test node", "--name", "kitchen"]).await;
    assert!(ok(&gateway, &["nodes", "list"]).await.contains("kitchen"));
    let (_, said) =
        fails(&gateway, &["nodes", "invoke", "--node", "nobody", "--command", "system.which"]).await;
    assert!(said.contains("nobody"), "{said}");
    ok(&gateway, &["nodes", "remove", "--node", "kitchen"]).await;
    assert!(!ok(&gateway, &["nodes", "list"]).await.contains("kitchen"));
}

#[actix_web::test]
async fn a_failed_invoke_is_a_failed_command() {
    let gateway = Gateway::start().await;
    let node = Node::approved(&gateway, &["system.which"]).await;
    let id = node.id();
    drop(node);
    eventually("the node to be gone", async || {
        let described = gateway.operator().await.ok("node.describe", json!({"nodeId": id})).await;
        (described["connected"] == false).then_some(())
    })
    .await;
    let (_, said) = fails(&gateway, &["nodes", "invoke", "--node", &id, "--command", "system.which"]).await;
    assert!(said.contains("not connected"), "{said}");
}

#[actix_web::test]
async fn a_turn_that_failed_is_a_failed_command() {
    let world = World::without_model().await;
    for (words, why) in [
        (&["agent", "--message", "hi"][..], "No model is configured"),
        (&["agent", "--message", "hi", "--model", "nope/x"], "`nope`"),
        (&["agent", "--message", "/invoke nobody system.which"], "nobody"),
        (&["agent", "--message", "hi", "--agent", "ghost"], "`main`"),
        (&["agent", "--message", "hi", "--thinking", "very"], "medium"),
    ] {
        let (code, said) = fails(&world.gateway, words).await;
        assert!(code == 1 && said.contains(why), "{words:?}: {code} {said}");
    }
    let world = World::start().await;
    let (code, said) = fails(&world.gateway, &["agent", "--message", "hi", "--model", "nope/x"]).await;
    assert!(code == 1 && said.contains("`nope`") && world.models.requests().is_empty(), "{said}");
}

#[actix_web::test]
async fn devices_are_listed_approved_rotated_revoked_and_removed() {
    let config = json!({"gateway": {"nodes": {"pairing": {"autoApproveLocal": false}}}});
    let gateway = Setup::new().config(config).start().await;
    let identity = Identity::new();
    let token = gateway.token();
    let connect = Connect::cli().token(&token).device(&identity);
    let request = connect.to(gateway.port).await.refusal().error["details"]["requestId"].clone();
    let list = gateway.cli_json(&["devices", "list", "--json"]).await;
    assert_eq!(list["pending"][0]["requestId"], request, "{list}");
    ok(&gateway, &["devices", "approve", request.as_str().unwrap()]).await;
    connect.to(gateway.port).await.session();
    let id = identity.id();
    for command in ["rotate", "revoke"] {
        ok(&gateway, &["devices", command, "--device", &id, "--role", "operator"]).await;
    }
    ok(&gateway, &["devices", "remove", &id]).await;
    let list = gateway.cli_json(&["devices", "list", "--json"]).await;
    assert_eq!(list["paired"], json!([]));
    fails(&gateway, &["devices", "reject", "no-such-request"]).await;
}

#[actix_web::test]
async fn config_is_read_written_and_judged_without_a_gateway() {
    let mut gateway = Gateway::start().await;
    gateway.kill();
    ok(&gateway, &["config", "set", "messages.ackReaction", "\"x\""]).await;
    assert!(ok(&gateway, &["config", "get", "messages.ackReaction"]).await.contains('x'));
    ok(&gateway, &["config", "set", "channels.telegram.botToken", "\"123:secret-of-the-bot\""]).await;
    let got = ok(&gateway, &["config", "get", "channels.telegram"]).await;
    assert!(!got.contains("secret-of-the-bot"), "{got}");
    ok(&gateway, &["config", "validate"]).await;
    let (_, said) = fails(&gateway, &["config", "set", "gateway.port", "\"many\""]).await;
    assert!(said.contains("gateway.port"), "{said}");
    ok(&gateway, &["config", "validate"]).await;
    gateway.write_config(&json!({"gateway": {"port": "many"}}));
    let (_, said) = fails(&gateway, &["config", "validate"]).await;
    assert!(said.contains("gateway.port"), "{said}");
}

#[actix_web::test]
async fn a_changed_config_reaches_the_running_gateway() {
    let world = World::start().await;
    world.models.then(Answer::text("from-the-first"));
    world.telegram.say(OWNER, "who are you?");
    world.shown(OWNER, "from-the-first").await;
    ok(&world.gateway, &["config", "set", "agents.defaults.model.primary", "\"fake/m2\""]).await;
    let asked = eventually("the new model to be asked", async || {
        world.telegram.say(OWNER, "SAY again");
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
        world.models.requests().iter().any(|request| request.body["model"] == "m2").then_some(())
    });
    asked.await;
}

#[actix_web::test]
async fn logs_can_be_followed() {
    let gateway = Gateway::start().await;
    let mut command = tokio::process::Command::from(gateway.command(&["logs", "--follow"]));
    let mut following =
        command.stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true).spawn().unwrap();
    let mut lines = BufReader::new(following.stdout.take().unwrap()).lines();
    crate::support::within("a first line", lines.next_line()).await.unwrap();
    let refused = Connect::cli().token("wrong-on-purpose").to(gateway.port).await.refusal();
    assert_eq!(refused.code, 1008);
    crate::support::within("the line about it", async {
        while let Some(line) = lines.next_line().await.unwrap() {
            if line.contains("token_mismatch") || line.contains("AUTH_TOKEN_MISMATCH") {
                return;
            }
        }
        panic!("the log ended");
    })
    .await;
    following.kill().await.unwrap();
}

#[actix_web::test]
async fn a_message_is_sent_to_a_chat_and_sessions_are_listed() {
    let world = World::start().await;
    let owner = OWNER.to_string();
    let send =
        ["message", "send", "--channel", "telegram", "--target", &owner, "--message", "by hand", "--json"];
    let sent = world.gateway.cli_json(&send).await;
    world.shown(OWNER, "by hand").await;
    assert!(sent.to_string().contains("messageId") || sent["ok"] == true, "{sent}");
    world.settled().await;
    assert_eq!(world.count(OWNER, "by hand"), 1);
    let sessions: Value = world.gateway.cli_json(&["sessions", "--json"]).await;
    assert!(sessions.to_string().contains("agent:main:main"), "{sessions}");
    let channels = world.gateway.cli_json(&["channels", "status", "--json"]).await;
    assert!(channels.to_string().contains("telegram"), "{channels}");
}

#[actix_web::test]
async fn help_names_every_command() {
    let gateway = Gateway::start().await;
    let help = ok(&gateway, &["--help"]).await;
    for command in [
        "gateway", "health", "status", "nodes", "node", "devices", "pairing", "channels", "sessions",
        "agent", "message", "logs", "config",
    ] {
        assert!(help.contains(command), "no {command} in {help}");
    }
}
