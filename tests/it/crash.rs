//! kill -9 at every step of the flow: nothing is lost, nothing is answered twice.

use crate::flow::tool_result;
use crate::support::fake_models::Answer;
use crate::support::fake_telegram::Fault;
use crate::support::world::{OWNER, World, ask_node};
use crate::support::{Node, eventually, http};
use serde_json::json;
use std::time::Duration;

async fn assert_answered_once(world: &World, text: &str) {
    world.shown(OWNER, text).await;
    world.settled().await;
    assert_eq!(world.count(OWNER, text), 1, "shown: {:?}", world.telegram.shown_texts(OWNER));
}

async fn model_thinks(world: &World) {
    eventually("the model to be asked", async || (world.models.open_streams() > 0).then_some(())).await;
}

/// Without previews the answer is the only thing that is sent.
async fn plain() -> World {
    World::with(json!({"channels": {"telegram": {"streaming": "off"}}})).await
}

/// Waits until one more call hangs in the fake than `before`.
async fn held(world: &World, before: usize) {
    eventually("a call to hang", async || (world.telegram.held() > before).then_some(())).await;
}

/// Kills the gateway, and starts it again with a Telegram that works.
async fn crash_and_heal(world: World) -> World {
    let mut gateway = world.gateway;
    gateway.kill();
    world.telegram.heal();
    World { gateway: gateway.restart().await, ..world }
}

/// Answers that the gateway has on record as delivered.
fn recorded(world: &World) -> i64 {
    let db = rusqlite::Connection::open(world.gateway.state().join("tidegate.db")).unwrap();
    db.query_row("SELECT count(*) FROM outbox WHERE state = 'sent'", [], |row| row.get(0)).unwrap_or_default()
}

#[actix_web::test]
async fn killed_while_the_update_is_handed_out() {
    let mut world = plain().await;
    world.gateway.kill();
    let update = world.telegram.say(OWNER, "SAY handed-out");
    let before = world.telegram.held();
    world.telegram.fail("getUpdates", Fault::HangAfter);
    let world = world.crash().await;
    held(&world, before).await;
    assert!(world.telegram.confirmed().is_none_or(|confirmed| confirmed < update));
    let world = crash_and_heal(world).await;
    assert_answered_once(&world, "handed-out").await;
}

#[actix_web::test]
async fn killed_while_the_update_is_stored_and_not_yet_confirmed() {
    let mut world = plain().await;
    world.gateway.kill();
    let update = world.telegram.say(OWNER, "SAY stored");
    let before = world.telegram.held();
    world.telegram.fail("getUpdates", Fault::Pass);
    world.telegram.fail("getUpdates", Fault::Hang);
    // The run goes no further than the model.
    world.models.then(Answer::silent());
    let world = world.crash().await;
    held(&world, before).await;
    let asked = world.telegram.calls_of("getUpdates").pop().unwrap();
    assert_eq!(asked.params["offset"], update + 1);
    assert!(world.telegram.confirmed().is_none_or(|confirmed| confirmed < update));
    // The model may not have been asked by then: whoever comes first gets the silence, and is killed with it.
    eventually("the model to be asked", async || (!world.models.requests().is_empty()).then_some(())).await;
    let world = crash_and_heal(world).await;
    assert_answered_once(&world, "stored").await;
}

#[actix_web::test]
async fn killed_when_the_update_is_confirmed_and_the_model_is_asked() {
    let world = plain().await;
    world.models.then(Answer::silent());
    let update = world.telegram.say(OWNER, "SAY confirmed");
    eventually("the update to be confirmed", async || {
        world.telegram.confirmed().is_some_and(|confirmed| confirmed >= update).then_some(())
    })
    .await;
    eventually("the model to be asked", async || (!world.models.requests().is_empty()).then_some(())).await;
    let world = crash_and_heal(world).await;
    assert_answered_once(&world, "confirmed").await;
}

#[actix_web::test]
async fn killed_while_telegram_reads_the_answer_and_has_not_shown_it() {
    let world = plain().await;
    world.telegram.fail("sendMessage", Fault::Hang);
    let before = world.telegram.held();
    world.telegram.say(OWNER, "SAY not-yet-shown");
    held(&world, before).await;
    assert_eq!(world.count(OWNER, "not-yet-shown"), 0);
    let world = crash_and_heal(world).await;
    assert_answered_once(&world, "not-yet-shown").await;
}

