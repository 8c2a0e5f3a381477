//! Children that come and go: accounts on a config change, runs, sessions.

use super::fixture::*;
use crate::supervise::*;
use std::time::Duration;

#[actix::test]
async fn a_child_started_later_is_last_in_order() {
    let tree = three(|supervisor| supervisor).await;
    tree.root.send(StartChild::new(worker("extra", &tree.log))).await.unwrap().unwrap();
    settle().await;
    let names = tree.root.send(ListChildren).await.unwrap();
    assert_eq!(names, ["registry", "agent", "telegram", "extra"]);
    tree.root.send(StopAll).await.unwrap();
    assert_eq!(tree.log.take(), ["+extra", "-extra", "-telegram", "-agent", "-registry"]);
}

#[actix::test]
async fn stop_child_answers_when_it_is_gone_and_its_name_is_free_again() {
    let tree = three(|supervisor| supervisor).await;
    let taken = tree.root.send(StartChild::new(worker("agent", &tree.log))).await.unwrap();
    assert_eq!(taken, Err(StartError::NameTaken("agent".into())));
    assert!(tree.root.send(StopChild { name: "agent".into() }).await.unwrap());
    assert_eq!(tree.log.take(), ["-agent"]);
    assert!(!tree.root.send(StopChild { name: "agent".into() }).await.unwrap(), "there is none");
    tree.root.send(StartChild::new(worker("agent", &tree.log))).await.unwrap().unwrap();
    settle().await;
    assert_eq!(tree.log.take(), ["+agent"]);
}

#[actix::test]
async fn a_child_waiting_for_its_restart_can_be_stopped() {
    tokio::time::pause();
    let (log, view, slot) = (Log::default(), TreeView::default(), Slot::default());
    let (root, _ended) = Supervisor::new(&view).child(worker("agent", &log).at(&slot)).run();
    settle().await;
    for _ in 0..2 {
        slot.tell(Do::PanicInHandler);
        settle().await;
    }
    assert!(root.send(StopChild { name: "agent".into() }).await.unwrap());
    log.take();
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(log.take().is_empty());
}

#[actix::test]
async fn once_gives_away_what_it_owns() {
    let tree = three(|supervisor| supervisor).await;
    let (log, owned) = (tree.log.clone(), Box::new("not clonable by the factory"));
    let run = ChildSpec::once("run", move || {
        let owned: Box<&str> = owned;
        log.add(*owned);
        Worker::new("run", &log)
    });
    tree.root.send(StartChild::new(run)).await.unwrap().unwrap();
    settle().await;
    assert_eq!(tree.log.take(), ["not clonable by the factory", "+run"]);
}

#[actix::test]
async fn an_adopted_actor_of_another_arbiter_is_seen_stopped_and_reported() {
    let (log, view) = (Log::default(), TreeView::default());
    let (root, _ended) = Supervisor::new(&view).stop_together().run();
    let arbiter = actix::Arbiter::new();
    let sessions = root.clone();
    for name in ["session:1", "session:2"] {
        let (seen, sessions) = (log.clone(), sessions.clone());
        let (started, is_started) = tokio::sync::oneshot::channel();
        arbiter.spawn(async move {
            let (addr, watched) = watch(Worker::new(name, &seen));
            let adopt = AdoptChild { name: name.into(), watched, shutdown: Duration::from_secs(5) };
            sessions.send(adopt).await.unwrap().unwrap();
            started.send(addr).ok();
        });
        let addr = is_started.await.unwrap();
        if name == "session:1" {
            assert_eq!(root.send(ListChildren).await.unwrap(), ["session:1"]);
            addr.do_send(Do::PanicInHandler);
            while !view.snapshot().is_empty() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            assert_eq!(log.take(), ["+session:1", "-session:1"]);
        } else {
            root.send(StopAll).await.unwrap();
            assert_eq!(log.take(), ["+session:2", "-session:2"]);
        }
    }
    arbiter.stop();
}

#[actix::test]
async fn an_actor_that_ended_before_its_adoption_leaves_no_trace() {
    let tree = three(|supervisor| supervisor).await;
    let (addr, watched) = watch(Worker::new("brief", &tree.log));
    addr.do_send(Do::Finish);
    assert_eq!(watched.ended().await, Exit::Finished);
    let adopt = AdoptChild { name: "brief".into(), watched, shutdown: Duration::from_secs(5) };
    tree.root.send(adopt).await.unwrap().unwrap();
    settle().await;
    assert_eq!(tree.root.send(ListChildren).await.unwrap(), ["registry", "agent", "telegram"]);
}

#[actix::test]
async fn a_child_on_an_arbiter_that_is_gone_counts_as_failed() {
    let (log, view) = (Log::default(), TreeView::default());
    let arbiter = actix::Arbiter::new();
    let handle = arbiter.handle();
    arbiter.stop();
    arbiter.join().unwrap();
    let child = worker("far", &log).on(handle).back_off(BackOff::none());
    let (_root, ended) = Supervisor::new(&view).child(child).run();
    assert!(matches!(ended.ended().await, Exit::Failed(_)));
}
