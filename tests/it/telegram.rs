//! Telegram from an operator's seat: who may write, how the account fares, messages by hand, and what was set aside.

use crate::support::fake_telegram::{BOT_NAME, Fault};
use crate::support::world::{OWNER, World};
use crate::support::{eventually, http, schema};
use serde_json::{Value, json};
use std::time::Duration;

async fn status(world: &World, params: Value) -> Value {
    world.operator().await.ok("channels.status", params).await
}

async fn connected(world: &World) {
    eventually("the account to be connected", async || {
        let status = status(world, json!({})).await;
        (status["channelAccounts"]["telegram"][0]["connected"] == true).then_some(())
    })
    .await;
}

#[actix_web::test]
async fn the_status_of_an_account_is_what_the_schema_says() {
    let world = World::start().await;
    connected(&world).await;
    let answer = status(&world, json!({"probe": true, "timeoutMs": 5000})).await;
    schema::assert_valid("ChannelsStatusResult", &answer);
    let account = &answer["channelAccounts"]["telegram"][0];
    assert_eq!(
        (account["accountId"].as_str(), account["lifecycle"].as_str()),
        (Some("default"), Some("ready"))
    );
    assert_eq!(account["probe"]["bot"]["username"], BOT_NAME);
    assert_eq!(answer["channelDefaultAccountId"]["telegram"], "default");
    let nothing = status(&world, json!({"channel": "signal"})).await;
    schema::assert_valid("ChannelsStatusResult", &nothing);
    let shown = world.gateway.cli(&["channels", "status", "--probe"]).await;
    assert!(String::from_utf8_lossy(&shown.stdout).contains("telegram default: ready"), "{shown:?}");
}

#[actix_web::test]
async fn a_rejected_token_shows_everywhere_and_is_printed_nowhere() {
    let world =
        World::with(json!({"channels": {"telegram": {"botToken": "123456:a-token-that-is-wrong"}}})).await;
    eventually("the refusal to show", async || {
        let answer = status(&world, json!({})).await;
        let account = &answer["channelAccounts"]["telegram"][0];
        (account["lifecycle"] == "auth-failed" && answer["statusIssues"][0]["kind"] == "auth").then_some(())
    })
    .await;
    let seen =
        format!("{}{}{}", status(&world, json!({})).await, world.gateway.log(), world.gateway.console());
    assert!(!seen.contains("a-token-that-is-wrong"));
    // Ten seconds and more, with up to a fifth off: as Telegram sees it, a slow machine only makes it longer.
    let calls = world.telegram.calls();
    let sooner = calls.windows(2).find(|pair| pair[1].at - pair[0].at < Duration::from_secs(8));
    assert!(sooner.is_none(), "{sooner:?}");
}

#[actix_web::test]
async fn a_bot_with_a_webhook_elsewhere_is_left_alone_and_everything_else_starts() {
    let world =
        World::with(json!({"channels": {"telegram": {"webhookUrl": "https://elsewhere.example/bot"}}})).await;
    let answer = status(&world, json!({})).await;
    schema::assert_valid("ChannelsStatusResult", &answer);
    let account = &answer["channelAccounts"]["telegram"][0];
    assert!(account["lastError"].as_str().unwrap().contains("webhookUrl"), "{account}");
    assert_eq!(account["running"], false);
    let ready = http::get(world.gateway.port, "/readyz").await;
    assert!(ready.status == 503 && ready.body.contains("webhookUrl"), "{ready:?}");
    assert_eq!(world.gateway.console().matches("webhookUrl").count(), 1, "{}", world.gateway.console());
    assert!(world.telegram.calls().is_empty(), "the bot was taken over");
}

#[actix_web::test]
async fn a_message_that_comes_under_another_update_is_answered_once() {
    let world = World::start().await;
    let message = world.telegram.compose(OWNER, OWNER, json!({"text": "SAY once"}));
    world.telegram.update("message", message.clone());
    world.shown(OWNER, "once").await;
    world.telegram.update("message", message);
    world.telegram.say(OWNER, "SAY afterwards");
    world.shown(OWNER, "afterwards").await;
    let answers = world.telegram.shown_texts(OWNER);
    assert_eq!(answers.iter().filter(|text| text.contains("once")).count(), 1, "{answers:?}");
}

