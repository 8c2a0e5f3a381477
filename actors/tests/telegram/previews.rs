//! While a run works: the typing notice, and the preview that becomes the answer.

use crate::bench::{Bench, pauses, quick, route};
use crate::fake_telegram::Fault;
use serde_json::json;
use std::time::Duration;
use tidegate_actors::channels::Phase;
use tidegate_actors::inbound::OutboundMessage;
use tidegate_actors::store::NewOutbound;

fn draft(text: &str) -> Phase {
    Phase::Draft { text: text.to_owned() }
}

#[actix::test]
async fn typing_goes_on_until_the_run_is_over() {
    let bench = Bench::start(json!({"streaming": "off"})).await.ready().await;
    bench.progress("r1", 555, Phase::Started);
    bench.until("it types", |bench| bench.fake.calls_of("sendChatAction").len() >= 3).await;
    bench.progress("r1", 555, draft("not shown"));
    bench.progress("r1", 555, Phase::Finished);
    // Another run types on, as often as this one would.
    bench.fake.add_person(777, "Bob", None);
    bench.progress("r2", 777, Phase::Started);
    let typed = |chat: i64| {
        let calls = bench.fake.calls_of("sendChatAction").into_iter();
        calls.filter(|call| call.params["chat_id"] == chat).count()
    };
    bench.until("the other run types", |_| typed(777) >= 3).await;
    let count = typed(555);
    bench.until("the other run types on", |_| typed(777) >= 8).await;
    assert_eq!(typed(555), count);
    assert!(bench.fake.shown(555).is_empty());
}

#[actix::test]
async fn a_growing_answer_is_edited_in_place_and_becomes_the_answer() {
    let bench = Bench::start(json!({})).await.ready().await;
    bench.progress("r1", 555, Phase::Started);
    for n in 1..=5 {
        // More than can be shown: what matters is the last.
        for part in 0..n {
            bench.progress("r1", 555, draft(&format!("**word** {n}.{part}")));
        }
        let latest = format!("word {n}.{}", n - 1);
        bench
            .until("the newest draft is shown", |bench| bench.fake.shown_texts(555) == [latest.as_str()])
            .await;
    }
    bench.answer("r1", 555, "**the** end").await;
    bench.progress("r1", 555, Phase::Finished);
    bench.delivered_as("r1", "sent").await;
    let shown = bench.fake.shown(555);
    assert_eq!(shown.len(), 1);
    assert_eq!(shown[0].text, "the end");
    assert!(shown[0].edits >= 5, "{} edits", shown[0].edits);
    let edits = bench.fake.calls_of("editMessageText");
    let previews = pauses(&edits[..edits.len() - 1]);
    assert!(previews.iter().all(|pause| *pause >= quick().edit_direct), "{previews:?}");
    assert_eq!(bench.fake.calls_of("sendMessage").len(), 1);
    // Nothing touches the answer any more.
    bench.progress("r1", 555, draft("late"));
    bench.fake.add_person(777, "Bob", None);
    for text in ["another run", "another run goes on"] {
        bench.progress("r2", 777, draft(text));
        bench.until("another run is shown", |bench| bench.fake.shown_texts(777) == [text]).await;
    }
    assert_eq!(bench.fake.shown_texts(555)[0], "the end");
}

#[actix::test]
async fn a_preview_slows_down_when_telegram_says_so() {
    let bench = Bench::start(json!({})).await.ready().await;
    bench.progress("r1", 555, draft("one"));
    bench.until("it is shown", |bench| bench.fake.shown_texts(555) == ["one"]).await;
    bench.fake.fail("editMessageText", Fault::Flood { retry_after: 1 });
    bench.progress("r1", 555, draft("one two"));
    bench.until("it was refused", |bench| bench.fake.calls_of("editMessageText").len() == 1).await;
    bench.progress("r1", 555, draft("one two three"));
    bench.until("it goes on", |bench| bench.fake.shown_texts(555) == ["one two three"]).await;
    let edits = bench.fake.calls_of("editMessageText");
    assert!(edits.len() == 2 && edits[1].at - edits[0].at >= Duration::from_secs(1));
}

