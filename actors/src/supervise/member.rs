//! One child as its supervisor keeps it.

use super::child::{AnyChild, Restart};
use super::exit::Exit;
use super::tree::{ChildState, TreeView};
use super::watch::Watched;
use actix::SpawnHandle;
use tokio::sync::oneshot;
use tokio::time::Instant;

pub(super) struct Member {
    pub(super) spec: AnyChild,
    pub(super) view: TreeView,
    pub(super) goal: Goal,
    pub(super) running: Option<Running>,
    /// Tells the end of this incarnation from the end of an older one.
    pub(super) incarnation: u64,
    /// Not to be started before then.
    pub(super) due: Option<Instant>,
    /// Failures in a row, for the back-off.
    failures: u32,
    /// Who waits for it to be gone.
    pub(super) waiters: Vec<oneshot::Sender<()>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Goal {
    /// As it is: running, or finished in good order.
    Stay,
    /// Down, then up again.
    Again,
    /// Down and forgotten.
    Leave,
}

pub(super) struct Running {
    pub(super) watched: Watched,
    pub(super) since: Instant,
    pub(super) asked: bool,
    pub(super) probing: Option<SpawnHandle>,
    /// Why it is being aborted, when that is its own fault.
    pub(super) fault: Option<Exit>,
}

impl Member {
    pub(super) fn new(spec: AnyChild, view: TreeView) -> Self {
        Self {
            spec,
            view,
            goal: Goal::Again,
            running: None,
            incarnation: 0,
            due: None,
            failures: 0,
            waiters: Vec::new(),
        }
    }

    pub(super) fn is_up(&self) -> bool {
        self.running.is_some()
    }

    pub(super) fn is_temporary(&self) -> bool {
        self.spec.rules.restart == Restart::Temporary
    }

    /// True for one that is on its way down and still there.
    pub(super) fn is_leaving(&self) -> bool {
        self.is_up() && self.goal != Goal::Stay
    }

    pub(super) fn is_ready(&self, now: Instant) -> bool {
        self.goal == Goal::Again && !self.is_up() && self.due.is_none_or(|due| due <= now)
    }

    pub(super) fn runs_as(&self, incarnation: u64) -> bool {
        self.is_up() && self.incarnation == incarnation
    }

    /// Asks it to stop unless that was done; true when it was asked just now.
    pub(super) fn ask_to_stop(&mut self) -> bool {
        let Some(running) = self.running.as_mut().filter(|running| !running.asked) else {
            return false;
        };
        running.asked = true;
        running.watched.ask_to_stop();
        self.view.now(ChildState::Stopping);
        true
    }

    /// Books a failure after a run that began at `since`, and says when to try again.
    pub(super) fn put_off(&mut self, since: Instant, now: Instant) -> Instant {
        let back_off = self.spec.rules.back_off;
        if now - since >= back_off.stable {
            self.failures = 0;
        }
        self.failures = self.failures.saturating_add(1);
        let due = now + back_off.delay(self.failures);
        self.due = Some(due);
        due
    }
}
