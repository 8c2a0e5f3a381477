//! How runs end: settled, to be tried again, by a crash, or never.

use super::{Agent, RunStatus, run};
use crate::inbound::RunOutcome;
use crate::store::{IngressRow, StoreError};
use actix::{AsyncContext, Context};
use tokio::sync::watch;

impl Agent {
    pub(super) fn ended(&mut self, row: &IngressRow, outcome: RunOutcome, ctx: &mut Context<Self>) {
        let joined = self.leave(row, false);
        let status = RunStatus::from(outcome);
        for row in joined.iter().chain([row]) {
            self.known.remove(&row.id);
            self.setbacks.forget(row.id);
            self.tell_waiters(&row.inbound.run_id, &status);
        }
        self.start_waiting(ctx);
    }

    /// The row's run has ended. Gives what joined it, which waits again if it is `unsettled`.
    fn leave(&mut self, row: &IngressRow, unsettled: bool) -> Vec<IngressRow> {
        let ended = self.running.remove(&row.id);
        let Some(company) = ended.and_then(|mut running| running.company.take()) else { return Vec::new() };
        let joined = company.joined();
        let waits_again = if unsettled { joined.clone() } else { Vec::new() };
        self.queue.done(&row.inbound.session_key, waits_again);
        joined
    }

    /// The store could not settle the row; it is pending still and is taken up again, after ever longer pauses.
    pub(super) fn put_off(&mut self, row: IngressRow, error: &StoreError, ctx: &mut Context<Self>) {
        tracing::error!(run = %row.inbound.run_id, %error, "a run could not be stored");
        match self.setbacks.again(row.id) {
            Some(pause) => {
                let joined = self.leave(&row, false);
                ctx.run_later(pause, move |agent, ctx| {
                    for row in [row].into_iter().chain(joined) {
                        agent.known.remove(&row.id);
                        agent.take(row, ctx);
                    }
                });
            }
            None => {
                self.leave(&row, true);
                self.park(&row);
            }
        }
        self.start_waiting(ctx);
    }

    /// A run ended by a bug of ours. The row is settled as failed; should that crash, too, it is tried a few times.
    pub(super) fn crashed(
        &mut self,
        row: IngressRow,
        panic: &tokio::task::JoinError,
        ctx: &mut Context<Self>,
    ) {
        tracing::error!(run = %row.inbound.run_id, %panic, "a run crashed");
        self.leave(&row, true);
        match self.setbacks.again(row.id) {
            Some(pause) => {
                let detail = panic.to_string();
                ctx.run_later(pause, move |agent, ctx| {
                    let (shop, target) = (agent.shop.clone(), row.clone());
                    let work = async move { run::crashed(&shop, target, detail).await };
                    agent.launch(row, None, watch::Sender::new(None), work, ctx);
                });
            }
            None => self.park(&row),
        }
        self.start_waiting(ctx);
    }

    /// Leaves a row that can't be settled alone, so that it harms nothing else. It stays pending, and known: only the
    /// next start of the agent takes it up.
    fn park(&mut self, row: &IngressRow) {
        let run_id = &row.inbound.run_id;
        tracing::error!(run = %run_id, session = %row.inbound.session_key,
            "a message can't be settled and is put aside; it is tried again at the next start");
        self.setbacks.forget(row.id);
        let message =
            "This message could not be settled and is put aside; the gateway's log says why.".to_owned();
        self.tell_waiters(run_id, &RunStatus::Error { message });
    }

    fn tell_waiters(&mut self, run_id: &str, status: &RunStatus) {
        for waiter in self.waiters.remove(run_id).unwrap_or_default() {
            // Whoever waited may have gone.
            let _ = waiter.send(status.clone());
        }
    }
}
