//! `message.action` and `send`: an operator writes to a chat.

use super::call::{Call, Reply, json};
use super::ids;
use super::table::Method;
use crate::Gateway;
use crate::channels::{ChannelError, ChannelRequest, TELEGRAM, WEBCHAT, extension};
use crate::inbound::{ChatKind, MediaKind, OutboundMedia, OutboundMessage, Route};
use crate::media_type::{kind_of, mime_of};
use crate::store::{DeliveryState, NewOutbound};
use base64::Engine;
use serde::Deserialize;
use serde_json::{Map, Value, json as object};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tidegate_protocol::{ErrorShape, Scope};
use tokio::io::AsyncWriteExt;
use uuid::Uuid;

pub(super) const METHODS: &[Method] = &[
    Method::operator("message.action", Scope::Write, |call| Box::pin(action(call))),
    Method::operator("send", Scope::Write, |call| Box::pin(send(call))),
];

/// How long a caller waits for its message to be delivered. It stays in the outbox after that.
const DELIVERY: Duration = Duration::from_secs(15);

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ActionParams {
    channel: String,
    action: String,
    params: Map<String, Value>,
    #[serde(default)]
    account_id: Option<String>,
    #[serde(deserialize_with = "ids::idempotency_key")]
    idempotency_key: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct SendParams {
    to: String,
    #[serde(default)]
    message: Option<String>,
    #[serde(default)]
    media_url: Option<String>,
    #[serde(default)]
    media_urls: Vec<String>,
    #[serde(default)]
    buffer: Option<String>,
    #[serde(default)]
    filename: Option<String>,
    #[serde(default)]
    content_type: Option<String>,
    #[serde(default)]
    as_voice: bool,
    #[serde(default)]
    #[allow(dead_code, reason = "known, and without a meaning here")]
    gif_playback: bool,
    #[serde(default)]
    channel: Option<String>,
    #[serde(default)]
    account_id: Option<String>,
    #[serde(default)]
    #[allow(dead_code, reason = "known, and without a meaning here")]
    agent_id: Option<String>,
    #[serde(default)]
    reply_to_id: Option<String>,
    #[serde(default)]
    thread_id: Option<String>,
    #[serde(default)]
    force_document: bool,
    #[serde(default)]
    silent: bool,
    #[serde(default)]
    #[allow(dead_code, reason = "all text is Markdown here")]
    parse_mode: Option<String>,
    #[serde(default)]
    #[allow(dead_code, reason = "known, and without a meaning here")]
    session_key: Option<String>,
    #[serde(deserialize_with = "ids::idempotency_key")]
    idempotency_key: String,
}

/// Something to send, whichever method asked.
#[derive(Default)]
struct Letter {
    target: String,
    text: Option<String>,
    files: Vec<String>,
    buffer: Option<String>,
    file_name: Option<String>,
    mime: Option<String>,
    as_voice: bool,
    as_document: bool,
    thread: Option<String>,
    reply_to: Option<String>,
    silent: bool,
}

async fn action(call: Call) -> Reply {
    let params: ActionParams = call.params()?;
    let account = account(&call.gateway, &params.channel, params.account_id)?;
    let words = Words(&params.params);
    let target = words.text(&["to", "target", "chatId"]);
    let target = target.ok_or_else(|| call.invalid("/params/to", "is required"))?;
    if params.action == "send" {
        let letter = words.letter(target);
        if words.flag("dryRun") {
            return json(&object!({"ok": true, "dryRun": true, "chatId": place(&letter.target).0}));
        }
        let key = format!("action:{}", params.idempotency_key);
        let sent = post(&call, &params.channel, &account, letter, key).await?;
        return json(&object!({"ok": true, "messageId": sent.message_id, "chatId": sent.chat, "receipt": {},
            "status": sent.status, "lastError": sent.last_error}));
    }
    let request = words.request(&call, &params.action, place(&target).0)?;
    let answer = match &request {
        ChannelRequest::React { emoji: Some(emoji), .. } => object!({"ok": true, "added": emoji}),
        ChannelRequest::React { emoji: None, .. } => object!({"ok": true, "removed": true}),
        ChannelRequest::Edit { chat, message_id, .. } => {
            object!({"ok": true, "messageId": message_id.to_string(), "chatId": chat})
        }
        _ => object!({"ok": true, "deleted": true}),
    };
    call.gateway.channels.ask(&params.channel, &account, request).await.map_err(refusal)?;
    json(&answer)
}

async fn send(call: Call) -> Reply {
    let params: SendParams = call.params()?;
    let channel = params.channel.unwrap_or_else(|| TELEGRAM.to_owned());
    let account = account(&call.gateway, &channel, params.account_id)?;
    let letter = Letter {
        target: params.to,
        text: params.message,
        files: params.media_url.into_iter().chain(params.media_urls).collect(),
        buffer: params.buffer,
        file_name: params.filename,
        mime: params.content_type,
        as_voice: params.as_voice,
        as_document: params.force_document,
        thread: params.thread_id,
        reply_to: params.reply_to_id,
        silent: params.silent,
    };
    let sent = post(&call, &channel, &account, letter, format!("send:{}", params.idempotency_key)).await?;
    json(&object!({"runId": params.idempotency_key, "messageId": sent.message_id, "channel": channel,
        "chatId": sent.chat}))
}

/// Loosely typed parameters of an action, as the official command line sends them.
struct Words<'a>(&'a Map<String, Value>);

