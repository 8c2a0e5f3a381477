//! Too many failures, back-off between them, and what a supervisor does when it has had enough.

use super::fixture::*;
use crate::supervise::*;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::Instant;

#[actix::test]
async fn one_failure_too_many_ends_the_supervisor_and_its_other_children() {
    let why = Arc::new(Mutex::new(None));
    let told = Arc::clone(&why);
    let tree = three(|supervisor| {
        let supervisor = supervisor.intensity(Intensity::new(2, Duration::from_secs(5)));
        supervisor.on_give_up(move |reason| *told.lock().unwrap() = Some(reason))
    })
    .await;
    for _ in 0..3 {
        assert_eq!(*why.lock().unwrap(), None);
        tree.tell(1, Do::PanicInHandler).await;
    }
    let expected = "failed: `agent` keeps failing, last: panicked: boom";
    assert_eq!(why.lock().unwrap().as_deref(), Some(expected));
    assert!(matches!(tree.ended.ended().await, Exit::Failed(_)));
    let log = tree.log.take();
    assert_eq!(log[log.len() - 3..], ["-agent", "-telegram", "-registry"], "down last first");
    assert!(tree.slots[0].try_send(Do::Nothing).is_err());
}

#[actix::test]
async fn failures_far_apart_do_not_add_up() {
    let tree = three(|supervisor| supervisor.intensity(Intensity::new(2, Duration::from_secs(5)))).await;
    for _ in 0..10 {
        tree.tell(1, Do::PanicInHandler).await;
        tokio::time::sleep(Duration::from_secs(6)).await;
    }
    assert_eq!(node(&tree.view, "agent").restarts, 10);
}

/// A child that fails as soon as it starts, and the seconds at which it did.
async fn starts_of_a_child_that_always_fails(
    intensity: Intensity,
    watch_for: Duration,
) -> (Vec<f64>, Option<Exit>) {
    tokio::time::pause();
    let (view, starts, zero) = (TreeView::default(), Arc::new(Mutex::new(Vec::new())), Instant::now());
    let seen = Arc::clone(&starts);
    let child = ChildSpec::new("doomed", move || -> Worker {
        seen.lock().unwrap().push(zero.elapsed().as_secs_f64());
        panic!("always")
    });
    let (_root, watched) = Supervisor::new(&view).intensity(intensity).child(child).run();
    let exit = tokio::time::timeout(watch_for, watched.ended()).await.ok();
    let starts = starts.lock().unwrap().clone();
    (starts, exit)
}

#[actix::test]
async fn restarts_come_slower_and_slower_up_to_a_minute_apart() {
    let (starts, _) =
        starts_of_a_child_that_always_fails(Intensity::unlimited(), Duration::from_secs(600)).await;
    let waits: Vec<f64> = starts.windows(2).map(|pair| pair[1] - pair[0]).collect();
    for (wait, full) in waits.iter().zip([0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0]) {
        assert!((full * 0.79..=full + 0.01).contains(wait), "{waits:?}");
    }
    assert!(waits.len() >= 10);
}

#[actix::test]
async fn ten_failures_within_five_minutes_are_the_default_limit() {
    let (starts, exit) =
        starts_of_a_child_that_always_fails(Intensity::default(), Duration::from_secs(600)).await;
    assert_eq!(starts.len(), 11, "the first start and ten restarts");
    assert!(matches!(exit, Some(Exit::Failed(_))));
}

#[actix::test]
async fn a_stable_run_forgets_the_failures_before_it() {
    tokio::time::pause();
    let (log, view, slot) = (Log::default(), TreeView::default(), Slot::default());
    let (_root, _ended) = Supervisor::new(&view).child(worker("agent", &log).at(&slot)).run();
    settle().await;
    for _ in 0..3 {
        slot.tell(Do::PanicInHandler);
        tokio::time::sleep(Duration::from_secs(3)).await;
    }
    assert_eq!(node(&view, "agent").restarts, 3);
    tokio::time::sleep(Duration::from_secs(120)).await;
    slot.tell(Do::PanicInHandler);
    settle().await;
    assert_eq!(node(&view, "agent").restarts, 4, "at once, as after a first failure");
}

#[actix::test]
async fn a_nested_supervisor_that_gives_up_is_a_failed_child_of_the_one_above() {
    tokio::time::pause();
    let (log, view, slot) = (Log::default(), TreeView::default(), Slot::default());
    let (seen, place) = (log.clone(), slot.clone());
    let channels = ChildSpec::supervisor("channels", move |channels| {
        let account = worker("telegram:main", &seen).at(&place).back_off(BackOff::none());
        channels.intensity(Intensity::new(1, Duration::from_secs(60))).child(account)
    });
    let root = Supervisor::new(&view).child(worker("agent", &log)).child(channels.back_off(BackOff::none()));
    let (_root, _ended) = root.run();
    settle().await;
    assert_eq!(log.take(), ["+agent", "+telegram:main"]);
    for _ in 0..2 {
        slot.tell(Do::PanicInHandler);
        settle().await;
    }
    let expected = ["-telegram:main", "+telegram:main", "-telegram:main", "+telegram:main"];
    assert_eq!(log.take(), expected, "once by its own supervisor, once with it; the agent goes on");
    let channels = node(&view, "channels");
    assert_eq!((channels.restarts, channels.state), (1, ChildState::Running));
    assert!(channels.last_error.unwrap().contains("`telegram:main` keeps failing"));
}

#[actix::test]
async fn the_root_gives_up_when_what_is_below_it_keeps_giving_up() {
    tokio::time::pause();
    let (log, view) = (Log::default(), TreeView::default());
    let seen = log.clone();
    let below = ChildSpec::supervisor("below", move |below| {
        let seen = seen.clone();
        let doomed = ChildSpec::new("doomed", move || -> Worker {
            seen.add("x");
            panic!("always")
        });
        below.intensity(Intensity::new(1, Duration::from_secs(60))).child(doomed.back_off(BackOff::none()))
    });
    let root = Supervisor::new(&view).intensity(Intensity::new(1, Duration::from_secs(60)));
    let (_root, watched) = root.child(below.back_off(BackOff::none())).run();
    let Exit::Failed(reason) = watched.ended().await else { panic!("must fail") };
    assert!(reason.contains("`below` keeps failing") && reason.contains("panicked: always"), "{reason}");
    assert_eq!(log.take().len(), 4, "two starts in each of two lives");
}
