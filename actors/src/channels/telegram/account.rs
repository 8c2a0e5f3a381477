//! The actor of one Telegram account: it polls, delivers, and shows how runs come along.

use super::api::BotApi;
use super::deliver::{count_losses, deliver, give_up};
use super::line::{Arrived, Line, Timing, chat_id};
use super::target;
use super::{media, poll, preview};
use crate::channels::{
    AskAccount, ChannelError, ChannelHandle, ChannelRequest, FetchError, FetchMedia, FetchedMedia,
    FlushOutbox, RunProgress, TELEGRAM,
};
use crate::clock::now_ms;
use crate::gateway::Gateway;
use crate::settings::Secret;
use crate::settings::telegram::TelegramAccount;
use crate::store::Claimed;
use crate::supervise::Shutdown;
use actix::{
    Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Handler, ResponseFuture, SpawnHandle,
    WrapFuture,
};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

/// Answers under way at once, each to another chat.
const AT_ONCE: usize = 8;
/// How soon to look again when the database could not be asked.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// How often to see whether the poller still moves.
const WATCH: Duration = Duration::from_secs(15);

/// One bot: reads what people write and brings them the answers.
pub(super) struct AccountActor {
    line: Arc<Line>,
    /// Answers that are being sent.
    sending: usize,
    claiming: bool,
    /// Something new came while the outbox was being looked at.
    again: bool,
    wake: Option<SpawnHandle>,
    stopping: bool,
}

impl AccountActor {
    pub(super) fn new(
        account: TelegramAccount,
        token: Secret,
        gateway: Gateway,
        handle: ChannelHandle,
        timing: Timing,
        arrived: Arrived,
    ) -> Self {
        let api = BotApi::new(account.api_root.clone(), token, account.proxy.clone());
        let line = Arc::new(Line::new(account, api, gateway, handle, timing, arrived));
        // Nothing is claimed before `recover` is through: it can't tell a fresh claim from an old one.
        Self { line, sending: 0, claiming: true, again: false, wake: None, stopping: false }
    }

    /// Looks for answers that are due, unless that is being done.
    fn claim(&mut self, ctx: &mut Context<Self>) {
        if self.stopping {
            return;
        }
        if self.claiming || self.sending >= AT_ONCE {
            self.again = true;
            return;
        }
        self.claiming = true;
        if let Some(wake) = self.wake.take() {
            ctx.cancel_future(wake);
        }
        let room = AT_ONCE - self.sending;
        let line = self.line.clone();
        let claim = async move { line.gateway.store.claim_outbox(TELEGRAM, &line.name, room).await };
        ctx.spawn(claim.into_actor(self).map(|claimed, actor, ctx| {
            actor.claiming = false;
            match claimed {
                Ok(claimed) => actor.send(claimed, ctx),
                Err(error) => {
                    tracing::error!(account = actor.line.name, %error, "the outbox could not be read");
                    actor.wake_in(LOOK_AGAIN, ctx);
                }
            }
            actor.stop_when_idle(ctx);
        }));
    }

    fn send(&mut self, claimed: Claimed, ctx: &mut Context<Self>) {
        for row in claimed.expired {
            let line = self.line.clone();
            let told =
                async move { give_up(&line, &row, "expired", "nobody took it in time".to_owned()).await };
            ctx.spawn(told.into_actor(self).map(|_, _, _| ()));
        }
        for row in claimed.rows {
            self.sending += 1;
            let line = self.line.clone();
            let send = async move { deliver(&line, row).await };
            ctx.spawn(send.into_actor(self).map(|(), actor, ctx| actor.sent(ctx)));
        }
        if self.stopping {
            // What was claimed is still sent; what is due later waits for the next start.
        } else if std::mem::take(&mut self.again) {
            self.claim(ctx);
        } else if let Some(at) = claimed.next_at {
            let wait = u64::try_from(at - now_ms()).unwrap_or(0);
            self.wake_in(Duration::from_millis(wait.max(10)), ctx);
        }
    }

    fn sent(&mut self, ctx: &mut Context<Self>) {
        self.sending -= 1;
        self.claim(ctx);
        self.stop_when_idle(ctx);
    }

    /// A claim that nobody takes would look like an answer that was on its way.
    fn stop_when_idle(&self, ctx: &mut Context<Self>) {
        if self.stopping && !self.claiming && self.sending == 0 {
            ctx.stop();
        }
    }

    fn wake_in(&mut self, wait: Duration, ctx: &mut Context<Self>) {
        if let Some(wake) = self.wake.take() {
            ctx.cancel_future(wake);
        }
        self.wake = Some(ctx.run_later(wait, |actor, ctx| {
            actor.wake = None;
            actor.claim(ctx);
        }));
    }

