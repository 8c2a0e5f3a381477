//! Long polling: one request after another, each acknowledged only when what it brought is stored.

use super::admit::Verdict;
use super::albums::{self, Albums};
use super::api::ApiError;
use super::house::{BotIdentity, House};
use super::incoming::{self, ChatMessage, Incoming};
use super::line::{Line, Timing};
use super::{ack, menu, welcome};
use crate::channels::{Lifecycle, TELEGRAM};
use crate::clock::now_ms;
use crate::inbound::Inbound;
use crate::settings::Settings;
use crate::store::{Accepted, Arrival, Offset, PairingAsked, StoreError, Stranger};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::sleep;

/// Updates that we ask for. Others would only be thrown away.
const KINDS: [&str; 2] = ["message", "callback_query"];

/// Where the loop is.
#[derive(Default)]
struct Poller {
    bot: Option<BotIdentity>,
    webhook_cleared: bool,
    /// The next update to ask for.
    offset: Option<i64>,
    albums: Albums,
    /// Whether the next poll may wait: the first one after trouble tells at once whether all is well.
    patient: bool,
    failures: u32,
}

/// Why a round did not succeed.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error(transparent)]
    Api(#[from] ApiError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("Telegram's answer to getMe can't be read: {0}")]
    Identity(serde_json::Error),
}

/// Polls for as long as the account runs.
pub(super) async fn run(line: Arc<Line>) {
    let mut poller = Poller::default();
    loop {
        line.watchdog.expect_within(longest_round(&line));
        match poller.round(&line).await {
            Ok(()) => poller.well(&line),
            Err(trouble) => {
                let pause = poller.unwell(&line, &trouble);
                line.watchdog.expect_within(pause.saturating_add(SLACK));
                sleep(pause).await;
            }
        }
    }
}

/// For a machine that was busy with something else.
const SLACK: Duration = Duration::from_secs(60);

/// A round that takes longer than this is stuck, whatever it is stuck in.
fn longest_round(line: &Line) -> Duration {
    line.timing.poll + line.timing.grace + 3 * line.timing.call + SLACK
}

impl Poller {
    async fn round(&mut self, line: &Arc<Line>) -> Result<(), Trouble> {
        let bot = match self.bot.clone() {
            Some(bot) => bot,
            None => self.introduce(line).await?,
        };
        if !self.webhook_cleared {
            line.call::<bool>("deleteWebhook", &json!({"drop_pending_updates": false})).await?;
            self.webhook_cleared = true;
        }
        let updates = self.poll(line).await?;
        line.handle.update(|status| status.polled());
        let all = self.take(line, &bot, &updates).await?;
        self.patient = true;
        if !all {
            sleep(albums::PAUSE).await;
        }
        Ok(())
    }

    /// Learns who the bot is. Another bot's updates have other numbers, so its offset is its own.
    async fn introduce(&mut self, line: &Arc<Line>) -> Result<BotIdentity, Trouble> {
        let raw: Value = line.call("getMe", &json!({})).await?;
        let bot: BotIdentity = serde_json::from_value(raw).map_err(Trouble::Identity)?;
        line.handle.update(|status| status.name = Some(bot.username.clone()));
        self.offset = line.gateway.store.offset(TELEGRAM, &offset_name(line, &bot)).await?;
        tracing::info!(
            account = line.name,
            bot = bot.username,
            offset = self.offset,
            "telegram bot is known"
        );
        let menu = line.clone();
        actix::spawn(async move { menu::publish(&menu).await });
        self.bot = Some(bot.clone());
        Ok(bot)
    }

    async fn poll(&self, line: &Line) -> Result<Vec<Box<RawValue>>, ApiError> {
        let wait = if self.patient { line.timing.poll } else { Duration::ZERO };
        let mut params = json!({"timeout": wait.as_secs(), "limit": 100, "allowed_updates": KINDS});
        if let Some(offset) = self.offset {
            params["offset"] = offset.into();
        }
        line.api.call("getUpdates", &params, wait + line.timing.grace).await
    }

