//! `sessions.*`: the list of conversations, what one looks like, and listening to them.

use super::call::{AGENT, Call, Reply, json, restarting};
use super::ids;
use super::status::first_model;
use super::table::Method;
use crate::Gateway;
use crate::agent::{AbortRuns, AgentLoad, ListRuns, session_value, split_model};
use crate::clock::now_ms;
use crate::events::Audience;
use crate::session_key::{MAIN, canonical, kind_of};
use crate::store::SessionRow;
use serde::Deserialize;
use serde_json::{Value, json as object};
use tidegate_protocol::{ErrorShape, Scope};

pub(super) const METHODS: &[Method] = &[
    Method::operator("sessions.list", Scope::Read, |call| Box::pin(list(call))),
    Method::operator("sessions.describe", Scope::Read, |call| Box::pin(describe(call))),
    Method::operator("sessions.resolve", Scope::Read, |call| Box::pin(resolve(call))).hidden(),
    Method::operator("sessions.subscribe", Scope::Read, |call| Box::pin(subscribe(call))),
    Method::operator("sessions.messages.subscribe", Scope::Read, |call| Box::pin(listen(call, true))),
    Method::operator("sessions.messages.unsubscribe", Scope::Read, |call| Box::pin(listen(call, false))),
    Method::operator("sessions.abort", Scope::Write, |call| Box::pin(abort(call))),
    Method::operator("sessions.reset", Scope::Admin, |call| Box::pin(reset(call))),
    Method::operator("sessions.delete", Scope::Admin, |call| Box::pin(delete(call))),
    Method::operator("sessions.patch", Scope::Write, |call| Box::pin(patch(call))),
];

const DEFAULT_LIMIT: usize = 100;

/// The filters of `SessionsListParams` that this gateway acts on.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ListParams {
    #[serde(default)]
    limit: Option<usize>,
    #[serde(default)]
    offset: Option<usize>,
    #[serde(default)]
    active_minutes: Option<u32>,
    #[serde(default)]
    agent_id: Option<String>,
    #[serde(default)]
    search: Option<String>,
    /// A boolean, or `"all"`.
    #[serde(default)]
    archived: Option<Value>,
}

impl ListParams {
    fn wants(&self, row: &SessionRow) -> bool {
        let archived = match &self.archived {
            Some(Value::String(all)) if all == "all" => true,
            Some(Value::Bool(archived)) => row.archived == *archived,
            _ => !row.archived,
        };
        let since = |minutes: u32| now_ms() - i64::from(minutes) * 60_000;
        let recent = self.active_minutes.is_none_or(|minutes| row.updated_at >= since(minutes));
        let agent = self.agent_id.as_ref().is_none_or(|agent| row.agent_id == *agent);
        let found = self.search.as_ref().is_none_or(|text| {
            let text = text.to_lowercase();
            row.key.contains(&text)
                || row.title.as_ref().is_some_and(|title| title.to_lowercase().contains(&text))
        });
        archived && recent && agent && found
    }
}

async fn list(call: Call) -> Reply {
    let params: ListParams = call.params()?;
    json(&list_value(&call.gateway, &params).await?)
}

async fn list_value(gateway: &Gateway, params: &ListParams) -> Result<Value, ErrorShape> {
    let load = load(gateway).await;
    let mut rows = gateway.store.sessions().await?;
    rows.retain(|row| params.wants(row));
    let total = rows.len();
    let limit = params.limit.unwrap_or(DEFAULT_LIMIT).max(1);
    let offset = params.offset.unwrap_or(0);
    let page: Vec<Value> =
        rows.iter().skip(offset).take(limit).map(|row| session_value(row, &load)).collect();
    let next = offset.saturating_add(page.len());
    Ok(object!({
        "ts": now_ms(),
        "path": gateway.settings.paths().database().display().to_string(),
        "count": page.len(),
        "totalCount": total,
        "limitApplied": limit,
        "nextOffset": (next < total).then_some(next),
        "hasMore": next < total,
        "owners": [],
        "defaults": defaults(gateway),
        "sessions": page,
    }))
}

/// What a session has that says nothing of its own.
pub(super) fn defaults(gateway: &Gateway) -> Value {
    let settings = gateway.settings.get();
    let model = first_model(&settings);
    let (provider, model) = split_model(model.as_deref());
    object!({
        "modelProvider": provider,
        "model": model,
        "contextTokens": null,
        "thinkingLevels": [{"id": "off", "label": "off"}],
        "thinkingOptions": ["off"],
        "thinkingDefault": "off",
        "modelSelectionTarget": "session",
    })
}

