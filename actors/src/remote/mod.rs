//! Ways to reach the gateway from elsewhere that it looks after itself.

pub mod discovery;
mod interfaces;
pub mod reach;
pub mod tailscale;
mod whereabouts;

pub use interfaces::{Interface, interfaces};
pub use whereabouts::Whereabouts;

use crate::Gateway;
use crate::supervise::{ChildSpec, Intensity};

/// The branch of the tree with all of them. What fails here is tried again for ever and brings nothing else down:
/// whoever is on this machine needs none of it.
pub fn branch(gateway: &Gateway) -> ChildSpec<crate::supervise::Supervisor> {
    let gateway = gateway.clone();
    ChildSpec::supervisor("remote", move |branch| {
        let branch = branch.intensity(Intensity::unlimited());
        let branch = match gateway.tailscale.is_managed() {
            true => branch.child(tailscale::claimant(gateway.tailscale.clone())),
            false => branch,
        };
        branch.child(discovery::branch(&gateway))
    })
}
