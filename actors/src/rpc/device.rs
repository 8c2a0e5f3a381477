//! `device.*`: pairing requests, paired devices and their tokens.

use super::call::{DEVICES, restarting};
use super::{Call, Method, Reply, json};
use crate::devices::{
    ApproveRequest, CallerRights, Closing, ListDevices, ManageError, RejectRequest, RemoveDevice,
    RenameDevice, RevokeToken, RotateToken,
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tidegate_protocol::limits::close;
use tidegate_protocol::{ErrorShape, Role, Scope, Scopes};

pub(super) const METHODS: &[Method] = &[
    Method::operator("device.pair.list", Scope::Pairing, |call| Box::pin(list(call))),
    Method::operator("device.pair.approve", Scope::Pairing, |call| Box::pin(approve(call))),
    Method::operator("device.pair.reject", Scope::Pairing, |call| Box::pin(reject(call))),
    Method::operator("device.pair.remove", Scope::Pairing, |call| Box::pin(remove(call))),
    Method::operator("device.pair.rename", Scope::Pairing, |call| Box::pin(rename(call))),
    Method::operator("device.token.rotate", Scope::Pairing, |call| Box::pin(rotate(call))),
    Method::operator("device.token.revoke", Scope::Pairing, |call| Box::pin(revoke(call))),
];

/// Unknown params are refused throughout: a misspelt limit must not be taken for none.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NoParams {}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RequestParams {
    request_id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct DeviceParams {
    device_id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RenameParams {
    device_id: String,
    label: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct TokenParams {
    device_id: String,
    role: String,
    #[serde(default)]
    scopes: Option<Vec<String>>,
}

impl TokenParams {
    /// A role that does not exist is as unknown as a device that does not.
    fn role(&self) -> Result<Role, ErrorShape> {
        Role::parse(self.role.trim()).ok_or_else(|| ManageError::UnknownToken.into())
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RotateResult<'a> {
    device_id: &'a str,
    role: Role,
    scopes: &'a Scopes,
    rotated_at_ms: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    token_delivery: Option<&'static str>,
}

async fn list(call: Call) -> Reply {
    let NoParams {} = call.params()?;
    let rights = Some(CallerRights::of(&call.caller));
    json(&call.gateway.devices.send(ListDevices { rights }).await.map_err(restarting(DEVICES))?)
}

async fn approve(call: Call) -> Reply {
    let RequestParams { request_id } = call.params()?;
    let approve = ApproveRequest { rights: CallerRights::of(&call.caller), request_id: request_id.clone() };
    let device = call.gateway.devices.send(approve).await.map_err(restarting(DEVICES))??;
    json(&json!({"requestId": request_id, "device": device}))
}

async fn reject(call: Call) -> Reply {
    let RequestParams { request_id } = call.params()?;
    let reject = RejectRequest { rights: CallerRights::of(&call.caller), request_id: request_id.clone() };
    let device_id = call.gateway.devices.send(reject).await.map_err(restarting(DEVICES))??;
    json(&json!({"requestId": request_id, "deviceId": device_id}))
}

async fn remove(call: Call) -> Reply {
    let DeviceParams { device_id } = call.params()?;
    let remove = RemoveDevice { rights: CallerRights::of(&call.caller), device_id: device_id.clone() };
    let closing = call.gateway.devices.send(remove).await.map_err(restarting(DEVICES))??;
    last_words(&call, closing, json(&json!({"deviceId": device_id})))
}

async fn rename(call: Call) -> Reply {
    let RenameParams { device_id, label } = call.params()?;
    let rights = CallerRights::of(&call.caller);
    let rename = RenameDevice { rights, device_id: device_id.clone(), label };
    let label = call.gateway.devices.send(rename).await.map_err(restarting(DEVICES))??;
    json(&json!({"deviceId": device_id, "label": label}))
}

async fn rotate(call: Call) -> Reply {
    let params: TokenParams = call.params()?;
    let role = params.role()?;
    let TokenParams { device_id, scopes, .. } = params;
    let rights = CallerRights::of(&call.caller);
    let scopes = scopes.map(Scopes::from);
    let rotate = RotateToken { rights, device_id: device_id.clone(), role, scopes };
    let rotated = call.gateway.devices.send(rotate).await.map_err(restarting(DEVICES))??;
    let token = rotated.token.as_ref().map(|token| token.expose());
    let result = RotateResult {
        device_id: &device_id,
        role,
        scopes: &rotated.scopes,
        rotated_at_ms: rotated.rotated_at_ms,
        token,
        token_delivery: token.is_none().then_some("withheld-cross-device"),
    };
    last_words(&call, rotated.closing, json(&result))
}

async fn revoke(call: Call) -> Reply {
    let params: TokenParams = call.params()?;
    let role = params.role()?;
    let device_id = params.device_id;
    let revoke = RevokeToken { rights: CallerRights::of(&call.caller), device_id: device_id.clone(), role };
    let (revoked_at_ms, closing) = call.gateway.devices.send(revoke).await.map_err(restarting(DEVICES))??;
    let result = json(&json!({"deviceId": device_id, "role": role, "revokedAtMs": revoked_at_ms}));
    last_words(&call, closing, result)
}

/// A caller that took its own rights still gets this answer, and nothing after it.
fn last_words(call: &Call, Closing(closing): Closing, reply: Reply) -> Reply {
    if closing && let Ok(payload) = &reply {
        call.interim(payload);
        call.caller.revoke(close::DEVICE_REMOVED, "device removed");
    }
    reply
}