/// The one case in which people see an answer twice: Telegram has no idempotency key, so it can't be told apart
/// from the case above.
#[actix_web::test]
async fn killed_between_telegram_showing_the_answer_and_our_record_it_is_sent_again_and_says_so() {
    let world = plain().await;
    world.telegram.fail("sendMessage", Fault::HangAfter);
    let before = world.telegram.held();
    world.telegram.say(OWNER, "SAY shown-before");
    held(&world, before).await;
    assert_eq!(world.count(OWNER, "shown-before"), 1);
    let world = crash_and_heal(world).await;
    world.settled().await;
    let shown = world.telegram.shown_texts(OWNER);
    let answers: Vec<&String> = shown.iter().filter(|text| text.contains("shown-before")).collect();
    assert_eq!(answers.len(), 2, "{shown:?}");
    assert!(!answers[0].contains("Sent again") && answers[1].contains("Sent again after a restart"));
}

#[actix_web::test]
async fn killed_at_once_after_the_answer_is_on_record() {
    let world = plain().await;
    world.telegram.say(OWNER, "SAY on-record");
    eventually("the delivery to be on record", async || (recorded(&world) == 1).then_some(())).await;
    let world = crash_and_heal(world).await;
    world.settled().await;
    assert_eq!(world.count(OWNER, "on-record"), 1);
}

#[actix_web::test]
async fn killed_while_the_model_thinks() {
    let world = World::start().await;
    // The first try hangs; the next one reads the message again and answers.
    world.models.then(Answer::silent());
    world.telegram.say(OWNER, "SAY thought-through");
    model_thinks(&world).await;
    let world = world.crash().await;
    assert_answered_once(&world, "thought-through").await;
}

#[actix_web::test]
async fn killed_while_the_answer_streams() {
    let world = World::start().await;
    world.models.then(Answer::slowly(
        &["half ", "of ", "an ", "answer ", "and ", "more "],
        Duration::from_millis(400),
    ));
    world.telegram.say(OWNER, "SAY the-whole-answer");
    eventually("a preview", async || (!world.telegram.shown(OWNER).is_empty()).then_some(())).await;
    let world = world.crash().await;
    assert_answered_once(&world, "the-whole-answer").await;
}

#[actix_web::test]
async fn killed_while_a_node_works() {
    let world = World::start().await;
    let mut node = Node::approved(&world.gateway, &["system.which"]).await;
    world.models.then(ask_node("call_1", &node.id()));
    world.telegram.say(OWNER, "where is ls?");
    node.request().await;
    world.models.then(Answer::text("the-node-was-asked"));
    let world = world.crash().await;
    let _node = Node::reconnect(&world.gateway, node.identity, &["system.which"]).await;
    assert_answered_once(&world, "the-node-was-asked").await;
    let result = tool_result(&world);
    assert!(result.contains("nobody knows how it ended"), "{result}");
}

#[actix_web::test]
async fn a_call_after_a_restart_waits_for_the_node_to_come_back() {
    let world = World::start().await;
    let node = Node::approved(&world.gateway, &["system.which"]).await;
    let id = node.id();
    world.models.then(Answer::silent());
    world.telegram.say(OWNER, "where is ls?");
    model_thinks(&world).await;
    world.models.then(ask_node("call_1", &id)).then(Answer::text("asked-at-last"));
    let world = world.crash().await;
    // The model has its say before the node is back.
    eventually("the model to be asked again", async || (world.models.requests().len() > 1).then_some(()))
        .await;
    let mut node = Node::reconnect(&world.gateway, node.identity, &["system.which"]).await;
    let request = node.request().await;
    node.reply(&request, json!({"bins": {"ls": "/bin/ls"}})).await.unwrap();
    assert_answered_once(&world, "asked-at-last").await;
    assert!(tool_result(&world).contains("/bin/ls"), "{}", tool_result(&world));
}

#[actix_web::test]
async fn killed_while_the_answer_waits_to_be_sent() {
    let world = World::start().await;
    for method in ["sendMessage", "editMessageText"] {
        world.telegram.fail_always(method, Fault::Refuse { code: 500, description: "Internal Server Error" });
    }
    world.telegram.say(OWNER, "SAY kept-in-the-outbox");
    eventually("the answer to be tried", async || {
        (!world.telegram.calls_of("sendMessage").is_empty()).then_some(())
    })
    .await;
    eventually("the model to have answered", async || (world.models.open_streams() == 0).then_some(())).await;
    let world = world.crash().await;
    world.telegram.heal();
    assert_answered_once(&world, "kept-in-the-outbox").await;
}

