//! `channels.*`: how channel accounts fare, and the strangers who would like to write to them.

use super::call::{Call, Reply, json};
use super::table::Method;
use crate::Gateway;
use crate::channels::{ChannelRequest, ChannelStatus, TELEGRAM, shared_conversation, telegram};
use crate::clock::{now_ms, utc_ms};
use crate::inbound::{ChatKind, OutboundMessage, Route};
use crate::settings::telegram::{DmPolicy, TelegramAccount, TelegramSettings};
use crate::store::{NewOutbound, PAIRING_TTL_MS, PENDING_PER_ACCOUNT, PairingName, PairingRequest};
use serde::Deserialize;
use serde_json::{Map, Value, json as object};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use tidegate_protocol::{ErrorShape, Scope};

pub(super) const METHODS: &[Method] = &[
    Method::operator("channels.status", Scope::Read, |call| Box::pin(status(call))),
    Method::operator("channels.pairing.list", Scope::Pairing, |call| Box::pin(list(call))),
    Method::operator("channels.pairing.approve", Scope::Pairing, |call| Box::pin(approve(call))),
    Method::operator("channels.pairing.dismiss", Scope::Pairing, |call| Box::pin(dismiss(call))),
];

const LABEL: &str = "Telegram";
const DETAIL_LABEL: &str = "Telegram Bot";
const IMAGE: &str = "paperplane";
const PROBE: Duration = Duration::from_secs(10);
/// How long an approval waits for its notice to be delivered.
const NOTICE: Duration = Duration::from_secs(5);

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct StatusParams {
    #[serde(default)]
    probe: bool,
    #[serde(default)]
    timeout_ms: Option<u64>,
    #[serde(default)]
    channel: Option<String>,
}

async fn status(call: Call) -> Reply {
    let params: StatusParams = call.params()?;
    let gateway = &call.gateway;
    let wanted = params.channel.as_deref().is_none_or(|channel| channel == TELEGRAM);
    let statuses: Vec<ChannelStatus> =
        gateway.channels.statuses().into_iter().map(|(_, status)| status).collect();
    if !wanted || statuses.is_empty() {
        return json(&object!({
            "ts": now_ms(), "channelOrder": [], "channelLabels": {}, "channelDetailLabels": {},
            "channelSystemImages": {}, "channelMeta": [], "channels": {}, "channelAccounts": {},
            "channelDefaultAccountId": {}, "statusIssues": [],
        }));
    }
    let patience = params.timeout_ms.map_or(PROBE, Duration::from_millis);
    let mut accounts = Vec::new();
    for status in statuses {
        accounts.push(account(gateway, status, params.probe.then_some(patience)).await);
    }
    let default = telegram(gateway).default_account();
    let main = accounts.iter().find(|account| account["accountId"] == default.as_str()).or(accounts.first());
    let mut issues = accounts.iter().filter_map(issue).collect::<Vec<_>>();
    if let Some(message) = shared_conversation(gateway).await? {
        let fix = "set session.dmScope";
        issues.push(
            object!({"channel": TELEGRAM, "accountId": default, "kind": "config", "message": message, "fix": fix}),
        );
    }
    json(&object!({
        "ts": now_ms(),
        "channelOrder": [TELEGRAM],
        "channelLabels": {TELEGRAM: LABEL},
        "channelDetailLabels": {TELEGRAM: DETAIL_LABEL},
        "channelSystemImages": {TELEGRAM: IMAGE},
        "channelMeta": [{"id": TELEGRAM, "label": LABEL, "detailLabel": DETAIL_LABEL, "systemImage": IMAGE}],
        "channels": {TELEGRAM: main.map(summary)},
        "channelAccounts": {TELEGRAM: accounts},
        "channelDefaultAccountId": {TELEGRAM: default},
        "statusIssues": issues,
    }))
}

async fn account(gateway: &Gateway, status: ChannelStatus, probe: Option<Duration>) -> Value {
    let age = status.since_good_poll().map(|age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX));
    let mut account = serde_json::to_value(&status).unwrap_or_default();
    account["lastPollAgeMs"] = age.into();
    if let Some(patience) = probe.filter(|_| status.running) {
        account["probe"] = ask_bot(gateway, &status.account_id, patience).await;
        account["lastProbeAt"] = now_ms().into();
    }
    account
}