impl Words<'_> {
    fn text(&self, names: &[&str]) -> Option<String> {
        names.iter().find_map(|name| match self.0.get(*name)? {
            Value::String(text) if !text.is_empty() => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        })
    }

    fn flag(&self, name: &str) -> bool {
        self.0.get(name).and_then(Value::as_bool).unwrap_or(false)
    }

    fn letter(&self, target: String) -> Letter {
        Letter {
            target,
            text: self.text(&["message", "text", "caption"]),
            files: self.text(&["media", "mediaUrl", "path", "filePath"]).into_iter().collect(),
            buffer: self.text(&["buffer"]),
            file_name: self.text(&["filename", "fileName"]),
            mime: self.text(&["contentType", "mimeType"]),
            as_voice: self.flag("asVoice"),
            as_document: self.flag("forceDocument"),
            thread: self.text(&["threadId"]),
            reply_to: self.text(&["replyTo", "replyToId"]),
            silent: self.flag("silent"),
        }
    }

    fn request(&self, call: &Call, action: &str, chat: String) -> Result<ChannelRequest, ErrorShape> {
        let message_id = self.text(&["messageId"]).and_then(|id| id.parse().ok());
        let message_id =
            message_id.ok_or_else(|| call.invalid("/params/messageId", "is required, as a number"));
        Ok(match action {
            "react" if self.flag("remove") => {
                ChannelRequest::React { chat, message_id: message_id?, emoji: None }
            }
            "react" => ChannelRequest::React { chat, message_id: message_id?, emoji: self.text(&["emoji"]) },
            "edit" => {
                let text = self.text(&["message", "text"]);
                let text = text.ok_or_else(|| call.invalid("/params/message", "is required"))?;
                ChannelRequest::Edit { chat, message_id: message_id?, text }
            }
            "delete" => ChannelRequest::Delete { chat, message_id: message_id? },
            _ => return Err(call.invalid("/action", "is none of send, react, edit, delete")),
        })
    }
}

struct Sent {
    message_id: Option<String>,
    chat: String,
    status: &'static str,
    /// Why it is not there yet, as far as that is known.
    last_error: Option<String>,
}

