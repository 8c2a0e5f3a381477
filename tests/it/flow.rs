//! The main job, end to end: somebody asks, the agent runs a tool on a node, and the answer comes back to the chat
//! and topic that asked. With our own node host and with the official one, unmodified.

use crate::support::fake_models::Answer;
use crate::support::node_host::{NativeNode, ready};
use crate::support::official::Official;
use crate::support::world::{FORUM, OWNER, TOPIC, World, ask_node};
use crate::support::{Node, eventually};
use serde_json::{Value, json};

/// The model asks the node, and answers with a text that the test waits for.
fn script(world: &World, node: &str, answer: &str) {
    world.models.then(ask_node(&format!("call_{answer}"), node)).then(Answer::text(answer));
}

/// What the model was shown as the result of its tool call.
pub fn tool_result(world: &World) -> String {
    let requests = world.models.requests();
    let messages = requests.iter().rev().flat_map(|request| request.body["messages"].as_array().cloned());
    let result = messages.flatten().find(|message| message["role"] == "tool");
    result.unwrap_or_else(|| panic!("no tool result: {:?}", world.models.last().body))["content"].to_string()
}

fn assert_used_node(world: &World) {
    let result = tool_result(world);
    assert!(result.contains("/ls"), "the node's answer did not reach the model: {result}");
    assert_eq!(world.models.refusals(), [] as [String; 0]);
}

async fn telegram_flow(world: &World, node: &str) {
    script(world, node, "direct-answer");
    world.telegram.say(OWNER, "where is ls?");
    world.shown(OWNER, "direct-answer").await;
    assert_used_node(world);

    script(world, node, "topic-answer");
    world.telegram.message(
        FORUM,
        OWNER,
        json!({"text": "where is ls?", "message_thread_id": TOPIC, "is_topic_message": true}),
    );
    world.shown(FORUM, "topic-answer").await;
    let shown = world.telegram.shown(FORUM);
    let answer = shown.iter().find(|message| message.text.contains("topic-answer")).unwrap();
    assert_eq!(answer.thread, Some(TOPIC), "the answer went to another topic");
    world.settled().await;
    assert_eq!((world.count(OWNER, "direct-answer"), world.count(FORUM, "topic-answer")), (1, 1));
    assert_eq!(world.telegram.unknown_params(), [] as [String; 0]);
}

#[actix_web::test]
async fn telegram_to_our_node_host_and_back() {
    let world = World::start().await;
    let _node = NativeNode::start(&world.gateway, "kitchen");
    ready(&world.gateway, "kitchen").await;
    telegram_flow(&world, "kitchen").await;
}

#[actix_web::test]
async fn telegram_to_the_official_node_host_and_back() {
    let world = World::start().await;
    let official = Official::of(&world.gateway);
    let _node = official.node_host("garage");
    ready(&world.gateway, "garage").await;
    telegram_flow(&world, "garage").await;
}

#[actix_web::test]
async fn webchat_to_both_node_hosts_and_back() {
    let world = World::start().await;
    let official = Official::of(&world.gateway);
    let _nodes = (NativeNode::start(&world.gateway, "kitchen"), official.node_host("garage"));
    for node in ["kitchen", "garage"] {
        ready(&world.gateway, node).await;
        script(&world, node, "chat-answer");
        let mut chat = world.operator().await;
        let params = json!({"sessionKey": "main", "message": "where is ls?", "idempotencyKey": node});
        let started = chat.ok("chat.send", params.clone()).await;
        assert_eq!((&started["runId"], &started["status"]), (&json!(node), &json!("started")));
        let done =
            chat.event_where("chat", |event| event["runId"] == node && event["state"] == "final").await;
        assert!(done["message"].to_string().contains("chat-answer"), "{done}");
        assert_used_node(&world);
        let again = chat.ok("chat.send", params).await;
        assert_eq!(again["status"], "ok", "the same key started a second run");
        let history = chat.ok("chat.history", json!({"sessionKey": "main"})).await;
        assert!(history["messages"].to_string().contains("chat-answer"));
    }
}

#[actix_web::test]
async fn the_agent_command_to_our_node_host_and_back() {
    let world = World::start().await;
    let _node = NativeNode::start(&world.gateway, "kitchen");
    ready(&world.gateway, "kitchen").await;
    script(&world, "kitchen", "command-answer");
    let answer = world.gateway.cli(&["agent", "--message", "where is ls?"]).await;
    let stdout = String::from_utf8_lossy(&answer.stdout);
    assert!(answer.status.success(), "{stdout}{}", String::from_utf8_lossy(&answer.stderr));
    assert!(stdout.contains("command-answer"), "{stdout}");
    assert_used_node(&world);
}

