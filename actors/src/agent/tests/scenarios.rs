//! Messages, commands, queues, stops and crashes.

use super::*;
use crate::agent::fake_models::{Answer, Step};
use crate::agent::{AbortRuns, ListRuns};
use crate::channels::Phase;

#[actix::test]
async fn a_message_is_answered_through_the_outbox_and_settled() {
    let world = World::new();
    assert_eq!(world.answer("hello").await, "REPLY: hello");
    let outbox = world.outbox().await;
    assert_eq!((outbox.len(), outbox[0].text.as_deref()), (1, Some("REPLY: hello")));
    assert_eq!(*world.channels.flushed.borrow(), 1);
    assert!(world.gateway.store.pending_ingress().await.unwrap().is_empty());
    assert_eq!(world.roles().await, ["user", "assistant"]);
    let phases: Vec<Phase> = world.channels.progress.borrow().iter().map(|p| p.phase.clone()).collect();
    assert_eq!((phases.first(), phases.last()), (Some(&Phase::Started), Some(&Phase::Finished)));
    assert!(phases.contains(&Phase::Draft { text: "REPLY: hello".into() }));
    assert_eq!(world.models.refusals(), Vec::<String>::new());
}

#[actix::test]
async fn the_model_sees_the_conversation_and_new_begins_another() {
    let world = World::new();
    world.answer("first").await;
    world.answer("second").await;
    let body = world.models.last().body;
    let texts: Vec<&str> =
        body["messages"].as_array().unwrap().iter().filter_map(|m| m["content"].as_str()).collect();
    assert!(
        texts[1].ends_with("] first") && texts[2] == "REPLY: first" && texts[3].ends_with("] second"),
        "{texts:?}"
    );
    assert!(world.answer("/new").await.contains("fresh conversation"));
    assert_eq!(world.answer("/new third").await, "REPLY: third");
    assert_eq!(world.models.last().body["messages"].as_array().unwrap().len(), 2);
}

#[actix::test]
async fn a_conversation_that_was_silent_for_long_starts_afresh() {
    let reset = json!({"mode": "idle", "idleMinutes": 60});
    let world = World::with(
        json!({"session": {"reset": reset}, "agents": {"defaults": {"userTimezone": "Asia/Tokyo"}}}),
    );
    world.answer("alpha").await;
    world.answer("second").await;
    let body = world.models.last().body.to_string();
    assert!(body.contains("alpha") && body.contains("JST"), "{body}");
    let earlier = world
        .gateway
        .store
        .write(|db| Ok(db.execute_batch("UPDATE transcript SET created_at = created_at - 2 * 3600 * 1000")?));
    earlier.await.unwrap();
    world.answer("third").await;
    assert!(!world.models.last().body.to_string().contains("alpha"));
    assert_eq!(world.roles().await, ["user", "assistant"]);
}

#[actix::test]
async fn commands_work_without_a_model_and_a_message_says_how_to_add_one() {
    let world = World::with(json!({"agents": {"defaults": {"model": {"primary": "nobody/x"}}}}));
    world.nodes.answer("system.which", json!({"bins": {"sh": "/bin/sh"}}));
    assert!(world.answer("/help").await.contains("/invoke"));
    assert!(world.answer("/status").await.contains("Model: none."));
    assert!(world.answer("/nodes").await.contains("pi (b1e1338d087d): linux, connected"));
    assert!(world.answer("/whoami").await.contains("You are the owner"));
    let invoked = world.answer("/invoke pi system.which {\"bins\":[\"sh\"]}").await;
    assert!(invoked.contains("\"/bin/sh\""), "{invoked}");
    assert_eq!(world.nodes.calls.borrow()[0].params, json!({"bins": ["sh"]}));
    let RunStatus::Error { message } = world.ask("hello").await else { panic!("a failure") };
    assert!(message.contains("`nobody`, which is not configured"), "{message}");
    let RunStatus::Error { message } = world.ask("/invoke pi nonsense").await else { panic!("a failure") };
    assert!(message.contains("not declared"), "{message}");
    assert_eq!(world.outbox().await.last().unwrap().text, Some(format!("⚠️ {message}")));
    assert!(world.models.requests().is_empty());
}

