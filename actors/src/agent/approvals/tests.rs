//! Approvals: asked, answered, bound, used once.

use super::*;
use crate::settings::{Settings, SettingsHandle, StatePaths};
use crate::store::Store;

fn gateway() -> Gateway {
    let settings = SettingsHandle::new(Settings::default(), StatePaths::new("unused"));
    Gateway::new(settings, Store::temporary().unwrap())
}

fn question(text: &str) -> Question {
    Question {
        node_id: "n".into(),
        plan: json!({"argv": ["sh", "-c", text], "cwd": "/", "commandText": text, "commandPreview": text}),
        env: None,
        agent_id: Some("main".into()),
        session_key: Some("agent:main:main".into()),
        run_id: Some("r".into()),
        tool_call_id: None,
        may_allow_always: false,
        security: "full".into(),
        ask: "always".into(),
        channel: None,
        asker: Asker::Run("r".into()),
        id: None,
        expires_after: EXPIRES_AFTER,
    }
}

fn claim<'a>(id: &'a str, asker: &'a Asker) -> Claim<'a> {
    Claim { id, node_id: "n", env: None, asker }
}

#[actix::test]
async fn one_approval_runs_once_and_only_what_was_approved() {
    let gateway = gateway();
    let approvals = &gateway.approvals;
    let mut waiting = approvals.ask(&gateway, question("id")).unwrap();
    let (id, run) = (waiting.id.clone(), Asker::Run("r".into()));
    assert_eq!(approvals.consume(claim(&id, &run)).unwrap_err(), NotUsable::Required);
    assert_eq!(approvals.list().len(), 1);
    approvals.resolve(&gateway, &id, Decision::AllowOnce, "cli").unwrap();
    assert_eq!(waiting.verdict(&gateway).await, Verdict::Decided(Decision::AllowOnce));
    let env = json!({"LD_PRELOAD": "x"});
    let wrong = [
        (Claim { node_id: "other", ..claim(&id, &run) }, NotUsable::OtherNode),
        (Claim { env: Some(&env), ..claim(&id, &run) }, NotUsable::OtherEnv),
        (Claim { asker: &Asker::Helpers, ..claim(&id, &run) }, NotUsable::OtherClient),
    ];
    for (claim, why) in wrong {
        assert_eq!(approvals.consume(claim).unwrap_err(), why);
    }
    let (approved, decision) = approvals.consume(claim(&id, &run)).unwrap();
    assert_eq!((approved.plan["argv"][2].as_str(), decision), (Some("id"), Decision::AllowOnce));
    assert_eq!(approvals.consume(claim(&id, &run)).unwrap_err(), NotUsable::Required);
}

#[actix::test]
async fn only_who_asked_may_use_the_answer() {
    let gateway = gateway();
    let device = |id: &str| Asker::Device(id.into());
    let connection = |id: &str| Asker::Connection(id.into());
    let cases = [
        (device("a"), device("b"), NotUsable::OtherDevice),
        (device("a"), connection("1"), NotUsable::OtherDevice),
        (connection("1"), connection("2"), NotUsable::OtherClient),
        (connection("1"), Asker::Helpers, NotUsable::OtherClient),
        (Asker::Helpers, connection("1"), NotUsable::OtherClient),
        (connection("1"), device("a"), NotUsable::OtherClient),
    ];
    for (asker, other, why) in cases {
        let waiting = gateway.approvals.ask(&gateway, Question { asker: asker.clone(), ..question("id") });
        let id = waiting.unwrap().id;
        gateway.approvals.resolve(&gateway, &id, Decision::AllowOnce, "cli").unwrap();
        assert_eq!(gateway.approvals.consume(claim(&id, &other)).unwrap_err(), why);
        assert!(gateway.approvals.consume(claim(&id, &asker)).is_ok());
    }
}

#[actix::test]
async fn answers_are_taken_once_and_only_where_offered() {
    let gateway = gateway();
    let waiting = gateway.approvals.ask(&gateway, question("id")).unwrap();
    let resolve = |decision| gateway.approvals.resolve(&gateway, &waiting.id, decision, "cli");
    assert_eq!(resolve(Decision::AllowAlways), Err(NotResolved::NotAlways));
    assert_eq!(resolve(Decision::Deny).unwrap()["status"], "denied");
    assert!(resolve(Decision::Deny).is_ok());
    assert_eq!(resolve(Decision::AllowOnce), Err(NotResolved::Already(Decision::Deny)));
    assert_eq!(gateway.approvals.resolve(&gateway, "nope", Decision::Deny, ""), Err(NotResolved::Unknown));
}

#[actix::test]
async fn a_question_that_nobody_answers_expires() {
    let gateway = gateway();
    let quick = Question { expires_after: Duration::from_millis(20), ..question("id") };
    let mut waiting = gateway.approvals.ask(&gateway, quick).unwrap();
    assert_eq!(waiting.verdict(&gateway).await, Verdict::Expired);
    let run = Asker::Run("r".into());
    assert_eq!(gateway.approvals.consume(claim(&waiting.id, &run)).unwrap_err(), NotUsable::Expired);
    assert!(gateway.approvals.list().is_empty());
}

#[actix::test]
async fn a_person_sees_the_whole_command_with_nothing_hidden() {
    let gateway = gateway();
    let hidden = question("a\u{202e}b\u{1b}[2J");
    let waiting = gateway.approvals.ask(&gateway, hidden).unwrap();
    let view = gateway.approvals.get(&waiting.id).unwrap();
    assert_eq!(view["presentation"]["commandText"], "sh -c a\\u{202e}b\\u{1b}[2J");
    let mut lying = question("rm -rf /");
    lying.plan["commandText"] = json!("echo safe");
    let waiting = gateway.approvals.ask(&gateway, lying).unwrap();
    let view = gateway.approvals.get(&waiting.id).unwrap();
    assert_eq!(view["presentation"]["commandText"], "sh -c \"rm -rf /\"");
    assert_eq!(waiting.command, "sh -c \"rm -rf /\"");
    let mut lying = question("rm -rf /");
    lying.plan["argv"] = json!(["rm", "-rf", "/"]);
    let waiting = gateway.approvals.ask(&gateway, lying).unwrap();
    let rows = gateway.approvals.list();
    let row = rows.iter().find(|row| row["id"] == waiting.id).unwrap();
    let plan = &row["request"]["systemRunPlan"];
    assert_eq!(plan["commandText"], "rm -rf /");
    assert_eq!(plan["commandPreview"], Value::Null, "no preview but that of a shell's script");
    let long = "x".repeat(MAX_SHOWN + 1);
    assert_eq!(gateway.approvals.ask(&gateway, question(&long)).err(), Some(NotAsked::TooLong));
}