/// Puts a message in the outbox and waits a while for it to be delivered.
async fn post(
    call: &Call,
    channel: &str,
    account: &str,
    letter: Letter,
    key: String,
) -> Result<Sent, ErrorShape> {
    let gateway = &call.gateway;
    let (chat, topic) = place(&letter.target);
    let thread = letter.thread.clone().or(topic);
    if gateway.store.delivery(&key).await?.is_none() {
        let media = files(call, &letter).await?;
        let text = letter.text.filter(|text| !text.trim().is_empty());
        if text.is_none() && media.is_empty() {
            return Err(call.invalid("/params/message", "a message or a file is required"));
        }
        let route = Route {
            channel: channel.to_owned(),
            account: account.to_owned(),
            chat: chat.clone(),
            thread,
            reply_to: None,
            kind: ChatKind::Direct,
        };
        let message = OutboundMessage { text, media, reply_to: letter.reply_to, silent: letter.silent };
        gateway.store.post(NewOutbound { key: key.clone(), route, run_id: None, message }).await?;
        gateway.channels.flush(channel, account);
    }
    let delivery = await_delivery(gateway, &key, DELIVERY).await?;
    let Some(DeliveryState { state, progress, last_error }) = delivery else {
        let last_error = gateway.store.delivery(&key).await?.and_then(|delivery| delivery.last_error);
        return Ok(Sent { message_id: None, chat, status: "queued", last_error });
    };
    let why = last_error.unwrap_or_default();
    match state.as_str() {
        "sent" => {
            let message_id = progress.message_ids.into_iter().next();
            Ok(Sent { message_id, chat, status: "sent", last_error: None })
        }
        "unknown" => Err(ErrorShape::unavailable(format!(
            "it is not known whether the message was sent, and it will not be sent again: {why}"
        ))),
        _ => Err(ErrorShape::unavailable(format!("the message was not sent: {why}"))),
    }
}

/// Where a message is when it is settled, or `None` when that takes longer than `patience`.
pub(super) async fn await_delivery(
    gateway: &Gateway,
    key: &str,
    patience: Duration,
) -> Result<Option<DeliveryState>, ErrorShape> {
    let end = Instant::now() + patience;
    let mut pause = Duration::from_millis(10);
    loop {
        let delivery = gateway.store.delivery(key).await?;
        let settled = |delivery: &DeliveryState| !matches!(delivery.state.as_str(), "pending" | "sending");
        match delivery {
            Some(delivery) if settled(&delivery) => return Ok(Some(delivery)),
            _ if Instant::now() >= end => return Ok(None),
            _ => tokio::time::sleep(pause).await,
        }
        pause = (pause * 2).min(Duration::from_millis(250));
    }
}

/// The account to send from, which must be there.
fn account(gateway: &Gateway, channel: &str, named: Option<String>) -> Result<String, ErrorShape> {
    if channel == WEBCHAT {
        return Err(ErrorShape::invalid("webchat shows what its sessions say; there is nothing to send to"));
    }
    let account = named.filter(|account| !account.is_empty()).unwrap_or_else(|| usual(gateway, channel));
    match gateway.channels.get(channel, &account) {
        Some(_) => Ok(account),
        None => Err(ErrorShape::invalid(format!("channel `{channel}` has no account `{account}`"))),
    }
}

/// The account for a sender that names none. One that works comes before one that does not, unless the settings name it.
fn usual(gateway: &Gateway, channel: &str) -> String {
    let telegram = gateway.settings.get().channels.telegram.clone().unwrap_or_default();
    let usual = telegram.default_account();
    let statuses = gateway.channels.statuses();
    let works: Vec<&str> = statuses
        .iter()
        .filter(|(of, status)| of == channel && status.connected)
        .map(|(_, status)| status.account_id.as_str())
        .collect();
    match works.first() {
        Some(first) if telegram.default_account.is_none() && !works.contains(&usual.as_str()) => {
            (*first).to_owned()
        }
        _ => usual,
    }
}

/// Chat and topic of a target such as `telegram:-100123:topic:42`.
fn place(target: &str) -> (String, Option<String>) {
    let target = target.trim();
    let bare = ["telegram:", "tg:"].iter().find_map(|prefix| target.strip_prefix(prefix)).unwrap_or(target);
    let bare = bare.strip_prefix("group:").unwrap_or(bare);
    match bare.split_once(":topic:") {
        Some((chat, topic)) => (chat.to_owned(), Some(topic.to_owned())),
        None => (bare.to_owned(), None),
    }
}

