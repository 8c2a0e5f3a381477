//! A run as operators see it, over both model APIs.

use crate::support::fake_models::{Answer, FakeModels};
use crate::support::world::World;
use crate::support::{Connect, Socket, eventually};
use serde_json::{Value, json};
use std::time::Duration;

async fn watcher(world: &World) -> Socket {
    let connect = Connect::cli().token(&world.gateway.token()).scopes(&[
        "operator.admin",
        "operator.read",
        "operator.write",
    ]);
    let mut socket = connect.to(world.gateway.port).await.session();
    socket.ok("sessions.subscribe", json!({})).await;
    socket.ok("sessions.messages.subscribe", json!({"key": "main"})).await;
    socket
}

fn send(key: &str, message: &str) -> Value {
    json!({"sessionKey": "main", "message": message, "idempotencyKey": key})
}

#[actix_web::test]
async fn a_plain_run_is_told_in_the_order_that_clients_know() {
    let world = World::start().await;
    let mut chat = watcher(&world).await;
    world.models.then(Answer::slowly(&["one ", "two ", "three"], Duration::from_millis(120)));
    chat.ok("chat.send", send("r1", "count")).await;
    let mut told = Vec::new();
    loop {
        let event = chat.find("the run's events", |frame| frame["type"] == "event").await;
        let payload = &event["payload"];
        let word = match event["event"].as_str().unwrap_or_default() {
            "chat" => format!(
                "chat {} {}",
                payload["state"].as_str().unwrap(),
                payload["phase"].as_str().unwrap_or_default()
            ),
            "agent" => format!(
                "agent {} {}",
                payload["stream"].as_str().unwrap(),
                payload["data"]["phase"].as_str().unwrap_or_default()
            ),
            "session.message" => format!("row {}", payload["message"]["role"].as_str().unwrap()),
            _ => continue,
        };
        told.push(word.trim().to_owned());
        if event["event"] == "chat" && payload["state"] == "final" {
            assert_eq!(payload["message"]["content"][0]["text"], "one two three");
            break;
        }
    }
    told.dedup();
    let must = [
        "chat status preparing_workspace",
        "row user",
        "agent lifecycle start",
        "chat status starting_model",
        "agent lifecycle model",
        "agent assistant",
        "chat delta",
        "row assistant",
        "agent lifecycle finishing",
        "agent lifecycle end",
        "chat final",
    ];
    let mut from = 0;
    for wanted in must {
        let at = told[from..].iter().position(|word| word == wanted);
        from += at.unwrap_or_else(|| panic!("no `{wanted}` after the others: {told:#?}")) + 1;
    }
}

#[actix_web::test]
async fn deltas_add_up_to_the_answer_even_when_the_stream_breaks_once() {
    let world = World::start().await;
    let mut chat = watcher(&world).await;
    world
        .models
        .then(Answer::cut_after("a false start"))
        .then(Answer::slowly(&["the ", "truth"], Duration::from_millis(100)));
    chat.ok("chat.send", send("r1", "go")).await;
    let mut shown = String::new();
    loop {
        let event =
            chat.event_where("chat", |event| event["state"] == "delta" || event["state"] == "final").await;
        if event["state"] == "final" {
            assert_eq!(
                (shown.as_str(), &event["message"]["content"][0]["text"]),
                ("the truth", &json!("the truth"))
            );
            break;
        }
        if event["replace"] == true {
            shown.clear();
        }
        shown.push_str(event["deltaText"].as_str().unwrap());
        assert_eq!(event["message"]["content"][0]["text"], shown.as_str());
    }
}

#[actix_web::test]
async fn an_abort_is_told_before_it_is_answered() {
    let world = World::start().await;
    let mut chat = watcher(&world).await;
    chat.ok("chat.send", send("r1", "LONG 100")).await;
    chat.event_where("chat", |event| event["state"] == "delta").await;
    let ask = chat.ask("chat.abort", json!({"sessionKey": "main", "runId": "r1"})).await;
    let aborted = chat.event_where("chat", |event| event["state"] == "aborted").await;
    assert_eq!((&aborted["runId"], &aborted["stopReason"]), (&json!("r1"), &json!("rpc")));
    assert!(aborted["message"]["content"][0]["text"].as_str().unwrap().starts_with("word0"));
    let answer = chat.answer(&ask).await.unwrap();
    assert_eq!((&answer["aborted"], &answer["runIds"]), (&json!(true), &json!(["r1"])));
    let waited = chat.ok("agent.wait", json!({"runId": "r1", "timeoutMs": 1000})).await;
    assert_eq!(waited["status"], "aborted");
    eventually("the stream to be dropped", async || (world.models.open_streams() == 0).then_some(())).await;
}

#[actix_web::test]
async fn a_wrong_key_is_one_clear_error_for_everyone() {
    let world =
        World::with(json!({"models": {"providers": {"fake": {"apiKey": "sk-this-key-is-wrong"}}}})).await;
    let mut chat = watcher(&world).await;
    chat.ok("chat.send", send("r1", "hello")).await;
    let error = chat.event_where("chat", |event| event["state"] == "error").await;
    assert!(error["errorMessage"].as_str().unwrap().contains("`fake` refused the API key"), "{error}");
    assert!(!error.to_string().contains("sk-this-key"), "{error}");
    let waited = chat.ok("agent.wait", json!({"runId": "r1", "timeoutMs": 1000})).await;
    assert_eq!(waited["status"], "error");
}