#[actix_web::test]
async fn killed_while_telegram_asks_to_wait() {
    let world = World::start().await;
    world.telegram.fail("sendMessage", Fault::Flood { retry_after: 2 });
    world.telegram.say(OWNER, "SAY after-the-flood");
    eventually("the answer to be tried", async || {
        (!world.telegram.calls_of("sendMessage").is_empty()).then_some(())
    })
    .await;
    let world = world.crash().await;
    assert_answered_once(&world, "after-the-flood").await;
}

#[actix_web::test]
async fn a_message_that_telegram_delivers_again_is_answered_once() {
    let world = World::start().await;
    let message = world.telegram.compose(OWNER, OWNER, json!({"text": "SAY only-once"}));
    let id = world.telegram.update("message", message.clone());
    assert_answered_once(&world, "only-once").await;
    let mut gateway = world.gateway;
    gateway.kill();
    // As after a restore of older state: the gateway asks again from the beginning.
    let db = rusqlite::Connection::open(gateway.state().join("tidegate.db")).unwrap();
    db.execute("DELETE FROM offsets", []).unwrap();
    drop(db);
    world.telegram.raw_update(json!({"update_id": id, "message": message}));
    let world = World { gateway: gateway.restart().await, ..world };
    world.settled().await;
    assert_eq!(world.count(OWNER, "only-once"), 1);
    // The question, and one more before and after the kill.
    assert_eq!(world.models.requests().len(), 3, "the message was run again");
}

#[actix_web::test]
async fn killed_four_times_in_a_row_telegram_still_answers() {
    let mut world = World::start().await;
    for _ in 0..4 {
        world = world.crash().await;
    }
    world.telegram.say(OWNER, "SAY still-here");
    assert_answered_once(&world, "still-here").await;
}

#[actix_web::test]
async fn a_single_500_and_a_cut_connection_lose_no_answer() {
    let world = World::start().await;
    for (fault, text) in [
        (Fault::Refuse { code: 500, description: "Internal Server Error" }, "after-a-500"),
        (Fault::Refuse { code: 502, description: "Bad Gateway" }, "after-a-502"),
        (Fault::Flood { retry_after: 1 }, "after-a-429"),
    ] {
        world.telegram.fail("sendMessage", fault);
        world.telegram.say(OWNER, &format!("SAY {text}"));
        assert_answered_once(&world, text).await;
    }
}

#[actix_web::test]
async fn an_operators_question_survives_a_kill_too() {
    let world = World::start().await;
    world.models.then(Answer::silent());
    let mut chat = world.operator().await;
    let params = json!({"sessionKey": "main", "message": "SAY survived", "idempotencyKey": "survivor"});
    chat.ok("chat.send", params.clone()).await;
    model_thinks(&world).await;
    let world = world.crash().await;
    let mut chat = world.operator().await;
    eventually("the run to be over", async || {
        (chat.ok("chat.send", params.clone()).await["status"] == "ok").then_some(())
    })
    .await;
    let history = chat.ok("chat.history", json!({"sessionKey": "main"})).await;
    let roles: Vec<_> =
        history["messages"].as_array().unwrap().iter().map(|row| row["role"].clone()).collect();
    assert_eq!(roles, ["user", "assistant"], "{history}");
    assert!(history["messages"][1].to_string().contains("survived"), "{history}");
}

#[actix_web::test]
async fn sigterm_in_the_middle_of_a_turn_loses_nothing() {
    let mut world = World::start().await;
    world.models.then(Answer::slowly(&["slow-", "but-", "sure"], Duration::from_millis(300)));
    // If the turn is cut short in spite of the drain, it is run again after the start.
    world.telegram.say(OWNER, "SAY slow-but-sure");
    model_thinks(&world).await;
    world.gateway.terminate();
    assert_eq!(world.gateway.ended().await.code(), Some(0));
    let world = world.crash().await;
    world.shown(OWNER, "slow-but-sure").await;
    assert_eq!(http::get(world.gateway.port, "/readyz").await.status, 200);
}