#[actix_web::test]
async fn a_stranger_is_let_in_from_the_command_line() {
    let world = World::with(json!({
        "channels": {"telegram": {"dmPolicy": "pairing", "allowFrom": []}},
        "commands": {"ownerAllowFrom": []},
    }))
    .await;
    world.telegram.add_person(777, "Bob", Some("bob"));
    world.telegram.say(777, "SAY before");
    world.shown(777, "pairing approve telegram").await;
    let listed = world.operator().await.ok("channels.pairing.list", json!({})).await;
    schema::assert_valid("ChannelsPairingListResult", &listed);
    assert_eq!(
        (listed["requests"][0]["senderId"].as_str(), &listed["commandOwnerConfigured"]),
        (Some("777"), &json!(false))
    );
    let table = world.gateway.cli(&["pairing", "list"]).await;
    let code = listed["requests"][0]["requestId"].as_str().unwrap();
    assert!(String::from_utf8_lossy(&table.stdout).contains(code), "{table:?}");
    assert!(world.telegram.shown_texts(777)[0].contains(code));

    let wrong = world.gateway.cli(&["pairing", "approve", "telegram", "AAAAAAAA"]).await;
    assert!(!wrong.status.success());
    let approved =
        world.gateway.cli_json(&["pairing", "approve", "telegram", code, "--notify", "--json"]).await;
    schema::assert_valid("ChannelsPairingApproveResult", &approved);
    assert_eq!(
        (approved["notification"].as_str(), approved["commandOwnerBootstrap"].as_str()),
        (Some("sent"), Some("configured"))
    );
    world.telegram.say(777, "SAY after");
    world.shown(777, "after").await;
    assert_eq!(world.count(777, "before"), 0);
    let again = world.gateway.cli(&["pairing", "approve", "telegram", code]).await;
    assert!(!again.status.success());

    world.telegram.add_person(888, "Eve", None);
    world.telegram.say(888, "me too");
    world.shown(888, "pairing approve telegram").await;
    let listed = world.operator().await.ok("channels.pairing.list", json!({})).await;
    let code = listed["requests"][0]["requestId"].as_str().unwrap();
    let second = world.gateway.cli(&["pairing", "approve", "telegram", code]).await;
    assert!(String::from_utf8_lossy(&second.stderr).contains("session.dmScope"), "{second:?}");
}

#[actix_web::test]
async fn a_message_by_hand_is_sent_once_and_can_be_changed() {
    let world = World::start().await;
    connected(&world).await;
    let sent = world
        .gateway
        .cli_json(&["message", "send", "--target", "555", "--message", "**hi** by hand", "--json"])
        .await;
    assert_eq!(sent["chatId"], "555");
    let id = sent["messageId"].as_str().unwrap().to_owned();
    assert_eq!(world.telegram.shown(OWNER)[0].id.to_string(), id);
    assert_eq!(world.telegram.shown_texts(OWNER), ["hi by hand"]);

    let mut operator = world.operator().await;
    let action = |action: &str, params: Value, key: &str| {
        json!({"channel": "telegram", "action": action, "params": params, "senderIsOwner": true, "agentId": "main",
            "conversationReadOrigin": "direct-operator", "idempotencyKey": key})
    };
    let params = action("send", json!({"to": "telegram:555", "message": "only once"}), "k1");
    let first = operator.ok("message.action", params.clone()).await;
    assert_eq!(operator.ok("message.action", params).await["messageId"], first["messageId"]);
    assert_eq!(world.count(OWNER, "only once"), 1);

    let edit = json!({"to": "telegram:555", "messageId": id, "message": "changed by hand"});
    operator.ok("message.action", action("edit", edit, "k2")).await;
    let react = json!({"to": "telegram:555", "messageId": id, "emoji": "👍"});
    assert_eq!(operator.ok("message.action", action("react", react, "k3")).await["added"], "👍");
    let delete = json!({"to": "telegram:555", "messageId": first["messageId"]});
    operator.ok("message.action", action("delete", delete, "k4")).await;
    assert_eq!(world.telegram.shown_texts(OWNER), ["changed by hand"]);

    let sent = operator
        .ok("send", json!({"to": "555", "message": "by send", "channel": "telegram", "idempotencyKey": "k5"}))
        .await;
    assert_eq!((sent["runId"].as_str(), sent["channel"].as_str()), (Some("k5"), Some("telegram")));
    let refused =
        operator.refused("message.action", action("send", json!({"to": "999", "message": "x"}), "k6")).await;
    assert!(refused["message"].as_str().unwrap().contains("chat not found"), "{refused}");
    let unknown = operator.refused("message.action", action("dance", json!({"to": "555"}), "k7")).await;
    assert_eq!(unknown["code"], "INVALID_REQUEST");
    assert_eq!(world.telegram.unknown_params(), [] as [String; 0]);
}

