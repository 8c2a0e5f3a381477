//! Any sequence of failures, under any strategy: what must hold at every moment, and once things are quiet.

use super::fixture::{Do, Log, Worker, worker};
use crate::supervise::{
    self, ChildSpec, Intensity, Slot, StartChild, StopAll, StopChild, Supervisor, TreeView,
};
use actix::{Addr, System};
use proptest::prelude::*;
use std::time::Duration;

const NAMES: [&str; 4] = ["a", "b", "c", "d"];

#[derive(Debug, Clone)]
enum Step {
    Tell(usize, Do),
    Wait(u64),
    StopAndStart(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let what = prop_oneof![
        Just(Do::PanicInHandler),
        Just(Do::PanicInFuture),
        Just(Do::PanicInTimer),
        Just(Do::Finish),
        Just(Do::Hang),
    ];
    let step = prop_oneof![
        5 => (0..NAMES.len(), what).prop_map(|(who, what)| Step::Tell(who, what)),
        3 => (0_u64..4000).prop_map(Step::Wait),
        1 => (0..NAMES.len()).prop_map(Step::StopAndStart),
    ];
    prop::collection::vec(step, 1..20)
}

fn strategy() -> impl Strategy<Value = supervise::Strategy> {
    use supervise::Strategy::{OneForAll, OneForOne, RestForOne};
    prop_oneof![Just(OneForOne), Just(RestForOne), Just(OneForAll)]
}

fn spec(name: &'static str, log: &Log, slot: &Slot<Worker>) -> ChildSpec<Worker> {
    worker(name, log).at(slot).probed(Duration::from_secs(3), Duration::from_secs(1))
}

async fn play(strategy: supervise::Strategy, steps: Vec<Step>) -> (Vec<String>, TreeView) {
    tokio::time::pause();
    let (log, view) = (Log::default(), TreeView::default());
    let slots: Vec<Slot<Worker>> = NAMES.iter().map(|_| Slot::default()).collect();
    let mut root = Supervisor::new(&view).strategy(strategy).intensity(Intensity::unlimited());
    for (name, slot) in NAMES.into_iter().zip(&slots) {
        root = root.child(spec(name, &log, slot));
    }
    let (root, _ended) = root.run();
    for step in steps {
        match step {
            Step::Tell(who, what) => slots[who].tell(what),
            Step::Wait(time) => tokio::time::sleep(Duration::from_millis(time)).await,
            Step::StopAndStart(who) => replace(&root, spec(NAMES[who], &log, &slots[who])).await,
        }
    }
    tokio::time::sleep(Duration::from_secs(200)).await;
    assert_eq!(view.unwell(), 0, "{view:?}");
    for slot in &slots {
        slot.send(Do::Nothing).await.unwrap();
    }
    let written = log.take();
    root.send(StopAll).await.unwrap();
    (written, view)
}

async fn replace(root: &Addr<Supervisor>, spec: ChildSpec<Worker>) {
    let child = StartChild::new(spec);
    assert!(root.send(StopChild { name: child.0.name.clone() }).await.unwrap());
    root.send(child).await.unwrap().unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_two_of_one_and_everybody_comes_back(strategy in strategy(), steps in steps()) {
        let (log, view) = System::new().block_on(play(strategy, steps));
        for name in NAMES {
            let own: Vec<&str> = log.iter().map(String::as_str).filter(|entry| entry.ends_with(name)).collect();
            let turns = own.iter().enumerate().all(|(at, entry)| entry.starts_with('+') == (at % 2 == 0));
            prop_assert!(turns, "{name} overlaps itself: {log:?}");
            prop_assert_eq!(own.len() % 2, 1, "{} is up at the end: {:?}", name, log);
        }
        prop_assert_eq!(view.snapshot(), []);
    }
}