    /// Stores what came and the offset that acknowledges it, together; only then does anyone hear of it.
    /// False when the end of it has to wait for the rest of an album.
    async fn take(
        &mut self,
        line: &Arc<Line>,
        bot: &BotIdentity,
        updates: &[Box<RawValue>],
    ) -> Result<bool, Trouble> {
        let Some(last) = updates.iter().filter_map(|raw| incoming::number(raw)).max() else {
            return Ok(true);
        };
        let numbered = updates.iter().filter_map(|raw| Some((incoming::number(raw)?, incoming::read(raw))));
        let gathered = self.albums.gather(numbered.collect());
        let next = gathered.held_from.unwrap_or(last.saturating_add(1));
        let mut batch = Batch::default();
        for (number, update) in gathered.updates {
            batch.add(line, bot, number, update).await?;
        }
        let offset = Offset { channel: TELEGRAM.to_owned(), account: offset_name(line, bot), value: next };
        let accepted = line.gateway.store.accept(batch.arrivals(bot), Some(offset)).await?;
        self.offset = Some(next);
        for accepted in accepted {
            if let Accepted::New(row) = accepted {
                line.handle.update(|status| status.last_inbound_at = Some(now_ms()));
                ack::react(line, &row.inbound, batch.message_of(&row.inbound));
                (line.arrived)(*row);
            }
        }
        if batch.strangers {
            line.gateway.channels.flush(TELEGRAM, &line.name);
        }
        Ok(gathered.held_from.is_none())
    }

    fn well(&mut self, line: &Line) {
        if self.failures > 0 {
            tracing::info!(account = line.name, failures = self.failures, "telegram answers again");
            self.failures = 0;
        }
    }

    /// Tells operators what is wrong, and how long to leave Telegram alone.
    fn unwell(&mut self, line: &Line, trouble: &Trouble) -> Duration {
        self.failures = self.failures.saturating_add(1);
        self.patient = false;
        let (lifecycle, pause) = self.judge(line, trouble);
        tracing::warn!(account = line.name, failures = self.failures, ?lifecycle, ?pause, error = %trouble, "telegram poll failed");
        line.handle.update(|status| status.failed(lifecycle, trouble.to_string()));
        pause
    }

    fn judge(&mut self, line: &Line, trouble: &Trouble) -> (Lifecycle, Duration) {
        let timing = &line.timing;
        let network = Timing::pause(&timing.network, self.failures);
        let Trouble::Api(error) = trouble else { return (Lifecycle::Reconnecting, network) };
        match error {
            ApiError::NotSent(_) | ApiError::NoAnswer(_) => {
                // The connection, or what DNS once said, may be what is dead. Where there was no connection,
                // a new client helps only against something stranger: now and then is enough.
                if matches!(error, ApiError::NoAnswer(_)) || self.failures.is_multiple_of(4) {
                    line.api.renew();
                }
                (Lifecycle::Reconnecting, network)
            }
            ApiError::Refused { code: 401 | 404, .. } => {
                self.bot = None;
                (Lifecycle::AuthFailed, Timing::pause(&timing.auth, self.failures))
            }
            ApiError::Refused { code: 409, .. } => {
                self.webhook_cleared = false;
                (Lifecycle::Conflict, Timing::pause(&timing.conflict, self.failures))
            }
            ApiError::Refused { .. } | ApiError::Server { .. } => {
                (Lifecycle::Reconnecting, error.retry_after().unwrap_or_default().max(network))
            }
        }
    }
}

fn offset_name(line: &Line, bot: &BotIdentity) -> String {
    format!("{}:{}", line.name, bot.id)
}

/// What one poll brought, judged.
#[derive(Default)]
struct Batch {
    turns: Vec<(Inbound, i64)>,
    strangers: bool,
}

