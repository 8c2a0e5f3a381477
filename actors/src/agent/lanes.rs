//! One run at a time for each conversation, in the order of arrival; different conversations side by side.

use std::collections::{HashMap, VecDeque};

/// Who runs and who waits, by session key. Plain data: it starts nothing itself.
#[derive(Debug)]
pub(super) struct Lanes<T> {
    lanes: HashMap<String, Lane<T>>,
    /// Lanes that could start but for the limit over all of them, in order.
    starved: VecDeque<String>,
    running: usize,
    most: usize,
}

#[derive(Debug)]
struct Lane<T> {
    busy: bool,
    waiting: VecDeque<T>,
}

impl<T> Lanes<T> {
    /// At most `most` lanes run at the same time.
    pub(super) fn new(most: usize) -> Self {
        Self { lanes: HashMap::new(), starved: VecDeque::new(), running: 0, most: most.max(1) }
    }

    /// Adds work to the end of its lane.
    pub(super) fn push(&mut self, key: &str, work: T) {
        let lane = self
            .lanes
            .entry(key.to_owned())
            .or_insert_with(|| Lane { busy: false, waiting: VecDeque::new() });
        lane.waiting.push_back(work);
        if !lane.busy && !self.starved.iter().any(|starved| starved == key) {
            self.starved.push_back(key.to_owned());
        }
    }

    /// The next work that may start now; its lane is busy until [`Lanes::done`].
    pub(super) fn next(&mut self) -> Option<T> {
        while self.running < self.most {
            let key = self.starved.pop_front()?;
            let Some(lane) = self.lanes.get_mut(&key) else { continue };
            if let Some(work) = lane.waiting.pop_front() {
                lane.busy = true;
                self.running += 1;
                return Some(work);
            }
            self.lanes.remove(&key);
        }
        None
    }

    /// The lane's work has ended.
    pub(super) fn done(&mut self, key: &str) {
        let Some(lane) = self.lanes.get_mut(key) else { return };
        if !std::mem::replace(&mut lane.busy, false) {
            return;
        }
        self.running -= 1;
        if lane.waiting.is_empty() {
            self.lanes.remove(key);
        } else {
            self.starved.push_back(key.to_owned());
        }
    }

    /// What waits in one lane.
    pub(super) fn lane(&mut self, key: &str) -> Option<&mut VecDeque<T>> {
        self.lanes.get_mut(key).map(|lane| &mut lane.waiting)
    }

    /// Takes waiting work out, wherever it stands.
    pub(super) fn take_waiting(&mut self, mut wanted: impl FnMut(&T) -> bool) -> Vec<T> {
        let mut taken = Vec::new();
        for lane in self.lanes.values_mut() {
            let (out, stay): (VecDeque<T>, VecDeque<T>) =
                std::mem::take(&mut lane.waiting).into_iter().partition(&mut wanted);
            lane.waiting = stay;
            taken.extend(out);
        }
        self.lanes.retain(|_, lane| lane.busy || !lane.waiting.is_empty());
        taken
    }

    /// How much waits, over all lanes.
    pub(super) fn waiting(&self) -> usize {
        self.lanes.values().map(|lane| lane.waiting.len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start_all(lanes: &mut Lanes<u32>) -> Vec<u32> {
        std::iter::from_fn(|| lanes.next()).collect()
    }

    #[test]
    fn one_key_runs_in_order_and_keys_run_side_by_side() {
        let mut lanes = Lanes::new(10);
        for (key, work) in [("a", 1), ("a", 2), ("b", 3)] {
            lanes.push(key, work);
        }
        assert_eq!(start_all(&mut lanes), [1, 3]);
        lanes.done("a");
        assert_eq!(start_all(&mut lanes), [2]);
        lanes.done("a");
        lanes.done("b");
        assert_eq!((start_all(&mut lanes).len(), lanes.lanes.len()), (0, 0));
    }

    #[test]
    fn the_limit_holds_and_nobody_is_forgotten() {
        let mut lanes = Lanes::new(1);
        for (key, work) in [("a", 1), ("b", 2), ("a", 3), ("c", 4)] {
            lanes.push(key, work);
        }
        let mut order = Vec::new();
        for key in ["a", "b", "c", "a"] {
            order.extend(start_all(&mut lanes));
            lanes.done(key);
        }
        assert_eq!(order, [1, 2, 4, 3]);
    }

    #[test]
    fn waiting_work_can_be_taken_out() {
        let mut lanes = Lanes::new(1);
        for (key, work) in [("a", 1), ("a", 2), ("b", 3)] {
            lanes.push(key, work);
        }
        assert_eq!(start_all(&mut lanes), [1]);
        assert_eq!(lanes.take_waiting(|work| *work == 2), [2]);
        lanes.done("a");
        assert_eq!(start_all(&mut lanes), [3]);
    }
}
