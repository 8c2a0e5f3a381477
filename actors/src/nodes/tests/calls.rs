//! Calls on their way.

use super::*;

#[actix::test]
async fn a_call_reaches_the_node_as_it_was_written_and_the_answer_comes_back() {
    let gateway = gateway();
    let mut node = approved(&gateway, "aaaa1111", "c1").await;
    let mut call = which("name of aaaa1111", "k");
    call.params = Some(RawValue::from_string(r#"{"b": 1,  "a":[ ]}"#.into()).unwrap());
    let answer = start(&gateway, call);
    let request = node.request().await;
    assert_eq!(request["paramsJSON"], r#"{"b": 1,  "a":[ ]}"#);
    assert_eq!(request["nodeId"], "aaaa1111");
    assert_eq!(request["idempotencyKey"], "k");
    assert!(request["timeoutMs"].as_u64().unwrap() <= 30_000);
    assert!(node.answer(&request, r#"{"x":1}"#));
    assert_eq!(answer.await.unwrap().unwrap().payload.get(), r#"{"x":1}"#);
    assert!(!node.answer(&request, "2"), "a second answer is ignored");
    assert!(gateway.node_table.calls().is_empty());
}

#[actix::test]
async fn the_actor_lists_who_is_there() {
    let gateway = gateway();
    let _node = approved(&gateway, "aaaa1111", "c1").await;
    let listed = gateway.nodes.send(ListNodes).await.unwrap();
    assert_eq!(
        (listed.len(), listed[0].connected, &listed[0].commands[..]),
        (1, true, &["system.run".to_owned(), "system.which".to_owned()][..])
    );
}

#[actix::test]
async fn one_key_runs_once_however_often_it_is_asked_for() {
    let gateway = gateway();
    let mut node = approved(&gateway, "n", "c1").await;
    let first = start(&gateway, which("n", "k"));
    let request = node.request().await;
    let joined = start(&gateway, which("n", "k"));
    tokio::task::yield_now().await;
    let different = ask("n", "system.which", json!({}), "k");
    assert_eq!(Courier::of(&gateway).invoke(different).await.unwrap_err(), InvokeError::KeyReused);
    node.answer(&request, "7");
    assert_eq!(first.await.unwrap().unwrap().payload.get(), "7");
    assert_eq!(joined.await.unwrap().unwrap().payload.get(), "7");
    assert_eq!(Courier::of(&gateway).invoke(which("n", "k")).await.unwrap().payload.get(), "7");
    assert!(node.is_silent());
}

#[actix::test]
async fn a_key_is_free_again_when_nothing_ran() {
    let gateway = gateway();
    let node = approved(&gateway, "n", "c1").await;
    node.close();
    let courier = Courier::of(&gateway);
    assert_eq!(courier.invoke(which("n", "k")).await.unwrap_err(), InvokeError::NotConnected);
    let mut node = connect(&gateway, "n", "c2", WHICH).await;
    let answer = start(&gateway, which("n", "k"));
    let request = node.request().await;
    node.answer(&request, "1");
    answer.await.unwrap().unwrap();
}

#[actix::test]
async fn a_deadline_always_fires_and_its_key_never_runs_again() {
    let gateway = gateway();
    let mut node = approved(&gateway, "n", "c1").await;
    tokio::time::pause();
    let answer = start(&gateway, which("n", "k"));
    let request = node.request().await;
    assert_eq!(answer.await.unwrap().unwrap_err(), InvokeError::TimedOut { dispatched: true });
    assert_eq!(node.event("node.invoke.cancel").await, json!({ "invokeId": request["id"], "nodeId": "n" }));
    assert!(!node.answer(&request, "1"), "too late");
    let again = Courier::of(&gateway).invoke(which("n", "k")).await.unwrap_err();
    assert!(matches!(again, InvokeError::OutcomeUnknown { .. }), "{again:?}");
    assert!(node.is_silent());
}

#[actix::test]
async fn a_disconnect_fails_calls_at_once_and_a_reconnect_does_not_hang_them() {
    let gateway = gateway();
    let mut old = approved(&gateway, "n", "old").await;
    let lost = start(&gateway, which("n", "k1"));
    old.request().await;
    let mut new = connect(&gateway, "n", "new", WHICH).await;
    old.close();
    let lost = tokio::time::timeout(Duration::from_secs(5), lost).await.unwrap().unwrap();
    assert_eq!(lost.unwrap_err(), InvokeError::Disconnected { command: "system.which".into() });
    let answer = start(&gateway, which("n", "k2"));
    let request = new.request().await;
    new.answer(&request, "1");
    assert!(answer.await.unwrap().is_ok(), "the late close took only the old socket");
    new.close();
    let again = Courier::of(&gateway).invoke(which("n", "k1")).await.unwrap_err();
    assert!(matches!(again, InvokeError::OutcomeUnknown { .. }), "it may have run: {again:?}");
}

#[actix::test]
async fn an_answer_before_the_close_wins() {
    let gateway = gateway();
    let mut node = approved(&gateway, "n", "c1").await;
    let answer = start(&gateway, which("n", "k"));
    let request = node.request().await;
    node.answer(&request, "1");
    node.close();
    assert_eq!(answer.await.unwrap().unwrap().payload.get(), "1");
}

#[actix::test]
async fn a_node_that_is_not_ready_is_asked_five_times_under_one_key() {
    let gateway = gateway();
    let mut node = approved(&gateway, "n", "c1").await;
    tokio::time::pause();
    let begun = tokio::time::Instant::now();
    let answer = start(&gateway, which("n", "k"));
    let mut ids = std::collections::HashSet::new();
    for _ in 0..5 {
        let request = node.request().await;
        assert_eq!(request["idempotencyKey"], "k");
        ids.insert(request["id"].as_str().unwrap().to_owned());
        node.fail(&request, "NODE_NOT_READY");
    }
    let error = answer.await.unwrap().unwrap_err();
    assert!(error.to_string().starts_with("NODE_NOT_READY"), "{error}");
    assert_eq!(ids.len(), 5);
    assert!(begun.elapsed() >= Duration::from_millis(1850));
    assert!(!error.may_have_run());
}

#[actix::test]
async fn a_caller_that_went_away_may_come_back_for_a_while_but_not_for_ever() {
    let gateway = gateway();
    let mut node = approved(&gateway, "n", "c1").await;
    tokio::time::pause();
    let gone = start(&gateway, which("n", "k"));
    let request = node.request().await;
    gone.abort();
    let back = start(&gateway, which("n", "k"));
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert!(node.is_silent());
    node.answer(&request, "1");
    assert_eq!(back.await.unwrap().unwrap().payload.get(), "1");

    let gone = start(&gateway, which("n", "k2"));
    let request = node.request().await;
    gone.abort();
    assert_eq!(node.event("node.invoke.cancel").await["invokeId"], request["id"]);
    assert!(gateway.node_table.calls().is_empty());
}

#[actix::test]
async fn a_stopped_agent_recalls_its_call_at_once() {
    let gateway = gateway();
    let mut node = approved(&gateway, "n", "c1").await;
    let mut call = which("n", "k");
    call.origin = InvokeOrigin::Agent { run_id: "r".into() };
    let run = start(&gateway, call);
    node.request().await;
    run.abort();
    node.event("node.invoke.cancel").await;
}

#[actix::test]
async fn what_is_refused_to_everyone_is_refused_to_the_agent_and_whom_it_speaks_for() {
    let gateway = gateway();
    let commands = ["system.execApprovals.set", "worker.launch.v1", "fs.listDir", "terminal.upload"];
    let mut node = connect(&gateway, "n", "c1", &commands).await;
    approve(&gateway, "n").await;
    node.event("node.pair.resolved").await;
    for command in commands {
        let mut call = ask("n", command, json!({}), command);
        call.origin = InvokeOrigin::Agent { run_id: "r".into() };
        let refused = Courier::of(&gateway).invoke(call).await.unwrap_err();
        let expected = match policy::is_reserved(command) {
            true => InvokeError::Reserved(command.into()),
            false => InvokeError::MissingScope("operator.admin"),
        };
        assert_eq!(refused, expected);
    }
    assert!(node.is_silent());
}

#[actix::test]
async fn after_a_crash_no_recorded_call_is_sent_again() {
    let store = Store::temporary().unwrap();
    let gateway = gateway_on(store.clone());
    let mut node = approved(&gateway, "n", "c1").await;
    let run = |key: &str| {
        let mut call = ask("n", "system.run", json!({ "command": ["/bin/true"] }), key);
        call.origin = InvokeOrigin::Agent { run_id: "r".into() };
        call
    };
    let done = start(&gateway, run("done"));
    let request = node.request().await;
    node.answer(&request, "1");
    done.await.unwrap().unwrap();
    let _cut_short = start(&gateway, run("cut short"));
    node.request().await;

    let gateway = gateway_on(store);
    gateway.nodes.send(ListNodes).await.unwrap();
    let courier = Courier::of(&gateway);
    // What is on record needs no node; only what is not asks for one.
    assert_eq!(courier.invoke(run("done")).await.unwrap().payload.get(), "1");
    let unknown = courier.invoke(run("cut short")).await.unwrap_err();
    assert!(matches!(unknown, InvokeError::OutcomeUnknown { .. }), "{unknown:?}");
    assert_eq!(courier.invoke(run("new")).await.unwrap_err(), InvokeError::NotConnected);
    let agent = InvokeOrigin::Agent { run_id: "r".into() };
    assert!(courier.recall("n", "system.run", "done", &agent).await.unwrap().is_ok());
    assert!(courier.recall("n", "system.run", "new", &agent).await.is_none());

    let mut node = connect(&gateway, "n", "c2", WHICH).await;
    assert_eq!(courier.invoke(run("done")).await.unwrap().payload.get(), "1");
    let unknown = courier.invoke(run("cut short")).await.unwrap_err();
    assert!(matches!(unknown, InvokeError::OutcomeUnknown { .. }), "{unknown:?}");
    assert!(node.is_silent());
}

#[actix::test]
async fn a_run_gets_an_id_and_loses_what_its_caller_said_about_approval() {
    let gateway = gateway();
    let mut node = approved(&gateway, "n", "c1").await;
    let params = json!({ "command": ["id"], "approved": false, "approvalDecision": "deny", "ask": "off" });
    let _running = start(&gateway, ask("n", "system.run", params, "k"));
    let request = node.request().await;
    let sent: Value = serde_json::from_str(request["paramsJSON"].as_str().unwrap()).unwrap();
    assert_eq!(sent["command"], json!(["id"]));
    assert!(sent["runId"].is_string());
    assert_eq!(sent.as_object().unwrap().len(), 2, "{sent}");
    let claimed = json!({ "command": ["id"], "approved": true, "runId": "made-up" });
    let refused = Courier::of(&gateway).invoke(ask("n", "system.run", claimed, "k2")).await.unwrap_err();
    assert_eq!(refused, InvokeError::BadRun(RunRefused::unknown_approval("made-up")));
    assert!(node.is_silent());
}

#[actix::test]
async fn an_approved_run_is_the_one_that_was_approved() {
    struct Keeper;
    impl ExecApprovals for Keeper {
        fn consume(&self, claim: ApprovalClaim) -> Later<Result<ApprovedRun, RunRefused>> {
            assert_eq!((&*claim.run_id, &*claim.node_id), ("real", "n"));
            let params =
                json!({ "command": ["echo", "approved"], "cwd": "/srv" }).as_object().cloned().unwrap();
            Box::pin(async move { Ok(ApprovedRun { params, decision: "allow-once".into() }) })
        }
    }
    let gateway = gateway();
    gateway.node_table.set_approvals(Arc::new(Keeper));
    let mut node = approved(&gateway, "n", "c1").await;
    let params = json!({ "command": ["rm", "-rf", "/"], "approved": true, "runId": "real" });
    let _running = start(&gateway, ask("n", "system.run", params, "k"));
    let request = node.request().await;
    let sent: Value = serde_json::from_str(request["paramsJSON"].as_str().unwrap()).unwrap();
    assert_eq!(
        sent,
        json!({ "command": ["echo", "approved"], "runId": "real", "cwd": "/srv",
            "approved": true, "approvalDecision": "allow-once" })
    );
}

#[actix::test]
async fn nodes_that_come_and_go_hang_no_call_and_double_none() {
    let gateway = gateway();
    let mut nodes = Vec::new();
    for id in ["n0", "n1", "n2", "n3"] {
        nodes.push(Some(approved(&gateway, id, &format!("{id}-0")).await));
    }
    let mut calls = Vec::new();
    let mut seen = std::collections::HashSet::new();
    for round in 0..200_usize {
        let place = round % nodes.len();
        let id = format!("n{place}");
        calls.push(start(&gateway, which(&id, &format!("k{round}"))));
        calls.push(start(&gateway, which(&id, &format!("k{round}"))));
        tokio::task::yield_now().await;
        tokio::task::yield_now().await;
        let mut node = nodes[place].take().unwrap();
        while let Some(Some(Outgoing::Text(text))) = futures_util::FutureExt::now_or_never(node.frames.next())
        {
            let frame: Value = serde_json::from_str(&text).unwrap();
            if frame["event"] == "node.invoke.request" {
                let request = &frame["payload"];
                assert!(
                    seen.insert(request["idempotencyKey"].as_str().unwrap().to_owned()),
                    "doubled: {frame}"
                );
                // Every third call is never answered: its node goes away instead.
                if round % 3 != 0 {
                    node.answer(request, "1");
                }
            }
        }
        // The next socket comes before, or after, the old one is known to be gone.
        let next = format!("n{place}-{}", round + 1);
        nodes[place] = Some(match round % 4 {
            0 => {
                let new = connect(&gateway, &id, &next, WHICH).await;
                node.close();
                new
            }
            1 | 2 => {
                node.close();
                connect(&gateway, &id, &next, WHICH).await
            }
            _ => node,
        });
    }
    nodes.into_iter().flatten().for_each(Socket::close);
    let (mut answered, mut failed) = (0, 0);
    for call in calls {
        match tokio::time::timeout(Duration::from_secs(10), call).await.unwrap().unwrap() {
            Ok(_) => answered += 1,
            Err(InvokeError::Disconnected { .. } | InvokeError::NotConnected) => failed += 1,
            Err(other) => panic!("not an honest end: {other:?}"),
        }
    }
    assert!(answered > 0 && failed > 0, "{answered} answered, {failed} failed");
    assert!(gateway.node_table.calls().is_empty());
}