#[actix::test]
async fn guests_may_look_but_not_touch() {
    let world = World::new();
    let mut inbound = message("/invoke pi system.which");
    inbound.sender.owner = false;
    let run_id = world.accept(inbound).await;
    assert!(
        matches!(world.end(&run_id).await, RunStatus::Error { message } if message.starts_with("Only the owner"))
    );
    let mut inbound = message("CALL exec {\"command\":\"id\"}");
    inbound.sender.owner = false;
    let run_id = world.accept(inbound).await;
    let RunStatus::Ok { text, .. } = world.end(&run_id).await else { panic!("an answer") };
    assert!(text.contains("there is no tool `exec`"), "{text}");
    assert!(world.models.requests()[0].body.get("tools").is_none());
    assert!(world.nodes.calls.borrow().is_empty());
}

#[actix::test]
async fn failures_of_the_model_are_told_in_one_sentence() {
    let world = World::new();
    world.models.only_models(&["other"]);
    let RunStatus::Error { message } = world.ask("hello").await else { panic!("an error") };
    assert!(message.contains("has no model called `m`"), "{message}");
    assert_eq!(world.outbox().await[0].text.as_deref(), Some(format!("⚠️ {message}").as_str()));
    world.models.only_models(&[]);
    assert_eq!(world.answer("again").await, "REPLY: again");
    // The failed turn's complaint is not shown to the model.
    assert!(!world.models.last().body.to_string().contains("no model called"));
}

#[actix::test]
async fn one_session_runs_in_order_and_others_beside_it() {
    let world = World::new();
    world.models.then(Answer::slowly(&["one"], Duration::from_millis(400)));
    let first = world.say("first").await;
    let second = world.say("second").await;
    world.until("the first is asked", |world| world.models.requests().len() == 1).await;
    let mut other = message("other");
    other.session_key = "agent:main:telegram:group:-7".into();
    let third = world.accept(other).await;
    assert!(matches!(world.end(&third).await, RunStatus::Ok { text, .. } if text == "REPLY: other"));
    let load = world.agent.send(ListRuns).await.unwrap();
    assert_eq!((load.running.len(), load.waiting), (1, 1));
    assert!(matches!(world.end(&first).await, RunStatus::Ok { text, .. } if text == "one"));
    assert!(matches!(world.end(&second).await, RunStatus::Ok { text, .. } if text == "REPLY: second"));
    let texts: Vec<Option<String>> = world.outbox().await.into_iter().map(|message| message.text).collect();
    assert_eq!(texts.iter().flatten().collect::<Vec<_>>(), ["REPLY: other", "one", "REPLY: second"]);
}

#[actix::test]
async fn an_abort_keeps_what_was_said_and_ends_what_waits() {
    let world = World::new();
    let running = world.say("LONG 200").await;
    let waiting = world.say("never").await;
    world
        .until("text is shown", |world| {
            world
                .channels
                .progress
                .borrow()
                .iter()
                .any(|p| matches!(&p.phase, Phase::Draft { text } if text.contains("word2")))
        })
        .await;
    let abort = AbortRuns { session_key: Some("agent:main:main".into()), run_id: None, reason: "rpc" };
    let outcome = world.agent.send(abort).await.unwrap();
    assert_eq!((outcome.aborted, outcome.run_ids.len()), (true, 2));
    assert_eq!(
        (world.end(&running).await, world.end(&waiting).await),
        (RunStatus::Aborted, RunStatus::Aborted)
    );
    assert!(world.outbox().await.is_empty());
    assert_eq!(world.roles().await, ["user", "assistant"]);
    world.until("the stream is dropped", |world| world.models.open_streams() == 0).await;
    assert_eq!(world.answer("hello").await, "REPLY: hello");
}

#[actix::test]
async fn stop_stops_the_session_it_was_said_in() {
    let world = World::new();
    assert_eq!(world.answer("/stop").await, "Nothing is running.");
    let run_id = world.say("SILENT").await;
    world.until("the model is asked", |world| world.models.requests().len() == 1).await;
    assert_eq!(world.answer("/stop").await, "Stopped.");
    assert_eq!(world.end(&run_id).await, RunStatus::Aborted);
}

