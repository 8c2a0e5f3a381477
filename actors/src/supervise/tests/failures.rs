//! What counts as a failure, and which children are started again after it.

use super::fixture::*;
use crate::supervise::*;
use actix::MailboxError;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

async fn restarts_only_the_agent_after(what: Do) {
    let tree = three(|supervisor| supervisor).await;
    tree.tell(1, what).await;
    assert_eq!(tree.log.take(), ["-agent", "+agent"], "{what:?}");
    assert!(tree.slots[1].send(Do::Nothing).await.is_ok(), "the slot reaches the new incarnation");
    assert_eq!(node(&tree.view, "agent").restarts, 1);
}

#[actix::test]
async fn a_panic_in_a_handler_restarts_the_child() {
    restarts_only_the_agent_after(Do::PanicInHandler).await;
}

#[actix::test]
async fn a_panic_in_a_future_restarts_the_child() {
    restarts_only_the_agent_after(Do::PanicInFuture).await;
}

#[actix::test]
async fn a_panic_in_a_timer_restarts_the_child() {
    restarts_only_the_agent_after(Do::PanicInTimer).await;
}

#[actix::test]
async fn a_panic_in_an_answer_restarts_the_child_and_the_caller_sees_closed() {
    let tree = three(|supervisor| supervisor).await;
    assert!(matches!(tree.slots[1].send(PanicInAnswer).await, Err(MailboxError::Closed)));
    settle().await;
    assert_eq!(tree.log.take(), ["-agent", "+agent"]);
}

#[actix::test]
async fn a_permanent_child_that_stops_without_being_asked_is_restarted() {
    restarts_only_the_agent_after(Do::Finish).await;
}

#[actix::test]
async fn a_panic_in_the_factory_is_a_failure_as_any_other() {
    tokio::time::pause();
    let (log, view) = (Log::default(), TreeView::default());
    let (seen, tries) = (log.clone(), AtomicU32::new(0));
    let child = ChildSpec::new("agent", move || {
        assert!(tries.fetch_add(1, Ordering::Relaxed) >= 2, "not yet");
        Worker::new("agent", &seen)
    });
    let (_root, _ended) = Supervisor::new(&view).child(child.back_off(BackOff::none())).run();
    settle().await;
    assert_eq!(log.take(), ["+agent"]);
    assert_eq!(node(&view, "agent").restarts, 2);
    assert!(node(&view, "agent").last_error.unwrap().contains("not yet"));
}

#[actix::test]
async fn a_transient_child_may_finish_but_not_fail() {
    tokio::time::pause();
    let (log, view, slot) = (Log::default(), TreeView::default(), Slot::default());
    let child = worker("job", &log).at(&slot).restart(Restart::Transient);
    let (_root, _ended) = Supervisor::new(&view).child(child).run();
    settle().await;
    slot.tell(Do::PanicInHandler);
    settle().await;
    assert_eq!(log.take(), ["+job", "-job", "+job"]);
    slot.tell(Do::Finish);
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(log.take(), ["-job"]);
    assert_eq!(node(&view, "job").state, ChildState::Stopped);
}

#[actix::test]
async fn a_temporary_child_is_never_restarted_and_leaves_the_tree() {
    tokio::time::pause();
    let (log, view, slot) = (Log::default(), TreeView::default(), Slot::default());
    let child = worker("run", &log).at(&slot).restart(Restart::Temporary);
    let (_root, _ended) = Supervisor::new(&view).child(child).run();
    settle().await;
    slot.tell(Do::PanicInHandler);
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(log.take(), ["+run", "-run"]);
    assert_eq!(view.snapshot(), []);
}

#[actix::test]
async fn neighbours_go_on_while_a_child_is_restarted() {
    let tree = three(|supervisor| supervisor).await;
    tree.slots[1].tell(Do::PanicInHandler);
    assert!(tree.slots[0].send(Do::Nothing).await.is_ok());
    assert!(tree.slots[2].send(Do::Nothing).await.is_ok());
    settle().await;
    assert_eq!(tree.log.take(), ["-agent", "+agent"]);
}