#[actix_web::test]
async fn a_message_by_hand_that_is_only_queued_says_so() {
    let world = World::start().await;
    connected(&world).await;
    world
        .telegram
        .fail_always("sendMessage", Fault::Refuse { code: 500, description: "Internal Server Error" });
    let queued = world.gateway.cli(&["message", "send", "--target", "555", "--message", "at last"]).await;
    assert_eq!(queued.status.code(), Some(1), "{queued:?}");
    let said = String::from_utf8_lossy(&queued.stderr).into_owned();
    assert!(said.contains("queued") && said.contains("500"), "{said}");
    world.telegram.heal();
    world.shown(OWNER, "at last").await;
}

#[actix_web::test]
async fn operators_hear_that_guests_share_the_owners_conversation() {
    let world = World::start().await;
    connected(&world).await;
    let summary = async || world.operator().await.ok("status", json!({})).await["channelSummary"].to_string();
    assert!(!summary().await.contains("session.dmScope"));
    let mut config = world.config.clone();
    config["channels"]["telegram"]["allowFrom"] = json!([OWNER.to_string(), "777"]);
    world.gateway.write_config(&config);
    eventually("the status to warn", async || summary().await.contains("session.dmScope").then_some(()))
        .await;
    let shown = world.gateway.cli(&["channels", "status"]).await;
    assert!(String::from_utf8_lossy(&shown.stderr).contains("session.dmScope"), "{shown:?}");
    config["session"] = json!({"dmScope": "per-channel-peer"});
    world.gateway.write_config(&config);
    eventually("the warning to go", async || (!summary().await.contains("session.dmScope")).then_some(()))
        .await;
}

#[actix_web::test]
async fn a_file_by_hand_arrives_as_a_photo() {
    let world = World::start().await;
    connected(&world).await;
    let picture = world.gateway.home().join("cat.png");
    std::fs::write(&picture, b"not really a picture").unwrap();
    let path = picture.to_str().unwrap();
    world
        .gateway
        .cli_json(&["message", "send", "--target", "555", "--message", "look", "--media", path, "--json"])
        .await;
    let shown = world.telegram.shown(OWNER);
    assert_eq!((shown[0].text.as_str(), shown[1].kind.as_str()), ("look", "photo"));
    assert_eq!(shown[1].file, b"not really a picture");
    assert!(picture.exists(), "the person's own file is left alone");
}

#[actix_web::test]
async fn an_answer_without_an_outcome_is_reported_and_never_repeated() {
    let world = World::start().await;
    connected(&world).await;
    let mut operator = world.operator().await;
    world.telegram.fail("sendMessage", Fault::DropAfter);
    world.telegram.say(OWNER, "/whoami");
    let event = operator.event("outbox.unknown").await;
    assert_eq!(
        (event["channel"].as_str(), event["chatId"].as_str()),
        (Some("telegram"), Some("555")),
        "{event}"
    );
    eventually("operators to see it", async || {
        let answer = status(&world, json!({})).await;
        (answer["channelAccounts"]["telegram"][0]["unknownDeliveries"] == 1).then_some(())
    })
    .await;
    let shown = world.gateway.cli(&["status"]).await;
    assert!(String::from_utf8_lossy(&shown.stdout).contains("1 perhaps not delivered"), "{shown:?}");
    let before = world.telegram.calls_of("sendMessage").len();
    let world = world.crash().await;
    world.settled().await;
    assert_eq!(world.telegram.calls_of("sendMessage").len(), before + 1, "it was sent again");
}

