//! What waits behind a run of the same conversation: how much of it there may be, and what of it a run takes along
//! (`messages.queue`).

use super::command_of;
use super::lanes::Lanes;
use crate::inbound::{ChatKind, Inbound};
use crate::settings::Settings;
use crate::settings::messages::{QueueDrop, QueueMode};
use crate::store::IngressRow;
use std::cell::RefCell;
use std::rc::Rc;

/// Messages that wait, over all conversations.
const MOST: usize = 1000;
/// Messages of one conversation that wait in short, besides those that wait whole.
const MOST_FOLDED: usize = 100;
/// Bytes of a message that waits in short.
const FOLDED: usize = 300;
/// Each such call is a question of its own, with an answer of its own; its caller asks for room before it comes.
const CLI: &str = "cli";

/// A message that waits.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) row: IngressRow,
    /// It was cut short to make room; such messages are answered together.
    folded: bool,
}

impl Waiting {
    fn is_call(&self) -> bool {
        self.row.inbound.channel == CLI
    }

    /// Whether it may have to make room.
    fn takes_room(&self) -> bool {
        !self.folded && !self.is_call()
    }
}

/// What waits and runs, shared by the agent and its runs.
#[derive(Debug, Clone)]
pub(super) struct Queue(Rc<RefCell<Lanes<Waiting>>>);

impl Queue {
    /// At most `most` conversations run at the same time.
    pub(super) fn new(most: usize) -> Self {
        Self(Rc::new(RefCell::new(Lanes::new(most))))
    }

    /// Whether one more call may wait in this conversation.
    pub(super) fn has_room(&self, key: &str, settings: &Settings) -> bool {
        let mut lanes = self.0.borrow_mut();
        let calls = lanes.lane(key).map_or(0, |lane| lane.iter().filter(|waiting| waiting.is_call()).count());
        calls < settings.messages.queue.cap() && lanes.waiting() < MOST
    }

    /// Lets a message wait for its turn. What finds no room, it or an older one, comes back.
    pub(super) fn admit(&self, row: IngressRow, settings: &Settings) -> Option<IngressRow> {
        let mut lanes = self.0.borrow_mut();
        if lanes.waiting() >= MOST {
            return Some(row);
        }
        let key = row.inbound.session_key.clone();
        let waiting = Waiting { row, folded: false };
        let is_call = waiting.is_call();
        lanes.push(&key, waiting);
        let lane = lanes.lane(&key)?;
        let whole = lane.iter().filter(|waiting| waiting.takes_room()).count();
        if is_call || whole <= settings.messages.queue.cap() {
            return None;
        }
        match settings.messages.queue.drop {
            QueueDrop::New => lane.pop_back(),
            QueueDrop::Old => {
                lane.iter().position(|waiting| !waiting.is_call()).and_then(|at| lane.remove(at))
            }
            QueueDrop::Summarize => {
                if let Some(oldest) = lane.iter_mut().find(|waiting| waiting.takes_room()) {
                    fold(oldest);
                }
                let folded = lane.iter().filter(|waiting| waiting.folded).count();
                let oldest = lane.iter().position(|waiting| waiting.folded);
                oldest.filter(|_| folded > MOST_FOLDED).and_then(|at| lane.remove(at))
            }
        }
        .map(|waiting| waiting.row)
    }

    /// The next message that may begin, with its way to those behind it.
    pub(super) fn next(&self) -> Option<(IngressRow, Company)> {
        let Waiting { row, folded } = self.0.borrow_mut().next()?;
        Some((row, Company { queue: self.clone(), folded, joined: Rc::default() }))
    }

    /// The run of this conversation has ended. What joined it and was not settled with it waits again, first in line.
    pub(super) fn done(&self, key: &str, unsettled: Vec<IngressRow>) {
        let mut lanes = self.0.borrow_mut();
        if let Some(lane) = lanes.lane(key) {
            unsettled.into_iter().rev().for_each(|row| lane.push_front(Waiting { row, folded: false }));
        }
        lanes.done(key);
    }

