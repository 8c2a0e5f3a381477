//! Answers: what Telegram gets, and what becomes of those it does not take.

use crate::bench::{Bench, pauses, quick, route};
use crate::fake_telegram::{FakeTelegram, Fault};
use serde_json::json;
use std::time::Duration;
use tidegate_actors::inbound::{MediaKind, OutboundMedia, OutboundMessage};
use tidegate_actors::store::{NewOutbound, answer_key};

#[actix::test]
async fn markdown_arrives_formatted_and_a_long_answer_in_order() {
    let bench = Bench::start(json!({})).await.ready().await;
    bench.answer("r1", 555, "**Hi** `x<y`\n\n```rust\nfn a() {}\n```").await;
    bench.delivered_as("r1", "sent").await;
    let shown = bench.fake.shown(555).remove(0);
    assert_eq!(shown.text, "Hi x<y\n\nfn a() {}");
    let kinds: Vec<_> =
        shown.entities.iter().map(|entity| entity["type"].as_str().unwrap_or_default()).collect();
    assert_eq!(kinds, ["bold", "code", "code", "pre"]);

    let long: String = (0..2000).map(|n| format!("word{n} ")).collect();
    bench.answer("r2", 555, &long).await;
    let delivery = bench.delivered_as("r2", "sent").await;
    let pieces = bench.fake.shown_texts(555).split_off(1);
    assert!(pieces.len() > 2 && delivery.progress.message_ids.len() == pieces.len());
    assert_eq!(pieces.join(" "), long.trim());
    assert_eq!(bench.fake.unknown_params(), Vec::<String>::new());
}

#[actix::test]
async fn a_refused_answer_is_tried_again_until_it_is_there_once() {
    let bench = Bench::start(json!({})).await.ready().await;
    bench.fake.fail("sendMessage", Fault::Refuse { code: 500, description: "Internal Server Error" });
    bench.fake.fail("sendMessage", Fault::Page { code: 502 });
    bench.answer("r1", 555, "persistent").await;
    bench.delivered_as("r1", "sent").await;
    assert_eq!(bench.fake.shown_texts(555), ["persistent"]);
    assert_eq!(bench.fake.calls_of("sendMessage").len(), 3);
}

#[actix::test]
async fn a_flood_limit_is_waited_out_and_holds_up_no_other_chat() {
    let bench = Bench::start(json!({})).await.ready().await;
    bench.fake.add_person(777, "Bob", None);
    bench.fake.fail("sendMessage", Fault::Flood { retry_after: 3 });
    bench.answer("r1", 555, "patient").await;
    bench.until("it was refused", |bench| bench.fake.calls_of("sendMessage").len() == 1).await;
    bench.answer("r2", 777, "at once").await;
    bench.delivered_as("r2", "sent").await;
    bench.delivered_as("r1", "sent").await;
    let calls = bench.fake.calls_of("sendMessage");
    let chats: Vec<_> = calls.iter().map(|call| call.params["chat_id"].as_i64()).collect();
    assert_eq!(chats, [Some(555), Some(777), Some(555)]);
    assert!(calls[2].at - calls[0].at >= Duration::from_secs(3), "Telegram asked for that pause");
    assert_eq!(bench.fake.shown_texts(555), ["patient"]);
}

#[actix::test]
async fn an_answer_waits_while_telegram_is_out_of_reach() {
    let bench = Bench::start(json!({"apiRoot": "http://127.0.0.1:9"})).await;
    bench.answer("r1", 555, "later").await;
    bench.until("it was tried", |bench| bench.status().last_error.is_some()).await;
    assert_ne!(bench.delivery("r1").await.state, "unknown");
    bench.configure(json!({}));
    bench.delivered_as("r1", "sent").await;
    assert_eq!(bench.fake.shown_texts(555), ["later"]);
}

#[actix::test]
async fn an_answer_without_an_outcome_is_set_aside_and_reported() {
    for fault in [Fault::DropAfter, Fault::HangAfter, Fault::Garbage, Fault::DropBefore] {
        let bench = Bench::start(json!({})).await.ready().await;
        bench.fake.fail("sendMessage", fault.clone());
        bench.answer("r1", 555, "perhaps").await;
        bench.delivered_as("r1", "unknown").await;
        bench.until("operators see it", |bench| bench.status().unknown_deliveries == 1).await;
        bench.answer("r2", 555, "the next").await;
        bench.delivered_as("r2", "sent").await;
        assert_eq!(bench.fake.calls_of("sendMessage").len(), 2, "{fault:?}: never sent twice");
    }
}

