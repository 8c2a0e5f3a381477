//! The reaction that says "seen".

use super::line::{Line, chat_id};
use crate::inbound::{ChatKind, Inbound};
use crate::settings::messages::AckScope;
use serde_json::json;
use std::sync::Arc;

const USUAL: &str = "👀";

/// Puts the reaction on a message that was taken, where the settings want one. Nothing waits for it.
pub(super) fn react(line: &Arc<Line>, inbound: &Inbound, message: Option<i64>) {
    let (Some(route), Some(message)) = (&inbound.route, message) else { return };
    let settings = line.gateway.settings.get();
    let direct = route.kind == ChatKind::Direct;
    let wanted = match settings.messages.ack_reaction_scope {
        AckScope::All => true,
        AckScope::Direct => direct,
        // A message that got here in a group was meant for the bot.
        AckScope::GroupAll | AckScope::GroupMentions => !direct,
        AckScope::Off => false,
    };
    let chosen = line.account().ack_reaction.or_else(|| settings.messages.ack_reaction.clone());
    let emoji = chosen.unwrap_or_else(|| USUAL.to_owned());
    if !wanted || emoji.is_empty() {
        return;
    }
    let params = json!({
        "chat_id": chat_id(&route.chat), "message_id": message,
        "reaction": [{"type": "emoji", "emoji": emoji}],
    });
    let line = line.clone();
    actix::spawn(async move {
        if let Err(error) = line.call::<bool>("setMessageReaction", &params).await {
            tracing::debug!(account = line.name, %error, "reaction refused");
        }
    });
}
