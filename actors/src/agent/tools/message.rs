//! `message`: something for a chat, through the outbox like everything that goes out.

use super::{Arguments, Outcome, ToolError, ToolOutcome, Toolbox, text};
use crate::agent::media::StoredMedia;
use crate::inbound::{ChatKind, MediaKind, OutboundMedia, OutboundMessage, Route};
use crate::store::{NewOutbound, enqueue};
use serde_json::{Value, json};

/// Telegram's limit for bots.
const MAX_SENT: u64 = 50 << 20;

pub(super) async fn run(tools: &Toolbox<'_>, arguments: &Arguments) -> Outcome {
    if let Some(other) = text(arguments, "action").filter(|action| *action != "send") {
        return Err(ToolError::new(format!("`{other}` is not offered; only send is")));
    }
    let files = files(tools, arguments).await?;
    let words = text(arguments, "message").or_else(|| text(arguments, "caption")).map(str::to_owned);
    if words.is_none() && files.is_empty() {
        return Err(ToolError::new("`message` or `media` is required"));
    }
    let route = route(tools, arguments)?;
    let (channel, account, chat) = (route.channel.clone(), route.account.clone(), route.chat.clone());
    if !tools.channels.exists(&channel, &account) {
        return Err(ToolError::new(format!("there is no account `{account}` of a channel `{channel}`")));
    }
    let here = tools.inbound.route.as_ref().is_some_and(|here| {
        (&here.channel, &here.account, &here.chat, &here.thread)
            == (&route.channel, &route.account, &route.chat, &route.thread)
    });
    let sent: Vec<&String> = files.iter().filter(|_| here).map(|file| &file.path).collect();
    let details = json!({"status": "queued", "channel": channel, "to": chat, "sentHere": sent});
    let outbound = NewOutbound {
        key: format!("run:{}:{}", tools.inbound.run_id, tools.call_id),
        route,
        run_id: Some(tools.inbound.run_id.clone()),
        message: OutboundMessage {
            text: words,
            media: copies(tools, &files).await?,
            silent: arguments.get("silent").and_then(Value::as_bool).unwrap_or(false),
            ..OutboundMessage::default()
        },
    };
    let stored = tools.gateway.store.write(move |db| enqueue(db, &outbound)).await;
    stored.map_err(|error| ToolError::new(format!("the message could not be stored: {error}")))?;
    tools.channels.flush(&channel, &account);
    Ok(ToolOutcome::text(format!("Queued for {channel} chat {chat}."), details))
}

/// The stored files to send, each as what it is to be shown.
async fn files(tools: &Toolbox<'_>, arguments: &Arguments) -> Result<Vec<StoredMedia>, ToolError> {
    let flag = |name: &str| arguments.get(name).and_then(Value::as_bool).unwrap_or(false);
    let mut files = Vec::new();
    for name in names(arguments) {
        let (mut file, size) = tools.stored(&name).await?;
        // What Telegram takes as a voice note.
        let speakable = matches!(file.mime.as_str(), "audio/ogg" | "audio/mpeg" | "audio/mp4");
        file.kind = match file.kind {
            _ if flag("asDocument") || flag("forceDocument") => MediaKind::Document,
            MediaKind::Audio if flag("asVoice") && speakable => MediaKind::Voice,
            _ if flag("asVoice") => {
                return Err(ToolError::new(format!(
                    "`{name}` is {}, which can't go as a voice note",
                    file.mime
                )));
            }
            kind => kind,
        };
        if size > MAX_SENT {
            return Err(ToolError::new(format!("`{name}` is larger than the 50 MiB that can be sent")));
        }
        files.push(file);
    }
    Ok(files)
}

async fn copies(tools: &Toolbox<'_>, files: &[StoredMedia]) -> Result<Vec<OutboundMedia>, ToolError> {
    let mut media = Vec::new();
    for file in files {
        let copy = tools.media.outbound(file).await;
        media.push(copy.ok_or_else(|| ToolError::new(format!("`{}` could not be copied", file.path)))?);
    }
    Ok(media)
}

/// Models write one name, a list of them, or attachments as OpenClaw's tool has them.
fn names(arguments: &Arguments) -> Vec<String> {
    let listed = ["media", "attachments"].iter().filter_map(|name| arguments.get(*name));
    let each = listed.flat_map(|value| match value {
        Value::Array(all) => all.iter().collect(),
        one => vec![one],
    });
    let name =
        |one: &Value| one.as_str().or_else(|| one["media"].as_str()).map(|name| name.trim().to_owned());
    each.filter_map(name).filter(|name| !name.is_empty()).collect()
}

fn route(tools: &Toolbox<'_>, arguments: &Arguments) -> Result<Route, ToolError> {
    let here = tools.inbound.route.as_ref();
    let channel = text(arguments, "channel").or(here.map(|route| route.channel.as_str()));
    let channel = channel
        .ok_or_else(|| ToolError::new("`channel` and `to` are required here: this chat is no channel"))?;
    let same_channel = here.filter(|route| route.channel == channel);
    let Some(chat) = id_of(arguments, "to").or_else(|| same_channel.map(|route| route.chat.clone())) else {
        return Err(ToolError::new("`to` is required: a chat id"));
    };
    let chat = chat.strip_prefix(&format!("{channel}:")).map(str::to_owned).unwrap_or(chat);
    let here = same_channel.filter(|route| route.chat == chat);
    let account =
        text(arguments, "accountId").or(same_channel.map(|route| route.account.as_str())).map(str::to_owned);
    let account = account.unwrap_or_else(|| {
        let telegram = tools.settings.channels.telegram.as_ref();
        telegram.map_or_else(|| "default".to_owned(), |telegram| telegram.default_account())
    });
    let thread = id_of(arguments, "threadId");
    Ok(Route {
        channel: channel.to_owned(),
        account,
        thread: thread.or_else(|| here.and_then(|route| route.thread.clone())),
        kind: here.map_or(if chat.starts_with('-') { ChatKind::Group } else { ChatKind::Direct }, |route| {
            route.kind
        }),
        chat,
        reply_to: None,
    })
}

/// Models write ids as numbers, too.
fn id_of(arguments: &Arguments, name: &str) -> Option<String> {
    match arguments.get(name)? {
        Value::String(id) if !id.trim().is_empty() => Some(id.trim().to_owned()),
        Value::Number(id) => Some(id.to_string()),
        _ => None,
    }
}