#[actix::test]
async fn taking_over_the_preview_may_be_repeated_so_its_outcome_is_never_unknown() {
    for fault in [Fault::DropAfter, Fault::DropBefore, Fault::Garbage] {
        let bench = Bench::start(json!({})).await.ready().await;
        bench.progress("r1", 555, draft("growing"));
        bench.until("it is shown", |bench| bench.fake.shown_texts(555) == ["growing"]).await;
        bench.fake.fail("editMessageText", fault);
        bench.answer("r1", 555, "grown").await;
        bench.delivered_as("r1", "sent").await;
        assert_eq!(bench.fake.shown_texts(555), ["grown"]);
        assert_eq!(bench.fake.calls_of("sendMessage").len(), 1);
    }
}

#[actix::test]
async fn a_run_that_is_played_again_after_a_restart_goes_on_with_its_preview() {
    let bench = Bench::start(json!({})).await.ready().await;
    bench.progress("r1", 555, draft("half of"));
    bench.until("it is shown", |bench| bench.fake.shown_texts(555) == ["half of"]).await;
    bench.remembers_draft("r1").await;
    bench.configure(json!({"enabled": false}));
    bench.until("it stops", |bench| !bench.status().running).await;
    bench.configure(json!({}));
    bench.until("it runs", |bench| bench.status().connected).await;
    bench.progress("r1", 555, Phase::Started);
    bench.progress("r1", 555, draft("once more"));
    bench.until("it goes on in place", |bench| bench.fake.shown_texts(555) == ["once more"]).await;
    bench.answer("r1", 555, "the whole").await;
    bench.delivered_as("r1", "sent").await;
    assert_eq!(bench.fake.shown_texts(555), ["the whole"]);
}

#[actix::test]
async fn a_long_answer_goes_on_below_its_preview() {
    let bench = Bench::start(json!({})).await.ready().await;
    let long: String = (0..1500).map(|n| format!("word{n} ")).collect();
    bench.progress("r1", 555, draft(&long));
    bench.until("it is shown", |bench| bench.fake.shown(555).len() == 1).await;
    bench.answer("r1", 555, &long).await;
    bench.delivered_as("r1", "sent").await;
    assert_eq!(bench.fake.shown_texts(555).join(" "), long.trim());
}

#[actix::test]
async fn in_progress_mode_a_status_message_makes_way_for_the_answer() {
    let bench = Bench::start(json!({"streaming": {"mode": "progress"}})).await.ready().await;
    bench.progress("r1", 555, Phase::Started);
    bench.progress("r1", 555, Phase::ToolStarted { name: "nodes".into() });
    bench.until("it is shown", |bench| bench.fake.shown_texts(555) == ["Working\n🛠 nodes"]).await;
    bench.answer("r1", 555, "done").await;
    bench.delivered_as("r1", "sent").await;
    bench.until("the status is gone", |bench| bench.fake.shown_texts(555) == ["done"]).await;
    assert_eq!(bench.fake.calls_of("deleteMessage").len(), 1);
}

#[actix::test]
async fn a_status_message_that_does_not_go_away_holds_up_no_answer() {
    let bench = Bench::start(json!({"streaming": {"mode": "progress"}})).await.ready().await;
    bench.progress("r1", 555, Phase::Started);
    bench.until("it is shown", |bench| bench.fake.shown(555).len() == 1).await;
    bench.fake.fail("deleteMessage", Fault::Hang);
    bench.answer("r1", 555, "done").await;
    bench.delivered_as("r1", "sent").await;
    bench.answer("r2", 555, "the next").await;
    bench.delivered_as("r2", "sent").await;
}

