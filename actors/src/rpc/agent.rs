//! `agent` and `agent.wait`: a turn for a script or a CLI, with its answer in the response.

use super::call::{AGENT, Call, Reply, json, restarting};
use super::chat::{SentFile, Submitted, attachment, sender, submit, thinking};
use super::ids;
use super::table::{Method, carried_through};
use crate::agent::{AwaitRun, HasRoom, RunStatus};
use crate::clock::now_ms;
use crate::inbound::{ChatKind, Inbound, Route};
use crate::session_key::{agent_of, canonical};
use futures_util::future::LocalBoxFuture;
use serde::Deserialize;
use serde_json::{Value, json as object};
use std::time::Duration;
use tidegate_protocol::{ErrorCode, ErrorShape, Scope};

pub(super) const METHODS: &[Method] = &[
    Method::operator("agent", Scope::Write, agent).while_asked(),
    Method::operator("agent.wait", Scope::Write, |call| Box::pin(wait(call))).while_asked(),
];

/// How long `agent` waits when the caller does not say.
const PATIENCE: Duration = Duration::from_secs(600);

/// How long `agent.wait` waits when the caller does not say.
const WAIT: Duration = Duration::from_secs(30);

/// The fields of `AgentParams` that this gateway acts on.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AgentParams {
    message: String,
    #[serde(deserialize_with = "ids::idempotency_key")]
    idempotency_key: String,
    #[serde(default)]
    agent_id: Option<String>,
    #[serde(default)]
    session_key: Option<String>,
    #[serde(default, deserialize_with = "ids::session_id")]
    session_id: Option<String>,
    #[serde(default)]
    model: Option<String>,
    #[serde(default)]
    provider: Option<String>,
    #[serde(default)]
    thinking: Option<String>,
    #[serde(default)]
    deliver: bool,
    #[serde(default)]
    channel: Option<String>,
    #[serde(default)]
    reply_channel: Option<String>,
    #[serde(default)]
    account_id: Option<String>,
    #[serde(default)]
    reply_account_id: Option<String>,
    #[serde(default)]
    to: Option<String>,
    #[serde(default)]
    reply_to: Option<String>,
    #[serde(default)]
    thread_id: Option<String>,
    /// Seconds.
    #[serde(default)]
    timeout: Option<u64>,
    #[serde(default)]
    attachments: Vec<SentFile>,
}

/// The turn is begun whatever becomes of the caller; its end is waited for while somebody does.
fn agent(call: Call) -> LocalBoxFuture<'static, Reply> {
    let begun = carried_through(begin(call.clone()));
    Box::pin(async move {
        let await_run = begun.await?;
        let run_id = await_run.run_id.clone();
        let status = call.gateway.agent.send(await_run).await.map_err(restarting(AGENT))?;
        final_reply(&run_id, status)
    })
}

async fn begin(call: Call) -> Result<AwaitRun, ErrorShape> {
    let mut params: AgentParams = call.params()?;
    if params.message.trim().is_empty() {
        return Err(call.invalid("/message", "must not have fewer than 1 characters"));
    }
    let session_key = session_key(&call, &params).await?;
    check_room(&call, &session_key, &params.idempotency_key).await?;
    let route = if params.deliver { Some(route(&call, &params, &session_key).await?) } else { None };
    let patience = params.timeout.filter(|&seconds| seconds > 0).map_or(PATIENCE, Duration::from_secs);
    let files = std::mem::take(&mut params.attachments);
    let inbound = Inbound {
        channel: "cli".to_owned(),
        account: String::new(),
        event_id: params.idempotency_key.clone(),
        run_id: params.idempotency_key.clone(),
        session_key: session_key.clone(),
        route,
        sender: sender(&call.caller),
        attachments: files.into_iter().map(attachment).collect::<Result<_, _>>()?,
        received_at_ms: now_ms(),
        reply_context: None,
        model: model(&params),
        timeout_ms: u64::try_from(patience.as_millis()).ok(),
        thinking: thinking(params.thinking)?,
        text: params.message,
    };
    let run_id = inbound.run_id.clone();
    let (Submitted::New | Submitted::Known(_)) = submit(&call, inbound).await?;
    let accepted = json(&object!({
        "runId": run_id,
        "sessionKey": session_key,
        "agentId": agent_of(&session_key),
        "status": "accepted",
        "acceptedAt": now_ms(),
    }))?;
    call.interim(&accepted);
    Ok(AwaitRun { run_id, timeout: patience })
}

