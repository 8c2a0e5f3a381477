//! Nodes: who is connected, what they may be asked, and every call on its way.
//!
//! A call goes from its caller through the [`Courier`] straight to the node's socket, and the answer straight
//! back through [`Calls`](calls::Calls): the [`NodeRegistry`] actor decides about nodes, it does not carry
//! their traffic. [`NodeTable`] is the plain data that both work on.

mod approvals;
mod argv;
mod call;
mod calls;
mod courier;
mod delivery;
mod error;
mod names;
mod once;
mod pairing;
mod platform;
mod policy;
mod registry;
mod report;
mod runs;
mod table;
#[cfg(test)]
mod tests;
mod view;

pub use approvals::{ApprovalClaim, ApprovedRun, ExecApprovals, Later};
pub use argv::{RunRefused, display as display_argv, shell_text};
pub use call::{DEFAULT_TIMEOUT, InvokeNode, InvokeOrigin, InvokeOutcome, LONGEST_TIMEOUT, Outcome};
pub use calls::{Answer, NodeError};
pub use courier::Courier;
pub use error::{InvokeError, pairing_changed};
pub use names::NameError;
pub use pairing::{Approved, PairingList, Rejected, list as pairing_list};
pub use registry::{
    ApproveSurface, ForgetNode, ListNodes, Newcomer, NodeDeclaration, NodeRegistry, NodeUp, RejectSurface,
    RenameNode, arrive, introduce, leave,
};
pub use report::{Heard, hear};
pub use table::{NodeConnection, NodeSink, NodeTable, Published};
pub use view::NodeView;