#[actix::test]
async fn what_was_pending_at_a_crash_is_answered_once_after_it() {
    let mut world = World::new();
    world.models.then(Answer::text("half").and(Step::Silence));
    let run_id = world.say("hello").await;
    world.until("the model is asked", |world| world.models.requests().len() == 1).await;
    world.crash().await;
    assert!(matches!(world.end(&run_id).await, RunStatus::Ok { text, .. } if text == "REPLY: hello"));
    assert_eq!(world.outbox().await.len(), 1);
    assert_eq!(world.roles().await, ["user", "assistant"]);
    world.crash().await;
    // What was pending would come first.
    assert_eq!(world.answer("more").await, "REPLY: more");
    assert_eq!((world.outbox().await.len(), world.models.requests().len()), (2, 3));
}

#[actix::test]
async fn a_run_that_crashes_after_its_answer_was_stored_has_answered() {
    let world = World::new();
    world.channels.flush_panics.set(true);
    assert_eq!(world.answer("hello").await, "REPLY: hello");
    world.channels.flush_panics.set(false);
    assert_eq!(world.answer("again").await, "REPLY: again");
    // An answer that was given twice would have been given before this one.
    let answers = world.outbox().await.len();
    assert_eq!((*world.channels.flushed.borrow(), answers), (2, 2));
}

#[actix::test]
async fn a_message_that_cannot_be_settled_is_put_aside_until_the_next_start() {
    let mut world = World::new();
    let sql = |sql: &'static str| world.gateway.store.write(move |db| Ok(db.execute_batch(sql)?));
    sql("CREATE TRIGGER broken BEFORE UPDATE ON ingress BEGIN SELECT RAISE(ABORT, 'broken'); END")
        .await
        .unwrap();
    let run_id = world.say("hello").await;
    let ended = world.end(&run_id).await;
    assert!(matches!(&ended, RunStatus::Error { message } if message.contains("put aside")), "{ended:?}");
    let asked = world.models.requests().len();
    assert!(asked <= 6, "{asked}");
    let load = world.agent.send(ListRuns).await.unwrap();
    assert_eq!((load.running.len(), load.waiting), (0, 0), "nothing is left that could ask again");
    assert_eq!((world.models.requests().len(), world.outbox().await.len()), (asked, 0));
    sql("DROP TRIGGER broken").await.unwrap();
    world.crash().await;
    assert!(matches!(world.end(&run_id).await, RunStatus::Ok { text, .. } if text == "REPLY: hello"));
    assert_eq!(world.outbox().await.len(), 1);
}

#[actix::test]
async fn a_conversation_that_grows_too_long_is_summarised() {
    let provider = json!({"models": [{"id": "m", "contextWindow": 6000, "maxTokens": 500}]});
    let world = World::with(json!({"models": {"providers": {"fake": provider}}}));
    for n in 0..8 {
        let asked = world.ask(&format!("BRIEFLY question {n}: {}", "blah ".repeat(700))).await;
        assert!(matches!(asked, RunStatus::Ok { .. }), "{asked:?}");
    }
    assert!(world.roles().await.contains(&"summary".to_owned()));
    let body = world.models.last().body.to_string();
    assert!(
        body.contains("Summary of the conversation so far") && !body.contains("question 0"),
        "{}",
        body.len()
    );
    assert!(body.len() / 4 < 6000);
    assert_eq!(world.models.refusals(), Vec::<String>::new());
}

#[actix::test]
async fn a_long_tool_loop_stays_within_the_window() {
    const WINDOW: usize = 12_000;
    let provider = json!({"models": [{"id": "m", "contextWindow": WINDOW, "maxTokens": 500}]});
    let world = World::with(json!({"models": {"providers": {"fake": provider}}}));
    for _ in 0..2 {
        world.answer(&format!("BRIEFLY before: {}", "blah ".repeat(2500))).await;
    }
    world.nodes.runs("cat log", &"a line of some log\n".repeat(2000), "off");
    world.models.then(Answer::call("c", "exec", json!({"command": "cat log"})));
    world.models.then(Answer::text("SUMMARY"));
    for step in 0..12 {
        world.models.then(Answer::call(&format!("c{step}"), "exec", json!({"command": "cat log"})));
    }
    world.models.then(Answer::text("read it all"));
    let first = world.models.requests().len();
    assert_eq!(world.answer("read the log to its end").await, "read it all");
    let requests = world.models.requests();
    // Each step is asked for once, and what was before is summarised once.
    assert_eq!(requests.len(), first + 15);
    for request in &requests {
        let tokens = request.body.to_string().len() / 4;
        assert!(tokens < WINDOW, "{tokens} of {WINDOW}");
    }
    let last = requests.last().unwrap().body.to_string();
    assert!(last.contains("read the log to its end") && last.contains("the rest is left out"), "{last}");
    assert_eq!(world.models.refusals(), Vec::<String>::new());
}

