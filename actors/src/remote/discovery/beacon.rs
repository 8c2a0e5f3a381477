//! The service on the LAN. The daemon (`mdns-sd`) is a thread of its own: it answers queries, probes for its names and
//! takes another where one is taken, and announces anew when the host's addresses change.

use super::Announcement;
use crate::supervise::Shutdown;
use actix::{Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Handler, WrapFuture};
use mdns_sd::{DaemonEvent, IfKind, IfPredicate, Receiver, ServiceDaemon, ServiceInfo};
use std::net::IpAddr;
use std::time::Duration;
use tidegate_protocol::discovery::SERVICE;

/// The daemon says goodbye a second time after 120 ms: the first may get lost.
const SECOND_GOODBYE: Duration = Duration::from_millis(200);

/// For all of it.
const LEAVE_WITHIN: Duration = Duration::from_secs(2);

/// Announces one gateway for as long as it lives.
pub(super) struct Beacon {
    announcement: Announcement,
    daemon: Option<Daemon>,
}

impl Beacon {
    pub(super) fn new(announcement: Announcement) -> Self {
        Self { announcement, daemon: None }
    }
}

impl Actor for Beacon {
    type Context = Context<Self>;

    /// A daemon that can't start or that ends is this actor's end: its supervisor tries again.
    fn started(&mut self, context: &mut Self::Context) {
        match Daemon::start(&self.announcement) {
            Ok((daemon, events)) => {
                let Announcement { instance, port, .. } = &self.announcement;
                tracing::info!(name = instance, port, "announcing this gateway on the LAN");
                self.daemon = Some(daemon);
                let ended = report(events, self.announcement.clone())
                    .into_actor(self)
                    .map(|(), _, context| context.stop());
                context.spawn(ended);
            }
            Err(error) => {
                tracing::warn!(%error, "this gateway can't be announced on the LAN");
                context.stop();
            }
        }
    }
}

impl Handler<Shutdown> for Beacon {
    type Result = ();

    fn handle(&mut self, _: Shutdown, context: &mut Self::Context) {
        match self.daemon.take() {
            Some(daemon) => {
                let ended = leave(daemon).into_actor(self).map(|(), _, context| context.stop());
                context.spawn(ended);
            }
            None => context.stop(),
        }
    }
}

/// A daemon that hangs is left to its drop.
async fn leave(daemon: Daemon) {
    if tokio::time::timeout(LEAVE_WITHIN, daemon.leave()).await.is_err() {
        tracing::warn!("the LAN may not have heard that this gateway is gone");
    }
}

struct Daemon {
    handle: ServiceDaemon,
    service: String,
}

impl Daemon {
    fn start(announcement: &Announcement) -> mdns_sd::Result<(Self, Receiver<DaemonEvent>)> {
        let info = service(announcement)?;
        let daemon = Self { handle: ServiceDaemon::new()?, service: info.get_fullname().to_owned() };
        let events = daemon.handle.monitor()?;
        let foreign = announcement.clone();
        let foreign = IfPredicate::new(move |interface| !foreign.covers(interface.ip()));
        daemon.handle.disable_interface(IfKind::Predicate(foreign))?;
        daemon.handle.register(info)?;
        Ok((daemon, events))
    }

    /// Tells the LAN that the service is gone, then ends the daemon.
    async fn leave(self) {
        if let Ok(answer) = self.handle.unregister(&self.service) {
            let _ = answer.recv_async().await;
            tokio::time::sleep(SECOND_GOODBYE).await;
        }
        if let Ok(answer) = self.handle.shutdown() {
            let _ = answer.recv_async().await;
        }
    }
}

impl Drop for Daemon {
    /// However the actor ends, its thread doesn't stay behind.
    fn drop(&mut self) {
        let _ = self.handle.shutdown();
    }
}

fn service(announcement: &Announcement) -> mdns_sd::Result<ServiceInfo> {
    let Announcement { instance, host, port, hints, .. } = announcement;
    let (kind, host) = (format!("{SERVICE}.local."), format!("{host}.local."));
    let none: &[IpAddr] = &[];
    // The daemon fills in the addresses of the interfaces that it uses.
    Ok(ServiceInfo::new(&kind, instance, &host, none, *port, &hints.to_txt()[..])?.enable_addr_auto())
}

/// Until the daemon ends. It names every address of the host; those of others than the LAN's are not of interest.
async fn report(events: Receiver<DaemonEvent>, announcement: Announcement) {
    while let Ok(event) = events.recv_async().await {
        match event {
            DaemonEvent::Announce(_, addresses) => tracing::debug!(addresses, "announced on the LAN"),
            DaemonEvent::NameChange(change) => {
                tracing::info!(old = change.original, new = change.new_name, "a name is taken on the LAN");
            }
            DaemonEvent::IpAdd(ip) if announcement.covers(ip) => {
                tracing::info!(%ip, "a new address of this host is announced on the LAN");
            }
            DaemonEvent::IpDel(ip) if announcement.covers(ip) => {
                tracing::info!(%ip, "a lost address of this host is announced no more");
            }
            DaemonEvent::Error(error) => tracing::warn!(%error, "announcing on the LAN"),
            _ => {}
        }
    }
}
