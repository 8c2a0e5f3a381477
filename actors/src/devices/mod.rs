//! Paired devices: who they are, what they may do, and the tokens they prove it with.

mod admit;
mod manage;
mod proof;
mod rights;
mod setup;
mod ssh;
mod tickets;
mod token;
mod view;

#[cfg(test)]
mod tests;

pub use admit::{Admission, Admit};
pub use manage::{
    ApproveRequest, Closing, ForgetNode, ManageError, RejectRequest, RemoveDevice, RenameDevice, RevokeToken,
    RotateToken, Rotated,
};
pub use rights::CallerRights;
pub use setup::{CodeDelivered, CodeOutcome, MintCode, MintError, Minted, RedeemJoin, SetupStatus};
pub use token::TokenKey;
pub use view::{DeviceList, DeviceView, ListDevices};

pub use crate::auth::Refusal;
use crate::clock::now_ms;
use crate::events::{Audience, Broadcast};
use crate::gateway::Gateway;
use crate::pairings::{Change, DeviceBook, DeviceRecord, PairingRequest, TokenRecord};
use crate::settings::Settings;
use crate::store::{DeviceSeen, StoreError};
use actix::{
    Actor, ActorContext, ActorFuture, ActorFutureExt, AsyncContext, AtomicResponse, Context, Handler,
    Message, StreamHandler, WrapFuture, fut,
};
use proof::{Probe, Probes};
use serde::Serialize;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;
use tickets::Tickets;
use tidegate_protocol::hello::AuthMethod;
use tidegate_protocol::limits::close;
use tidegate_protocol::{Role, Scope};

/// How often "last seen" is written and expired requests are cleared away.
const SWEEP: Duration = Duration::from_secs(30);

/// An answer that keeps the actor from taking the next message before it is given: decisions follow one another, and
/// each sees what the last one stored.
type Respond<T> = AtomicResponse<Devices, T>;

/// Decides on connects and on everything that operators do to devices. Its picture of the database is never ahead of
/// it; a restart reads it anew.
pub struct Devices {
    gateway: Gateway,
    key: TokenKey,
    book: DeviceBook,
    tickets: Tickets,
    probes: Probes,
    probe: Probe,
    /// Devices whose "last seen" is not on the disk yet.
    unsaved: HashSet<String>,
    settings: Arc<Settings>,
}

impl Devices {
    pub fn new(gateway: Gateway, key: TokenKey) -> Self {
        let settings = gateway.settings.get();
        Self {
            gateway,
            key,
            book: DeviceBook::default(),
            tickets: Tickets::default(),
            probes: Probes::default(),
            probe: ssh::probe,
            unsaved: HashSet::new(),
            settings,
        }
    }

    /// With something else than ssh to read keys with.
    #[cfg(test)]
    fn probing_with(self, probe: Probe) -> Self {
        Self { probe, ..self }
    }

    fn ready<T: 'static>(&self, answer: T) -> Respond<T> {
        AtomicResponse::new(Box::pin(fut::ready(answer)))
    }

    /// Stores a change, takes it over, and only then goes on.
    fn store_then<T, E>(
        &self,
        change: Change,
        then: impl FnOnce(&mut Self) -> Result<T, E> + 'static,
    ) -> Respond<Result<T, E>>
    where
        T: 'static,
        E: From<StoreError> + 'static,
    {
        AtomicResponse::new(Box::pin(self.stored(change, then)))
    }

    /// The same for a step whose outcome nobody waits for: what goes wrong with it is in the log.
    fn store_and(&self, change: Change, then: impl FnOnce(&mut Self) + 'static) -> Respond<()> {
        let stored = self.stored(change, move |devices| {
            then(devices);
            Ok::<_, StoreError>(())
        });
        AtomicResponse::new(Box::pin(stored.map(|outcome, _, _| {
            if let Err(error) = outcome {
                tracing::error!(%error, "a change of devices could not be stored");
            }
        })))
    }

    fn stored<T, E>(
        &self,
        change: Change,
        then: impl FnOnce(&mut Self) -> Result<T, E> + 'static,
    ) -> impl ActorFuture<Self, Output = Result<T, E>> + 'static
    where
        T: 'static,
        E: From<StoreError> + 'static,
    {
        let store = self.gateway.store.clone();
        let stored = change.clone();
        let write = async move { store.change_devices(stored).await };
        write.into_actor(self).map(move |outcome, devices: &mut Self, _: &mut _| {
            outcome?;
            devices.book.apply(change, now_ms());
            then(devices)
        })
    }

    fn tell_resolved(&self, request_id: &str, device_id: &str, decision: &str) {
        let payload = serde_json::json!({
            "requestId": request_id, "deviceId": device_id, "decision": decision, "ts": now_ms(),
        });
        self.tell_pairing("device.pair.resolved", &payload, device_id);
    }

    /// Tells those who may see `device_id` among the devices: see [`CallerRights::may_see`].
    fn tell_pairing(&self, event: &'static str, payload: &impl Serialize, device_id: &str) {
        let payload = match serde_json::value::to_raw_value(payload) {
            Ok(payload) => payload,
            Err(error) => return tracing::error!(event, %error, "an event could not be serialised"),
        };
        for connection in self.gateway.connections.all() {
            let caller = &connection.caller;
            if caller.allows(Scope::Pairing) && CallerRights::of(caller).may_see(device_id) {
                let audience = Audience::Connection(caller.conn_id.clone());
                let payload = payload.clone();
                let broadcast = Broadcast { event, payload, audience, droppable: false, version: None };
                self.gateway.events.tell(broadcast);
            }
        }
    }

    /// Ends the connections of a device, in one role or in all, but for `spared`, which ends after its answer.
    fn disconnect(&mut self, device_id: &str, only: Option<Role>, spared: Option<&str>) -> Closing {
        self.tickets.void_device(device_id, only);
        let mut closing = Closing(false);
        for caller in self.gateway.connections.of_device(device_id) {
            if only.is_some_and(|only| only != caller.role) {
                continue;
            }
            if spared == Some(caller.conn_id.as_str()) {
                closing.0 = true;
            } else {
                caller.revoke(close::DEVICE_REMOVED, "device removed");
            }
        }
        closing
    }

    fn make_room_for_a_request(&mut self) {
        if let Some(oldest) = self.book.surplus_request().cloned() {
            self.drop_request(&oldest);
        }
    }

    /// Takes a request off the list without waiting for the disk: at worst it expires once more after a restart.
    fn drop_request(&mut self, asked: &PairingRequest) {
        let change = Change::DropRequest { device_id: asked.claim.device_id.clone() };
        self.book.apply(change.clone(), now_ms());
        self.tell_resolved(&asked.request_id, &asked.claim.device_id, "rejected");
        let store = self.gateway.store.clone();
        actix::spawn(async move {
            if let Err(error) = store.change_devices(change).await {
                tracing::warn!(%error, "a pairing request could not be cleared away");
            }
        });
    }

    fn sweep(&mut self) {
        self.tickets.sweep();
        self.probes.forget(|request_id| self.book.request(request_id, now_ms()).is_none());
        for expired in self.book.expired(now_ms()) {
            tracing::info!(request = %expired.request_id, "pairing request expired");
            self.drop_request(&expired);
        }
        self.forget_old_codes();
        self.save_seen();
    }

    fn save_seen(&mut self) {
        let unsaved = std::mem::take(&mut self.unsaved);
        let seen: Vec<DeviceSeen> =
            unsaved.iter().filter_map(|id| self.book.device(id)).filter_map(seen).collect();
        if seen.is_empty() {
            return;
        }
        let store = self.gateway.store.clone();
        actix::spawn(async move {
            if let Err(error) = store.note_devices_seen(seen).await {
                tracing::warn!(%error, "when devices were last seen could not be stored");
            }
        });
    }
}