    fn register(&self, ctx: &mut Context<Self>) {
        let mut handle = self.line.handle.clone();
        let addr = ctx.address();
        handle.progress = Some(addr.clone().recipient());
        handle.flush = Some(addr.clone().recipient());
        handle.fetch = Some(addr.clone().recipient());
        handle.ask = Some(addr.recipient());
        self.line.gateway.channels.set(TELEGRAM, &self.line.name, handle);
    }
}

impl Actor for AccountActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(256);
        self.line.handle.update(|status| status.start());
        self.register(ctx);
        ctx.spawn(poll::run(self.line.clone()).into_actor(self));
        ctx.run_interval(WATCH, |actor, ctx| {
            if actor.line.watchdog.is_overdue() && !actor.stopping {
                // Its supervisor starts a new one, with a new client.
                tracing::error!(account = actor.line.name, "the telegram poller is stuck; starting afresh");
                ctx.stop();
            }
        });
        let line = self.line.clone();
        let recover = async move { recover(&line).await };
        ctx.spawn(recover.into_actor(self).map(|(), actor, ctx| {
            actor.claiming = false;
            actor.claim(ctx);
            actor.stop_when_idle(ctx);
        }));
    }
}

impl Drop for AccountActor {
    fn drop(&mut self) {
        self.line.handle.update(|status| status.stop());
    }
}

/// What was on its way when the process ended waits again.
async fn recover(line: &Line) {
    match line.gateway.store.recover_outbox(TELEGRAM, &line.name).await {
        Ok(rows) => {
            for row in rows {
                tracing::warn!(
                    account = line.name,
                    key = row.key,
                    chat = row.chat,
                    "an answer was on its way at the last stop; sending it again, marked"
                );
            }
        }
        Err(error) => tracing::error!(account = line.name, %error, "the outbox could not be recovered"),
    }
    if let Err(error) = count_losses(line).await {
        tracing::warn!(account = line.name, %error, "deliveries could not be counted");
    }
}

impl Handler<FlushOutbox> for AccountActor {
    type Result = ();

    fn handle(&mut self, _: FlushOutbox, ctx: &mut Self::Context) {
        self.claim(ctx);
    }
}

impl Handler<RunProgress> for AccountActor {
    type Result = ();

    fn handle(&mut self, progress: RunProgress, ctx: &mut Self::Context) {
        if self.stopping {
            return;
        }
        let mode = || self.line.account().streaming;
        if let Some(preview) = self.line.previews.note(progress, mode) {
            ctx.spawn(preview::show(self.line.clone(), preview).into_actor(self));
        }
    }
}

impl Handler<FetchMedia> for AccountActor {
    type Result = ResponseFuture<Result<FetchedMedia, FetchError>>;

    fn handle(&mut self, wanted: FetchMedia, _: &mut Self::Context) -> Self::Result {
        let line = self.line.clone();
        Box::pin(async move { media::fetch(&line, wanted).await })
    }
}

impl Handler<AskAccount> for AccountActor {
    type Result = ResponseFuture<Result<Value, ChannelError>>;

    fn handle(&mut self, AskAccount(request): AskAccount, _: &mut Self::Context) -> Self::Result {
        let line = self.line.clone();
        Box::pin(async move { answer(&line, request).await })
    }
}

/// Finishes the answers under way, takes no new ones, and stops.
impl Handler<Shutdown> for AccountActor {
    type Result = ();

    fn handle(&mut self, _: Shutdown, ctx: &mut Self::Context) {
        self.stopping = true;
        self.stop_when_idle(ctx);
    }
}

async fn answer(line: &Line, request: ChannelRequest) -> Result<Value, ChannelError> {
    match request {
        ChannelRequest::Probe => probe(line).await,
        ChannelRequest::React { chat, message_id, emoji } => {
            let reaction = emoji.map(|emoji| json!([{"type": "emoji", "emoji": emoji}])).unwrap_or(json!([]));
            let params = json!({"chat_id": chat_id(&chat), "message_id": message_id, "reaction": reaction});
            line.call("setMessageReaction", &params).await.map_err(refusal)
        }
        ChannelRequest::Edit { chat, message_id, text } => {
            target::edit(line, &chat, message_id, &text).await.map_err(refusal)
        }
        ChannelRequest::Delete { chat, message_id } => {
            let params = json!({"chat_id": chat_id(&chat), "message_id": message_id});
            line.call("deleteMessage", &params).await.map_err(refusal)
        }
    }
}

async fn probe(line: &Line) -> Result<Value, ChannelError> {
    line.handle.update(|status| status.last_probe_at = Some(now_ms()));
    line.call("getMe", &json!({})).await.map_err(refusal)
}

fn refusal(error: super::api::ApiError) -> ChannelError {
    if error.is_network() {
        ChannelError::Unavailable(error.to_string())
    } else {
        ChannelError::Refused(error.to_string())
    }
}
