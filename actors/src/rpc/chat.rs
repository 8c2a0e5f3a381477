//! `chat.*`: WebChat's way in, and what was said.

use super::call::{AGENT, Call, Reply, json, restarting};
use super::history::{History, HistoryAsk};
use super::ids;
use super::sessions::{defaults, row_of};
use super::table::Method;
use crate::agent::providers::model::Thinking;
use crate::agent::{AbortRuns, Arrived};
use crate::channels::WEBCHAT;
use crate::clock::now_ms;
use crate::connection::Caller;
use crate::inbound::{Attachment, AttachmentSource, Inbound, Sender};
use crate::media_type::kind_of;
use crate::session_key::{agent_of, canonical};
use crate::store::{Accepted, Arrival, IngressRow, IngressState};
use serde::Deserialize;
use serde_json::{Value, json as object};
use tidegate_protocol::hello::AuthMethod;
use tidegate_protocol::limits::MAX_ATTACHMENT_BYTES;
use tidegate_protocol::{ErrorShape, Scope};

pub(super) const METHODS: &[Method] = &[
    Method::operator("chat.send", Scope::Write, |call| Box::pin(send(call))),
    Method::operator("chat.abort", Scope::Write, |call| Box::pin(abort(call))),
    Method::operator("chat.history", Scope::Read, |call| Box::pin(history(call))),
    Method::operator("chat.startup", Scope::Read, |call| Box::pin(startup(call))),
    Method::operator("commands.list", Scope::Read, |call| Box::pin(commands(call))),
];

/// `ChatSendParams`; what this gateway does not act on is accepted and left.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SendParams {
    session_key: String,
    message: String,
    #[serde(default, rename = "sessionId", deserialize_with = "ids::session_id")]
    _session_id: Option<String>,
    #[serde(deserialize_with = "ids::idempotency_key")]
    idempotency_key: String,
    #[serde(default)]
    attachments: Vec<SentFile>,
    #[serde(default)]
    timeout_ms: Option<u64>,
    #[serde(default)]
    thinking: Option<String>,
    /// Send the answer to the channel that the session last spoke on, too.
    #[serde(default)]
    deliver: bool,
}

/// An attachment as clients send it: `content` is base64, with or without a data-URL head.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SentFile {
    #[serde(default)]
    mime_type: Option<String>,
    #[serde(default)]
    file_name: Option<String>,
    #[serde(default)]
    content: Option<String>,
}

async fn send(call: Call) -> Reply {
    let params: SendParams = call.params()?;
    if params.message.trim().is_empty() && params.attachments.is_empty() {
        return Err(ErrorShape::invalid("message or attachment required"));
    }
    let session_key = canonical(&params.session_key)?;
    let route = match params.deliver {
        true => call.gateway.store.session(&session_key).await?.and_then(|session| session.route),
        false => None,
    };
    let inbound = Inbound {
        channel: WEBCHAT.to_owned(),
        account: String::new(),
        event_id: params.idempotency_key.clone(),
        run_id: params.idempotency_key,
        session_key,
        route,
        sender: sender(&call.caller),
        text: params.message,
        attachments: params.attachments.into_iter().map(attachment).collect::<Result<_, _>>()?,
        received_at_ms: now_ms(),
        reply_context: None,
        model: None,
        timeout_ms: params.timeout_ms,
        thinking: thinking(params.thinking)?,
    };
    let run_id = inbound.run_id.clone();
    let status = match submit(&call, inbound).await? {
        Submitted::New => "started",
        Submitted::Known(row) if row.state == IngressState::Pending => "in_flight",
        Submitted::Known(_) => "ok",
    };
    json(&object!({"runId": run_id, "status": status}))
}

/// What became of a message.
pub(super) enum Submitted {
    New,
    /// The same idempotency key was sent before.
    Known(Box<IngressRow>),
}

/// Stores a message and wakes the agent. The agent takes up whatever is stored, should it miss the call.
pub(super) async fn submit(call: &Call, inbound: Inbound) -> Result<Submitted, ErrorShape> {
    super::agents::known(&call.gateway, agent_of(&inbound.session_key))?;
    let (session_key, text) = (inbound.session_key.clone(), inbound.text.clone());
    let accepted = call.gateway.store.accept(vec![Arrival::Message(Box::new(inbound))], None).await?;
    match accepted.into_iter().next() {
        Some(Accepted::New(row)) => {
            call.gateway.agent.tell(Arrived(*row));
            Ok(Submitted::New)
        }
        Some(Accepted::Duplicate(row))
            if row.inbound.session_key != session_key || row.inbound.text != text =>
        {
            Err(key_reused())
        }
        Some(Accepted::Duplicate(row)) => {
            if row.state == IngressState::Pending {
                // Whoever sent it first may have gone before the agent heard of it; what it knows is no news to it.
                call.gateway.agent.tell(Arrived((*row).clone()));
            }
            Ok(Submitted::Known(row))
        }
        Some(Accepted::Ignored | Accepted::RunTaken) | None => Err(key_reused()),
    }
}