crate::answers_probes!(Devices);

impl Actor for Devices {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let store = self.gateway.store.clone();
        let load = async move { store.load_devices().await }.into_actor(self);
        ctx.wait(load.map(|loaded, devices: &mut Self, ctx| match loaded {
            Ok(book) => devices.book = book,
            Err(error) => {
                tracing::error!(%error, "devices could not be loaded");
                ctx.stop();
            }
        }));
        ctx.run_interval(SWEEP, |devices, _| devices.sweep());
        let changes = self.gateway.settings.subscribe();
        ctx.add_stream(futures_util::stream::unfold(changes, |mut changes| async move {
            changes.changed().await.ok().map(|()| (SettingsChanged, changes))
        }));
    }

    fn stopped(&mut self, _: &mut Self::Context) {
        self.save_seen();
    }
}

/// New settings are in force.
struct SettingsChanged;

impl StreamHandler<SettingsChanged> for Devices {
    fn handle(&mut self, _: SettingsChanged, _: &mut Self::Context) {
        self.heed_settings();
    }

    /// The settings outlive every actor; if they do not, that is no reason to stop.
    fn finished(&mut self, _: &mut Self::Context) {}
}

/// Act on new settings now: once this is answered, nobody keeps a connection that the old ones let in.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct HeedSettings;

impl Handler<HeedSettings> for Devices {
    type Result = ();

    fn handle(&mut self, _: HeedSettings, _: &mut Self::Context) {
        self.heed_settings();
    }
}

impl Devices {
    /// Whoever came in by what may not let them in any more has to prove itself again.
    fn heed_settings(&mut self) {
        let now = self.gateway.settings.get();
        let before = std::mem::replace(&mut self.settings, Arc::clone(&now));
        if now.gateway.lets_in_as(&before.gateway) {
            return;
        }
        tracing::info!("who may come in has changed: connections that came in by the old settings end");
        self.tickets.void_secret();
        for connection in self.gateway.connections.all() {
            if is_by_secret(connection.caller.auth_method) {
                connection.caller.revoke_answered(close::DEVICE_REMOVED, "gateway auth changed");
            }
        }
    }
}

/// Whether a connection came in by knowing the gateway's secret, by there being none, or by a name that stands in
/// for it.
fn is_by_secret(method: AuthMethod) -> bool {
    use AuthMethod::{None, Password, Tailscale, Token, TrustedProxy};
    matches!(method, Token | Password | None | Tailscale | TrustedProxy)
}

fn seen(record: &DeviceRecord) -> Option<DeviceSeen> {
    let used = |token: &TokenRecord| token.last_used_at_ms.map(|at_ms| (token.role, at_ms));
    Some(DeviceSeen {
        device_id: record.device_id().to_owned(),
        at_ms: record.last_seen_at_ms?,
        reason: record.last_seen_reason.clone()?,
        tokens: record.tokens.iter().filter_map(used).collect(),
    })
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        tracing::error!(%error, "a connect could not be decided");
        Self::unavailable("the gateway could not reach its database; see its log")
    }
}