#[actix_web::test]
async fn a_command_runs_on_our_node_host_once_its_owner_allows_it() {
    let world = World::start().await;
    let _node = NativeNode::start(&world.gateway, "kitchen");
    let id = ready(&world.gateway, "kitchen").await;
    allow_everything(&world, &id).await;
    let arguments = json!({"command": "echo from-the-$((40 + 2))", "host": "node", "node": "kitchen"});
    world.models.then(Answer::call("call_exec", "exec", arguments)).then(Answer::text("exec-answer"));
    world.telegram.say(OWNER, "run it");
    world.shown(OWNER, "exec-answer").await;
    let result = tool_result(&world);
    assert!(result.contains("from-the-42"), "{result}");
}

#[actix_web::test]
async fn a_command_runs_on_the_official_node_host_once_its_owner_allows_it() {
    let world = World::start().await;
    let official = Official::of(&world.gateway);
    let _node = official.node_host("garage");
    let id = ready(&world.gateway, "garage").await;
    allow_everything(&world, &id).await;
    let arguments = json!({"command": "echo from-the-$((40 + 2))", "host": "node", "node": "garage"});
    world.models.then(Answer::call("call_exec", "exec", arguments)).then(Answer::text("exec-answer"));
    world.telegram.say(OWNER, "run it");
    world.shown(OWNER, "exec-answer").await;
    let result = tool_result(&world);
    assert!(result.contains("from-the-42"), "{result}");
}

/// What the owner of a machine writes into its approvals file to let the agent run anything.
async fn allow_everything(world: &World, node_id: &str) {
    let mut operator = world.operator().await;
    let got = operator.ok("exec.approvals.node.get", json!({"nodeId": node_id})).await;
    let mut file = got["file"].clone();
    if !file.is_object() {
        file = json!({"version": 1});
    }
    file["defaults"] = json!({"security": "full", "ask": "off"});
    let mut params = json!({"nodeId": node_id, "file": file});
    if got["hash"].is_string() {
        params["baseHash"] = got["hash"].clone();
    }
    operator.ok("exec.approvals.node.set", params).await;
}

#[actix_web::test]
async fn a_node_that_vanishes_in_the_middle_is_told_to_the_model_and_the_person_is_answered() {
    let world = World::start().await;
    let mut node = Node::approved(&world.gateway, &["system.which"]).await;
    world.models.then(ask_node("call_gone", &node.id())).then(Answer::text("the node has gone"));
    world.telegram.say(OWNER, "where is ls?");
    node.request().await;
    drop(node);
    world.shown(OWNER, "the node has gone").await;
    assert!(tool_result(&world).to_ascii_lowercase().contains("disconnected"), "{}", tool_result(&world));
}

#[actix_web::test]
async fn a_node_host_that_comes_back_serves_again_without_a_new_approval() {
    let world = World::start().await;
    let mut node = NativeNode::start(&world.gateway, "kitchen");
    let id = ready(&world.gateway, "kitchen").await;
    for round in 0..3 {
        node.kill();
        node.run();
        let mut operator = world.operator().await;
        eventually("the node to be back", async || {
            let described = operator.ok("node.describe", json!({"nodeId": id})).await;
            (described["connected"] == true && described["approvalState"] == "approved").then_some(())
        })
        .await;
        let key = format!("round-{round}");
        let params = json!({
            "nodeId": id, "command": "system.which", "params": {"bins": ["ls"]}, "idempotencyKey": key,
        });
        // The socket of the killed process may still count as connected for a moment.
        let answer = eventually("the node to answer", async || {
            operator.call("node.invoke", params.clone()).await.ok()
        });
        assert!(answer.await["payload"]["bins"]["ls"].is_string());
    }
}

#[actix_web::test]
async fn a_node_host_finds_its_way_back_to_a_gateway_that_was_killed() {
    let world = World::start().await;
    let official = Official::of(&world.gateway);
    let _nodes = (NativeNode::start(&world.gateway, "kitchen"), official.node_host("garage"));
    ready(&world.gateway, "kitchen").await;
    ready(&world.gateway, "garage").await;
    let world = world.crash().await;
    for node in ["kitchen", "garage"] {
        ready(&world.gateway, node).await;
        script(&world, node, &format!("back-at-{node}"));
        world.telegram.say(OWNER, "where is ls?");
        world.shown(OWNER, &format!("back-at-{node}")).await;
    }
}

#[actix_web::test]
async fn without_a_model_slash_commands_work_and_a_sentence_says_how_to_add_one() {
    let world = World::without_model().await;
    let _node = NativeNode::start(&world.gateway, "kitchen");
    let id = ready(&world.gateway, "kitchen").await;
    world.telegram.say(OWNER, "/nodes");
    world.shown(OWNER, "kitchen").await;
    world.telegram.say(OWNER, "/invoke kitchen system.which {\"bins\":[\"ls\"]}");
    world.shown(OWNER, "/ls").await;
    let answer = world
        .gateway
        .cli(&["agent", "--message", &format!("/invoke {id} system.which {{\"bins\":[\"ls\"]}}")])
        .await;
    assert!(String::from_utf8_lossy(&answer.stdout).contains("/ls"), "{answer:?}");
    world.telegram.say(OWNER, "hello there");
    world.shown(OWNER, "model").await;
}