fn key_reused() -> ErrorShape {
    ErrorShape::invalid("idempotencyKey was used before for another message; a new message needs a new key")
        .with_details(object!({"code": "IDEMPOTENCY_KEY_REUSED"}))
}

/// The person behind an operator connection. Whoever proved the gateway's own secret owns it; a paired device does
/// if it was approved as admin.
pub(super) fn sender(caller: &Caller) -> Sender {
    let shared_secret = matches!(caller.auth_method, AuthMethod::Token | AuthMethod::Password);
    let owner =
        caller.allows(Scope::Admin) || (shared_secret && caller.client.is_local_helper() && caller.local);
    Sender {
        id: caller.device_id.clone().unwrap_or_else(|| caller.client.id.as_str().to_owned()),
        name: caller.client.display_name.clone(),
        username: None,
        owner,
    }
}

/// A level of thinking that this gateway knows, or none.
pub(super) fn thinking(level: Option<String>) -> Result<Option<String>, ErrorShape> {
    let Some(level) = level.filter(|level| !level.trim().is_empty()) else { return Ok(None) };
    match Thinking::parse(&level) {
        Some(_) => Ok(Some(level)),
        None => Err(ErrorShape::invalid("unknown thinking level: use off, minimal, low, medium or high")),
    }
}

pub(super) fn attachment(file: SentFile) -> Result<Attachment, ErrorShape> {
    let content = file.content.unwrap_or_default();
    let (head, base64) = match content.strip_prefix("data:").and_then(|rest| rest.split_once(',')) {
        Some((head, base64)) => (Some(head.trim_end_matches(";base64").to_owned()), base64.to_owned()),
        None => (None, content),
    };
    let size = base64.len() / 4 * 3;
    let name = file.file_name.as_deref().unwrap_or("attachment");
    if size == 0 {
        return Err(ErrorShape::invalid(format!("attachment {name}: no content")));
    }
    if size > MAX_ATTACHMENT_BYTES {
        return Err(ErrorShape::invalid(format!(
            "attachment {name}: {size} bytes; at most {MAX_ATTACHMENT_BYTES} are taken"
        )));
    }
    let mime = file.mime_type.or(head).unwrap_or_else(|| "application/octet-stream".to_owned());
    Ok(Attachment {
        kind: kind_of(&mime),
        mime,
        file_name: file.file_name,
        size: u64::try_from(size).ok(),
        source: AttachmentSource::Inline { base64 },
    })
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AbortParams {
    session_key: String,
    #[serde(default)]
    run_id: Option<String>,
}

async fn abort(call: Call) -> Reply {
    let params: AbortParams = call.params()?;
    let session_key = Some(canonical(&params.session_key)?);
    let abort = AbortRuns { session_key, run_id: params.run_id, reason: "rpc" };
    let outcome = call.gateway.agent.send(abort).await.map_err(restarting(AGENT))?;
    json(&object!({"ok": true, "aborted": outcome.aborted, "runIds": outcome.run_ids}))
}

async fn history(call: Call) -> Reply {
    let ask: HistoryAsk = call.params()?;
    History::answer(&call.gateway, ask, |page| page).await
}

async fn startup(call: Call) -> Reply {
    let ask: HistoryAsk = call.params()?;
    let info = row_of(&call.gateway, &ask.session_key()?).await?;
    let defaults = defaults(&call.gateway);
    History::answer(&call.gateway, ask, |mut page| {
        page["sessionInfo"] = info;
        page["defaults"] = defaults;
        page
    })
    .await
}

async fn commands(_: Call) -> Reply {
    json(&object!({"commands": command_rows()}))
}

/// The commands that the gateway itself answers, in every chat.
fn command_rows() -> Vec<Value> {
    crate::commands::COMMANDS
        .iter()
        .map(|command| {
            object!({
                "name": command.name,
                "nativeName": command.name,
                "textAliases": [format!("/{}", command.name)],
                "description": command.description,
                "category": "status",
                "source": "native",
                "scope": "both",
                "acceptsArgs": command.takes_args,
            })
        })
        .collect()
}
