//! What people write: taken once, from those who may, in the right place.

use crate::bench::Bench;
use crate::fake_telegram::BOT_ID;
use serde_json::{Value, json};
use tidegate_actors::store::PairingName;

fn open() -> Value {
    json!({"dmPolicy": "open", "allowFrom": ["*"]})
}

#[actix::test]
async fn it_introduces_itself_once_and_polls() {
    let bench = Bench::start(open()).await.ready().await;
    bench.until("the menu is up", |bench| bench.fake.calls_of("setMyCommands").len() == 2).await;
    let methods: Vec<_> = bench.fake.calls().into_iter().map(|call| call.method).collect();
    assert_eq!(methods[..2], ["getMe", "deleteWebhook"]);
    assert_eq!(bench.fake.calls_of("getMe").len(), 1);
    let polls = bench.fake.calls_of("getUpdates");
    assert_eq!(polls[0].params["timeout"], 0);
    assert_eq!(bench.fake.unknown_params(), Vec::<String>::new());
    let status = bench.status();
    assert!(status.running && status.last_good_poll.is_some() && status.last_error.is_none());
}

#[actix::test]
async fn a_message_is_stored_before_it_is_acknowledged_and_taken_once() {
    let bench = Bench::start(open()).await.ready().await;
    let update = bench.fake.say(555, "hello");
    bench.until("the message arrives", |bench| bench.texts() == ["hello"]).await;
    bench.until("the update is confirmed", |bench| bench.fake.confirmed() == Some(update)).await;
    assert_eq!(bench.gateway.store.pending_ingress().await.unwrap().len(), 1);
    assert_eq!(
        bench.gateway.store.offset("telegram", &format!("default:{BOT_ID}")).await.unwrap(),
        Some(update + 1)
    );
    // Telegram sends it again, as after a crash before the acknowledgement.
    let message = bench.fake.compose(555, 555, json!({"text": "hello"}));
    bench.fake.raw_update(json!({"update_id": update, "message": message}));
    bench.fake.say(555, "next");
    bench.until("the next one arrives", |bench| bench.texts() == ["hello", "next"]).await;
}

#[actix::test]
async fn after_a_restart_it_goes_on_where_it_was() {
    let bench = Bench::start(open()).await.ready().await;
    let update = bench.fake.say(555, "first");
    bench.until("it arrives", |bench| bench.texts().len() == 1).await;
    bench.stop().await;
    let polls = bench.fake.calls_of("getUpdates").len();
    let rows = bench.arrived.clone();
    let spec = tidegate_actors::channels::branch_with(
        &bench.gateway,
        std::sync::Arc::new(move |row| rows.lock().unwrap().push(row)),
        crate::bench::quick(),
    );
    let _root = tidegate_actors::supervise::Supervisor::new(&bench.gateway.tree).child(spec).run();
    bench.until("it polls again", |bench| bench.fake.calls_of("getUpdates").len() > polls).await;
    assert_eq!(bench.fake.calls_of("getUpdates")[polls].params["offset"], update + 1);
    bench.fake.say(555, "second");
    bench.until("the second arrives", |bench| bench.texts() == ["first", "second"]).await;
}

#[actix::test]
async fn a_stranger_gets_a_code_once_and_is_let_in_by_it() {
    let bench = Bench::start(json!({})).await.ready().await;
    bench.fake.add_person(777, "Mallory", Some("alice"));
    bench.fake.say(777, "let me in");
    bench.fake.say(777, "please");
    bench.until("the code is shown", |bench| !bench.fake.shown(777).is_empty()).await;
    let request = bench.gateway.store.channel_requests(None, None).await.unwrap().remove(0);
    let shown = &bench.fake.shown(777)[0];
    assert!(
        shown.text.contains(&format!("tidegate pairing approve telegram {}", request.code)),
        "{}",
        shown.text
    );
    assert!(shown.text.contains("777") && shown.raw.contains("<pre>"));
    bench.until("both updates are confirmed", |bench| bench.fake.waiting() == 0).await;
    assert_eq!(bench.fake.shown(777).len(), 1);
    assert!(bench.rows().is_empty());

    let name = PairingName::Code(request.code);
    bench.gateway.store.approve_channel_request("telegram".into(), None, name).await.unwrap().unwrap();
    bench.fake.say(777, "thanks");
    bench.until("the message arrives", |bench| bench.texts() == ["thanks"]).await;
    assert!(bench.rows()[0].inbound.sender.owner);
}

#[actix::test]
async fn a_borrowed_username_opens_nothing() {
    let bench = Bench::start(json!({"dmPolicy": "allowlist", "allowFrom": ["alice", "@alice", 555]}))
        .await
        .ready()
        .await;
    bench.fake.add_person(666, "Alice", Some("alice"));
    bench.fake.say(666, "it is me");
    bench.fake.say(555, "it is really me");
    bench.until("the real one arrives", |bench| bench.texts() == ["it is really me"]).await;
    assert!(bench.fake.shown(666).is_empty());
}

