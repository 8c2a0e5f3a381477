//! One connection of this node: what it tells after `hello-ok`, and what it does with what comes in.

use std::{path::Path, sync::Arc, time::Duration};

use serde::Deserialize;
use serde_json::{Value, json};
use tidegate_protocol::{ErrorShape, error::AWAITING_APPROVAL};
use tokio::{sync::watch, time::MissedTickBehavior};

use super::{commands::Surface, link::Link, stats, work::Work};
use crate::client::{Client, ClientError, Ended, Event, Events};

/// How often the gateway hears how the machine is doing.
const STATS_EVERY: Duration = Duration::from_secs(60);
/// Waits between attempts to tell what the gateway can't take yet.
const RETRY_AFTER: [Duration; 4] =
    [Duration::from_millis(300), Duration::from_secs(1), Duration::from_secs(3), Duration::from_secs(10)];

/// Why a session is over.
pub(crate) enum Over {
    /// Whoever runs this host wants it to stop.
    Stopped,
    Lost(Ended),
}

/// A node that is connected.
pub(crate) struct Session {
    pub(crate) client: Client,
    pub(crate) link: Arc<Link>,
    pub(crate) work: Arc<Work>,
    pub(crate) surface: Surface,
}

impl Session {
    /// Serves until the connection ends or `stop` says so.
    pub(crate) async fn serve(self, mut events: Events, stop: &mut watch::Receiver<bool>) -> Over {
        self.link.set(Some(self.client.clone()));
        self.publish();
        let mut clock = tokio::time::interval(STATS_EVERY);
        clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let over = loop {
            tokio::select! {
                event = events.next() => match event {
                    Some(event) => self.handle(&event),
                    None => break Over::Lost(self.client.ended().await),
                },
                _ = clock.tick() => self.tell_stats().await,
                () = stopped(stop) => break Over::Stopped,
            }
        };
        self.link.set(None);
        self.work.hang_up();
        over
    }

    fn handle(&self, event: &Event) {
        let handled = match event.name.as_str() {
            "node.invoke.request" => event.payload().map(|invoke| self.work.start(invoke, &self.client)),
            "node.invoke.cancel" => {
                event.payload().map(|cancel: Cancelled| self.work.cancel(&cancel.invoke_id))
            }
            "node.invoke.input" => event.payload().map(|input| self.work.input(input)),
            "node.pair.resolved" => event.payload().map(|resolved: Resolved| self.resolved(&resolved)),
            "shutdown" => {
                tracing::info!("the gateway is stopping");
                Ok(())
            }
            _ => Ok(()),
        };
        if let Err(error) = handled {
            tracing::warn!(event = event.name, %error, "event not understood");
        }
    }

    fn resolved(&self, resolved: &Resolved) {
        match resolved.decision.as_str() {
            "approved" => {
                tracing::info!("an operator approved the commands of this node");
                self.publish();
                let link = self.link.clone();
                tokio::spawn(async move { tell_stats(&link).await });
            }
            decision => tracing::warn!(decision, "an operator did not approve the commands of this node"),
        }
    }

    async fn tell_stats(&self) {
        // With a chosen list of commands, a node tells no more than it was asked to serve.
        if self.surface.full {
            tell_stats(&self.link).await;
        }
    }

    /// Tells what this node has beside its commands: no runners, no skills, no tools of its own.
    fn publish(&self) {
        if !self.surface.full {
            return;
        }
        let tellings = [
            (
                "node.runnerInventory.update",
                json!({"protocolFeatures": [], "workerHost": {"enabled": false}}),
            ),
            ("node.skills.update", json!({"skills": []})),
            ("node.pluginTools.update", json!({"tools": []})),
        ];
        for (method, params) in tellings {
            tokio::spawn(tell(self.client.clone(), method, params));
        }
    }
}

/// Waits until this host is told to stop.
pub(super) async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

async fn tell_stats(link: &Link) {
    let numbers = tokio::task::spawn_blocking(|| stats::read(Path::new("/"))).await;
    if let Ok(Some(numbers)) = numbers {
        link.event("node.host.stats", &numbers);
    }
}

/// Tells something that a gateway may not know, or can't take before the node is approved.
async fn tell(client: Client, method: &'static str, params: Value) {
    for wait in RETRY_AFTER {
        let error = match client.call::<Value>(method, &params).await {
            Ok(_) => return,
            Err(error) => error,
        };
        tracing::debug!(method, %error, "not taken");
        let again = error.may_pass() && !matches!(error, ClientError::Closed { .. });
        if !again {
            // Said once for a person: the sentence names what to approve.
            if let Some(refusal) = error.refusal().filter(|refusal| awaits_approval(refusal)) {
                tracing::info!(gateway = refusal.message, "connected, not approved yet");
            }
            return;
        }
        tokio::time::sleep(wait).await;
    }
}

/// A gateway that is not ours says it in words alone.
fn awaits_approval(refusal: &ErrorShape) -> bool {
    refusal.detail_code() == Some(AWAITING_APPROVAL) || refusal.message.contains("awaiting operator approval")
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Cancelled {
    invoke_id: String,
}

#[derive(Deserialize)]
struct Resolved {
    decision: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_approval_is_known_by_its_code_or_by_the_official_words() {
        let said = |message: &str| ErrorShape::unavailable(message);
        let coded = said("in other words").with_details(json!({"code": AWAITING_APPROVAL}));
        assert!(awaits_approval(&coded));
        assert!(awaits_approval(&said("node capability surface is awaiting operator approval; see there")));
        assert!(!awaits_approval(&said("try later")));
    }
}