impl Batch {
    async fn add(
        &mut self,
        line: &Arc<Line>,
        bot: &BotIdentity,
        number: i64,
        update: Incoming,
    ) -> Result<(), StoreError> {
        let reason = match update {
            Incoming::Message(message) => return self.message(line, bot, number, *message).await,
            Incoming::Callback { from, id } => {
                tracing::debug!(account = line.name, from, id, "button press ignored: no button is waiting");
                return Ok(());
            }
            Incoming::Moved { from, to } => {
                let (channel, account) = line.channel();
                return line
                    .gateway
                    .store
                    .move_chat(channel, account, &from.to_string(), &to.to_string())
                    .await;
            }
            Incoming::Other(reason) => reason,
            Incoming::Unreadable(error) => {
                tracing::warn!(account = line.name, update = number, %error, "an update could not be read");
                return Ok(());
            }
        };
        tracing::debug!(account = line.name, update = number, reason, "update ignored");
        Ok(())
    }

    async fn message(
        &mut self,
        line: &Arc<Line>,
        bot: &BotIdentity,
        number: i64,
        message: ChatMessage,
    ) -> Result<(), StoreError> {
        let (channel, account) = line.channel();
        let paired = line.gateway.store.allowed_senders(channel, account).await?;
        let paired: Vec<String> = paired.into_iter().map(|allowed| allowed.sender).collect();
        let former = match message.private {
            true => None,
            false => line.gateway.store.former_chat(channel, account, &message.chat.to_string()).await?,
        };
        let settings = line.gateway.settings.get();
        let verdict = judge(line, &settings, bot, &paired, former.as_deref(), &message, number);
        match verdict {
            Verdict::Turn(inbound) => self.turns.push((*inbound, message.id)),
            Verdict::Stranger => self.stranger(line, &message).await?,
            Verdict::Ignore(reason) => {
                let (chat, sender) = (message.chat, message.from.id);
                tracing::debug!(
                    account = line.name,
                    chat,
                    sender,
                    title = message.title,
                    reason,
                    "message ignored"
                );
            }
        }
        Ok(())
    }

    async fn stranger(&mut self, line: &Line, message: &ChatMessage) -> Result<(), StoreError> {
        let stranger = Stranger {
            channel: TELEGRAM.to_owned(),
            account: line.name.clone(),
            sender: message.from.id.to_string(),
            label: message.from.name.clone(),
            username: message.from.username.clone(),
            chat: message.chat.to_string(),
        };
        match line.gateway.store.ask_channel_pairing(stranger, welcome::text).await? {
            PairingAsked::New(request) => {
                self.strangers = true;
                tracing::info!(account = line.name, sender = request.sender, "telegram pairing requested");
            }
            PairingAsked::Waiting => {}
            PairingAsked::Full => {
                tracing::warn!(
                    account = line.name,
                    sender = message.from.id,
                    "too many pairing requests wait"
                );
            }
        }
        Ok(())
    }

    /// Messages are numbered in each chat, and a private chat's are each bot's own.
    fn arrivals(&self, bot: &BotIdentity) -> Vec<Arrival> {
        let arrival = |(inbound, number): &(Inbound, i64)| {
            let chat = inbound.route.as_ref().map_or("", |route| route.chat.as_str());
            let message = format!("{}:{chat}:{number}", bot.id);
            Arrival::Named { inbound: Box::new(inbound.clone()), message }
        };
        self.turns.iter().map(arrival).collect()
    }

    fn message_of(&self, inbound: &Inbound) -> Option<i64> {
        let turn = self.turns.iter().find(|(turn, _)| turn.event_id == inbound.event_id);
        turn.map(|(_, message)| *message)
    }
}

fn judge(
    line: &Line,
    settings: &Settings,
    bot: &BotIdentity,
    paired: &[String],
    former: Option<&str>,
    message: &ChatMessage,
    number: i64,
) -> Verdict {
    let account = line.account();
    let house = House {
        account: &account,
        bot,
        owners: &settings.commands.owner_allow_from,
        paired,
        mention_patterns: &settings.messages.group_chat.mention_patterns,
        dm_scope: settings.session.dm_scope,
        group_scope: settings.session.group_scope,
        commands: settings.commands.text,
        former_chat: former.and_then(|chat| chat.parse().ok()),
    };
    house.judge(message, number)
}
