//! Messages that come while a run of their conversation works: `messages.queue`.

use super::*;
use crate::agent::AbortRuns;
use crate::agent::fake_models::{Answer, Step};

/// An answer that takes its time and then calls a tool.
fn slow_call() -> Answer {
    let arguments = json!({"action": "status"});
    Answer::text("a moment").and(Step::Pause(Duration::from_millis(400))).then_call("c1", "nodes", arguments)
}

#[actix::test]
async fn a_message_that_comes_while_a_run_works_steers_it() {
    let world = World::new();
    world.models.then(slow_call()).then(Answer::text("both done"));
    let first = world.say("first").await;
    world.until("the model is asked", |world| world.models.requests().len() == 1).await;
    let second = world.say("second").await;
    for run_id in [&first, &second] {
        let ended = world.end(run_id).await;
        assert!(matches!(&ended, RunStatus::Ok { text, .. } if text == "both done"), "{ended:?}");
    }
    assert_eq!(world.roles().await, ["user", "assistant", "toolResult", "user", "assistant"]);
    assert!(world.models.last().body.to_string().contains("second"));
    assert_eq!((world.models.requests().len(), world.outbox().await.len()), (2, 1));
    assert!(world.gateway.store.pending_ingress().await.unwrap().is_empty());
    assert_eq!(world.models.refusals(), Vec::<String>::new());
}

#[actix::test]
async fn what_had_joined_a_run_that_was_cut_short_is_answered_with_it_afterwards() {
    let mut world = World::new();
    world.models.then(slow_call()).then(Answer::silent());
    let first = world.say("first").await;
    world.until("the model is asked", |world| world.models.requests().len() == 1).await;
    let second = world.say("second").await;
    world.until("it is asked again", |world| world.models.requests().len() == 2).await;
    world.models.then(Answer::text("both done"));
    world.crash().await;
    for run_id in [&first, &second] {
        assert!(matches!(world.end(run_id).await, RunStatus::Ok { text, .. } if text == "both done"));
    }
    assert_eq!(world.outbox().await.len(), 1);
    assert_eq!(world.roles().await, ["user", "assistant", "toolResult", "user", "assistant"]);
}

#[actix::test]
async fn collected_messages_become_one_turn() {
    let world = World::with(json!({"messages": {"queue": {"byChannel": {"telegram": "collect"}}}}));
    world.models.then(Answer::slowly(&["one"], Duration::from_millis(400)));
    let first = world.say("first").await;
    world.until("the first is asked", |world| world.models.requests().len() == 1).await;
    let (second, third) = (world.say("second").await, world.say("third").await);
    assert!(matches!(world.end(&first).await, RunStatus::Ok { text, .. } if text == "one"));
    for run_id in [&second, &third] {
        assert!(matches!(world.end(run_id).await, RunStatus::Ok { text, .. } if text == "REPLY: third"));
    }
    assert_eq!(world.roles().await, ["user", "assistant", "user", "user", "assistant"]);
    assert_eq!((world.models.requests().len(), world.outbox().await.len()), (2, 2));
}

#[actix::test]
async fn an_interruption_loses_no_words() {
    let world = World::with(json!({"messages": {"queue": {"mode": "interrupt"}}}));
    let first = world.say("SILENT").await;
    world.until("the first is asked", |world| world.models.requests().len() == 1).await;
    let (second, third) = (world.say("second").await, world.say("third").await);
    assert_eq!(world.end(&first).await, RunStatus::Aborted);
    for run_id in [&second, &third] {
        assert!(matches!(world.end(run_id).await, RunStatus::Ok { text, .. } if text == "REPLY: third"));
    }
    let body = world.models.last().body.to_string();
    assert!(body.contains("SILENT") && body.contains("second"), "{body}");
}

#[actix::test]
async fn a_flood_is_bounded_and_everyone_is_answered() {
    let world = World::with(json!({"messages": {"queue": {"mode": "followup", "cap": 2, "drop": "new"}}}));
    let first = world.say("SILENT").await;
    world.until("the first is asked", |world| world.models.requests().len() == 1).await;
    let mut others = Vec::new();
    for n in 0..6 {
        others.push(world.say(&format!("m{n}")).await);
    }
    let mut refused = 0;
    for run_id in &others[2..] {
        let ended = world.end(run_id).await;
        refused += usize::from(matches!(ended, RunStatus::Error { message } if message.contains("Too many")));
    }
    assert_eq!((refused, world.outbox().await.len()), (4, 4));
    let abort = AbortRuns { session_key: None, run_id: Some(first), reason: "rpc" };
    world.agent.send(abort).await.unwrap();
    for run_id in &others[..2] {
        assert!(matches!(world.end(run_id).await, RunStatus::Ok { .. }));
    }
    assert!(world.gateway.store.pending_ingress().await.unwrap().is_empty());
}

#[actix::test]
async fn a_message_that_is_interrupted_before_it_began_is_not_forgotten() {
    let world = World::with(json!({"messages": {"queue": {"byChannel": {"telegram": "interrupt"}}}}));
    let (mut first, second) = (message("look at the first"), message("and at the second"));
    let picture = crate::inbound::AttachmentSource::Channel { file_id: "p".into() };
    first.attachments = vec![crate::inbound::Attachment {
        kind: crate::inbound::MediaKind::Image,
        mime: "image/jpeg".into(),
        file_name: None,
        size: None,
        source: picture,
    }];
    let run_ids = [first.run_id.clone(), second.run_id.clone()];
    let arrivals = [first, second].map(|inbound| Arrival::Message(Box::new(inbound)));
    for accepted in world.gateway.store.accept(arrivals.to_vec(), None).await.unwrap() {
        let Accepted::New(row) = accepted else { panic!("two new messages") };
        world.agent.do_send(Arrived(*row));
    }
    assert_eq!(world.end(&run_ids[0]).await, RunStatus::Aborted);
    assert!(matches!(world.end(&run_ids[1]).await, RunStatus::Ok { .. }));
    assert_eq!(world.roles().await, ["user", "user", "assistant"]);
    let asked = world.models.last().body.to_string();
    assert!(asked.contains("look at the first") && asked.contains("data:image/jpeg"), "{asked}");
}
