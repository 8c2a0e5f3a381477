//! The methods of the Bot API that a chat bot uses, with their refusals.

use super::body::Params;
use super::html;
use super::state::{Shown, State, unix_now};
use serde_json::{Value, json};

/// What a call comes to: a result, or a code with a description and parameters.
pub(crate) type Outcome = Result<Value, Refusal>;

pub(crate) struct Refusal {
    pub(crate) code: u16,
    pub(crate) description: String,
    pub(crate) parameters: Option<Value>,
}

const MAX_TEXT: usize = 4096;
const MAX_CAPTION: usize = 1024;
const MAX_DOWNLOAD: usize = 20 * 1024 * 1024;
const MAX_PHOTO: usize = 10 * 1024 * 1024;
const MAX_UPLOAD: usize = 50 * 1024 * 1024;

const SEND: [&str; 14] = [
    "business_connection_id",
    "chat_id",
    "message_thread_id",
    "text",
    "parse_mode",
    "entities",
    "link_preview_options",
    "disable_notification",
    "protect_content",
    "message_effect_id",
    "reply_parameters",
    "reply_markup",
    "allow_paid_broadcast",
    "direct_messages_topic_id",
];
const UPLOAD: [&str; 20] = [
    "business_connection_id",
    "chat_id",
    "message_thread_id",
    "photo",
    "document",
    "voice",
    "audio",
    "video",
    "caption",
    "parse_mode",
    "caption_entities",
    "disable_notification",
    "protect_content",
    "reply_parameters",
    "reply_markup",
    "duration",
    "title",
    "performer",
    "supports_streaming",
    "disable_content_type_detection",
];

/// The parameters a method knows; `None` for a method that does not exist.
pub(crate) fn known_params(method: &str) -> Option<&'static [&'static str]> {
    Some(match method {
        "getMe" | "getWebhookInfo" | "close" | "logOut" => &[],
        "deleteWebhook" => &["drop_pending_updates"],
        "getUpdates" => &["offset", "limit", "timeout", "allowed_updates"],
        "setMyCommands" => &["commands", "scope", "language_code"],
        "deleteMyCommands" | "getMyCommands" => &["scope", "language_code"],
        "sendMessage" => &SEND,
        "editMessageText" => &[
            "business_connection_id",
            "chat_id",
            "message_id",
            "inline_message_id",
            "text",
            "parse_mode",
            "entities",
            "link_preview_options",
            "reply_markup",
        ],
        "deleteMessage" => &["chat_id", "message_id"],
        "sendChatAction" => &["business_connection_id", "chat_id", "message_thread_id", "action"],
        "setMessageReaction" => &["chat_id", "message_id", "reaction", "is_big"],
        "sendPhoto" | "sendDocument" | "sendVoice" | "sendAudio" | "sendVideo" => &UPLOAD,
        "getFile" => &["file_id"],
        "answerCallbackQuery" => &["callback_query_id", "text", "show_alert", "url", "cache_time"],
        "getChat" => &["chat_id"],
        _ => return None,
    })
}

pub(crate) fn call(state: &mut State, method: &str, params: &Params) -> Outcome {
    match method {
        "getMe" => Ok(state.bot()),
        "deleteWebhook" => {
            state.webhook = false;
            if params.flag("drop_pending_updates") {
                state.updates.clear();
            }
            Ok(true.into())
        }
        "getWebhookInfo" => Ok(json!({"url": if state.webhook { "https://example.org/hook" } else { "" },
            "has_custom_certificate": false, "pending_update_count": state.updates.len()})),
        "setMyCommands" => set_commands(state, params),
        "getMyCommands" => Ok(state.commands.get(&scope(params)).cloned().unwrap_or(json!([]))),
        "deleteMyCommands" => {
            state.commands.remove(&scope(params));
            Ok(true.into())
        }
        "sendMessage" => send_text(state, params),
        "editMessageText" => edit(state, params),
        "deleteMessage" => delete(state, params),
        "sendChatAction" => chat_action(state, params),
        "setMessageReaction" => react(state, params),
        "sendPhoto" => send_file(state, params, "photo"),
        "sendDocument" => send_file(state, params, "document"),
        "sendVoice" => send_file(state, params, "voice"),
        "sendAudio" => send_file(state, params, "audio"),
        "sendVideo" => send_file(state, params, "video"),
        "getFile" => get_file(state, params),
        "answerCallbackQuery" => answer_callback(state, params),
        "getChat" => Ok(state.chats[&chat(state, params)?].clone()),
        _ => Err(refuse(404, "Not Found")),
    }
}

