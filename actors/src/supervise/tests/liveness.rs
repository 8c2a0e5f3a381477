//! A child that no longer answers is as good as dead.

use super::fixture::*;
use crate::supervise::*;
use std::time::Duration;

async fn probed() -> (Log, TreeView, Slot<Worker>, actix::Addr<Supervisor>) {
    tokio::time::pause();
    let (log, view, slot) = (Log::default(), TreeView::default(), Slot::default());
    let child = worker("agent", &log).at(&slot).probed(Duration::from_secs(10), Duration::from_secs(2));
    let (root, _) = Supervisor::new(&view).child(child).run();
    settle().await;
    log.take();
    (log, view, slot, root)
}

#[actix::test]
async fn a_child_that_answers_is_left_alone() {
    let (log, view, _slot, _root) = probed().await;
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert!(log.take().is_empty());
    assert_eq!(node(&view, "agent").restarts, 0);
}

#[actix::test]
async fn a_child_that_hangs_is_aborted_and_started_anew() {
    let (log, view, slot, _root) = probed().await;
    slot.tell(Do::Hang);
    tokio::time::sleep(Duration::from_secs(11)).await;
    assert!(log.take().is_empty(), "it still has time to answer");
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(log.take(), ["-agent", "+agent"]);
    assert!(node(&view, "agent").last_error.unwrap().contains("no answer to a probe"));
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(log.take().is_empty(), "the new one answers");
}

#[actix::test]
async fn a_child_that_panics_is_not_also_reported_as_hanging() {
    let (log, view, slot, _root) = probed().await;
    slot.tell(Do::PanicInHandler);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(log.take(), ["-agent", "+agent"]);
    assert_eq!(node(&view, "agent").last_error.as_deref(), Some("panicked: boom"));
}
