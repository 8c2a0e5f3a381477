//! What the model does with tools, and what becomes of it when things go wrong.

use super::*;
use crate::agent::approvals::Decision;
use crate::agent::fake_models::Answer;
use crate::inbound::MediaKind;

const RUN: &str = "CALL exec {\"command\":\"uname -a\"}";

#[actix::test]
async fn a_command_runs_on_the_node_and_its_output_comes_back() {
    let world = World::new();
    world.nodes.runs("uname -a", "Linux pi\n", "off");
    assert_eq!(world.answer(RUN).await, "REPLY: done.\nTool said: Linux pi");
    assert_eq!(world.nodes.commands(), ["system.run.prepare", "system.run"]);
    let calls = world.nodes.calls.borrow().clone();
    assert_eq!(calls[0].params["command"], json!(["/bin/sh", "-lc", "uname -a"]));
    assert_eq!(calls[1].params["systemRunPlan"]["argv"], calls[1].params["command"]);
    assert_eq!(calls[1].params["cwd"], "/home/pi");
    assert!(calls[1].params.get("approved").is_none());
    assert_eq!(world.roles().await, ["user", "assistant", "toolResult", "assistant"]);
    assert_eq!(world.models.refusals(), Vec::<String>::new());
}

#[actix::test]
async fn a_call_that_was_under_way_at_a_crash_keeps_its_key() {
    let mut world = World::new();
    world.nodes.runs("uname -a", "Linux pi\n", "off");
    world.nodes.hang.borrow_mut().push("system.run".into());
    let run_id = world.say(RUN).await;
    world.until("the command was sent", |world| world.nodes.commands().len() == 2).await;
    world.nodes.hang.borrow_mut().clear();
    world.nodes.fail("system.run", "`system.run` was sent once already, and nobody knows how it ended", true);
    world.crash().await;
    let RunStatus::Ok { text, .. } = world.end(&run_id).await else { panic!("an answer") };
    assert!(text.contains("nobody knows how it ended"), "{text}");
    let calls = world.nodes.calls.borrow().clone();
    let keys: Vec<&String> =
        calls.iter().filter(|call| call.command == "system.run").map(|call| &call.key).collect();
    assert_eq!((keys.len(), keys[0] == keys[1]), (2, true));
    assert_eq!(world.models.requests().len(), 2);
    assert_eq!(world.outbox().await.len(), 1);
}

#[actix::test]
async fn a_command_that_ended_before_a_crash_is_not_prepared_again() {
    let world = World::new();
    let call = || Answer::call("call_1", "exec", json!({"command": "uname -a"}));
    for (end, expected) in [
        (Ok(json!({"exitCode": 0, "success": true, "stdout": "Linux pi"})), "Linux pi"),
        (
            Err(NodeFailure { message: "nobody knows how it ended".into(), may_have_run: true }),
            "nobody knows how it ended",
        ),
    ] {
        let inbound = message("go");
        world.nodes.recalled.borrow_mut().insert(format!("{}:call_1:system.run", inbound.run_id), end);
        world.models.then(call()).then(Answer::text("done"));
        let run_id = world.accept(inbound).await;
        assert!(matches!(world.end(&run_id).await, RunStatus::Ok { .. }));
        assert!(world.models.last().body.to_string().contains(expected));
    }
    assert!(world.nodes.commands().is_empty());
}

#[actix::test]
async fn in_a_group_the_question_names_the_bot_that_has_to_hear_the_answer() {
    let world = World::new();
    let mut status = crate::channels::ChannelStatus::new("default");
    status.name = Some("my_bot".into());
    world.gateway.channels.set("telegram", "default", crate::channels::ChannelHandle::new(status));
    world.nodes.runs("uname -a", "never", "always");
    let mut inbound = message(RUN);
    inbound.session_key = "agent:main:telegram:group:-5".into();
    inbound.route.as_mut().unwrap().kind = ChatKind::Group;
    world.accept(inbound).await;
    world.until("somebody is asked", |world| !world.gateway.approvals.list().is_empty()).await;
    let id = world.gateway.approvals.list()[0]["id"].as_str().unwrap().to_owned();
    world.until("the chat is told", |world| *world.channels.flushed.borrow() > 0).await;
    let told = world.outbox().await;
    assert!(told[0].text.as_ref().unwrap().contains(&format!("/approve@my_bot {id}")), "{told:?}");
}

#[actix::test]
async fn ids_that_repeat_from_turn_to_turn_never_share_a_key() {
    let world = World::new();
    world.nodes.answer("system.which", json!({"bins": {}}));
    let call = || Answer::call("call_0", "nodes", json!({"action": "which", "bins": ["sh"]}));
    world.models.then(call()).then(call()).then(Answer::text("done"));
    assert_eq!(world.answer("go").await, "done");
    let calls = world.nodes.calls.borrow().clone();
    assert_eq!(calls.len(), 2);
    assert_ne!(calls[0].key, calls[1].key);
}

#[actix::test]
async fn a_picture_of_a_node_goes_to_the_model_and_to_the_chat() {
    let world = World::new();
    world
        .nodes
        .answer("camera.snap", json!({"format": "jpg", "base64": "/9j/4AECAw==", "width": 2, "height": 2}));
    world.answer("CALL nodes {\"action\":\"camera_snap\",\"facing\":\"back\"}").await;
    let body = world.models.last().body;
    assert!(body.to_string().contains("data:image/jpeg;base64,/9j/4AECAw=="));
    let outbox = world.outbox().await;
    assert_eq!((outbox.len(), outbox[0].media.len(), outbox[0].media[0].kind), (1, 1, MediaKind::Image));
    let stored = world.gateway.settings.paths().media().join(&outbox[0].media[0].path);
    assert_eq!(std::fs::read(stored).unwrap()[..3], [0xFF, 0xD8, 0xFF]);
    let params = json!({"maxWidth": 1600, "quality": 0.95, "format": "jpg"});
    assert_eq!(world.nodes.calls.borrow()[0].params, params);
    assert_eq!(world.models.refusals(), Vec::<String>::new());
}