#[actix_web::test]
async fn a_stranger_is_given_a_code_and_is_heard_once_the_owner_approves_it() {
    let world =
        World::with(json!({"channels": {"telegram": {"dmPolicy": "pairing", "allowFrom": []}}})).await;
    world.telegram.add_person(777, "Sam", None);
    world.telegram.say(777, "let me in");
    world.shown(777, "pairing").await;
    assert_eq!(world.models.requests().len(), 0, "a stranger's words reached the model");
    let code = world.telegram.shown_texts(777)[0]
        .split(|c: char| !c.is_ascii_alphanumeric())
        .find(|word| word.len() == 8 && word.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit()))
        .unwrap_or_else(|| panic!("no code in {:?}", world.telegram.shown_texts(777)))
        .to_owned();
    let approved = world.gateway.cli(&["pairing", "approve", "telegram", &code]).await;
    assert!(approved.status.success(), "{}", String::from_utf8_lossy(&approved.stderr));
    world.models.then(Answer::text("welcome"));
    world.telegram.say(777, "hello");
    world.shown(777, "welcome").await;
    assert!(!world.gateway.log().contains(&code), "the code is in the log");
}

/// The smallest picture there is: one grey pixel.
const PICTURE: &str =
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNoAAAAggCBd81ytgAAAABJRU5ErkJggg==";

#[actix_web::test]
async fn a_picture_that_a_node_took_is_seen_by_the_model_and_sent_as_a_photo() {
    let world = World::with(json!({"gateway": {"nodes": {"commands": {"allow": ["camera.snap"]}}}})).await;
    let mut node = Node::approved(&world.gateway, &["camera.snap"]).await;
    let arguments = json!({"action": "camera_snap", "node": node.id(), "facing": "front"});
    world
        .models
        .then(Answer::call("call_snap", "nodes", arguments))
        .then(Answer::text("that-is-the-kitchen"));
    world.telegram.say(OWNER, "show me the kitchen");
    let request = node.request().await;
    assert_eq!(request["command"], "camera.snap");
    let picture = json!({"format": "png", "base64": PICTURE, "width": 1, "height": 1});
    node.reply(&request, picture).await.unwrap();
    world.shown(OWNER, "that-is-the-kitchen").await;
    let body = world.models.last().body.to_string();
    assert!(
        body.contains("image_url") && body.contains(PICTURE),
        "the model did not see the picture: {body}"
    );
    world.settled().await;
    let kinds: Vec<_> = world.telegram.shown(OWNER).into_iter().map(|message| message.kind).collect();
    assert!(kinds.contains(&"photo".to_owned()), "what the person sees: {kinds:?}");
}

#[actix_web::test]
async fn a_voice_note_goes_to_a_node_and_comes_back_as_one() {
    let world = World::with(json!({"gateway": {"nodes": {"commands": {"allow": ["file.write"]}}}})).await;
    let mut node = Node::approved(&world.gateway, &["file.write"]).await;
    let hand_on = json!({"action": "invoke", "node": node.id(), "invokeCommand": "file.write",
        "invokeParamsJson": "{\"path\":\"/tmp/note.ogg\"}"});
    let with_name = |mut arguments: Value, field: &'static str| {
        move |body: &Value| {
            let body = body.to_string();
            let name = body.split_once("stored as `").unwrap().1.split_once('`').unwrap().0.to_owned();
            arguments[field] = json!(name);
            arguments
        }
    };
    let (to_node, to_chat) = (with_name(hand_on, "file"), with_name(json!({"asVoice": true}), "media"));
    world
        .models
        .then_with(move |body| Answer::call("call_node", "nodes", to_node(body)))
        .then_with(move |body| Answer::call("call_chat", "message", to_chat(body)))
        .then(Answer::text("here-it-is-again"));
    let id = world.telegram.add_file("note.oga", &b"OggS a voice"[..]);
    let voice = json!({"file_id": id, "file_unique_id": "u", "duration": 3, "mime_type": "audio/ogg", "file_size": 12});
    world.telegram.message(OWNER, OWNER, json!({"voice": voice}));
    let request = node.request().await;
    assert_eq!(request["command"], "file.write");
    let params: Value = serde_json::from_str(request["paramsJSON"].as_str().unwrap()).unwrap();
    assert_eq!(params, json!({"path": "/tmp/note.ogg", "contentBase64": "T2dnUyBhIHZvaWNl"}));
    node.reply(&request, json!({"path": "/tmp/note.ogg", "size": 12})).await.unwrap();
    world.shown(OWNER, "here-it-is-again").await;
    world.settled().await;
    let shown = world.telegram.shown(OWNER);
    let voices: Vec<_> = shown.iter().filter(|message| message.kind == "voice").collect();
    assert_eq!(voices.len(), 1, "{:?}", shown.iter().map(|message| &message.kind).collect::<Vec<_>>());
    assert_eq!(voices[0].file, b"OggS a voice");
}