pub(crate) fn refuse(code: u16, description: impl Into<String>) -> Refusal {
    Refusal { code, description: description.into(), parameters: None }
}

fn bad(description: &str) -> Refusal {
    refuse(400, format!("Bad Request: {description}"))
}

fn scope(params: &Params) -> String {
    let scope = params.json("scope").and_then(|scope| scope["type"].as_str().map(str::to_owned));
    scope.unwrap_or_else(|| "default".to_owned())
}

fn set_commands(state: &mut State, params: &Params) -> Outcome {
    let commands = params.json("commands").ok_or(bad("commands are not specified"))?;
    let list = commands.as_array().ok_or(bad("can't parse BotCommand"))?;
    if list.len() > 100 {
        return Err(bad("BOT_COMMANDS_TOO_MUCH"));
    }
    for command in list {
        let name = command["command"].as_str().unwrap_or_default();
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        if name.is_empty() || name.len() > 32 || !name.chars().all(plain) {
            return Err(bad("BOT_COMMAND_INVALID"));
        }
        let description = command["description"].as_str().unwrap_or_default();
        if description.is_empty() || description.chars().count() > 256 {
            return Err(bad("BOT_COMMAND_DESCRIPTION_INVALID"));
        }
    }
    state.commands.insert(scope(params), commands);
    Ok(true.into())
}

/// The chat that a call is for, if the bot may use it.
fn chat(state: &State, params: &Params) -> Result<i64, Refusal> {
    let id = match params.integer("chat_id") {
        Some(id) => id,
        None => {
            let name = params.text("chat_id").ok_or(bad("chat_id is empty"))?.trim_start_matches('@');
            let named = |chat: &&Value| chat["username"].as_str() == Some(name);
            let chat = state.chats.values().find(named).ok_or(bad("chat not found"))?;
            chat["id"].as_i64().unwrap_or_default()
        }
    };
    if let Some(to) = state.migrated.get(&id) {
        let mut refusal = bad("group chat was upgraded to a supergroup chat");
        refusal.parameters = Some(json!({"migrate_to_chat_id": to}));
        return Err(refusal);
    }
    if state.blocked.contains(&id) {
        return Err(refuse(403, "Forbidden: bot was blocked by the user"));
    }
    if state.chats.contains_key(&id) { Ok(id) } else { Err(bad("chat not found")) }
}

fn thread(state: &State, params: &Params, chat: i64) -> Result<Option<i64>, Refusal> {
    let Some(thread) = params.integer("message_thread_id") else { return Ok(None) };
    let private = state.chats[&chat]["type"] == "private";
    if private || state.topics.contains(&(chat, thread)) {
        return Ok(Some(thread));
    }
    Err(bad("message thread not found"))
}

fn reply(state: &State, params: &Params, chat: i64) -> Result<Option<i64>, Refusal> {
    let Some(reply) = params.json("reply_parameters") else { return Ok(None) };
    let id = reply["message_id"].as_i64().ok_or(bad("message_id is not specified"))?;
    let ours = state.shown.iter().any(|shown| shown.chat == chat && shown.id == id && !shown.deleted);
    if ours || state.people_messages.contains(&(chat, id)) {
        return Ok(Some(id));
    }
    match reply["allow_sending_without_reply"].as_bool() {
        Some(true) => Ok(None),
        _ => Err(bad("message to be replied not found")),
    }
}