async fn load(gateway: &Gateway) -> AgentLoad {
    gateway.agent.send(ListRuns).await.unwrap_or_default()
}

/// The row of a key, also of one that has not spoken yet.
pub(super) async fn row_of(gateway: &Gateway, key: &str) -> Result<Value, ErrorShape> {
    let load = load(gateway).await;
    let row = gateway.store.session(key).await?;
    Ok(row.map_or_else(
        || {
            object!({
                "key": key,
                "kind": kind_of(key),
                "classification": if key == MAIN { "main" } else { "custom" },
                "agentId": crate::session_key::agent_of(key),
                "isMain": key == MAIN,
                "isBackground": false,
                "updatedAt": null,
                "archived": false,
                "pinned": false,
                "unread": false,
                "totalTokensFresh": false,
                "hasActiveRun": false,
                "activeRunIds": [],
                "snapshotAt": now_ms(),
            })
        },
        |row| session_value(&row, &load),
    ))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct KeyParams {
    key: String,
    #[serde(default, rename = "sessionId", deserialize_with = "ids::session_id")]
    _session_id: Option<String>,
}

async fn describe(call: Call) -> Reply {
    let params: KeyParams = call.params()?;
    let key = canonical(&params.key)?;
    let load = load(&call.gateway).await;
    let row = call.gateway.store.session(&key).await?;
    json(&object!({"session": row.map(|row| session_value(&row, &load))}))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ResolveParams {
    #[serde(default)]
    key: Option<String>,
    #[serde(default, deserialize_with = "ids::session_id")]
    session_id: Option<String>,
    /// The Control UI's short name: the key without its agent, or the start of a session id.
    #[serde(default, alias = "shortId")]
    reference: Option<String>,
    #[serde(default)]
    allow_missing: bool,
}

async fn resolve(call: Call) -> Reply {
    let params: ResolveParams = call.params()?;
    let wanted = params.key.as_ref().or(params.session_id.as_ref()).or(params.reference.as_ref());
    let Some(wanted) = wanted.cloned() else {
        return Err(ErrorShape::invalid("name a session by key, sessionId or reference"));
    };
    let key = canonical(&wanted).unwrap_or_default();
    let rows = call.gateway.store.sessions().await?;
    let found = rows.iter().find(|row| {
        row.key == key
            || row.session_id == wanted
            || (wanted.len() >= 6 && row.session_id.starts_with(&wanted))
    });
    match found {
        Some(row) => json(&object!({"ok": true, "key": row.key, "agentId": row.agent_id})),
        // The main conversation is there before anyone has spoken.
        None if key == MAIN => json(&object!({"ok": true, "key": MAIN, "agentId": "main"})),
        None if params.allow_missing => json(&object!({"ok": false})),
        None => Err(ErrorShape::invalid(format!("No session found: {wanted}"))),
    }
}

async fn subscribe(call: Call) -> Reply {
    let params: ListParams = call.params()?;
    if let Some(connection) = call.gateway.connections.get(&call.caller.conn_id) {
        connection.subscribe(|to| to.session_list = true);
    }
    json(&object!({"subscribed": true, "list": list_value(&call.gateway, &params).await?}))
}

async fn listen(call: Call, on: bool) -> Reply {
    let params: KeyParams = call.params()?;
    let key = canonical(&params.key)?;
    if let Some(connection) = call.gateway.connections.get(&call.caller.conn_id) {
        connection.subscribe(|to| {
            if on {
                to.sessions.insert(key.clone());
            } else {
                to.sessions.remove(&key);
            }
        });
    }
    json(&object!({"subscribed": on, "key": key}))
}

async fn abort(call: Call) -> Reply {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Params {
        #[serde(default)]
        key: Option<String>,
        #[serde(default)]
        run_id: Option<String>,
    }
    let params: Params = call.params()?;
    if params.key.is_none() && params.run_id.is_none() {
        return Err(ErrorShape::invalid("name what to stop by key or runId"));
    }
    let session_key = params.key.map(|key| canonical(&key)).transpose()?;
    let abort = AbortRuns { session_key, run_id: params.run_id, reason: "rpc" };
    let outcome = call.gateway.agent.send(abort).await.map_err(restarting(AGENT))?;
    json(&object!({"ok": true, "aborted": outcome.aborted, "runIds": outcome.run_ids}))
}

async fn reset(call: Call) -> Reply {
    let params: KeyParams = call.params()?;
    let key = canonical(&params.key)?;
    stop_runs(&call, &key).await?;
    let row = call.gateway.store.reset_session(&key).await?.ok_or_else(|| missing(&key))?;
    changed(&call.gateway, &row, "reset");
    json(&object!({"ok": true, "key": key, "entry": session_value(&row, &AgentLoad::default())}))
}

async fn delete(call: Call) -> Reply {
    let params: KeyParams = call.params()?;
    let key = canonical(&params.key)?;
    if key == MAIN {
        return Err(ErrorShape::invalid("the main session can't be deleted; reset it instead"));
    }
    stop_runs(&call, &key).await?;
    let deleted = call.gateway.store.delete_session(&key).await?;
    if deleted {
        let gone = object!({"sessionKey": key, "reason": "delete", "ts": now_ms()});
        call.gateway.broadcast("sessions.changed", &gone, Audience::SessionList);
    }
    json(&object!({"ok": true, "key": key, "deleted": deleted}))
}

async fn stop_runs(call: &Call, key: &str) -> Result<(), ErrorShape> {
    let abort = AbortRuns { session_key: Some(key.to_owned()), run_id: None, reason: "rpc" };
    call.gateway.agent.send(abort).await.map_err(restarting(AGENT))?;
    Ok(())
}

/// The part of `SessionsPatchParams` that can be changed here. Anything else is refused by name: a setting that was
/// taken and not kept would be a lie, and one that loosens execution rules must not slip through.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct PatchParams {
    key: String,
    #[serde(default, rename = "agentId")]
    _agent_id: Option<String>,
    #[serde(default)]
    archived: Option<bool>,
    #[serde(default)]
    label: Option<String>,
}

async fn patch(call: Call) -> Reply {
    let params: PatchParams = call.params()?;
    let key = canonical(&params.key)?;
    let store = &call.gateway.store;
    if store.session(&key).await?.is_none() {
        return Err(missing(&key));
    }
    if let Some(archived) = params.archived {
        store.archive_session(&key, archived).await?;
    }
    if let Some(title) = params.label {
        let update = crate::store::SessionUpdate { title: Some(title), ..Default::default() };
        store.update_session(&key, update).await?;
    }
    let row = store.session(&key).await?.ok_or_else(|| missing(&key))?;
    changed(&call.gateway, &row, "patch");
    json(&object!({"ok": true, "key": key, "entry": session_value(&row, &load(&call.gateway).await)}))
}

fn missing(key: &str) -> ErrorShape {
    ErrorShape::invalid(format!("No session found: {key}"))
}

fn changed(gateway: &Gateway, row: &SessionRow, reason: &str) {
    let change = object!({
        "sessionKey": row.key,
        "agentId": row.agent_id,
        "reason": reason,
        "ts": now_ms(),
        "session": session_value(row, &AgentLoad::default()),
    });
    gateway.broadcast("sessions.changed", &change, Audience::SessionList);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{Settings, SettingsHandle, StatePaths};
    use crate::store::Store;

    fn params(params: Value) -> Result<ListParams, ErrorShape> {
        let raw = serde_json::value::to_raw_value(&params).unwrap();
        tidegate_protocol::params::parse("sessions.list", Some(&raw))
    }

    #[test]
    fn minutes_that_are_no_minutes_are_refused() {
        for bad in [i64::MAX, i64::MIN, -1] {
            let error = params(object!({"activeMinutes": bad})).unwrap_err();
            assert!(error.message.contains("/activeMinutes"), "{}", error.message);
        }
        assert_eq!(params(object!({"activeMinutes": u32::MAX})).unwrap().active_minutes, Some(u32::MAX));
    }

    #[actix::test]
    async fn a_page_far_behind_the_end_is_empty() {
        let settings = SettingsHandle::new(Settings::default(), StatePaths::new("unused"));
        let gateway = Gateway::new(settings, Store::temporary().unwrap());
        let ask = params(object!({"offset": usize::MAX, "limit": usize::MAX, "activeMinutes": u32::MAX}));
        let list = list_value(&gateway, &ask.unwrap()).await.unwrap();
        assert_eq!((&list["count"], &list["hasMore"]), (&object!(0), &object!(false)));
    }
}
