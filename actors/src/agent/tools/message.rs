//! `message`: something for a chat, through the outbox like everything that goes out.

use super::{Arguments, Outcome, ToolError, ToolOutcome, Toolbox, required, text};
use crate::inbound::{ChatKind, OutboundMessage, Route};
use crate::store::{NewOutbound, enqueue};
use serde_json::{Value, json};

pub(super) async fn run(tools: &Toolbox<'_>, arguments: &Arguments) -> Outcome {
    if let Some(other) = text(arguments, "action").filter(|action| *action != "send") {
        return Err(ToolError::new(format!("`{other}` is not offered; only send is")));
    }
    let words = required(arguments, "message")?.to_owned();
    let route = route(tools, arguments)?;
    let (channel, account, chat) = (route.channel.clone(), route.account.clone(), route.chat.clone());
    if !tools.channels.exists(&channel, &account) {
        return Err(ToolError::new(format!("there is no account `{account}` of a channel `{channel}`")));
    }
    let outbound = NewOutbound {
        key: format!("run:{}:{}", tools.inbound.run_id, tools.call_id),
        route,
        run_id: Some(tools.inbound.run_id.clone()),
        message: OutboundMessage {
            text: Some(words),
            silent: arguments.get("silent").and_then(Value::as_bool).unwrap_or(false),
            ..OutboundMessage::default()
        },
    };
    let stored = tools.gateway.store.write(move |db| enqueue(db, &outbound)).await;
    stored.map_err(|error| ToolError::new(format!("the message could not be stored: {error}")))?;
    tools.channels.flush(&channel, &account);
    let details = json!({"status": "queued", "channel": channel, "to": chat});
    Ok(ToolOutcome::text(format!("Queued for {channel} chat {chat}."), details))
}

fn route(tools: &Toolbox<'_>, arguments: &Arguments) -> Result<Route, ToolError> {
    let here = tools.inbound.route.as_ref();
    let channel = text(arguments, "channel").or(here.map(|route| route.channel.as_str()));
    let channel = channel
        .ok_or_else(|| ToolError::new("`channel` and `to` are required here: this chat is no channel"))?;
    let same_channel = here.filter(|route| route.channel == channel);
    let Some(chat) = chat_of(arguments).or_else(|| same_channel.map(|route| route.chat.clone())) else {
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
    let thread = text(arguments, "threadId").map(str::to_owned);
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

/// Models write chat ids as numbers, too.
fn chat_of(arguments: &Arguments) -> Option<String> {
    match arguments.get("to")? {
        Value::String(chat) if !chat.trim().is_empty() => Some(chat.trim().to_owned()),
        Value::Number(chat) => Some(chat.to_string()),
        _ => None,
    }
}
