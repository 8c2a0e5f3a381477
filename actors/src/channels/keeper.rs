//! Starts and stops accounts as the settings say.

use super::guests::shared_conversation;
use super::registry::ChannelHandle;
use super::status::{ChannelStatus, Lifecycle};
use super::telegram::{self, Arrived, Timing};
use super::{Channels, TELEGRAM};
use crate::gateway::Gateway;
use crate::settings::Secret;
use crate::settings::telegram::{DmPolicy, TelegramAccount, TelegramSettings};
use crate::supervise::{ChildSpec, Intensity, ListChildren, Slot, StartChild, StopChild, Supervisor};
use actix::{Actor, AsyncContext, Context, WrapFuture};
use std::collections::{BTreeMap, BTreeSet};

const KEEPER: &str = "keeper";

/// The branch of the tree with all channels. `arrived` tells the agent of each message that was stored.
pub fn branch(gateway: &Gateway, arrived: Arrived) -> ChildSpec<Supervisor> {
    branch_with(gateway, arrived, Timing::default())
}

/// As [`branch`], with other times: for tests.
pub fn branch_with(gateway: &Gateway, arrived: Arrived, timing: Timing) -> ChildSpec<Supervisor> {
    let slot = Slot::default();
    let (gateway, supervisor) = (gateway.clone(), slot.clone());
    let furnish = move |branch: Supervisor| {
        let (gateway, supervisor) = (gateway.clone(), supervisor.clone());
        let (arrived, timing) = (arrived.clone(), timing.clone());
        let keeper = move || Keeper {
            gateway: gateway.clone(),
            supervisor: supervisor.clone(),
            arrived: arrived.clone(),
            timing: timing.clone(),
        };
        // One account's failures are no reason to stop another: back-off alone slows them.
        branch.intensity(Intensity::unlimited()).stop_together().child(ChildSpec::new(KEEPER, keeper))
    };
    ChildSpec::supervisor("channels", furnish).at(&slot)
}

/// Compares what runs with what should, whenever the settings change.
struct Keeper {
    gateway: Gateway,
    supervisor: Slot<Supervisor>,
    arrived: Arrived,
    timing: Timing,
}

impl Actor for Keeper {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let keeping = Keeping {
            gateway: self.gateway.clone(),
            supervisor: self.supervisor.clone(),
            arrived: self.arrived.clone(),
            timing: self.timing.clone(),
            running: BTreeMap::new(),
            polling: BTreeMap::new(),
            tokenless: BTreeSet::new(),
            warned: None,
        };
        ctx.spawn(keeping.keep().into_actor(self));
    }
}

struct Keeping {
    gateway: Gateway,
    supervisor: Slot<Supervisor>,
    arrived: Arrived,
    timing: Timing,
    running: BTreeMap<String, TelegramAccount>,
    /// The tokens in use.
    polling: BTreeMap<String, Secret>,
    /// Accounts whose token file could not be read: it may come later than the gateway.
    tokenless: BTreeSet<String>,
    /// What operators were told last about who shares a conversation.
    warned: Option<String>,
}

impl Keeping {
    async fn keep(mut self) {
        let mut changes = self.gateway.settings.subscribe();
        self.stop_strays().await;
        let mut tries: u32 = 0;
        loop {
            self.reconcile().await;
            self.warn_of_guests().await;
            let pause = self.timing.network.delay(tries.saturating_add(1));
            let again = async {
                match self.tokenless.is_empty() {
                    true => std::future::pending().await,
                    false => tokio::time::sleep(pause).await,
                }
            };
            tokio::select! {
                changed = changes.changed() => match changed {
                    Ok(()) => tries = 0,
                    Err(_) => return,
                },
                () = again => tries = tries.saturating_add(1),
            }
        }
    }

    /// Once for each way in which it came to be so.
    async fn warn_of_guests(&mut self) {
        let warning = match shared_conversation(&self.gateway).await {
            Ok(warning) => warning,
            Err(error) => return tracing::warn!(%error, "who may write could not be read"),
        };
        if let Some(warning) = warning.as_ref().filter(|_| self.warned != warning) {
            tracing::warn!("{warning}");
        }
        self.warned = warning;
    }

    /// Accounts that an earlier keeper started: their settings are not known here.
    async fn stop_strays(&self) {
        let children = self.supervisor.send(ListChildren).await.unwrap_or_default();
        for name in children.into_iter().filter(|name| name != KEEPER) {
            let _ = self.supervisor.send(StopChild { name }).await;
        }
    }

