//! `tidegate config` without a gateway: what it reads, what it warns of, and what it calls valid.

use super::cli::{fails, ok, text};
use crate::support::Gateway;
use serde_json::json;
use std::fs;

/// A state folder of which no gateway is running.
async fn machine() -> Gateway {
    let mut gateway = Gateway::start().await;
    gateway.kill();
    gateway
}

#[actix_web::test]
async fn what_remote_set_writes_is_valid() {
    let machine = machine().await;
    ok(&machine, &["remote", "set", "wss://gateway.example", "--token", "a-token-of-its-own"]).await;
    let output = machine.cli(&["config", "validate"]).await;
    let said = text(&output);
    assert!(output.status.success() && said.contains("no gateway starts on this machine"), "{said}");
    let answer = machine.cli_json(&["config", "validate", "--json"]).await;
    assert_eq!((&answer["valid"], &answer["issues"]), (&json!(true), &json!([])), "{answer}");
    let said = text(&machine.cli(&["config", "set", "messages.ackReaction", "x"]).await);
    assert!(!said.contains("warning"), "{said}");
    for (remote, why) in [
        (json!({"url": "not an address"}), "gateway.remote.url"),
        (json!({}), "gateway.remote.url is not set"),
        (json!({"url": "ws://h", "transport": "ssh"}), "gateway.remote.sshTarget"),
    ] {
        machine.write_config(&json!({"gateway": {"mode": "remote", "remote": remote}}));
        let (code, said) = fails(&machine, &["config", "validate"]).await;
        assert!(code == 78 && said.contains(why), "{said}");
    }
}

#[actix_web::test]
async fn a_bad_include_is_blamed_by_name() {
    let machine = machine().await;
    fs::write(machine.config_path(), "{gateway: {$include: './part.json'}}").unwrap();
    for part in ["{port: ", "{port: 'many'}", ""] {
        fs::write(machine.state().join("part.json"), part).unwrap();
        let (code, said) = fails(&machine, &["config", "validate"]).await;
        assert!(code == 78 && said.contains("part.json: "), "{said}");
        assert!(!said.contains("tidegate.json"), "{said}");
        let output = machine.cli(&["config", "validate", "--json"]).await;
        let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let file = answer["issues"][0]["file"].as_str().unwrap();
        assert!(file.ends_with("part.json"), "{answer}");
    }
    machine.write_config(&json!({"gateway": {"port": "many"}}));
    let (_, said) = fails(&machine, &["config", "validate"]).await;
    assert_eq!(said.matches("tidegate.json").count(), 1, "{said}");
}

#[actix_web::test]
async fn included_values_are_shown_and_not_removed_here() {
    let machine = machine().await;
    fs::write(
        machine.config_path(),
        "{messages: {$include: './part.json'}, env: {vars: {WHO: 'me'}}, x: '${WHO}'}",
    )
    .unwrap();
    fs::write(machine.state().join("part.json"), "{ackReaction: 'b', botToken: 'a-real-secret'}").unwrap();
    assert_eq!(ok(&machine, &["config", "get", "messages.ackReaction"]).await, "b\n");
    assert_eq!(ok(&machine, &["config", "get", "x"]).await, "me\n");
    assert!(!ok(&machine, &["config", "get"]).await.contains("a-real-secret"));
    let (code, said) = fails(&machine, &["config", "unset", "messages.ackReaction"]).await;
    assert!(code == 1 && said.contains("comes from an included file"), "{said}");
    let (code, said) = fails(&machine, &["config", "unset", "messages.nothing"]).await;
    assert!(code == 1 && said.contains("`messages.nothing` is not set"), "{said}");
}

#[actix_web::test]
async fn a_mistyped_key_is_not_set_in_silence() {
    let machine = machine().await;
    let output = machine.cli(&["config", "set", "gateway.potr", "19000"]).await;
    let said = text(&output);
    assert!(output.status.success() && said.contains("did you mean gateway.port?"), "{said}");
    // What was wrong before is not this command's.
    let said = text(&machine.cli(&["config", "set", "messages.ackReaction", "x"]).await);
    assert!(!said.contains("potr"), "{said}");
    let answer = machine.cli_json(&["config", "set", "gateway.prot", "1", "--json"]).await;
    assert_eq!(answer["warnings"][0]["path"], "gateway.prot", "{answer}");
}

#[actix_web::test]
async fn a_file_that_a_flag_names_must_be_there() {
    let machine = machine().await;
    ok(&machine, &["config", "validate"]).await;
    let (code, said) = fails(&machine, &["--config", "/no/such/file", "config", "validate"]).await;
    assert!(
        code == 78 && said.contains("/no/such/file: --config names a file that does not exist"),
        "{said}"
    );
    fs::write(machine.config_path(), "").unwrap();
    let (code, said) = fails(&machine, &["config", "validate"]).await;
    assert!(code == 78 && said.contains("the file is empty"), "{said}");
    ok(&machine, &["config", "set", "messages.ackReaction", "x"]).await;
    ok(&machine, &["config", "validate"]).await;
}