#[actix::test]
async fn what_was_on_its_way_at_a_crash_is_sent_again_and_says_so() {
    let bench = Bench::start_with(FakeTelegram::start(), json!({}), quick(), |gateway| async move {
        let message = OutboundMessage { text: Some("the answer".into()), ..OutboundMessage::default() };
        let outbound = NewOutbound {
            key: answer_key("r1"),
            route: route(555, None),
            run_id: Some("r1".into()),
            message,
        };
        gateway.store.post(outbound).await.unwrap();
        gateway.store.claim_outbox("telegram", "default", 1).await.unwrap();
    })
    .await;
    bench.delivered_as("r1", "sent").await;
    let text = bench.fake.shown_texts(555).remove(0);
    assert!(text.contains("you may have this already") && text.ends_with("the answer"), "{text}");
}

#[actix::test]
async fn a_full_message_that_was_on_its_way_at_a_crash_loses_nothing_to_the_remark() {
    let long = "x".repeat(4096) + &"y".repeat(10);
    let text = long.clone();
    let bench = Bench::start_with(FakeTelegram::start(), json!({}), quick(), |gateway| async move {
        let message = OutboundMessage { text: Some(text), ..OutboundMessage::default() };
        let outbound = NewOutbound {
            key: answer_key("r1"),
            route: route(555, None),
            run_id: Some("r1".into()),
            message,
        };
        gateway.store.post(outbound).await.unwrap();
        gateway.store.claim_outbox("telegram", "default", 1).await.unwrap();
    })
    .await;
    bench.delivered_as("r1", "sent").await;
    let shown = bench.fake.shown_texts(555);
    assert!(shown[0].contains("you may have this already"), "{shown:?}");
    assert_eq!(shown[1..].concat(), long);
}

#[actix::test]
async fn a_caption_that_was_on_its_way_at_a_crash_is_whole() {
    let bench = Bench::start(json!({"enabled": false})).await;
    bench.media("a.png", b"a picture");
    let file = OutboundMedia {
        kind: MediaKind::Image,
        mime: "image/png".into(),
        file_name: None,
        path: "a.png".into(),
        caption: Some("c".repeat(1024)),
    };
    bench
        .post("r1", &route(555, None), OutboundMessage { media: vec![file], ..OutboundMessage::default() })
        .await;
    bench.gateway.store.claim_outbox("telegram", "default", 1).await.unwrap();
    bench.configure(json!({}));
    bench.delivered_as("r1", "sent").await;
    let shown = bench.fake.shown_texts(555);
    assert!(shown.len() == 2 && shown[0].contains("you may have this already"), "{shown:?}");
    assert_eq!(shown[1], "c".repeat(1024));
}

#[actix::test]
async fn an_answer_that_has_begun_is_cut_as_it_was_whatever_the_settings_say_by_now() {
    let bench = Bench::start(json!({"textChunkLimit": 1000})).await.ready().await;
    let long: String = (0..500).map(|n| format!("word{n} ")).collect();
    bench.fake.fail("sendMessage", Fault::Pass);
    bench.fake.fail("sendMessage", Fault::Flood { retry_after: 2 });
    bench.answer("r1", 555, &long).await;
    bench.until("its second part is refused", |bench| bench.fake.calls_of("sendMessage").len() == 2).await;
    bench.configure(json!({"textChunkLimit": 4000}));
    bench.delivered_as("r1", "sent").await;
    assert_eq!(bench.fake.shown_texts(555).join(" "), long.trim());
}

#[actix::test]
async fn a_part_that_telegram_refuses_is_named_and_the_rest_arrives() {
    let bench = Bench::start(json!({})).await.ready().await;
    let long: String = (0..1200).map(|n| format!("word{n} ")).collect();
    bench.fake.fail("sendMessage", Fault::Pass);
    bench.fake.fail("sendMessage", Fault::Refuse { code: 400, description: "Bad Request: too odd" });
    bench.answer("r1", 555, &long).await;
    let delivery = bench.delivered_as("r1", "failed").await;
    assert!(delivery.last_error.unwrap().contains("part 2 of 3"));
    let shown = bench.fake.shown_texts(555);
    assert_eq!(shown.len(), 3, "{shown:?}");
    assert!(shown[0].starts_with("word0 ") && shown[2].ends_with("word1199"), "{shown:?}");
    assert!(shown[1].contains("missing here") && shown[1].contains("too odd"), "{shown:?}");
}

