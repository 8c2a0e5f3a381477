//! What operators do to devices.

use super::rights::CallerRights;
use super::view::DeviceView;
use super::{Devices, Respond};
use crate::clock::now_ms;
use crate::pairings::{Approval, Change, DeviceRecord, IssuedToken, PairingRequest, TokenRecord};
use crate::store::StoreError;
use actix::{Context, Handler, Message};
use tidegate_protocol::{ErrorShape, Role, Scopes};

/// Characters of a label that an operator gives a device.
const MAX_LABEL: usize = 64;

/// Why nothing was done.
#[derive(Debug, thiserror::Error)]
pub enum ManageError {
    #[error("device pairing {0} denied")]
    PairingDenied(&'static str),
    #[error("device token {0} denied")]
    TokenDenied(&'static str),
    #[error("unknown requestId")]
    UnknownRequest,
    #[error("unknown deviceId")]
    UnknownDevice,
    #[error("unknown deviceId/role")]
    UnknownToken,
    #[error("label must have 1 to {MAX_LABEL} visible characters")]
    BadLabel,
    #[error("no random numbers for a token")]
    NoRandom,
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<ManageError> for ErrorShape {
    fn from(error: ManageError) -> Self {
        match error {
            ManageError::Store(error) => error.into(),
            ManageError::NoRandom => Self::unavailable(error.to_string()),
            other => Self::invalid(other.to_string()),
        }
    }
}

/// Whether the caller's own connection has to end, once it has its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Closing(pub bool);

/// Grant a pending request.
#[derive(Debug, Message)]
#[rtype(result = "Result<DeviceView, ManageError>")]
pub struct ApproveRequest {
    pub rights: CallerRights,
    pub request_id: String,
}

/// Refuse a pending request; the answer is the device that asked.
#[derive(Debug, Message)]
#[rtype(result = "Result<String, ManageError>")]
pub struct RejectRequest {
    pub rights: CallerRights,
    pub request_id: String,
}

/// Unpair a device.
#[derive(Debug, Message)]
#[rtype(result = "Result<Closing, ManageError>")]
pub struct RemoveDevice {
    pub rights: CallerRights,
    pub device_id: String,
}

/// Take the node role from a device, and the device with it if it has no other. `false` if it had none.
#[derive(Debug, Message)]
#[rtype(result = "Result<bool, ManageError>")]
pub struct ForgetNode {
    pub device_id: String,
}

/// Give a device a name; the answer is the name as it is kept.
#[derive(Debug, Message)]
#[rtype(result = "Result<String, ManageError>")]
pub struct RenameDevice {
    pub rights: CallerRights,
    pub device_id: String,
    pub label: String,
}

/// Replace a device's token.
#[derive(Debug, Message)]
#[rtype(result = "Result<Rotated, ManageError>")]
pub struct RotateToken {
    pub rights: CallerRights,
    pub device_id: String,
    pub role: Role,
    /// For the new token, instead of the old one's.
    pub scopes: Option<Scopes>,
}

/// A token was replaced.
#[derive(Debug)]
pub struct Rotated {
    pub scopes: Scopes,
    pub rotated_at_ms: i64,
    /// Only for the device itself.
    pub token: Option<IssuedToken>,
    pub closing: Closing,
}

/// Void a device's token; the answer says when.
#[derive(Debug, Message)]
#[rtype(result = "Result<(i64, Closing), ManageError>")]
pub struct RevokeToken {
    pub rights: CallerRights,
    pub device_id: String,
    pub role: Role,
}

impl Handler<ApproveRequest> for Devices {
    type Result = Respond<Result<DeviceView, ManageError>>;

    fn handle(&mut self, approve: ApproveRequest, _: &mut Context<Self>) -> Self::Result {
        match self.approval(&approve) {
            Err(error) => self.ready(Err(error)),
            Ok((asked, record)) => {
                let view = DeviceView::from(&record);
                let answers = Some(asked.request_id.clone());
                tracing::info!(device = %asked.claim.device_id, request = %asked.request_id, "device approved");
                let change = Change::SaveDevice { record: Box::new(record), answers, consumes: None };
                self.store_then(change, move |devices| {
                    devices.tell_resolved(&asked.request_id, &asked.claim.device_id, "approved");
                    Ok(view)
                })
            }
        }
    }
}

impl Devices {
    fn approval(&self, approve: &ApproveRequest) -> Result<(PairingRequest, DeviceRecord), ManageError> {
        let now_ms = now_ms();
        let denied = ManageError::PairingDenied("approval");
        let Some(asked) = self.book.request(&approve.request_id, now_ms) else {
            // Whoever may not approve everything does not learn which requests exist.
            return Err(if approve.rights.is_admin() { ManageError::UnknownRequest } else { denied });
        };
        if !approve.rights.may_approve(asked) {
            return Err(denied);
        }
        let device_id = asked.claim.device_id.as_str();
        let (roles, scopes) = (asked.roles.as_slice(), &asked.scopes);
        let approval = Approval { claim: &asked.claim, roles, scopes, via: "owner", now_ms };
        let issue = |role| self.key.issue(device_id, role);
        let record = DeviceRecord::approved(self.book.device(device_id), approval, issue);
        Ok((asked.clone(), record.map_err(|_| ManageError::NoRandom)?))
    }

    /// The device, if the caller may know of it.
    fn visible(
        &self,
        rights: &CallerRights,
        device_id: &str,
        action: &'static str,
    ) -> Result<&DeviceRecord, ManageError> {
        if !rights.may_see(device_id) {
            return Err(ManageError::PairingDenied(action));
        }
        self.book.device(device_id).ok_or(ManageError::UnknownDevice)
    }

    /// The device and the scopes of its token, if the caller may handle that.
    fn token_of(
        &self,
        rights: &CallerRights,
        device_id: &str,
        role: Role,
        action: &'static str,
    ) -> Result<(&DeviceRecord, &Scopes), ManageError> {
        let record = self.book.device(device_id);
        let token = record.and_then(|record| record.live_token(role));
        match (record, token) {
            (Some(record), Some(token)) if rights.may_handle_token(device_id, role, &token.scopes) => {
                Ok((record, &token.scopes))
            }
            (Some(_), Some(_)) => Err(ManageError::TokenDenied(action)),
            _ if rights.is_admin() => Err(ManageError::UnknownToken),
            _ => Err(ManageError::TokenDenied(action)),
        }
    }

    fn rotation(&self, rotate: &RotateToken) -> Result<(DeviceRecord, IssuedToken, Scopes), ManageError> {
        let RotateToken { rights, device_id, role, scopes } = rotate;
        let (record, held) = self.token_of(rights, device_id, *role, "rotation")?;
        let scopes = scopes.as_ref().unwrap_or(held);
        let within_approval = record.scopes.covers(scopes) && (*role == Role::Operator || scopes.is_empty());
        let within_caller = rights.is_admin() || rights.scopes.covers(scopes);
        if !within_approval || !within_caller {
            return Err(ManageError::TokenDenied("rotation"));
        }
        let token = self.key.issue(device_id, *role).map_err(|_| ManageError::NoRandom)?;
        Ok((record.rotated(*role, &token, scopes.clone(), now_ms()), token, scopes.clone()))
    }
}

impl Handler<RejectRequest> for Devices {
    type Result = Respond<Result<String, ManageError>>;

    fn handle(&mut self, reject: RejectRequest, _: &mut Context<Self>) -> Self::Result {
        let own_or_free = |asked: &&PairingRequest| reject.rights.may_see(&asked.claim.device_id);
        let Some(asked) = self.book.request(&reject.request_id, now_ms()).filter(own_or_free).cloned() else {
            let bound = reject.rights.device_id.is_some() && !reject.rights.is_admin();
            let denied = ManageError::PairingDenied("rejection");
            return self.ready(Err(if bound { denied } else { ManageError::UnknownRequest }));
        };
        let device_id = asked.claim.device_id.clone();
        let change = Change::DropRequest { device_id: device_id.clone() };
        self.store_then(change, move |devices| {
            devices.tell_resolved(&asked.request_id, &device_id, "rejected");
            Ok(device_id)
        })
    }
}

impl Handler<RemoveDevice> for Devices {
    type Result = Respond<Result<Closing, ManageError>>;

    fn handle(&mut self, remove: RemoveDevice, _: &mut Context<Self>) -> Self::Result {
        let RemoveDevice { rights, device_id } = remove;
        if let Err(error) = self.visible(&rights, &device_id, "removal") {
            return self.ready(Err(error));
        }
        tracing::info!(device = %device_id, "device removed");
        self.store_then(Change::RemoveDevice { device_id: device_id.clone() }, move |devices| {
            let closing = devices.disconnect(&device_id, None, Some(&rights.conn_id));
            devices.gateway.nodes.tell(crate::nodes::ForgetNode { node_id: device_id });
            Ok(closing)
        })
    }
}

impl Handler<ForgetNode> for Devices {
    type Result = Respond<Result<bool, ManageError>>;

    fn handle(&mut self, ForgetNode { device_id }: ForgetNode, _: &mut Context<Self>) -> Self::Result {
        let Some(record) = self.book.device(&device_id).filter(|record| record.roles.contains(&Role::Node))
        else {
            return self.ready(Ok(false));
        };
        let change = match record.without_role(Role::Node) {
            Some(left) => Change::SaveDevice { record: Box::new(left), answers: None, consumes: None },
            None => Change::RemoveDevice { device_id: device_id.clone() },
        };
        self.store_then(change, move |devices| {
            devices.disconnect(&device_id, Some(Role::Node), None);
            Ok(true)
        })
    }
}

impl Handler<RenameDevice> for Devices {
    type Result = Respond<Result<String, ManageError>>;

    fn handle(&mut self, rename: RenameDevice, _: &mut Context<Self>) -> Self::Result {
        let label = rename.label.trim().to_owned();
        let length = label.chars().count();
        if length == 0 || length > MAX_LABEL || label.chars().any(char::is_control) {
            return self.ready(Err(ManageError::BadLabel));
        }
        let record = match self.visible(&rename.rights, &rename.device_id, "rename") {
            Ok(record) => DeviceRecord { operator_label: Some(label.clone()), ..record.clone() },
            Err(error) => return self.ready(Err(error)),
        };
        let change = Change::SaveDevice { record: Box::new(record), answers: None, consumes: None };
        self.store_then(change, move |devices| {
            devices.tell_pairing("device.pair.changed", &serde_json::json!({}), &rename.device_id);
            Ok(label)
        })
    }
}

impl Handler<RotateToken> for Devices {
    type Result = Respond<Result<Rotated, ManageError>>;

    fn handle(&mut self, rotate: RotateToken, _: &mut Context<Self>) -> Self::Result {
        let (record, token, scopes) = match self.rotation(&rotate) {
            Ok(rotation) => rotation,
            Err(error) => return self.ready(Err(error)),
        };
        let RotateToken { rights, device_id, role, .. } = rotate;
        tracing::info!(device = %device_id, %role, "device token rotated");
        let rotated_at_ms = record.live_token(role).map_or_else(now_ms, TokenRecord::issued_at_ms);
        let own = rights.device_id.as_deref() == Some(device_id.as_str());
        let change = Change::SaveDevice { record: Box::new(record), answers: None, consumes: None };
        self.store_then(change, move |devices| {
            let closing = devices.disconnect(&device_id, Some(role), Some(&rights.conn_id));
            Ok(Rotated { scopes, rotated_at_ms, token: own.then_some(token), closing })
        })
    }
}

impl Handler<RevokeToken> for Devices {
    type Result = Respond<Result<(i64, Closing), ManageError>>;

    fn handle(&mut self, revoke: RevokeToken, _: &mut Context<Self>) -> Self::Result {
        let RevokeToken { rights, device_id, role } = revoke;
        let record = match self.token_of(&rights, &device_id, role, "revocation") {
            Ok((record, _)) => record,
            Err(error) => return self.ready(Err(error)),
        };
        let revoked_at_ms = now_ms();
        tracing::info!(device = %device_id, %role, "device token revoked");
        let record = Box::new(record.revoked(role, revoked_at_ms));
        self.store_then(Change::SaveDevice { record, answers: None, consumes: None }, move |devices| {
            Ok((revoked_at_ms, devices.disconnect(&device_id, Some(role), Some(&rights.conn_id))))
        })
    }
}
