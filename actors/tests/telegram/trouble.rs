//! Everything that can go wrong with the line to Telegram: visible, survived, and never hammered.

use crate::bench::{Bench, PATIENCE, least, pauses, quick};
use crate::fake_telegram::{FakeTelegram, Fault};
use serde_json::json;
use std::time::Duration;
use tidegate_actors::channels::Lifecycle;
use tidegate_actors::channels::telegram::Timing;
use tidegate_actors::supervise::BackOff;

fn open() -> serde_json::Value {
    json!({"dmPolicy": "open", "allowFrom": ["*"]})
}

fn assert_never_sooner(pauses: &[Duration], back_off: &BackOff) {
    let least: Vec<Duration> = least(back_off).take(pauses.len()).collect();
    let in_time = pauses.iter().zip(&least).all(|(pause, least)| pause >= least);
    assert!(in_time, "{pauses:?} against {least:?}");
}

#[actix::test]
async fn another_poller_is_a_conflict_that_heals() {
    let bench = Bench::start(open()).await.ready().await;
    bench.fake.fail_times(
        "getUpdates",
        Fault::Refuse { code: 409, description: "Conflict: terminated by other getUpdates request" },
        3,
    );
    bench.until("the conflict shows", |bench| bench.status().lifecycle == Lifecycle::Conflict).await;
    assert!(bench.status().last_error.unwrap().contains("409"));
    bench.fake.say(555, "are you there");
    bench.until("it heals", |bench| bench.texts() == ["are you there"]).await;
    assert_eq!(bench.status().lifecycle, Lifecycle::Ready);
}

#[actix::test]
async fn a_webhook_in_the_way_is_removed() {
    let bench = Bench::start(open()).await.ready().await;
    bench.fake.set_webhook();
    bench.fake.say(555, "hello");
    bench.until("it polls again", |bench| bench.texts() == ["hello"]).await;
    assert_eq!(bench.fake.calls_of("deleteWebhook")[0].params["drop_pending_updates"], false);
}

#[actix::test]
async fn a_revoked_token_shows_and_is_tried_with_growing_pauses() {
    let fake = FakeTelegram::start();
    fake.revoke_token();
    let bench = Bench::start_with(fake, open(), quick(), |_| async {}).await;
    bench.until("it shows", |bench| bench.status().lifecycle == Lifecycle::AuthFailed).await;
    assert_eq!(bench.status().token_status, "rejected");
    bench.until("it is tried again and again", |bench| bench.fake.calls().len() >= 5).await;
    let calls = bench.fake.calls();
    assert!(calls.iter().all(|call| call.method == "getMe"), "{:?}", bench.calls());
    assert_never_sooner(&pauses(&calls), &quick().auth);
    bench.fake.restore_token();
    bench.until("it heals", |bench| bench.status().connected).await;
    assert_eq!(bench.status().token_status, "available");
}

#[actix::test]
async fn errors_and_broken_connections_lose_no_message() {
    let bench = Bench::start(open()).await.ready().await;
    for fault in [
        Fault::Refuse { code: 500, description: "Internal Server Error" },
        Fault::Page { code: 502 },
        Fault::DropBefore,
        Fault::DropAfter,
        Fault::Garbage,
        Fault::Flood { retry_after: 1 },
    ] {
        bench.fake.fail("getUpdates", fault);
    }
    for n in 0..5 {
        bench.fake.say(555, &format!("message {n}"));
    }
    bench.until("all arrive", |bench| bench.texts().len() == 5).await;
    assert_eq!(bench.texts()[4], "message 4");
    bench
        .until("the flood limit was waited out", |bench| {
            let polls = bench.fake.calls_of("getUpdates");
            polls.iter().position(|call| call.status == Some(429)).is_some_and(|at| polls.len() > at + 1)
        })
        .await;
    let polls = bench.fake.calls_of("getUpdates");
    let flooded = polls.iter().position(|call| call.status == Some(429)).unwrap();
    assert!(polls[flooded + 1].at - polls[flooded].at >= Duration::from_secs(1));
}

#[actix::test]
async fn a_poll_that_goes_silent_is_given_up_and_started_afresh() {
    let bench = Bench::start(open()).await.ready().await;
    bench.fake.fail("getUpdates", Fault::Hang);
    bench.until("the silence shows", |bench| bench.status().lifecycle == Lifecycle::Reconnecting).await;
    let before = bench.status().last_good_poll.unwrap();
    let silence = bench.status().silence().unwrap();
    assert!(silence >= quick().grace, "it was given up before its time: {silence:?}");
    bench.fake.say(555, "hello?");
    bench.until("it is there again", |bench| bench.texts() == ["hello?"]).await;
    assert!(bench.status().last_good_poll.unwrap() > before);
}

#[actix::test]
async fn a_dead_server_is_not_hammered() {
    let bench = Bench::start(open()).await.ready().await;
    bench.fake.fail_always("getUpdates", Fault::Refuse { code: 503, description: "Service Unavailable" });
    let failed = |bench: &Bench| {
        let polls = bench.fake.calls_of("getUpdates").into_iter();
        polls.filter(|poll| poll.status == Some(503)).collect::<Vec<_>>()
    };
    bench.until("it is tried again and again", |bench| failed(bench).len() >= 8).await;
    assert_never_sooner(&pauses(&failed(&bench)), &quick().network);
    bench.fake.heal();
    bench.until("it heals", |bench| bench.status().connected).await;
}

