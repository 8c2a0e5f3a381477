//! Making setup codes, handing them out at their join address, and saying what became of them.

use super::{Devices, Respond};
use crate::clock::now_ms;
use crate::events::Audience;
use crate::pairings::{CODE_LIFETIME_MS, CODE_MEMORY_MS, Change, MAX_CODES, Seed, SetupCode, Used};
use crate::store::StoreError;
use actix::{Context, Handler, Message, MessageResult};
use serde::Serialize;
use tidegate_protocol::setup_code::{Access, SetupPayload};
use tidegate_protocol::{ErrorShape, Scope};

/// Make a code.
#[derive(Debug, Message)]
#[rtype(result = "Result<Minted, MintError>")]
pub struct MintCode {
    pub access: Access,
    /// Where whoever joins finds the gateway.
    pub url: String,
    pub tls_fingerprint: Option<String>,
    /// Whether it can be fetched, once, from a join address.
    pub join: bool,
}

/// A code, for whoever asked for it and for nobody else.
#[derive(Debug)]
pub struct Minted {
    pub setup_id: String,
    pub payload: SetupPayload,
    /// The end of its join address, where it has one.
    pub join: Option<Seed>,
}

/// Why there is no code.
#[derive(Debug, thiserror::Error)]
pub enum MintError {
    #[error("{MAX_CODES} setup codes wait to be used; use one, or wait until one expires")]
    TooMany,
    #[error("no random numbers for a setup code")]
    NoRandom,
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<MintError> for ErrorShape {
    fn from(error: MintError) -> Self {
        match error {
            MintError::Store(error) => error.into(),
            other => Self::unavailable(other.to_string()),
        }
    }
}

/// Hand out a code at its join address: the first who asks gets it.
#[derive(Debug, Message)]
#[rtype(result = "Result<Option<SetupPayload>, StoreError>")]
pub struct RedeemJoin(pub Seed);

/// What became of a code.
#[derive(Debug, Message)]
#[rtype(result = "Option<CodeOutcome>")]
pub struct SetupStatus {
    pub setup_id: String,
}

/// A device came in with a code: `device.pair.setup.completed`, and part of `device.pair.setupStatus`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CodeOutcome {
    pub setup_id: String,
    pub device_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device_name: Option<String>,
    pub access: Access,
    pub ts: i64,
    /// Whether the device was sent its token.
    #[serde(skip)]
    pub delivered: bool,
}

/// The hello with the token of the device that a code let in is on its way.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct CodeDelivered(pub [u8; 32]);

impl Handler<MintCode> for Devices {
    type Result = Respond<Result<Minted, MintError>>;

    fn handle(&mut self, mint: MintCode, _: &mut Context<Self>) -> Self::Result {
        let now_ms = now_ms();
        if !self.book.has_room_for_a_code(now_ms) {
            return self.ready(Err(MintError::TooMany));
        }
        let Ok(seed) = Seed::random() else { return self.ready(Err(MintError::NoRandom)) };
        let code = SetupCode {
            setup_id: uuid::Uuid::new_v4().to_string(),
            digest: seed.digest(),
            access: mint.access,
            url: mint.url,
            tls_fingerprint: mint.tls_fingerprint,
            join_open: mint.join,
            created_at_ms: now_ms,
            expires_at_ms: now_ms + CODE_LIFETIME_MS,
            used: None,
        };
        tracing::info!(
            setup = code.setup_id,
            access = code.access.as_str(),
            url = code.url,
            "setup code made"
        );
        let minted = Minted {
            setup_id: code.setup_id.clone(),
            payload: code.payload(&seed.token()),
            join: mint.join.then_some(seed),
        };
        self.store_then(Change::SaveCode(Box::new(code)), |_| Ok(minted))
    }
}

impl Handler<RedeemJoin> for Devices {
    type Result = Respond<Result<Option<SetupPayload>, StoreError>>;

    fn handle(&mut self, RedeemJoin(seed): RedeemJoin, _: &mut Context<Self>) -> Self::Result {
        let digest = *seed.digest().digest();
        let open = self.book.open_code(&digest, now_ms()).filter(|code| code.join_open);
        let Some(code) = open else { return self.ready(Ok(None)) };
        tracing::info!(setup = code.setup_id, "setup code fetched from its join address");
        let payload = code.payload(&seed.token());
        self.store_then(Change::CloseJoin { digest }, |_| Ok(Some(payload)))
    }
}

impl Handler<SetupStatus> for Devices {
    type Result = MessageResult<SetupStatus>;

    fn handle(&mut self, SetupStatus { setup_id }: SetupStatus, _: &mut Context<Self>) -> Self::Result {
        MessageResult(self.book.code(&setup_id).and_then(outcome))
    }
}

impl Handler<CodeDelivered> for Devices {
    type Result = Respond<()>;

    fn handle(&mut self, CodeDelivered(digest): CodeDelivered, _: &mut Context<Self>) -> Self::Result {
        self.store_and(Change::CodeDelivered { digest }, move |devices| {
            if let Some(outcome) = devices.book.code_of(&digest).and_then(outcome) {
                tracing::info!(
                    setup = outcome.setup_id,
                    device = outcome.device_id,
                    "joined with a setup code"
                );
                let audience = Audience::Scope(Scope::Pairing);
                devices.gateway.broadcast("device.pair.setup.completed", &outcome, audience);
            }
        })
    }
}

impl Devices {
    /// Without waiting for the disk: at worst they are forgotten once more after a restart.
    pub(super) fn forget_old_codes(&mut self) {
        let before_ms = now_ms() - CODE_MEMORY_MS;
        if !self.book.has_codes_before(before_ms) {
            return;
        }
        let change = Change::ForgetCodes { before_ms };
        self.book.apply(change.clone(), now_ms());
        let store = self.gateway.store.clone();
        actix::spawn(async move {
            if let Err(error) = store.change_devices(change).await {
                tracing::warn!(%error, "old setup codes could not be cleared away");
            }
        });
    }
}

fn outcome(code: &SetupCode) -> Option<CodeOutcome> {
    let Used { at_ms, device_id, device_name, delivered } = code.used.clone()?;
    let SetupCode { setup_id, access, .. } = code;
    Some(CodeOutcome {
        setup_id: setup_id.clone(),
        device_id,
        device_name,
        access: *access,
        ts: at_ms,
        delivered,
    })
}