fn refusal(error: ChannelError) -> ErrorShape {
    match error {
        ChannelError::Refused(text) => ErrorShape::invalid(text),
        ChannelError::Unavailable(text) => ErrorShape::unavailable(text),
    }
}

/// Puts the letter's files where the channel takes them from.
async fn files(call: &Call, letter: &Letter) -> Result<Vec<OutboundMedia>, ErrorShape> {
    let mut media = Vec::new();
    if let Some(buffer) = &letter.buffer {
        let bytes = base64::engine::general_purpose::STANDARD.decode(buffer);
        let bytes = bytes.map_err(|_| call.invalid("/buffer", "is not base64"))?;
        let name = letter.file_name.clone().unwrap_or_default();
        let mime = letter.mime.clone().unwrap_or_else(|| mime_of(Path::new(&name)).to_owned());
        let path = stage(&call.gateway, Source::Bytes(bytes), &mime).await?;
        media.push(outbound(path, letter.file_name.clone(), mime, letter));
    }
    for file in &letter.files {
        let source = allowed_file(call, file).await?;
        let mime = letter.mime.clone().unwrap_or_else(|| mime_of(&source).to_owned());
        let name = source.file_name().map(|name| name.to_string_lossy().into_owned());
        let path = stage(&call.gateway, Source::File(source), &mime).await?;
        media.push(outbound(path, letter.file_name.clone().or(name), mime, letter));
    }
    Ok(media)
}

/// Only an administrator may have any file of this machine sent; others, what is in the agent's workspace.
async fn allowed_file(call: &Call, file: &str) -> Result<PathBuf, ErrorShape> {
    if file.contains("://") {
        return Err(
            call.invalid("/params/media", "addresses are not fetched; name a file on the gateway's machine")
        );
    }
    let missing = |_| call.invalid("/params/media", "there is no such file on the gateway's machine");
    let path = tokio::fs::canonicalize(file).await.map_err(missing)?;
    let paths = call.gateway.settings.paths();
    let inside = path.starts_with(paths.workspace()) || path.starts_with(paths.media());
    if inside || call.caller.allows(Scope::Admin) {
        return Ok(path);
    }
    Err(ErrorShape::missing_scope(Scope::Admin.as_str()))
}

enum Source {
    Bytes(Vec<u8>),
    File(PathBuf),
}

async fn stage(gateway: &Gateway, source: Source, mime: &str) -> Result<PathBuf, ErrorShape> {
    let folder = gateway.settings.paths().media();
    let target = folder.join(format!("out-{}.{}", Uuid::new_v4(), extension(kind_of(mime), mime)));
    let stored = async {
        tokio::fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder).await?;
        let mut options = tokio::fs::OpenOptions::new();
        let mut file = options.write(true).create_new(true).mode(0o600).open(&target).await?;
        match source {
            Source::Bytes(bytes) => file.write_all(&bytes).await?,
            Source::File(path) => {
                tokio::io::copy(&mut tokio::fs::File::open(path).await?, &mut file).await?;
            }
        }
        file.flush().await
    };
    let failed =
        |error: std::io::Error| ErrorShape::unavailable(format!("the file could not be prepared: {error}"));
    stored.await.map_err(failed)?;
    Ok(target)
}

fn outbound(path: PathBuf, file_name: Option<String>, mime: String, letter: &Letter) -> OutboundMedia {
    let kind = match kind_of(&mime) {
        _ if letter.as_document => MediaKind::Document,
        MediaKind::Audio if letter.as_voice => MediaKind::Voice,
        kind => kind,
    };
    let path = path.to_string_lossy().into_owned();
    OutboundMedia { kind, mime, file_name: file_name.filter(|name| !name.is_empty()), path, caption: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_names_a_chat_and_perhaps_a_topic() {
        for (target, chat, topic) in [
            ("555", "555", None),
            ("telegram:555", "555", None),
            ("-100123:topic:42", "-100123", Some("42")),
            ("tg:group:-5", "-5", None),
            ("@name", "@name", None),
        ] {
            assert_eq!(place(target), (chat.to_owned(), topic.map(str::to_owned)));
        }
    }
}