#[actix::test]
async fn one_account_in_trouble_touches_no_other() {
    let bench = Bench::start(json!({
        "dmPolicy": "open", "allowFrom": ["*"],
        "accounts": {"broken": {"botToken": "1:wrong"}},
    }))
    .await
    .ready()
    .await;
    let broken = || bench.gateway.channels.get("telegram", "broken").unwrap().status();
    bench.until("the other one shows its trouble", |_| broken().lifecycle == Lifecycle::AuthFailed).await;
    bench.fake.say(555, "still fine");
    bench.until("messages arrive", |bench| bench.texts() == ["still fine"]).await;
}

#[actix::test]
async fn a_database_that_refuses_leaves_the_update_with_telegram() {
    let bench = Bench::start(open()).await.ready().await;
    let broken =
        bench.gateway.store.write(|db| Ok(db.execute_batch("ALTER TABLE ingress RENAME TO hidden")?)).await;
    broken.unwrap();
    let update = bench.fake.say(555, "precious");
    bench.until("the trouble shows", |bench| bench.status().last_error.is_some()).await;
    assert!(bench.fake.confirmed().is_none_or(|confirmed| confirmed < update));
    assert_eq!(bench.fake.waiting(), 1);
    bench
        .gateway
        .store
        .write(|db| Ok(db.execute_batch("ALTER TABLE hidden RENAME TO ingress")?))
        .await
        .unwrap();
    bench.until("it is taken", |bench| bench.texts() == ["precious"]).await;
}

#[actix::test]
async fn a_proxy_is_used_where_one_is_named() {
    let fake = FakeTelegram::start();
    // The fake is the proxy too: a name that leads nowhere proves that it was asked.
    let proxied = json!({"dmPolicy": "open", "allowFrom": ["*"],
        "apiRoot": "http://telegram.invalid", "proxy": fake.api_root()});
    let bench = Bench::start_with(fake, proxied, quick(), |_| async {}).await.ready().await;
    bench.fake.say(555, "round the corner");
    bench.until("it arrives", |bench| bench.texts() == ["round the corner"]).await;
}

#[actix::test]
async fn two_accounts_never_poll_with_one_token() {
    let fake = FakeTelegram::start();
    let twice = json!({"accounts": {"a": {"botToken": fake.token()}, "b": {"botToken": fake.token()}}, "botToken": ""});
    let bench = Bench::start_with(fake, twice, quick(), |_| async {}).await;
    let status = |name: &str| bench.gateway.channels.get("telegram", name).map(|handle| handle.status());
    bench.until("one polls", |_| status("a").is_some_and(|status| status.connected)).await;
    bench
        .until("the other says why not", |_| status("b").is_some_and(|status| status.last_error.is_some()))
        .await;
    assert!(!status("b").unwrap().running);
    assert!(bench.fake.calls_of("getUpdates").iter().all(|call| call.status != Some(409)));
}

#[actix::test]
async fn a_delivery_that_could_not_be_recorded_is_recorded_later_and_not_repeated() {
    let patient = Timing { call: PATIENCE, ..quick() };
    let bench = Bench::start_with(FakeTelegram::start(), open(), patient, |_| async {}).await.ready().await;
    bench.fake.fail("sendMessage", Fault::Held);
    bench.answer("r1", 555, "once").await;
    bench.until("it is shown", |bench| !bench.fake.shown(555).is_empty()).await;
    bench
        .gateway
        .store
        .write(|db| Ok(db.execute_batch("ALTER TABLE outbox RENAME TO hidden")?))
        .await
        .unwrap();
    bench.fake.heal();
    bench.until("the trouble shows", |bench| bench.status().last_error.is_some()).await;
    bench
        .gateway
        .store
        .write(|db| Ok(db.execute_batch("ALTER TABLE hidden RENAME TO outbox")?))
        .await
        .unwrap();
    bench.delivered_as("r1", "sent").await;
    bench.answer("r2", 555, "next").await;
    bench.delivered_as("r2", "sent").await;
    assert_eq!(bench.fake.shown_texts(555), ["once", "next"]);
}

#[actix::test]
async fn a_token_file_may_come_later_than_the_gateway() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    let settings = json!({"botToken": null, "tokenFile": path, "dmPolicy": "open", "allowFrom": ["*"]});
    let bench = Bench::start(settings).await;
    bench.until("the missing file shows", |bench| bench.status().last_error.is_some()).await;
    assert!(bench.status().last_error.unwrap().contains("tokenFile"));
    std::fs::write(&path, bench.fake.token()).unwrap();
    bench.until("it polls", |bench| bench.status().connected).await;
}

#[actix::test]
async fn a_poll_limit_of_no_time_at_all_is_still_a_pause() {
    let bench = Bench::start(open()).await.ready().await;
    bench.fake.fail_times("getUpdates", Fault::Flood { retry_after: 0 }, 2);
    bench
        .until("it was refused twice and polls again", |bench| {
            let calls = bench.fake.calls_of("getUpdates");
            calls.iter().filter(|call| call.status == Some(429)).count() == 2
                && calls.last().is_some_and(|call| call.status == Some(200))
        })
        .await;
    let calls = bench.fake.calls_of("getUpdates");
    let first = calls.iter().position(|call| call.status == Some(429)).unwrap();
    let pauses = pauses(&calls[first..first + 3]);
    assert!(pauses.iter().all(|pause| *pause >= Duration::from_secs(1)), "{pauses:?}");
}