#[actix::test]
async fn both_sides_of_a_phone_are_two_pictures() {
    let world = World::new();
    *world.nodes.platform.borrow_mut() = Some("ios");
    world
        .nodes
        .answer("camera.snap", json!({"format": "jpg", "base64": "/9j/4AECAw==", "width": 2, "height": 2}));
    world.answer("CALL nodes {\"action\":\"camera_snap\",\"facing\":\"both\"}").await;
    let calls = world.nodes.calls.borrow().clone();
    let sides: Vec<&Value> = calls.iter().map(|call| &call.params["facing"]).collect();
    assert_eq!(sides, ["front", "back"]);
    assert_ne!(calls[0].key, calls[1].key);
    assert_eq!(world.outbox().await[0].media.len(), 2);
}

#[actix::test]
async fn a_command_that_needs_approval_runs_once_a_person_said_yes() {
    let world = World::new();
    world.nodes.runs("uname -a", "", "on-miss");
    world.nodes.fail("system.run", "UNAVAILABLE: SYSTEM_RUN_DENIED: approval required", false);
    let run_id = world.say(RUN).await;
    world.until("somebody is asked", |world| !world.gateway.approvals.list().is_empty()).await;
    let open = world.gateway.approvals.list();
    assert_eq!(open[0]["request"]["systemRunPlan"]["argv"][2], "uname -a");
    let id = open[0]["id"].as_str().unwrap().to_owned();
    world.gateway.approvals.resolve(&world.gateway, &id, Decision::AllowOnce, "cli").unwrap();
    assert!(matches!(world.end(&run_id).await, RunStatus::Ok { text, .. } if text.contains("approved run")));
    let calls = world.nodes.calls.borrow().clone();
    let last = &calls[calls.len() - 1];
    assert_eq!(
        (last.params["runId"].as_str(), last.params["approvalDecision"].as_str()),
        (Some(id.as_str()), Some("allow-once"))
    );
    let told = world.outbox().await;
    assert!(told[0].text.as_ref().unwrap().contains(&format!("/approve {id}")));
}

#[actix::test]
async fn a_no_from_the_chat_is_a_no_and_nothing_runs() {
    let world = World::new();
    world.nodes.runs("uname -a", "never", "always");
    let run_id = world.say(RUN).await;
    world.until("somebody is asked", |world| !world.gateway.approvals.list().is_empty()).await;
    let id = world.gateway.approvals.list()[0]["id"].as_str().unwrap().to_owned();
    assert_eq!(world.answer(&format!("/approve {id} deny")).await, "Denied.");
    assert!(
        matches!(world.end(&run_id).await, RunStatus::Ok { text, .. } if text.contains("exec denied: user-denied"))
    );
    assert_eq!(world.nodes.commands(), ["system.run.prepare"]);
}

#[actix::test]
async fn a_stopped_run_takes_its_question_back() {
    let world = World::new();
    world.nodes.runs("uname -a", "never", "always");
    let run_id = world.say(RUN).await;
    world.until("somebody is asked", |world| !world.gateway.approvals.list().is_empty()).await;
    world.answer("/stop").await;
    assert_eq!(world.end(&run_id).await, RunStatus::Aborted);
    assert!(world.gateway.approvals.list().is_empty());
    // The call without a result does not spoil the conversation.
    assert_eq!(world.answer("hello").await, "REPLY: hello");
    assert_eq!(world.models.refusals(), Vec::<String>::new());
}

#[actix::test]
async fn the_message_tool_goes_through_the_outbox() {
    let world = World::new();
    world.answer("CALL message {\"message\":\"ping\",\"to\":777,\"threadId\":42}").await;
    let read = world.gateway.store.read(|db| {
        Ok(db.query_row("SELECT thread FROM outbox WHERE chat = '777'", [], |row| row.get::<_, String>(0))?)
    });
    assert_eq!(read.await.unwrap(), "42");
    let outbox = world.outbox().await;
    assert_eq!(outbox.iter().filter_map(|m| m.text.as_deref()).next(), Some("ping"));
    assert_eq!(outbox.len(), 2);
    let answer =
        world.answer("CALL message {\"message\":\"ping\",\"to\":\"1\",\"channel\":\"pigeon\"}").await;
    assert!(answer.contains("of a channel `pigeon`"), "{answer}");
}

#[actix::test]
async fn nonsense_from_the_model_is_answered_with_an_error_it_can_read() {
    let world = World::new();
    let answer = world.answer("CALL nodes {\"action\":\"fly\"}").await;
    assert!(answer.contains("there is no action `fly`"), "{answer}");
    let answer = world.answer("CALL teleport {}").await;
    assert!(answer.contains("there is no tool `teleport`"), "{answer}");
    let answer = world.answer("CALL nodes {\"action\":\"invoke\",\"node\":\"pi\",\"invokeCommand\":\"system.execApprovals.set\"}").await;
    assert!(answer.contains("can't be changed from here"), "{answer}");
    assert!(world.nodes.calls.borrow().is_empty());
}