#[actix::test]
async fn groups_are_answered_where_listed_and_addressed() {
    let bench = Bench::start(json!({"allowFrom": [555], "groups": {"-100": {}}})).await.ready().await;
    bench.fake.add_group(-100, "Listed");
    bench.fake.add_group(-200, "Not listed");
    for (chat, person, text) in [
        (-100, 555, "just talking"),
        (-200, 555, "@fake_oc_bot hello"),
        (-100, 777, "@fake_oc_bot hello"),
        (-100, 555, "/status@other_bot"),
        (-100, 555, "@fake_oc_bot hello"),
        (-100, 555, "/status@fake_oc_bot"),
    ] {
        bench.fake.message(chat, person, json!({"text": text}));
    }
    bench.until("the right ones arrive", |bench| bench.texts() == ["hello", "/status"]).await;
    let inbound = &bench.rows()[0].inbound;
    assert_eq!(inbound.session_key, "agent:main:telegram:group:-100");
    assert_eq!(inbound.event_id, format!("{BOT_ID}:1004"));
    bench.until("they are acknowledged", |bench| bench.fake.calls_of("setMessageReaction").len() == 2).await;
}

#[actix::test]
async fn a_forum_topic_keeps_its_thread_and_a_reply_its_quote() {
    let bench = Bench::start(json!({"allowFrom": [555], "groups": {"*": {"requireMention": false}}}))
        .await
        .ready()
        .await;
    bench.fake.add_forum(-300, "Forum", &[42]);
    let original = bench.fake.compose(
        -300,
        777,
        json!({"text": "the plan", "message_thread_id": 42, "is_topic_message": true}),
    );
    bench.fake.message(-300, 555, json!({"text": "do it", "message_thread_id": 42, "is_topic_message": true, "reply_to_message": original}));
    bench.until("it arrives", |bench| bench.rows().len() == 1).await;
    let inbound = bench.rows()[0].inbound.clone();
    assert_eq!(inbound.session_key, "agent:main:telegram:group:-300:topic:42");
    assert_eq!(inbound.reply_context.as_deref(), Some("Someone: the plan"));
    bench
        .post(
            "r",
            &inbound.route.unwrap(),
            tidegate_actors::inbound::OutboundMessage { text: Some("done".into()), ..Default::default() },
        )
        .await;
    bench.until("the answer is in the topic", |bench| bench.fake.shown_texts(-300) == ["done"]).await;
    assert_eq!(bench.fake.shown(-300)[0].thread, Some(42));
}

#[actix::test]
async fn what_is_no_new_message_is_passed_over_and_stalls_nothing() {
    let bench = Bench::start(open()).await.ready().await;
    let message = bench.fake.compose(555, 555, json!({"text": "changed", "edit_date": 5}));
    let mut id = 2000;
    let mut push = |kind: &str, content: Value| {
        id += 1;
        bench.fake.raw_update(json!({"update_id": id, kind: content}));
    };
    push("edited_message", message);
    push(
        "channel_post",
        json!({"message_id": 1, "date": 1, "chat": {"id": -9, "type": "channel", "title": "C"}, "text": "post"}),
    );
    push(
        "callback_query",
        json!({"id": "q", "from": {"id": 777, "is_bot": false, "first_name": "M"}, "chat_instance": "c", "data": "tga1:e:o:1"}),
    );
    push("kind_of_tomorrow", json!({"anything": [1, 2]}));
    push("message", json!({"message_id": "not a number"}));
    push("message", bench.fake.compose(555, 555, json!({"text": "after all that", "entities": [{"type": "of_tomorrow", "offset": 0, "length": 2}]})));
    bench.until("the message arrives", |bench| bench.texts() == ["after all that"]).await;
    bench.until("all are confirmed", |bench| bench.fake.confirmed() == Some(2006)).await;
    assert!(bench.fake.calls_of("answerCallbackQuery").is_empty());
}

#[actix::test]
async fn an_album_is_one_turn_with_all_its_pictures() {
    let bench = Bench::start(open()).await;
    let photo =
        |id: &str| json!([{"file_id": id, "file_unique_id": id, "width": 9, "height": 9, "file_size": 3}]);
    bench.fake.message(555, 555, json!({"photo": photo("a"), "media_group_id": "g"}));
    bench.fake.message(555, 555, json!({"photo": photo("b"), "media_group_id": "g", "caption": "both"}));
    bench.until("it arrives", |bench| bench.rows().len() == 1).await;
    let inbound = &bench.rows()[0].inbound;
    assert_eq!((inbound.text.as_str(), inbound.attachments.len()), ("both", 2));
}

fn photo(id: &str, caption: Option<&str>) -> serde_json::Value {
    let size = json!({"file_id": id, "file_unique_id": id, "width": 9, "height": 9, "file_size": 3});
    json!({"photo": [size], "media_group_id": "g", "caption": caption})
}