#[actix::test]
async fn an_answer_does_not_hide_above_what_was_said_since_its_preview() {
    let bench = Bench::start(json!({"allowFrom": [555], "dmPolicy": "allowlist"})).await.ready().await;
    bench.fake.say(555, "go");
    bench.until("the question is there", |bench| bench.texts().len() == 1).await;
    let run_id = bench.rows()[0].inbound.run_id.clone();
    bench.progress(&run_id, 555, draft("growing"));
    bench.remembers_draft(&run_id).await;
    bench.fake.say(555, "still there?");
    bench.until("the person has written on", |bench| bench.texts().len() == 2).await;
    bench.answer(&run_id, 555, "grown").await;
    bench.delivered_as(&run_id, "sent").await;
    bench.until("only the answer is shown", |bench| bench.fake.shown_texts(555) == ["grown"]).await;
    assert_eq!(bench.fake.calls_of("sendMessage").len(), 2);

    bench.progress("r2", 555, draft("growing"));
    bench.remembers_draft("r2").await;
    let note = OutboundMessage { text: Some("a question".into()), ..OutboundMessage::default() };
    let outbound =
        NewOutbound { key: "approval:1".into(), route: route(555, None), run_id: None, message: note };
    bench.gateway.store.post(outbound).await.unwrap();
    bench.gateway.channels.flush("telegram", "default");
    bench
        .until("the question is shown", |bench| bench.fake.shown_texts(555).contains(&"a question".into()))
        .await;
    bench.answer("r2", 555, "the end").await;
    bench.delivered_as("r2", "sent").await;
    bench
        .until("the answer is last", |bench| {
            bench.fake.shown_texts(555) == ["grown", "a question", "the end"]
        })
        .await;
}

#[actix::test]
async fn previews_show_no_pictures_of_links_where_answers_do_not() {
    let bench = Bench::start(json!({"linkPreview": false})).await.ready().await;
    for text in ["https://example.org", "https://example.org grows"] {
        bench.progress("r1", 555, draft(text));
        bench.until("it is shown", |bench| bench.fake.shown_texts(555) == [text]).await;
    }
    bench.answer("r1", 555, "https://example.org is it").await;
    bench.delivered_as("r1", "sent").await;
    let calls = bench.fake.calls().into_iter();
    let texts = calls.filter(|call| ["sendMessage", "editMessageText"].contains(&call.method.as_str()));
    assert!(texts.clone().count() >= 3);
    for call in texts {
        assert!(call.params["link_preview_options"].to_string().contains("is_disabled"), "{call:?}");
    }
}

#[actix::test]
async fn a_deleted_preview_is_replaced_by_a_new_message() {
    let bench = Bench::start(json!({})).await.ready().await;
    bench.progress("r1", 555, draft("growing"));
    bench.until("it is shown", |bench| bench.fake.shown(555).len() == 1).await;
    bench.fake.fail(
        "editMessageText",
        Fault::Refuse { code: 400, description: "Bad Request: message to edit not found" },
    );
    bench.answer("r1", 555, "grown").await;
    bench.delivered_as("r1", "sent").await;
    bench.until("the draft is gone", |bench| bench.fake.shown_texts(555) == ["grown"]).await;
}

#[actix::test]
async fn a_run_that_is_stopped_leaves_half_an_answer_but_no_status() {
    let bench = Bench::start(json!({})).await.ready().await;
    bench.fake.add_person(777, "Bob", None);
    bench.progress("r1", 555, Phase::ToolStarted { name: "exec".into() });
    bench.progress("r2", 777, draft("half an"));
    bench
        .until("both are shown", |bench| bench.fake.shown(555).len() + bench.fake.shown(777).len() == 2)
        .await;
    bench.progress("r1", 555, Phase::Finished);
    bench.progress("r2", 777, Phase::Finished);
    bench.until("the status is gone", |bench| bench.fake.shown(555).is_empty()).await;
    assert_eq!(bench.fake.shown_texts(777), ["half an"]);
}
