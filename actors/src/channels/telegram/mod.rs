//! Telegram: one actor an account.
//!
//! | file | what it does |
//! | --- | --- |
//! | [`account`] | the actor: starts the poll, sends what is due, stops in order |
//! | [`poll`], [`incoming`], [`albums`], [`admit`], [`turn`] | what people write: fetched, read, put together, judged, stored |
//! | [`deliver`], [`media`] | answers: sent, tried again, set aside |
//! | [`preview`], [`ack`] | what is shown while a run works |
//! | [`markdown`], [`formatted`], [`split`] | a model's Markdown as Telegram's HTML, in pieces |
//! | [`api`], [`mod@line`] | the Bot API over HTTP, and what all of them share |

mod account;
mod ack;
mod addressed;
mod admit;
mod albums;
mod api;
mod deliver;
pub mod formatted;
mod house;
mod incoming;
mod line;
pub mod markdown;
mod media;
mod menu;
mod poll;
mod preview;
mod roughly;
mod sender;
pub mod split;
mod target;
mod turn;
pub(crate) mod welcome;

pub use line::{Arrived, Timing};
pub(crate) use sender::number as sender_number;

use crate::channels::ChannelHandle;
use crate::gateway::Gateway;
use crate::settings::Secret;
use crate::settings::telegram::TelegramAccount;
use crate::supervise::{AnyChild, ChildSpec};
use account::AccountActor;
use std::time::Duration;

/// How long an account may take to finish what it is sending.
const SHUTDOWN: Duration = Duration::from_secs(5);

/// One account as a child of the tree: permanent, with back-off.
pub(super) fn spec(
    name: String,
    account: TelegramAccount,
    token: Secret,
    gateway: Gateway,
    handle: ChannelHandle,
    timing: Timing,
    arrived: Arrived,
) -> AnyChild {
    let make = move || {
        AccountActor::new(
            account.clone(),
            token.clone(),
            gateway.clone(),
            handle.clone(),
            timing.clone(),
            arrived.clone(),
        )
    };
    ChildSpec::new(name, make).drains().shutdown(SHUTDOWN).into()
}

/// The account's token: from the settings, or from the file that they name.
///
/// # Errors
/// If that file is not a plain one, or can't be read.
pub(super) async fn token(account: &TelegramAccount) -> Result<Option<Secret>, String> {
    let Some(path) = &account.token_file else { return Ok(account.token.clone()) };
    let name = path.display();
    let meta =
        tokio::fs::symlink_metadata(path).await.map_err(|error| format!("tokenFile `{name}`: {error}"))?;
    if !meta.is_file() {
        return Err(format!("tokenFile `{name}` is not a plain file"));
    }
    let text =
        tokio::fs::read_to_string(path).await.map_err(|error| format!("tokenFile `{name}`: {error}"))?;
    let token = text.trim();
    crate::redaction::hide(token);
    Ok((!token.is_empty()).then(|| Secret::new(token)))
}