/// Refuses a new call where too many wait: it would have to be cut short, and its caller can as well come back.
async fn check_room(call: &Call, session_key: &str, run_id: &str) -> Result<(), ErrorShape> {
    let gateway = &call.gateway;
    let room = HasRoom { session_key: session_key.to_owned() };
    if gateway.agent.send(room).await.map_err(restarting(AGENT))?
        || gateway.store.ingress_of_run(run_id).await?.is_some()
    {
        return Ok(());
    }
    Err(ErrorShape::unavailable("too many calls wait in this session; try again later")
        .retry_after(Duration::from_secs(5)))
}

fn model(params: &AgentParams) -> Option<String> {
    let model = params.model.clone()?;
    match &params.provider {
        Some(provider) if !model.contains('/') => Some(format!("{provider}/{model}")),
        _ => Some(model),
    }
}

async fn session_key(call: &Call, params: &AgentParams) -> Result<String, ErrorShape> {
    if let Some(key) = &params.session_key {
        return canonical(key);
    }
    if let Some(session_id) = &params.session_id {
        let rows = call.gateway.store.sessions().await?;
        return match rows.into_iter().find(|row| row.session_id == *session_id) {
            Some(row) => Ok(row.key),
            None => canonical(session_id),
        };
    }
    canonical(&format!("agent:{}:main", params.agent_id.as_deref().unwrap_or("main")))
}

/// Where the answer goes besides the response: as asked, else where the session last spoke.
async fn route(call: &Call, params: &AgentParams, session_key: &str) -> Result<Route, ErrorShape> {
    let to = params.reply_to.as_ref().or(params.to.as_ref());
    let channel = params.reply_channel.as_ref().or(params.channel.as_ref());
    if let (Some(to), Some(channel)) = (to, channel) {
        let account = params.reply_account_id.as_ref().or(params.account_id.as_ref());
        let account = match account {
            Some(account) => account.clone(),
            None => {
                let settings = call.gateway.settings.get();
                let telegram = settings.channels.telegram.as_ref();
                telegram.map_or_else(|| "default".to_owned(), |telegram| telegram.default_account())
            }
        };
        let kind = if to.starts_with('-') { ChatKind::Group } else { ChatKind::Direct };
        let thread = params.thread_id.clone();
        return Ok(Route {
            channel: channel.clone(),
            account,
            chat: to.clone(),
            thread,
            reply_to: None,
            kind,
        });
    }
    let session = call.gateway.store.session(session_key).await?;
    session.and_then(|session| session.route).ok_or_else(|| {
        ErrorShape::invalid(
            "deliver: this session has not spoken on a channel yet; name replyChannel and replyTo",
        )
    })
}

fn final_reply(run_id: &str, status: RunStatus) -> Reply {
    match status {
        RunStatus::Ok { text, media, meta } => {
            let first_media = media.first().cloned();
            let mut payloads = vec![object!({"text": text, "mediaUrl": first_media})];
            payloads.extend(media.iter().skip(1).map(|path| object!({"text": "", "mediaUrl": path})));
            json(&object!({
                "runId": run_id,
                "status": "ok",
                "summary": "completed",
                "result": {"payloads": payloads, "meta": meta},
            }))
        }
        RunStatus::Error { message } => {
            Err(ErrorShape::unavailable(message).with_details(object!({"runId": run_id, "status": "error"})))
        }
        RunStatus::Aborted => json(&object!({
            "runId": run_id,
            "status": "aborted",
            "summary": "aborted",
            "result": {"payloads": [], "meta": {"aborted": true}},
        })),
        RunStatus::Timeout => Err(ErrorShape::new(
            ErrorCode::AgentTimeout,
            "the run goes on, but this call's time is up; ask again with agent.wait",
        )
        .with_details(object!({"runId": run_id, "status": "timeout"}))),
        RunStatus::Unknown => Err(ErrorShape::unavailable(format!("the run `{run_id}` is not known"))),
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct WaitParams {
    run_id: String,
    #[serde(default)]
    timeout_ms: Option<u64>,
}

async fn wait(call: Call) -> Reply {
    let params: WaitParams = call.params()?;
    let timeout = params.timeout_ms.map_or(WAIT, Duration::from_millis);
    let await_run = AwaitRun { run_id: params.run_id.clone(), timeout };
    let status = call.gateway.agent.send(await_run).await.map_err(restarting(AGENT))?;
    let (name, error): (&str, Option<Value>) = match status {
        RunStatus::Ok { .. } => ("ok", None),
        RunStatus::Error { message } => ("error", Some(Value::String(message))),
        RunStatus::Aborted => ("aborted", None),
        RunStatus::Timeout | RunStatus::Unknown => ("timeout", None),
    };
    let mut answer = object!({"runId": params.run_id, "status": name});
    if let Some(error) = error {
        answer["error"] = error;
    }
    json(&answer)
}
