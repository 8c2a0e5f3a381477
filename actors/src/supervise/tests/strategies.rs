//! Who goes down and comes up with the child that failed, and in which order.

use super::fixture::*;
use crate::supervise::*;
use std::time::Duration;

#[actix::test]
async fn one_for_one_restarts_only_the_one_that_failed() {
    let tree = three(|supervisor| supervisor.strategy(Strategy::OneForOne)).await;
    tree.tell(0, Do::PanicInHandler).await;
    assert_eq!(tree.log.take(), ["-registry", "+registry"]);
}

#[actix::test]
async fn rest_for_one_stops_those_behind_last_first_then_starts_in_order() {
    let tree = three(|supervisor| supervisor.strategy(Strategy::RestForOne)).await;
    tree.tell(1, Do::PanicInHandler).await;
    assert_eq!(tree.log.take(), ["-agent", "-telegram", "+agent", "+telegram"]);
    tree.tell(0, Do::PanicInHandler).await;
    let expected = ["-registry", "-telegram", "-agent", "+registry", "+agent", "+telegram"];
    assert_eq!(tree.log.take(), expected);
}

#[actix::test]
async fn one_for_all_takes_everybody_along() {
    let tree = three(|supervisor| supervisor.strategy(Strategy::OneForAll)).await;
    tree.tell(2, Do::PanicInHandler).await;
    let expected = ["-telegram", "-agent", "-registry", "+registry", "+agent", "+telegram"];
    assert_eq!(tree.log.take(), expected);
}

#[actix::test]
async fn one_for_all_does_not_bring_temporary_children_back() {
    let tree = three(|supervisor| supervisor.strategy(Strategy::OneForAll)).await;
    let run = worker("run", &tree.log).restart(Restart::Temporary);
    tree.root.send(StartChild::new(run)).await.unwrap().unwrap();
    settle().await;
    tree.log.take();
    tree.tell(1, Do::PanicInHandler).await;
    let expected = ["-agent", "-run", "-telegram", "-registry", "+registry", "+agent", "+telegram"];
    assert_eq!(tree.log.take(), expected);
}

#[actix::test]
async fn the_new_set_waits_for_one_that_is_slow_to_go() {
    tokio::time::pause();
    let (log, view, slot) = (Log::default(), TreeView::default(), Slot::default());
    let first = worker("first", &log).at(&slot).back_off(BackOff::none());
    let seen = log.clone();
    let slow = ChildSpec::new("slow", move || Worker::draining("slow", &seen, Some(Duration::from_secs(3))));
    let root = Supervisor::new(&view).strategy(Strategy::RestForOne).child(first).child(slow.drains());
    let (_root, _ended) = root.run();
    settle().await;
    log.take();
    slot.tell(Do::PanicInHandler);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(log.take(), ["-first", "?slow"], "nothing starts while one of the old set is there");
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(log.take(), ["-slow", "+first", "+slow"]);
}