/// The text of `field` with its markup read.
fn words(params: &Params, field: &str) -> Result<(String, Vec<Value>), Refusal> {
    let raw = params.text(field).unwrap_or_default();
    match params.text("parse_mode") {
        Some(mode) if mode.eq_ignore_ascii_case("html") => {
            html::read(raw).map_err(|wrong| bad(&format!("can't parse entities: {wrong}")))
        }
        Some(mode) if !mode.is_empty() => Err(bad("unsupported parse_mode")),
        _ => Ok((raw.to_owned(), Vec::new())),
    }
}

fn send_text(state: &mut State, params: &Params) -> Outcome {
    let chat = chat(state, params)?;
    let thread = thread(state, params, chat)?;
    let (text, entities) = checked_text(params)?;
    let reply_to = reply(state, params, chat)?;
    let shown = Shown {
        chat,
        thread,
        reply_to,
        kind: "text".to_owned(),
        text,
        raw: params.text("text").unwrap_or_default().to_owned(),
        entities,
        silent: params.flag("disable_notification"),
        markup: params.json("reply_markup"),
        ..Shown::default()
    };
    Ok(show(state, shown))
}

fn checked_text(params: &Params) -> Result<(String, Vec<Value>), Refusal> {
    let (text, entities) = words(params, "text")?;
    let trimmed = text.trim();
    if trimmed.is_empty() {
        return Err(bad("message text is empty"));
    }
    if trimmed.encode_utf16().count() > MAX_TEXT {
        return Err(bad("message is too long"));
    }
    Ok((trimmed.to_owned(), entities))
}

fn show(state: &mut State, mut shown: Shown) -> Value {
    shown.id = state.next_message();
    let message = describe(state, &shown);
    state.shown.push(shown);
    message
}

fn describe(state: &State, shown: &Shown) -> Value {
    let mut message = json!({
        "message_id": shown.id, "from": state.bot(), "chat": state.chats[&shown.chat], "date": unix_now(),
    });
    if let Some(thread) = shown.thread {
        message["message_thread_id"] = thread.into();
    }
    if shown.kind == "text" {
        message["text"] = shown.text.as_str().into();
        message["entities"] = shown.entities.clone().into();
        return message;
    }
    let file = json!({"file_id": format!("sent-{}", shown.id), "file_unique_id": format!("u{}", shown.id),
        "file_size": shown.file.len(), "width": 1, "height": 1, "duration": 1});
    message[shown.kind.as_str()] = if shown.kind == "photo" { json!([file]) } else { file };
    if !shown.text.is_empty() {
        message["caption"] = shown.text.as_str().into();
    }
    message
}

fn edit(state: &mut State, params: &Params) -> Outcome {
    let chat = chat(state, params)?;
    let id = params.integer("message_id").ok_or(bad("message identifier is not specified"))?;
    let (text, entities) = checked_text(params)?;
    let markup = params.json("reply_markup");
    let found = state.shown.iter_mut().find(|shown| shown.chat == chat && shown.id == id);
    let shown = found.filter(|shown| !shown.deleted).ok_or(bad("message to edit not found"))?;
    if shown.text == text && shown.entities == entities && shown.markup == markup {
        return Err(bad(
            "message is not modified: specified new message content and reply markup are exactly \
             the same as a current content and reply markup of the message",
        ));
    }
    shown.text = text;
    shown.raw = params.text("text").unwrap_or_default().to_owned();
    shown.entities = entities;
    shown.markup = markup;
    shown.edits += 1;
    let shown = shown.clone();
    Ok(describe(state, &shown))
}