#[actix::test]
async fn an_overflow_that_nobody_foresaw_is_survived() {
    let world = World::new();
    for n in 0..4 {
        world.answer(&format!("message {n}")).await;
    }
    world.models.then(Answer::error(400, "maximum context length exceeded"));
    world.models.then(Answer::text("SHORT"));
    assert_eq!(world.answer("last").await, "REPLY: last");
}

#[actix::test]
async fn an_unknown_run_is_unknown_and_a_long_one_times_out() {
    let world = World::new();
    assert_eq!(world.end("nope").await, RunStatus::Unknown);
    let run_id = world.say("SILENT").await;
    let wait = AwaitRun { run_id, timeout: Duration::from_millis(50) };
    assert_eq!(world.agent.send(wait).await.unwrap(), RunStatus::Timeout);
}

#[actix::test]
async fn a_message_may_ask_for_thinking() {
    let world = World::with(json!({"agents": {"defaults": {"thinkingDefault": "low"}}}));
    let mut inbound = message("hello");
    inbound.thinking = Some("high".into());
    let run_id = world.accept(inbound).await;
    world.end(&run_id).await;
    assert_eq!(world.models.last().body["reasoning_effort"], "high");
    world.answer("hello").await;
    assert_eq!(world.models.last().body["reasoning_effort"], "low");
}

#[actix::test]
async fn a_run_has_its_time() {
    let world = World::new();
    let mut inbound = message("SILENT");
    inbound.timeout_ms = Some(100);
    let run_id = world.accept(inbound).await;
    assert!(
        matches!(world.end(&run_id).await, RunStatus::Error { message } if message.contains("longer than allowed"))
    );
}

#[actix::test]
async fn in_a_shared_conversation_only_owners_end_what_others_are_at() {
    let guest = |text: &str| {
        let mut inbound = message(text);
        inbound.sender.owner = false;
        inbound
    };
    let world = World::with(json!({"commands": {"ownerAllowFrom": ["telegram:1"]}}));
    world.models.then(Answer::silent());
    let run_id = world.say("think about it").await;
    world.until("the model is asked", |world| world.models.requests().len() == 1).await;
    for command in ["/stop", "/new", "/reset", "/compact"] {
        let refused = world.accept(guest(command)).await;
        let refused = world.end(&refused).await;
        assert!(
            matches!(&refused, RunStatus::Ok { text, .. } if text.contains("only an owner")),
            "{refused:?}"
        );
    }
    world.answer("/stop").await;
    assert_eq!(world.end(&run_id).await, RunStatus::Aborted);

    let world = World::new();
    let run_id = world.accept(guest("/new")).await;
    let fresh = world.end(&run_id).await;
    assert!(matches!(&fresh, RunStatus::Ok { text, .. } if text.contains("fresh")), "{fresh:?}");
}

#[actix::test]
async fn a_model_that_calls_tools_for_ever_is_stopped_after_as_many_turns_as_it_is_told() {
    let world = World::new();
    for n in 0..70 {
        world.models.then(Answer::call(&format!("c{n}"), "nodes", json!({"action": "status"})));
    }
    let ended = world.ask("go").await;
    assert!(matches!(&ended, RunStatus::Error { message } if message.contains("60 times")), "{ended:?}");
    assert_eq!(world.models.requests().len(), 60);
}

#[actix::test]
async fn a_picture_that_a_command_brings_goes_to_the_chat_as_one() {
    let world = World::new();
    world
        .nodes
        .answer("camera.snap", json!({"format": "jpg", "base64": "/9j/4AECAw==", "width": 2, "height": 2}));
    let text = world.answer("/invoke pi camera.snap").await;
    assert!(text.contains("[7 bytes]") && !text.contains("/9j/"), "{text}");
    let outbox = world.outbox().await;
    assert_eq!((outbox.len(), outbox[0].media.len(), outbox[0].media[0].mime.as_str()), (1, 1, "image/jpeg"));
}