#[actix::test]
async fn an_answer_whose_topic_is_gone_goes_to_the_chat_and_says_so() {
    let bench = Bench::start(json!({})).await.ready().await;
    bench.fake.add_forum(-100, "Forum", &[]);
    let message = OutboundMessage { text: Some("still said".into()), ..OutboundMessage::default() };
    bench.post("r1", &route(-100, Some(42)), message).await;
    bench.delivered_as("r1", "sent").await;
    let shown = bench.fake.shown_texts(-100);
    assert!(shown.len() == 1 && shown[0].contains("topic") && shown[0].ends_with("still said"), "{shown:?}");
}

#[actix::test]
async fn a_flood_limit_of_no_time_at_all_is_still_a_pause() {
    let bench = Bench::start(json!({})).await.ready().await;
    bench.fake.fail_times("sendMessage", Fault::Flood { retry_after: 0 }, 2);
    bench.answer("r1", 555, "patient").await;
    bench.delivered_as("r1", "sent").await;
    let pauses = pauses(&bench.fake.calls_of("sendMessage"));
    assert!(pauses.iter().all(|pause| *pause >= Duration::from_secs(1)), "{pauses:?}");
}

#[actix::test]
async fn markup_that_telegram_refuses_goes_plain() {
    let bench = Bench::start(json!({})).await.ready().await;
    let refusal = "Bad Request: can't parse entities: Unsupported start tag";
    bench.fake.fail("sendMessage", Fault::Refuse { code: 400, description: refusal });
    bench.answer("r1", 555, "**bold** words").await;
    bench.delivered_as("r1", "sent").await;
    let shown = bench.fake.shown(555).remove(0);
    assert_eq!((shown.text.as_str(), shown.entities.len()), ("bold words", 0));
}

#[actix::test]
async fn a_blocked_bot_gives_up_at_once_and_goes_on_elsewhere() {
    let bench = Bench::start(json!({})).await.ready().await;
    bench.fake.add_person(777, "Bob", None);
    bench.fake.block(777);
    bench.answer("r1", 777, "x").await;
    let delivery = bench.delivered_as("r1", "failed").await;
    assert!(delivery.last_error.unwrap().contains("blocked by the user"));
    assert_eq!(bench.fake.calls_of("sendMessage").len(), 1);
    bench.until("operators see it", |bench| bench.status().failed_deliveries == 1).await;
    bench.answer("r2", 555, "y").await;
    bench.delivered_as("r2", "sent").await;
}

#[actix::test]
async fn an_answer_follows_a_group_to_its_new_id() {
    let bench = Bench::start(json!({"allowFrom": [555], "groups": {"-5": {"requireMention": false}}}))
        .await
        .ready()
        .await;
    bench.fake.add_group(-5, "G");
    bench.fake.migrate(-5, -1005);
    let to_group = route(-5, None);
    bench
        .post(
            "r1",
            &to_group,
            OutboundMessage { text: Some("still here".into()), ..OutboundMessage::default() },
        )
        .await;
    bench.delivered_as("r1", "sent").await;
    assert_eq!(bench.fake.shown_texts(-1005), ["still here"]);
    // The group's rules go along.
    bench.fake.message(-1005, 555, json!({"text": "and me?"}));
    bench.until("its messages are still taken", |bench| bench.texts() == ["and me?"]).await;
    assert_eq!(
        bench.rows()[0].inbound.session_key,
        "agent:main:telegram:group:-5",
        "the conversation goes on"
    );
}

#[actix::test]
async fn stopping_finishes_what_is_being_sent() {
    let bench = Bench::start(json!({})).await.ready().await;
    bench.fake.fail("sendMessage", Fault::Slow(Duration::from_millis(500)));
    bench.answer("r1", 555, "nearly there").await;
    bench.until("it is being sent", |bench| !bench.fake.shown(555).is_empty()).await;
    bench.stop().await;
    assert_eq!(bench.delivery("r1").await.state, "sent");
    assert!(!bench.status().running);
}