async fn ask_bot(gateway: &Gateway, account: &str, patience: Duration) -> Value {
    let started = Instant::now();
    let asked = gateway.channels.ask(TELEGRAM, account, ChannelRequest::Probe);
    let answer = match tokio::time::timeout(patience, asked).await {
        Ok(Ok(bot)) => Ok(bot),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("Telegram did not answer in time".to_owned()),
    };
    let elapsed = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    match answer {
        Ok(bot) => object!({"ok": true, "status": null, "error": null, "elapsedMs": elapsed, "bot": {
            "id": bot["id"], "isBot": bot["is_bot"], "firstName": bot["first_name"], "username": bot["username"],
            "canJoinGroups": bot["can_join_groups"],
            "canReadAllGroupMessages": bot["can_read_all_group_messages"],
            "supportsInlineQueries": bot["supports_inline_queries"],
        }, "botInfo": bot}),
        Err(error) => object!({"ok": false, "status": null, "error": error, "elapsedMs": elapsed}),
    }
}

/// What stands for the whole channel.
fn summary(account: &Value) -> Value {
    let keys = [
        "configured",
        "running",
        "lastStartAt",
        "lastStopAt",
        "lastError",
        "tokenSource",
        "lastProbeAt",
        "mode",
        "probe",
    ];
    let kept = keys.iter().filter_map(|key| Some(((*key).to_owned(), account.get(*key)?.clone())));
    Value::Object(kept.collect::<Map<_, _>>())
}