#[actix::test]
async fn an_album_over_several_polls_is_one_turn_before_what_follows_it() {
    let bench = Bench::start(open()).await.ready().await;
    let polls = bench.polls();
    for id in ["a", "b", "c"] {
        bench.fake.message(555, 555, photo(id, (id == "b").then_some("all of them")));
        if id == "a" {
            bench.until("the poll that brought it is over", |bench| bench.polls() > polls).await;
        }
    }
    let last = bench.fake.say(555, "what are they?");
    bench.until("both arrive", |bench| bench.rows().len() == 2).await;
    assert_eq!(bench.texts(), ["all of them", "what are they?"]);
    assert_eq!(bench.rows()[0].inbound.attachments.len(), 3);
    bench.until("all is confirmed", |bench| bench.fake.confirmed() == Some(last)).await;
    assert_eq!(bench.rows().len(), 2);
}

#[actix::test]
async fn an_album_in_a_group_is_addressed_by_the_words_at_one_of_its_pictures() {
    let bench = Bench::start(json!({"allowFrom": [555], "groups": {"-100": {}}})).await.ready().await;
    bench.fake.add_group(-100, "Listed");
    bench.fake.message(-100, 555, photo("a", Some("@fake_oc_bot look")));
    bench.fake.message(-100, 555, photo("b", None));
    bench.until("it arrives", |bench| bench.rows().len() == 1).await;
    assert_eq!(bench.rows()[0].inbound.attachments.len(), 2);
}

#[actix::test]
async fn an_album_that_a_crash_cuts_short_comes_whole_and_once() {
    let bench = Bench::start(open()).await.ready().await;
    let polls = bench.polls();
    let first = bench.fake.message(555, 555, photo("a", None));
    bench.until("the poll that brought it is over", |bench| bench.polls() > polls).await;
    bench.stop().await;
    assert!(bench.rows().is_empty());
    assert!(bench.fake.confirmed().is_none_or(|confirmed| confirmed < first));
    bench.fake.message(555, 555, photo("b", Some("both")));
    let rows = bench.arrived.clone();
    let spec = tidegate_actors::channels::branch_with(
        &bench.gateway,
        std::sync::Arc::new(move |row| rows.lock().unwrap().push(row)),
        crate::bench::quick(),
    );
    let _root = tidegate_actors::supervise::Supervisor::new(&bench.gateway.tree).child(spec).run();
    bench.until("it arrives", |bench| bench.rows().len() == 1).await;
    bench.until("it is confirmed", |bench| bench.fake.waiting() == 0).await;
    assert_eq!(bench.gateway.store.pending_ingress().await.unwrap().len(), 1);
    assert_eq!((bench.texts(), bench.rows()[0].inbound.attachments.len()), (vec!["both".to_owned()], 2));
}

#[actix::test]
async fn new_rules_hold_at_once_and_a_new_token_reconnects() {
    let bench = Bench::start(open()).await.ready().await;
    bench.configure(json!({"dmPolicy": "disabled"}));
    bench.fake.say(555, "nobody hears me");
    bench.until("it is confirmed", |bench| bench.fake.waiting() == 0).await;
    assert!(bench.rows().is_empty());
    assert_eq!(bench.fake.calls_of("getMe").len(), 1);

    bench.configure(json!({"enabled": false}));
    bench.until("it stops", |bench| !bench.status().running).await;
    bench.configure(open());
    bench.until("it runs again", |bench| bench.status().connected).await;
    assert_eq!(bench.fake.calls_of("getMe").len(), 2);

    bench.configure(json!({"accounts": {"work": {"botToken": bench.fake.token(), "dmPolicy": "open", "allowFrom": ["*"]}}, "botToken": ""}));
    bench
        .until("the other account runs", |bench| {
            bench.gateway.channels.get("telegram", "work").is_some_and(|handle| handle.status().connected)
        })
        .await;
}

#[actix::test]
async fn the_general_topic_is_answered_without_naming_it() {
    let bench = Bench::start(json!({"allowFrom": [555], "groups": {"*": {"requireMention": false}}}))
        .await
        .ready()
        .await;
    bench.fake.add_forum(-300, "Forum", &[42]);
    bench.fake.message(-300, 555, json!({"text": "hello"}));
    bench.until("it arrives", |bench| bench.rows().len() == 1).await;
    let inbound = bench.rows()[0].inbound.clone();
    assert_eq!(inbound.session_key, "agent:main:telegram:group:-300:topic:1");
    let message = tidegate_actors::inbound::OutboundMessage { text: Some("hi".into()), ..Default::default() };
    bench.post("r", &inbound.route.unwrap(), message).await;
    bench.delivered_as("r", "sent").await;
    assert_eq!(bench.fake.shown(-300)[0].thread, None);
}

#[actix::test]
async fn a_thread_of_a_private_chat_keeps_its_answer() {
    let bench = Bench::start(open()).await.ready().await;
    bench.fake.message(555, 555, json!({"text": "hello", "message_thread_id": 9}));
    bench.until("it arrives", |bench| bench.rows().len() == 1).await;
    let inbound = bench.rows()[0].inbound.clone();
    assert_eq!(inbound.session_key, "agent:main:main");
    let message = tidegate_actors::inbound::OutboundMessage { text: Some("hi".into()), ..Default::default() };
    bench.post("r", &inbound.route.unwrap(), message).await;
    bench.delivered_as("r", "sent").await;
    assert_eq!(bench.fake.shown(555)[0].thread, Some(9));
}