fn delete(state: &mut State, params: &Params) -> Outcome {
    let chat = chat(state, params)?;
    let id = params.integer("message_id");
    let found = state.shown.iter_mut().find(|shown| shown.chat == chat && Some(shown.id) == id);
    let shown = found.filter(|shown| !shown.deleted).ok_or(bad("message to delete not found"))?;
    shown.deleted = true;
    Ok(true.into())
}

fn chat_action(state: &State, params: &Params) -> Outcome {
    chat(state, params)?;
    const ACTIONS: [&str; 11] = [
        "typing",
        "upload_photo",
        "record_video",
        "upload_video",
        "record_voice",
        "upload_voice",
        "upload_document",
        "choose_sticker",
        "find_location",
        "record_video_note",
        "upload_video_note",
    ];
    match params.text("action") {
        Some(action) if ACTIONS.contains(&action) => Ok(true.into()),
        _ => Err(bad("wrong parameter action in request")),
    }
}

fn react(state: &State, params: &Params) -> Outcome {
    let chat = chat(state, params)?;
    let id = params.integer("message_id").ok_or(bad("message to react not found"))?;
    let ours = state.shown.iter().any(|shown| shown.chat == chat && shown.id == id && !shown.deleted);
    if !ours && !state.people_messages.contains(&(chat, id)) {
        return Err(bad("message to react not found"));
    }
    let reaction = params.json("reaction").unwrap_or(json!([]));
    let valid =
        |kind: &Value| kind["type"] == "emoji" && kind["emoji"].as_str().is_some_and(|e| !e.is_empty());
    match reaction.as_array() {
        Some(list) if list.len() <= 1 && list.iter().all(valid) => Ok(true.into()),
        _ => Err(bad("REACTION_INVALID")),
    }
}

fn send_file(state: &mut State, params: &Params, kind: &str) -> Outcome {
    let chat = chat(state, params)?;
    let thread = thread(state, params, chat)?;
    let reply_to = reply(state, params, chat)?;
    let (text, entities) = words(params, "caption")?;
    if text.encode_utf16().count() > MAX_CAPTION {
        return Err(bad("message caption is too long"));
    }
    let (file_name, file) = match params.uploads.iter().find(|upload| upload.field == kind) {
        Some(upload) => (Some(upload.name.clone()), upload.content.clone()),
        None => {
            let id = params.text(kind).ok_or(bad(&format!("there is no {kind} in the request")))?;
            let (name, content) =
                state.files.get(id).ok_or(bad("wrong file identifier/HTTP URL specified"))?;
            (Some(name.clone()), content.clone())
        }
    };
    if file.is_empty() {
        return Err(bad("file must be non-empty"));
    }
    if file.len() > MAX_UPLOAD {
        return Err(refuse(413, "Request Entity Too Large"));
    }
    if kind == "photo" && file.len() > MAX_PHOTO {
        return Err(bad("file is too big for a photo"));
    }
    let shown = Shown {
        chat,
        thread,
        reply_to,
        kind: kind.to_owned(),
        text,
        raw: params.text("caption").unwrap_or_default().to_owned(),
        entities,
        file_name,
        file,
        silent: params.flag("disable_notification"),
        ..Shown::default()
    };
    Ok(show(state, shown))
}

fn get_file(state: &State, params: &Params) -> Outcome {
    let id = params.text("file_id").ok_or(bad("file_id is not specified"))?;
    let (name, content) = state.files.get(id).ok_or(bad("invalid file_id"))?;
    if content.len() > MAX_DOWNLOAD {
        return Err(bad("file is too big"));
    }
    Ok(json!({"file_id": id, "file_unique_id": format!("u-{id}"), "file_size": content.len(),
        "file_path": format!("documents/{id}/{name}")}))
}

fn answer_callback(state: &mut State, params: &Params) -> Outcome {
    let id = params.text("callback_query_id").unwrap_or_default();
    if state.callbacks.remove(id) {
        return Ok(true.into());
    }
    Err(bad("query is too old and response timeout expired or query ID is invalid"))
}