fn issue(account: &Value) -> Option<Value> {
    let issue = |kind: &str, message: String, fix: &str| {
        Some(
            object!({"channel": TELEGRAM, "accountId": account["accountId"], "kind": kind, "message": message, "fix": fix}),
        )
    };
    let error = account["lastError"].as_str();
    if account["configured"] == false {
        return issue("config", "no bot token".to_owned(), "set channels.telegram.botToken");
    }
    if let Some(error) = error {
        let kind = if account["lifecycle"] == "auth-failed" { "auth" } else { "runtime" };
        return issue(kind, error.to_owned(), "see the gateway's log");
    }
    let unknown = account["unknownDeliveries"].as_i64().filter(|count| *count > 0)?;
    issue(
        "runtime",
        format!("{unknown} answer(s) may or may not have reached their chat"),
        "see the gateway's log",
    )
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ListParams {
    #[serde(default)]
    channel: Option<String>,
    #[serde(default)]
    account_id: Option<String>,
}

async fn list(call: Call) -> Reply {
    let params: ListParams = call.params()?;
    let gateway = &call.gateway;
    let accounts = accounts(gateway);
    let fits = |name: &str| params.account_id.as_deref().is_none_or(|wanted| wanted == name);
    let shown = params.channel.as_deref().is_none_or(|channel| channel == TELEGRAM);
    let pairing = accounts.values().filter(|account| shown && fits(&account.name));
    let pairing = pairing.filter(|account| account.enabled && account.dm_policy == DmPolicy::Pairing);
    let pairing: Vec<Value> = pairing
        .map(|account| {
            object!({"channel": TELEGRAM, "channelLabel": LABEL, "accountId": account.name, "notifySupported": true})
        })
        .collect();
    let requests = gateway.store.channel_requests(params.channel.clone(), params.account_id.clone()).await?;
    json(&object!({
        "accounts": pairing,
        "requests": requests.iter().map(describe).collect::<Vec<_>>(),
        "commandOwnerConfigured": has_owner(gateway, &accounts).await?,
        "limits": {"pendingPerAccount": PENDING_PER_ACCOUNT, "ttlMs": PAIRING_TTL_MS},
    }))
}

/// The code is the request's name: whoever approves read it from the person who asks.
fn describe(request: &PairingRequest) -> Value {
    let mut metadata = Map::new();
    if let Some(username) = &request.username {
        metadata.insert("username".to_owned(), username.as_str().into());
    }
    object!({
        "requestId": request.code,
        "channel": request.channel,
        "channelLabel": LABEL,
        "accountId": request.account,
        "senderId": request.sender,
        "senderLabel": if request.label.is_empty() { &request.sender } else { &request.label },
        "metadata": metadata,
        "createdAt": utc_ms(request.created_at),
        "lastSeenAt": utc_ms(request.last_seen_at),
        "expiresAt": utc_ms(request.expires_at),
        "notifySupported": true,
    })
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ApproveParams {
    channel: String,
    account_id: String,
    request_id: String,
    #[serde(default)]
    notify: bool,
    #[serde(default)]
    bootstrap_command_owner: bool,
}

async fn approve(call: Call) -> Reply {
    let params: ApproveParams = call.params()?;
    let gateway = &call.gateway;
    if params.bootstrap_command_owner && !call.caller.allows(Scope::Admin) {
        return Err(ErrorShape::missing_scope(Scope::Admin.as_str()));
    }
    let had_owner = has_owner(gateway, &accounts(gateway)).await?;
    let (channel, account) = (params.channel.clone(), Some(params.account_id.clone()));
    let code = PairingName::Code(params.request_id.clone());
    let request = gateway.store.approve_channel_request(channel, account, code).await?;
    let request = request.ok_or_else(|| nobody(&call))?;
    tracing::info!(
        channel = request.channel,
        account = request.account,
        sender = request.sender,
        "channel pairing approved"
    );
    if let Some(warning) = shared_conversation(gateway).await? {
        tracing::warn!(sender = request.sender, "{warning}");
    }
    let notification = if params.notify { notify(gateway, &request).await? } else { "not-requested" };
    let owner = match (params.bootstrap_command_owner, had_owner) {
        (false, _) => "not-requested",
        (true, false) => "configured",
        (true, true) => "already-configured",
    };
    json(&object!({
        "requestId": params.request_id, "senderId": request.sender,
        "notification": notification, "commandOwnerBootstrap": owner,
    }))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct DismissParams {
    channel: String,
    account_id: String,
    request_id: String,
}

async fn dismiss(call: Call) -> Reply {
    let params: DismissParams = call.params()?;
    let code = PairingName::Code(params.request_id.clone());
    let dismissed =
        call.gateway.store.dismiss_channel_request(params.channel, Some(params.account_id), code).await?;
    let request = dismissed.ok_or_else(|| nobody(&call))?;
    json(&object!({"requestId": params.request_id, "senderId": request.sender}))
}

fn nobody(call: &Call) -> ErrorShape {
    call.invalid("/requestId", "nobody waits with this code, or it has expired")
}

async fn notify(gateway: &Gateway, request: &PairingRequest) -> Result<&'static str, ErrorShape> {
    let route = Route {
        channel: request.channel.clone(),
        account: request.account.clone(),
        chat: request.chat.clone(),
        thread: None,
        reply_to: None,
        kind: ChatKind::Direct,
    };
    let message =
        OutboundMessage { text: Some(telegram::welcome::APPROVED.to_owned()), ..OutboundMessage::default() };
    let key = format!("approved:{}", request.request_id);
    gateway.store.post(NewOutbound { key: key.clone(), route, run_id: None, message }).await?;
    gateway.channels.flush(&request.channel, &request.account);
    let delivery = super::message::await_delivery(gateway, &key, NOTICE).await?;
    Ok(if delivery.is_some_and(|delivery| delivery.state == "sent") { "sent" } else { "failed" })
}

fn telegram(gateway: &Gateway) -> TelegramSettings {
    gateway.settings.get().channels.telegram.clone().unwrap_or_default()
}

fn accounts(gateway: &Gateway) -> BTreeMap<String, TelegramAccount> {
    telegram(gateway).resolved()
}

/// Whether anyone may give commands that only an owner may give.
async fn has_owner(
    gateway: &Gateway,
    accounts: &BTreeMap<String, TelegramAccount>,
) -> Result<bool, ErrorShape> {
    if !gateway.settings.get().commands.owner_allow_from.is_empty() {
        return Ok(true);
    }
    for account in accounts.values() {
        let listed = account.allow_from.iter().any(|entry| telegram::sender_number(entry).is_some());
        if listed || !gateway.store.allowed_senders(TELEGRAM, &account.name).await?.is_empty() {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_leaves_out_what_is_not_there() {
        let account = object!({"configured": true, "running": false, "lastError": null, "extra": 1});
        assert_eq!(summary(&account), object!({"configured": true, "running": false, "lastError": null}));
    }
}
