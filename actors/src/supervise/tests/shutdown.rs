//! Going down in good order, and never two of one.

use super::fixture::*;
use crate::supervise::*;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;
use tokio::time::Instant;

fn draining(name: &'static str, log: &Log, drain: Option<Duration>) -> ChildSpec<Worker> {
    let log = log.clone();
    ChildSpec::new(name, move || Worker::draining(name, &log, drain)).drains()
}

#[actix::test]
async fn children_stop_last_first_each_when_the_one_after_it_is_gone() {
    tokio::time::pause();
    let (log, view) = (Log::default(), TreeView::default());
    let root = Supervisor::new(&view)
        .child(draining("a", &log, Some(Duration::from_secs(1))))
        .child(draining("b", &log, Some(Duration::from_secs(2))))
        .child(draining("c", &log, Some(Duration::from_secs(3))));
    let (root, ended) = root.run();
    settle().await;
    log.take();
    let begun = Instant::now();
    root.send(StopAll).await.unwrap();
    assert_eq!(log.take(), ["?c", "-c", "?b", "-b", "?a", "-a"]);
    assert_eq!(begun.elapsed().as_secs(), 6);
    assert_eq!(ended.ended().await, Exit::Finished);
    assert_eq!(view.snapshot(), []);
}

#[actix::test]
async fn one_that_does_not_go_in_its_time_is_aborted() {
    tokio::time::pause();
    let (log, view) = (Log::default(), TreeView::default());
    let stubborn = draining("stubborn", &log, None).shutdown(Duration::from_secs(2));
    let (root, _ended) = Supervisor::new(&view).child(worker("quick", &log)).child(stubborn).run();
    settle().await;
    log.take();
    let begun = Instant::now();
    root.send(StopAll).await.unwrap();
    assert_eq!(log.take(), ["?stubborn", "-stubborn", "-quick"]);
    assert_eq!(begun.elapsed().as_secs(), 2);
}

#[actix::test]
async fn a_crowd_of_equals_stops_together() {
    tokio::time::pause();
    let (log, view) = (Log::default(), TreeView::default());
    let mut root = Supervisor::new(&view).stop_together();
    for name in ["a", "b", "c"] {
        root = root.child(draining(name, &log, Some(Duration::from_secs(3))));
    }
    let (root, _ended) = root.run();
    settle().await;
    let begun = Instant::now();
    root.send(StopAll).await.unwrap();
    assert_eq!(begun.elapsed().as_secs(), 3);
}

#[actix::test]
async fn a_nested_supervisor_brings_its_children_down_before_it_goes() {
    tokio::time::pause();
    let (log, view) = (Log::default(), TreeView::default());
    let seen = log.clone();
    let channels = ChildSpec::supervisor("channels", move |channels| {
        channels.child(
            draining("telegram", &seen, Some(Duration::from_secs(9))).shutdown(Duration::from_secs(30)),
        )
    });
    let (root, _ended) = Supervisor::new(&view).child(worker("agent", &log)).child(channels).run();
    settle().await;
    log.take();
    root.send(StopAll).await.unwrap();
    assert_eq!(log.take(), ["?telegram", "-telegram", "-agent"]);
}

#[actix::test]
async fn nothing_is_started_while_going_down() {
    let tree = three(|supervisor| supervisor).await;
    let done = tree.root.send(StopAll);
    let refused = tree.root.send(StartChild::new(worker("late", &tree.log)));
    let (_, refused) = futures_util::join!(done, refused);
    assert!(!matches!(refused, Ok(Ok(()))), "{refused:?}");
    settle().await;
    assert_eq!(tree.log.take(), ["-telegram", "-agent", "-registry"]);
}

#[actix::test]
async fn a_child_waiting_for_its_restart_does_not_delay_the_end() {
    tokio::time::pause();
    let (log, view, slot) = (Log::default(), TreeView::default(), Slot::default());
    let (root, _ended) = Supervisor::new(&view).child(worker("agent", &log).at(&slot)).run();
    settle().await;
    for _ in 0..2 {
        slot.tell(Do::PanicInHandler);
        settle().await;
    }
    assert_eq!(node(&view, "agent").state, ChildState::Restarting);
    root.send(StopAll).await.unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(log.take().last().map(String::as_str), Some("-agent"), "and it does not come back");
}

/// How many are alive at once, at most.
#[derive(Clone, Default)]
struct Census(Arc<(AtomicI32, AtomicI32)>);

struct Counted(Census);

impl Counted {
    fn new(census: &Census) -> Self {
        let alive = census.0.0.fetch_add(1, Ordering::SeqCst) + 1;
        census.0.1.fetch_max(alive, Ordering::SeqCst);
        Self(census.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        std::thread::sleep(Duration::from_millis(5));
        self.0.0.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl actix::Actor for Counted {
    type Context = actix::Context<Self>;
}

impl actix::Handler<Do> for Counted {
    type Result = ();
    fn handle(&mut self, _: Do, _: &mut Self::Context) {
        panic!("boom");
    }
}

#[actix::test]
async fn two_incarnations_never_overlap_even_on_another_thread() {
    let (view, slot, census) = (TreeView::default(), Slot::default(), Census::default());
    let (arbiter, counter) = (actix::Arbiter::new(), census.clone());
    let child = ChildSpec::new("far", move || Counted::new(&counter)).at(&slot).on(arbiter.handle());
    let (root, _ended) = Supervisor::new(&view).child(child.back_off(BackOff::none())).run();
    for wanted in 0..8 {
        while slot.send(Do::Nothing).await.is_ok() || node(&view, "far").restarts < wanted {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    root.send(StopAll).await.unwrap();
    assert_eq!(census.0.1.load(Ordering::SeqCst), 1, "at most one at a time");
    assert_eq!(census.0.0.load(Ordering::SeqCst), 0, "gone before `StopAll` answered");
    arbiter.stop();
}

#[actix::test]
async fn a_child_that_cannot_even_be_aborted_ends_the_supervisor() {
    struct Blocker(mpsc::Receiver<()>);
    impl actix::Actor for Blocker {
        type Context = actix::Context<Self>;
        fn started(&mut self, _: &mut Self::Context) {
            self.0.recv().ok();
        }
    }
    let view = TreeView::default();
    let (release, blocked) = mpsc::channel();
    let arbiter = actix::Arbiter::new();
    let child = ChildSpec::once("blocker", move || Blocker(blocked)).on(arbiter.handle());
    let root = Supervisor::new(&view).patience(Duration::from_millis(50));
    let (root, ended) = root.child(child.shutdown(Duration::from_millis(50))).run();
    root.send(StopAll).await.unwrap();
    assert!(view.snapshot().is_empty());
    drop(release);
    assert_eq!(ended.ended().await, Exit::Stuck("blocker".into()));
    arbiter.stop();
}