    /// Takes out what waits.
    pub(super) fn take(&self, mut wanted: impl FnMut(&IngressRow) -> bool) -> Vec<IngressRow> {
        let taken = self.0.borrow_mut().take_waiting(|waiting| wanted(&waiting.row));
        taken.into_iter().map(|waiting| waiting.row).collect()
    }

    /// How much waits, over all conversations.
    pub(super) fn waiting(&self) -> usize {
        self.0.borrow().waiting()
    }
}

/// A run's way to the messages that wait behind it, and those that it answers along with its own.
#[derive(Debug, Clone)]
pub(super) struct Company {
    queue: Queue,
    folded: bool,
    joined: Rc<RefCell<Vec<IngressRow>>>,
}

impl Company {
    /// The messages that join the run of `own` now, in their order. `begun` says that the model has worked on it already.
    pub(super) fn join(&self, own: &Inbound, settings: &Settings, begun: bool) -> Vec<IngressRow> {
        let mut lanes = self.queue.0.borrow_mut();
        let Some(lane) = lanes.lane(&own.session_key) else { return Vec::new() };
        let mode = settings.messages.queue.mode_for(&own.channel);
        let joins = |waiting: &Waiting| {
            let now = match mode {
                QueueMode::Steer => begun,
                QueueMode::Collect | QueueMode::Interrupt => !begun,
                QueueMode::Followup => false,
            };
            (now || (self.folded && waiting.folded && !begun))
                && belong_together(own, &waiting.row.inbound)
                && command_of(settings, &waiting.row.inbound).is_none()
        };
        let mut joining = Vec::new();
        while lane.front().is_some_and(joins)
            && let Some(waiting) = lane.pop_front()
        {
            joining.push(waiting.row);
        }
        self.joined.borrow_mut().extend(joining.iter().cloned());
        joining
    }

    /// What the run answers besides its own message.
    pub(super) fn joined(&self) -> Vec<IngressRow> {
        self.joined.borrow().clone()
    }

    /// Whether the run answers the message of this run id, too.
    pub(super) fn includes(&self, run_id: &str) -> bool {
        self.joined.borrow().iter().any(|row| row.inbound.run_id == run_id)
    }
}

/// Whether one answer may serve both: the same place, with the same rights, asked of the same model.
fn belong_together(one: &Inbound, other: &Inbound) -> bool {
    let place = |inbound: &Inbound| {
        inbound
            .route
            .clone()
            .map(|route| (route.channel, route.account, route.chat, route.thread, route.kind))
    };
    let group = one.route.as_ref().is_some_and(|route| route.kind != ChatKind::Direct);
    one.channel != CLI
        && (&one.channel, &one.account) == (&other.channel, &other.account)
        && place(one) == place(other)
        && one.sender.owner == other.sender.owner
        && (group || one.sender.id == other.sender.id)
        && (&one.model, &one.thinking, one.timeout_ms) == (&other.model, &other.thinking, other.timeout_ms)
}