#[actix_web::test]
async fn readiness_tells_how_long_the_poll_has_been_silent() {
    let world = World::start().await;
    connected(&world).await;
    let ready = http::get(world.gateway.port, "/readyz").await;
    assert_eq!(ready.status, 200);
    let body: Value = serde_json::from_str(&ready.body).unwrap();
    assert!(body["channels"][0].to_string().contains("telegram"), "{body}");
}

#[actix_web::test]
async fn the_age_of_the_last_good_poll_grows_while_telegram_fails() {
    let world = World::start().await;
    connected(&world).await;
    let age = async || {
        let ready = http::get(world.gateway.port, "/readyz").await;
        let body: Value = serde_json::from_str(&ready.body).unwrap();
        body["channels"][0]["lastGoodPollAgeMs"].as_u64().unwrap()
    };
    world
        .telegram
        .fail_always("getUpdates", Fault::Refuse { code: 500, description: "Internal Server Error" });
    let first = eventually("the trouble to show", async || {
        let answer = status(&world, json!({})).await;
        let shows = answer["channelAccounts"]["telegram"][0]["connected"] == false;
        if shows { Some(age().await) } else { None }
    })
    .await;
    eventually("the age to grow", async || (age().await > first + 1000).then_some(())).await;
    assert_eq!(world.telegram.calls_of("getUpdates").last().unwrap().status, Some(500));
}

#[actix_web::test]
async fn an_account_that_should_run_and_does_not_makes_the_gateway_unready() {
    let world = World::start().await;
    connected(&world).await;
    let health = world.gateway.cli(&["health"]).await;
    assert!(health.status.success(), "{health:?}");
    let mut config = world.config.clone();
    // Two pollers of one bot would only throw each other out, so the second is not started.
    let token = world.telegram.token();
    config["channels"]["telegram"]["accounts"] =
        json!({"default": {"botToken": token}, "second": {"botToken": token}});
    world.gateway.write_config(&config);
    let body = eventually("it not to be ready", async || {
        let ready = http::get(world.gateway.port, "/readyz").await;
        (ready.status == 503).then_some(ready.body)
    })
    .await;
    assert!(body.contains(r#""telegram:second""#), "{body}");
    let health = world.gateway.cli(&["health"]).await;
    assert_eq!(health.status.code(), Some(1), "{health:?}");
    let said = String::from_utf8_lossy(&health.stdout).into_owned();
    assert!(said.starts_with("not ok: telegram:second\n"), "{said}");
    let health = world.gateway.cli(&["health", "--json"]).await;
    assert_eq!(health.status.code(), Some(1));
    let health: Value = serde_json::from_slice(&health.stdout).unwrap();
    assert_eq!((&health["ok"], &health["failing"]), (&json!(false), &json!(["telegram:second"])));
    config["channels"]["telegram"]["accounts"]["second"]["enabled"] = false.into();
    world.gateway.write_config(&config);
    eventually("it to be ready again", async || {
        (http::get(world.gateway.port, "/readyz").await.status == 200).then_some(())
    })
    .await;
}

#[actix_web::test]
async fn a_change_of_the_config_reaches_the_account() {
    let world = World::start().await;
    connected(&world).await;
    let mut config = world.config.clone();
    config["channels"]["telegram"]["enabled"] = false.into();
    world.gateway.write_config(&config);
    eventually("the account to stop", async || {
        let answer = status(&world, json!({})).await;
        (answer["channelAccounts"]["telegram"][0]["running"] == false).then_some(())
    })
    .await;
    world.gateway.write_config(&world.config);
    connected(&world).await;
    world.telegram.say(OWNER, "SAY back-again");
    world.shown(OWNER, "back-again").await;
}
