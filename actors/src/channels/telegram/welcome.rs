//! What a stranger is told.

use crate::inbound::OutboundMessage;
use crate::store::PairingRequest;

/// The answer to a stranger: who they are to Telegram, their code, and what the owner has to do.
pub(super) fn text(request: &PairingRequest) -> OutboundMessage {
    let PairingRequest { sender, code, channel, .. } = request;
    let text = format!(
        "This bot does not know you yet.\n\nYour Telegram user id: `{sender}`\nPairing code:\n\n```\n{code}\n```\n\
         Its owner can let you in with:\n\n```\ntidegate pairing approve {channel} {code}\n```"
    );
    OutboundMessage { text: Some(text), ..OutboundMessage::default() }
}

/// What someone who was let in is told, when the owner wishes it.
pub(crate) const APPROVED: &str = "You have been let in. Write whatever you like.";
