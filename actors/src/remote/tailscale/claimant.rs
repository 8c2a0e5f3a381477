//! Holds the route: takes the claim, notices when it is lost, gives it back at the end.

use super::claim::{Claim, ready};
use super::{Exposure, Tailscale};
use crate::supervise::{ChildSpec, Shutdown, Verdict};
use actix::{Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Handler, WrapFuture};
use tokio::sync::oneshot;

/// See the module. A claim that fails or is lost ends this actor: its supervisor tries again, slower each time. But not
/// the very first one: without it the gateway ends, and says why.
pub struct Claimant {
    tailscale: Tailscale,
    verdict: Verdict,
    /// There was never a route, and there will be none.
    refused: bool,
    /// Dropped when the claim has to be given back.
    hold: Option<oneshot::Sender<()>>,
}

/// How to keep the route of `tailscale`.
///
/// It must run on the thread that lives as long as the process: the program is tied to the thread that started it.
pub fn claimant(tailscale: Tailscale) -> ChildSpec<Claimant> {
    let make = move |verdict| Claimant { tailscale: tailscale.clone(), verdict, refused: false, hold: None };
    ChildSpec::with_verdict("tailscale", make).drains()
}

impl Actor for Claimant {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        let (hold, released) = oneshot::channel();
        self.hold = Some(hold);
        let holding = hold_route(self.tailscale.clone(), released);
        context.spawn(holding.into_actor(self).map(|end, claimant, context| {
            if let Err(error) = end {
                claimant.tailscale.note(Exposure::Down { error: error.clone() });
                if !claimant.tailscale.was_reached() {
                    claimant.refused = true;
                    return;
                }
                tracing::error!(error, "not reachable through Tailscale");
                claimant.verdict.failed(error);
            }
            context.stop();
        }));
    }
}

impl Handler<Shutdown> for Claimant {
    type Result = ();

    fn handle(&mut self, _: Shutdown, context: &mut Self::Context) {
        self.hold = None;
        if self.refused {
            context.stop();
        }
    }
}

/// Runs until the route is to be given back, or is gone.
async fn hold_route(tailscale: Tailscale, mut released: oneshot::Receiver<()>) -> Result<(), String> {
    let Some(managed) = tailscale.0.managed.get() else { return Ok(()) };
    let take = async {
        ready(managed, |reason| tailscale.note(Exposure::Waiting { reason: reason.to_owned() })).await?;
        Claim::take(managed).await
    };
    let mut claim = tokio::select! {
        _ = &mut released => return Ok(()),
        claim = take => claim.map_err(|error| error.to_string())?,
    };
    let url = managed.name.get().map(|name| format!("https://{name}"));
    tracing::info!(mode = managed.mode.as_str(), url, "reachable through Tailscale");
    tailscale.note(Exposure::Active { url });
    tokio::select! {
        _ = &mut released => {
            claim.release().await;
            Ok(())
        }
        lost = claim.lost() => Err(lost),
    }
}
