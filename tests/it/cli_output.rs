//! What commands print, and how they end, where something is amiss.

use super::cli::{fails, ok, text};
use crate::support::node_host::{NativeNode, ready};
use crate::support::{Gateway, Node, within};
use serde_json::{Value, json};
use std::fs::File;
use std::process::Stdio;
use tokio::io::{AsyncBufReadExt, BufReader};

#[actix_web::test]
async fn an_answer_that_can_not_be_written_is_a_failure() {
    let gateway = Gateway::start().await;
    let mut command = gateway.command(&["status", "--json"]);
    command.stdout(File::options().write(true).open("/dev/full").unwrap());
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output).contains("can't write the output"), "{}", text(&output));
}

#[actix_web::test]
async fn following_a_quiet_log_ends_with_its_reader() {
    let gateway = Gateway::start().await;
    let follow = gateway.command(&["logs", "--follow", "--interval", "1h"]);
    let mut command = tokio::process::Command::from(follow);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    within("a first line", lines.next_line()).await.unwrap();
    drop(lines);
    assert!(within("the end of the command", child.wait()).await.unwrap().success());
}

#[actix_web::test]
async fn the_log_of_a_stopped_gateway_is_read_from_its_file() {
    let mut gateway = Gateway::start().await;
    gateway.kill();
    let output = gateway.cli(&["logs"]).await;
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && stdout.contains("listening"), "{}", text(&output));
    assert!(stderr.contains("logs/gateway.log"), "{stderr}");
    let listening = stdout.lines().find(|line| line.contains("listening")).unwrap();
    let shown = format!("addresses=127.0.0.1:{}", gateway.port);
    assert!(listening.contains(&shown) && listening.contains(" tls=off"), "{listening}");
    assert_eq!(ok(&gateway, &["logs", "--limit", "1"]).await.lines().count(), 1);
    let (code, said) = fails(&gateway, &["logs", "--follow"]).await;
    assert!(code == 69 && said.contains("logs/gateway.log"), "{said}");
}

#[actix_web::test]
async fn a_second_gateway_says_once_why_it_does_not_start() {
    let gateway = Gateway::start().await;
    let (code, said) = fails(&gateway, &["gateway", "run"]).await;
    assert_eq!((code, said.matches("another gateway (pid").count()), (1, 1), "{said}");
}

#[actix_web::test]
async fn a_missing_command_is_one_sentence() {
    let gateway = Gateway::start().await;
    for (words, of) in [(&["-v"][..], "tidegate --help"), (&["nodes", "-v"], "tidegate nodes --help")] {
        let (code, said) = fails(&gateway, words).await;
        assert!(code == 2 && said.contains(of) && !said.contains("hold-claim"), "{said}");
    }
    for words in [&["--json"][..], &["nodes", "--json"], &["nodes", "rename", "x", "--json"]] {
        let output = gateway.cli(words).await;
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
        let said = answer["error"]["message"].as_str().unwrap();
        assert!(!said.contains('\n') && !said.contains("hold-claim"), "{words:?}: {said}");
    }
}

#[actix_web::test]
async fn what_waits_for_nobody_is_said_in_words() {
    let gateway = Gateway::start().await;
    for (words, why) in [
        (&["pairing", "approve", "telegram", "NOPE"][..], "nobody waits on telegram with the code NOPE"),
        (&["pairing", "approve", "NOPE"], "nobody waits with the code NOPE"),
        (&["devices", "approve", "nope"], "no device request nope is pending"),
        (&["devices", "reject", "nope"], "no device request nope is pending"),
        (&["nodes", "approve", "nope"], "no node request nope is pending"),
        (&["nodes", "reject", "nope"], "no node request nope is pending"),
    ] {
        let (code, said) = fails(&gateway, words).await;
        assert!(code == 1 && said.contains(why), "{words:?}: {said}");
    }
    let (code, said) = fails(&gateway, &["pairing", "approve", "telegram"]).await;
    assert!(code == 2 && said.contains("the code is missing"), "{said}");
}

#[actix_web::test]
async fn an_invoke_takes_no_longer_than_anybody_waits() {
    let gateway = Gateway::start().await;
    let mut node = Node::approved(&gateway, &["system.which"]).await;
    let id = node.id();
    let words = ["nodes", "invoke", &id, "--command", "system.which", "--timeout", "3s"];
    let (output, request) = futures_util::join!(gateway.cli(&words), node.request());
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(request["timeoutMs"].as_u64().unwrap() <= 3000, "{request}");
}

#[actix_web::test]
async fn a_program_that_does_not_exist_is_said_so() {
    let gateway = Gateway::start().await;
    let node = NativeNode::start(&gateway, "kitchen");
    ready(&gateway, "kitchen").await;
    let params = json!({"command": ["/no/such/program"]}).to_string();
    let words = ["nodes", "invoke", "kitchen", "--command", "system.run", "--params", &params];
    let (code, said) = fails(&gateway, &words).await;
    assert!(code == 1 && said.contains("error on kitchen: ") && !said.contains('{'), "{said}");
    drop(node);
}

#[actix_web::test]
async fn lists_of_nodes_fit_the_terminal() {
    let gateway = Gateway::start().await;
    let commands: Vec<String> = (0..20).map(|number| format!("custom.command-{number}")).collect();
    let commands: Vec<&str> = commands.iter().map(String::as_str).collect();
    let _node = Node::connect(&gateway, &commands).await;
    let pending = gateway.cli_json(&["nodes", "pending", "--json"]).await;
    let declared = pending[0]["commands"].as_array().unwrap().len();
    for words in [["nodes", "pending"], ["nodes", "list"]] {
        let said = ok(&gateway, &words).await;
        assert!(said.lines().all(|line| line.chars().count() <= 100), "{said}");
        assert!(declared < 2 || said.contains(" +"), "{said}");
    }
}

#[actix_web::test]
async fn an_identity_is_shown_in_lines() {
    let gateway = Gateway::start().await;
    let node = NativeNode::start(&gateway, "kitchen");
    ready(&gateway, "kitchen").await;
    let state = node.state().display().to_string();
    let said = ok(&gateway, &["--state-dir", &state, "node", "identity"]).await;
    assert!(said.lines().count() == 2 && !said.contains("\\n"), "{said}");
}
