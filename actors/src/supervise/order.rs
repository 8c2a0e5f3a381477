//! The order of things: who goes down before whom, who comes up after whom, what a failure leads to.
//!
//! Everything here is level-triggered: a change sets goals, `advance` does whatever can be done towards them
//! now, and is called again whenever a child has ended or a wait is over.

use super::child::{Liveness, Restart};
use super::exit::Exit;
use super::member::{Goal, Member, Running};
use super::requests::ChildEnded;
use super::supervisor::{Ending, Strategy, Supervisor};
use super::tree::ChildState;
use actix::{ActorContext, ActorFutureExt, AsyncContext, Context, SpawnHandle, fut};
use std::future::Future;
use std::time::Duration;
use tokio::time::{Instant, timeout};

impl Supervisor {
    pub(super) fn advance(&mut self, ctx: &mut Context<Self>) {
        self.stop_leavers(ctx);
        self.forget_the_gone();
        match &self.ending {
            Some(ending) if self.members.values().all(|member| !member.is_up()) => {
                let ending = ending.clone();
                self.finish(ending, ctx);
            }
            Some(_) => (),
            None => self.start_ready(ctx),
        }
    }

    /// Last first, the next one only when the last is gone; or all at once for a crowd of equals.
    fn stop_leavers(&mut self, ctx: &mut Context<Self>) {
        let leavers = self.members.iter().rev().filter(|(_, member)| member.is_leaving()).map(|(&id, _)| id);
        let turn = if self.together { usize::MAX } else { 1 };
        for id in leavers.take(turn).collect::<Vec<_>>() {
            self.ask_to_stop(id, ctx);
        }
    }

    pub(super) fn ask_to_stop(&mut self, id: u64, ctx: &mut Context<Self>) {
        let Some(member) = self.members.get_mut(&id) else { return };
        if !member.ask_to_stop() {
            return;
        }
        if let Some(time) = member.spec.rules.shutdown {
            let incarnation = member.incarnation;
            ctx.run_later(time, move |supervisor, ctx| supervisor.overdue(id, incarnation, ctx));
        }
    }

    fn overdue(&mut self, id: u64, incarnation: u64, ctx: &mut Context<Self>) {
        if let Some(member) = self.members.get(&id).filter(|member| member.runs_as(incarnation)) {
            tracing::warn!(child = member.view.path(), "did not stop in time, aborting");
            self.abort(id, ctx);
        }
    }

    fn abort(&mut self, id: u64, ctx: &mut Context<Self>) {
        let Some(member) = self.members.get(&id) else { return };
        if let Some(running) = &member.running {
            running.watched.abort();
        }
        let incarnation = member.incarnation;
        ctx.run_later(self.patience, move |supervisor, ctx| supervisor.stuck(id, incarnation, ctx));
    }

    /// It does not even let go when aborted: its thread is blocked. Starting another would make two of it.
    fn stuck(&mut self, id: u64, incarnation: u64, ctx: &mut Context<Self>) {
        let Some(member) = self.members.get_mut(&id).filter(|member| member.runs_as(incarnation)) else {
            return;
        };
        let exit = Exit::Stuck(member.view.path().to_owned());
        member.running = None;
        member.goal = Goal::Leave;
        member.view.failed(&exit);
        member.view.now(ChildState::Failed);
        tracing::error!(child = member.view.path(), "cannot be aborted");
        self.end(Ending::GaveUp(exit), ctx);
    }

    fn forget_the_gone(&mut self) {
        let gone = |&(_, member): &(&u64, &Member)| member.goal == Goal::Leave && !member.is_up();
        for id in self.members.iter().filter(gone).map(|(&id, _)| id).collect::<Vec<_>>() {
            self.forget(id);
        }
    }

    /// Those that lean on each other come up together, in order, once all of them are down.
    fn start_ready(&mut self, ctx: &mut Context<Self>) {
        let now = Instant::now();
        let mut again = self.members.values().filter(|member| member.goal == Goal::Again);
        if self.strategy != Strategy::OneForOne && !again.all(|member| member.is_ready(now)) {
            return;
        }
        let ready = self.members.iter().filter(|(_, member)| member.is_ready(now)).map(|(&id, _)| id);
        for id in ready.collect::<Vec<_>>() {
            self.start(id, ctx);
        }
    }

    fn start(&mut self, id: u64, ctx: &mut Context<Self>) {
        let Some(member) = self.members.get_mut(&id) else { return };
        tracing::debug!(child = member.view.path(), "starting");
        member.incarnation += 1;
        member.goal = Goal::Stay;
        member.due = None;
        member.view.started();
        let incarnation = member.incarnation;
        let watched = (member.spec.launch)(member.view.clone(), self.view.count_alive());
        let supervisor = ctx.address().downgrade();
        watched.on_exit(move |exit| {
            if let Some(supervisor) = supervisor.upgrade() {
                supervisor.do_send(ChildEnded { id, incarnation, exit });
            }
        });
        let liveness = member.spec.rules.liveness.as_ref();
        let probing = liveness.map(|liveness| keep_probing(liveness, id, incarnation, ctx));
        member.running = Some(Running { watched, since: Instant::now(), asked: false, probing, fault: None });
    }

