//! The ways in and out that people use.
//!
//! A channel's account is an actor of its own, started by the [`keeper`] as the settings say. What others
//! need of it goes through [`Channels`]: plain data, so a restart of the account is nobody else's concern.
//!
//! WebChat has no actor and no outbox: its messages come in by `chat.send`, and its answers are the events
//! that its sessions listen to.

mod guests;
mod keeper;
mod messages;
mod registry;
mod status;
pub mod telegram;

pub use guests::shared_conversation;
pub use keeper::{branch, branch_with};
pub(crate) use messages::extension;
pub use messages::{
    AskAccount, ChannelError, ChannelRequest, FetchError, FetchMedia, FetchedMedia, FlushOutbox, Phase,
    RunProgress,
};
pub use registry::{ChannelHandle, Channels};
pub use status::{ChannelStatus, Lifecycle};

/// The channel whose answers go out as events.
pub const WEBCHAT: &str = "webchat";
/// Telegram's name in routes, settings and session keys.
pub const TELEGRAM: &str = "telegram";