#[actix_web::test]
async fn a_fallback_model_answers_when_the_first_is_missing() {
    let model = json!({"primary": "fake/gone", "fallbacks": ["fake/m1"]});
    let world = World::with(json!({"agents": {"defaults": {"model": model}}})).await;
    world.models.only_models(&["m1"]);
    let mut chat = watcher(&world).await;
    chat.ok("chat.send", send("r1", "hello")).await;
    let done = chat.event_where("chat", |event| event["state"] == "final").await;
    assert_eq!(done["message"]["content"][0]["text"], "REPLY: hello");
}

#[actix_web::test]
async fn the_other_api_runs_tools_just_as_well() {
    let models = FakeModels::start();
    let provider = json!({"api": "anthropic-messages", "baseUrl": models.url()});
    let world = World::with(json!({"models": {"providers": {"fake": provider}}})).await;
    let mut chat = watcher(&world).await;
    models.then(Answer::call("toolu_1", "nodes", json!({"action": "status"}))).then(Answer::text("none yet"));
    chat.ok("chat.send", send("r1", "which nodes?")).await;
    let done = chat.event_where("chat", |event| event["state"] == "final").await;
    assert_eq!(done["message"]["content"][0]["text"], "none yet");
    let last = models.last();
    assert_eq!((last.path.as_str(), last.header("anthropic-version")), ("/v1/messages", Some("2023-06-01")));
    assert!(last.body["messages"].to_string().contains("No node is paired"));
    assert_eq!(models.refusals(), [] as [String; 0]);
}

#[actix_web::test]
async fn a_message_is_answered_though_its_sender_hung_up_right_behind_it() {
    let world = World::start().await;
    let mut witness = world.operator().await;
    for (method, key) in ["chat.send", "agent"].iter().zip(["gone-1", "gone-2"]) {
        let mut sender = world.operator().await;
        let mut params = send(key, "SAY still here");
        if *method == "agent" {
            params.as_object_mut().unwrap().remove("sessionKey");
        }
        sender.send(&json!({"type": "req", "id": key, "method": method, "params": params})).await;
        drop(sender);
        eventually("the run to end", async || {
            let status =
                witness.ok("agent.wait", json!({"runId": key, "timeoutMs": 100})).await["status"].clone();
            (status == "ok").then_some(())
        })
        .await;
    }
}

#[actix_web::test]
async fn a_call_is_refused_rather_than_cut_short_where_too_many_wait() {
    let world = World::with(json!({"messages": {"queue": {"cap": 1}}})).await;
    world.models.then(Answer::silent());
    let mut caller = world.operator().await;
    let long = "so many words ".repeat(40);
    let ask = |key: &str| json!({"message": format!("SAY {key} {long}end"), "agentId": "main", "idempotencyKey": key});
    for key in ["running", "waiting"] {
        let id = caller.ask("agent", ask(key)).await;
        assert_eq!(caller.answer(&id).await.unwrap()["status"], "accepted");
    }
    let refused = caller.refused("agent", ask("refused")).await;
    assert_eq!(
        (refused["code"].as_str(), &refused["retryable"]),
        (Some("UNAVAILABLE"), &json!(true)),
        "{refused}"
    );
    let again = caller.ask("agent", ask("waiting")).await;
    assert_eq!(caller.answer(&again).await.unwrap()["status"], "accepted", "what is known needs no room");
    eventually("the model to be asked", async || (world.models.open_streams() > 0).then_some(())).await;
    caller.ok("chat.abort", json!({"sessionKey": "main", "runId": "running"})).await;
    let status = caller.ok("agent.wait", json!({"runId": "waiting", "timeoutMs": 20_000})).await;
    assert_eq!(status["status"], "ok");
    assert!(world.models.last().body.to_string().contains("end\""), "it reached the model whole");
}

#[actix_web::test]
async fn a_key_belongs_to_one_message_however_it_was_sent() {
    let world = World::start().await;
    let mut caller = world.operator().await;
    caller.ok("chat.send", send("k", "SAY first")).await;
    let id =
        caller.ask("agent", json!({"message": "SAY other", "agentId": "main", "idempotencyKey": "k"})).await;
    let others = [
        caller.answer(&id).await.unwrap_err(),
        caller.refused("chat.send", send("k", "SAY other")).await,
        caller
            .refused(
                "chat.send",
                json!({"sessionKey": "other", "message": "SAY first", "idempotencyKey": "k"}),
            )
            .await,
    ];
    for refused in others {
        assert_eq!(refused["details"]["code"], "IDEMPOTENCY_KEY_REUSED", "{refused}");
    }
    let status = caller.ok("agent.wait", json!({"runId": "k", "timeoutMs": 20_000})).await;
    assert_eq!(status["status"], "ok");
    assert_eq!(caller.ok("chat.send", send("k", "SAY first")).await["status"], "ok");
    assert_eq!(world.models.requests().len(), 1);
}