    async fn reconcile(&mut self) {
        let settings = self.gateway.settings.get();
        let telegram = settings.channels.telegram.as_ref();
        let mut wanted =
            telegram.map_or_else(|| TelegramSettings::default().resolved(), TelegramSettings::resolved);
        // Without a word about Telegram there is an account only if the environment has a token.
        wanted.retain(|_, account| telegram.is_some() || account.token.is_some());
        let gone: Vec<String> =
            self.running.keys().filter(|name| !wanted.contains_key(*name)).cloned().collect();
        for name in gone {
            self.stop(&name).await;
            self.gateway.channels.remove(TELEGRAM, &name);
        }
        for (name, account) in wanted {
            let same = self.running.get(&name).is_some_and(|running| running.connects_like(&account))
                && !self.tokenless.contains(&name);
            if !same {
                self.stop(&name).await;
                self.start(account).await;
            } else if let Some(handle) = self.gateway.channels.get(TELEGRAM, &name) {
                handle.update(|status| describe(status, &account));
                self.running.insert(name, account);
            }
        }
    }

    async fn stop(&mut self, name: &str) {
        self.polling.remove(name);
        self.tokenless.remove(name);
        if self.running.remove(name).is_some() {
            let _ = self.supervisor.send(StopChild { name: child_name(name) }).await;
        }
    }

    async fn start(&mut self, account: TelegramAccount) {
        let name = account.name.clone();
        let mut status = ChannelStatus::new(&name);
        describe(&mut status, &account);
        if let Some(before) = self.gateway.channels.get(TELEGRAM, &name) {
            status.resume(&before.status());
        }
        let token = telegram::token(&account).await;
        match &token {
            Ok(Some(_)) => status.token_status = "available",
            Ok(None) => status.configured = false,
            Err(error) => status.last_error = Some(error.clone()),
        }
        if account.enabled && account.token_file.is_some() && !matches!(token, Ok(Some(_))) {
            tracing::warn!(account = name, error = status.last_error, "no token could be read; trying again");
            self.tokenless.insert(name.clone());
        }
        let handle = ChannelHandle::new(status);
        self.gateway.channels.set(TELEGRAM, &name, handle.clone());
        self.running.insert(name.clone(), account.clone());
        let Ok(Some(token)) = token else { return };
        if !account.enabled {
            return;
        }
        if account.webhook {
            let error =
                "webhooks are not served by this version: remove webhookUrl, and the bot polls for updates";
            tracing::error!(account = name, error, "account not started");
            handle.update(|status| (status.mode, status.last_error) = ("webhook", Some(error.to_owned())));
            return;
        }
        if let Some(other) = self.polling.iter().find(|(_, taken)| taken.matches(token.expose())) {
            // Two pollers of one bot would only throw each other out.
            let error = format!("account `{}` polls with the same token", other.0);
            tracing::error!(account = name, error, "account not started");
            handle.update(|status| status.last_error = Some(error));
            return;
        }
        self.polling.insert(name.clone(), token.clone());
        handle.update(|status| status.lifecycle = Lifecycle::Starting);
        let shown = handle.clone();
        let spec = telegram::spec(
            child_name(&name),
            account,
            token,
            self.gateway.clone(),
            handle,
            self.timing.clone(),
            self.arrived.clone(),
        );
        let error = match self.supervisor.send(StartChild(spec)).await {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error.to_string(),
            Err(error) => error.to_string(),
        };
        tracing::error!(account = name, error, "account not started");
        shown.update(|status| (status.lifecycle, status.last_error) = (Lifecycle::Stopped, Some(error)));
    }
}

fn child_name(account: &str) -> String {
    format!("{TELEGRAM}:{account}")
}

fn describe(status: &mut ChannelStatus, account: &TelegramAccount) {
    status.enabled = account.enabled;
    status.token_source = account.token_source.name();
    status.dm_policy = match account.dm_policy {
        DmPolicy::Pairing => "pairing",
        DmPolicy::Allowlist => "allowlist",
        DmPolicy::Open => "open",
        DmPolicy::Disabled => "disabled",
    };
    status.allow_unmentioned_groups =
        account.groups.values().any(|group| group.require_mention == Some(false));
}

impl Channels {
    /// Whether any account is known, running or not.
    pub fn is_empty(&self) -> bool {
        self.statuses().is_empty()
    }
}