    pub(super) fn ended(&mut self, id: u64, incarnation: u64, exit: Exit, ctx: &mut Context<Self>) {
        let Some(member) = self.members.get_mut(&id).filter(|member| member.runs_as(incarnation)) else {
            return;
        };
        let Some(running) = member.running.take() else { return };
        if let Some(probing) = running.probing {
            ctx.cancel_future(probing);
        }
        let exit = running.fault.unwrap_or(exit);
        if member.goal == Goal::Stay {
            self.judge(id, exit, running.since, ctx);
        } else {
            note(member, &exit);
        }
        self.advance(ctx);
    }

    /// A child has ended without anybody here asking for it.
    fn judge(&mut self, id: u64, exit: Exit, since: Instant, ctx: &mut Context<Self>) {
        let Some(member) = self.members.get_mut(&id) else { return };
        note(member, &exit);
        if !member.spec.rules.restart.wanted_after(&exit) {
            if member.is_temporary() {
                member.goal = Goal::Leave;
            }
            return;
        }
        member.view.failed(&exit);
        tracing::warn!(child = member.view.path(), %exit, "child failed");
        if let Exit::Stuck(_) = exit {
            return self.end(Ending::GaveUp(exit), ctx);
        }
        let now = Instant::now();
        if !self.intensity.spend(now) {
            member.view.now(ChildState::Failed);
            let reason = format!("`{}` keeps failing, last: {exit}", member.spec.name);
            return self.end(Ending::GaveUp(Exit::Failed(reason)), ctx);
        }
        let due = member.put_off(since, now);
        self.bring_down_with(id);
        ctx.run_later(due - now, |supervisor, ctx| supervisor.advance(ctx));
    }

    /// Marks the one that failed, and those its strategy takes along, for another start.
    fn bring_down_with(&mut self, failed: u64) {
        let first = match self.strategy {
            Strategy::OneForOne | Strategy::RestForOne => failed,
            Strategy::OneForAll => 0,
        };
        let last = if self.strategy == Strategy::OneForOne { failed } else { u64::MAX };
        for (&id, member) in self.members.range_mut(first..=last) {
            let affected = id == failed || member.is_up();
            if !affected || member.goal == Goal::Leave {
                continue;
            }
            member.goal = if member.is_temporary() { Goal::Leave } else { Goal::Again };
            if member.goal == Goal::Again && !member.is_up() {
                member.view.now(ChildState::Restarting);
            }
        }
    }

    pub(super) fn end(&mut self, ending: Ending, ctx: &mut Context<Self>) {
        let outranked = matches!((&self.ending, &ending), (Some(Ending::GaveUp(_)), Ending::Asked));
        if !outranked {
            self.ending = Some(ending);
        }
        for member in self.members.values_mut() {
            member.goal = Goal::Leave;
        }
        self.advance(ctx);
    }

    fn finish(&mut self, ending: Ending, ctx: &mut Context<Self>) {
        if let Ending::GaveUp(exit) = ending {
            tracing::error!(supervisor = self.view.path(), %exit, "giving up");
            self.view.leave_verdict(exit.clone());
            if let Some(give_up) = self.give_up.take() {
                give_up(exit.to_string());
            }
        }
        for waiter in self.done.drain(..) {
            waiter.send(()).ok();
        }
        ctx.stop();
    }

    fn unresponsive(&mut self, id: u64, incarnation: u64, after: Duration, ctx: &mut Context<Self>) {
        let Some(member) = self.members.get_mut(&id).filter(|member| member.runs_as(incarnation)) else {
            return;
        };
        if let Some(running) = &mut member.running {
            running.fault = Some(Exit::Unresponsive(format!("no answer to a probe within {after:?}")));
        }
        self.abort(id, ctx);
    }
}

/// Writes down how an incarnation ended.
fn note(member: &Member, exit: &Exit) {
    if !exit.is_clean() {
        member.view.failed(exit);
    }
    let state = if member.goal == Goal::Again { ChildState::Restarting } else { ChildState::Stopped };
    member.view.now(state);
    if member.spec.rules.restart == Restart::Temporary && !exit.is_clean() && *exit != Exit::Killed {
        tracing::warn!(child = member.view.path(), %exit, "temporary child failed");
    } else {
        tracing::debug!(child = member.view.path(), %exit, "ended");
    }
}

/// Asks the child again and again, and reports when an answer does not come in time.
fn keep_probing(
    liveness: &Liveness,
    id: u64,
    incarnation: u64,
    ctx: &mut Context<Supervisor>,
) -> SpawnHandle {
    let (every, deadline, ask) = (liveness.every, liveness.deadline, liveness.ask.clone());
    let probing = async move {
        loop {
            tokio::time::sleep(every).await;
            // `Closed` is an answer here: the end of the child is reported by other means.
            if !in_time(ask(), deadline).await {
                return;
            }
        }
    };
    ctx.spawn(fut::wrap_future(probing).map(move |(), supervisor: &mut Supervisor, ctx| {
        supervisor.unresponsive(id, incarnation, deadline, ctx);
    }))
}

/// In two halves: when this thread itself was held up, the first may run out unfairly.
async fn in_time<T>(mut answer: impl Future<Output = T> + Unpin, deadline: Duration) -> bool {
    let half = deadline / 2;
    timeout(half, &mut answer).await.is_ok() || timeout(half, &mut answer).await.is_ok()
}