/// Keeps the beginning of a message; its files are left where they are.
fn fold(waiting: &mut Waiting) {
    waiting.folded = true;
    let inbound = &mut waiting.row.inbound;
    if inbound.text.len() > FOLDED {
        inbound.text.truncate(inbound.text.floor_char_boundary(FOLDED));
        inbound.text.push_str(" [cut short: too many messages were waiting]");
    }
    let files = std::mem::take(&mut inbound.attachments).len();
    if files > 0 {
        inbound.text.push_str(&format!(" [{files} files came along that were not looked at]"));
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::message;
    use super::*;
    use crate::store::IngressState;
    use serde_json::json;

    fn settings(queue: serde_json::Value) -> Settings {
        serde_json::from_value(json!({"messages": {"queue": queue}})).unwrap()
    }

    fn row(id: i64, text: &str) -> IngressRow {
        let inbound = Inbound { run_id: format!("r{id}"), ..message(text) };
        IngressRow { id, inbound, state: IngressState::Pending, outcome: None }
    }

    /// Fills a queue whose first message runs, and gives what was turned away.
    fn fill(settings: &Settings, count: i64) -> (Queue, Company, Vec<i64>) {
        let queue = Queue::new(8);
        assert!(queue.admit(row(0, "first"), settings).is_none());
        let (_, company) = queue.next().unwrap();
        let away =
            (1..=count).filter_map(|id| queue.admit(row(id, &format!("{id} {}", "x".repeat(400))), settings));
        let away = away.map(|row| row.id).collect();
        (queue, company, away)
    }

    fn ids(rows: &[IngressRow]) -> Vec<i64> {
        rows.iter().map(|row| row.id).collect()
    }

    #[test]
    fn a_full_queue_turns_away_the_newest_or_the_oldest() {
        let (_, _, away) = fill(&settings(json!({"cap": 2, "drop": "new"})), 4);
        assert_eq!(away, [3, 4]);
        let (queue, _, away) = fill(&settings(json!({"cap": 2, "drop": "old"})), 4);
        assert_eq!((away, queue.waiting()), (vec![1, 2], 2));
        let (queue, _, away) = fill(&settings(json!({"cap": 0, "drop": "new"})), 30);
        assert_eq!((away.len(), queue.waiting()), (10, 20), "a cap below one is none, the default holds");
    }

    #[test]
    fn a_call_waits_whole_or_is_told_that_there_is_no_room() {
        let call = |id| {
            let mut row = row(id, &"x".repeat(400));
            row.inbound.channel = CLI.to_owned();
            row
        };
        for drop in ["summarize", "old", "new"] {
            let settings = settings(json!({"cap": 2, "mode": "followup", "drop": drop}));
            let (queue, _, _) = fill(&settings, 0);
            assert!(queue.has_room("agent:main:main", &settings));
            for id in 10..13 {
                assert!(queue.admit(call(id), &settings).is_none());
            }
            assert!(!queue.has_room("agent:main:main", &settings) && queue.has_room("other", &settings));
            for id in 1..5 {
                let _ = queue.admit(row(id, "hello"), &settings);
            }
            queue.done("agent:main:main", Vec::new());
            for id in 10..13 {
                let (next, _) = queue.next().unwrap();
                assert_eq!((next.id, next.inbound.text.len()), (id, 400), "{drop}");
                queue.done("agent:main:main", Vec::new());
            }
        }
    }

    #[test]
    fn what_is_too_much_waits_in_short_and_is_answered_together() {
        let settings = settings(json!({"cap": 2, "mode": "followup"}));
        let (queue, company, away) = fill(&settings, 5);
        assert!(away.is_empty());
        assert!(company.join(&message("first"), &settings, false).is_empty());
        queue.done("agent:main:main", Vec::new());
        let (first, company) = queue.next().unwrap();
        assert_eq!(first.id, 1);
        assert!(first.inbound.text.len() < 400 && first.inbound.text.contains("cut short"));
        assert_eq!(ids(&company.join(&first.inbound, &settings, false)), [2, 3]);
        assert!(company.includes("r2") && !company.includes("r4"));
        let (queue, _, away) = fill(&settings, 200);
        assert_eq!((away.len(), queue.waiting()), (98, 102), "even in short there is a bound");
    }

    #[test]
    fn a_message_joins_when_its_mode_and_its_sender_say_so() {
        let of = |mode: &str| {
            let settings = settings(json!({"mode": "followup", "byChannel": {"telegram": mode}}));
            let (_, company, _) = fill(&settings, 2);
            [false, true].map(|begun| company.join(&message("first"), &settings, begun).len())
        };
        assert_eq!(
            (of("collect"), of("interrupt"), of("steer"), of("followup")),
            ([2, 0], [2, 0], [0, 2], [0, 0])
        );
        let settings = settings(json!({}));
        let mut guest = message("first");
        guest.sender.owner = false;
        let (queue, company, _) = fill(&settings, 1);
        assert!(company.join(&guest, &settings, true).is_empty(), "another's rights are not borrowed");
        assert!(queue.admit(row(7, "/new"), &settings).is_none());
        assert!(queue.admit(row(8, "after"), &settings).is_none());
        assert_eq!(ids(&company.join(&message("first"), &settings, true)), [1], "a command keeps its place");
        queue.done("agent:main:main", company.joined());
        assert_eq!(queue.next().unwrap().0.id, 1, "what was not settled waits again, first in line");
    }
}
