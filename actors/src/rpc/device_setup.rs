//! `device.pair.setupCode`, `device.pair.setupStatus`: codes that let a new machine join.

mod qr;

use super::call::{DEVICES, restarting};
use super::{Call, Method, Reply, json};
use crate::devices::{CodeOutcome, MintCode, SetupStatus};
use crate::remote::reach::{self, Address, Wish};
use crate::settings::{AuthMode, Settings};
use serde::{Deserialize, Serialize};
use tidegate_protocol::setup_code::Access;
use tidegate_protocol::{ErrorShape, Scope};

pub(super) const METHODS: &[Method] = &[
    Method::operator("device.pair.setupCode", Scope::Admin, |call| Box::pin(mint(call))).paced().hidden(),
    Method::operator("device.pair.setupStatus", Scope::Admin, |call| Box::pin(status(call))).hidden(),
];

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct MintParams {
    public_url: Option<String>,
    #[serde(default)]
    prefer_remote_url: bool,
    include_qr: Option<bool>,
    bootstrap_profile: Option<Profile>,
    join_url: Option<bool>,
}

/// What a caller may ask for instead of full access.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Profile {
    Limited,
    Node,
}

/// `DevicePairSetupCodeResult`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct MintResult {
    setup_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at_ms: Option<i64>,
    setup_code: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    join_url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    qr_data_url: Option<String>,
    gateway_url: String,
    auth: &'static str,
    url_source: String,
    access: Access,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    access_downgraded: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct StatusParams {
    setup_id: String,
}

/// `DevicePairSetupStatusResult`: nothing while the code waits, or when it is long forgotten.
#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct StatusResult {
    #[serde(skip_serializing_if = "Option::is_none")]
    completion: Option<CodeOutcome>,
    #[serde(skip_serializing_if = "Option::is_none")]
    delivery_uncertain: Option<CodeOutcome>,
}

async fn mint(call: Call) -> Reply {
    let params: MintParams = call.params()?;
    let join = params.join_url.unwrap_or(false);
    if params.join_url == Some(false) {
        return Err(ErrorShape::invalid("joinUrl must be true, or left out"));
    }
    if join && params.bootstrap_profile == Some(Profile::Limited) {
        return Err(ErrorShape::invalid("join URLs are for nodes: set bootstrapProfile to \"node\""));
    }
    let auth = auth_label(&call.gateway.settings.get())?;
    let wish = Wish { public_url: params.public_url, prefer_remote: params.prefer_remote_url };
    let address = reach::address(&call.gateway, wish).await;
    let address = address.map_err(|error| ErrorShape::invalid(error.to_string()))?;
    let wished = match params.bootstrap_profile {
        Some(Profile::Node) => Access::Node,
        None if join => Access::Node,
        Some(Profile::Limited) => Access::Limited,
        None => Access::Full,
    };
    let access = safe_access(wished, &address);
    if join && address.join_url("").is_none() {
        return Err(ErrorShape::invalid(
            "a join URL needs a wss:// address, unless it is for this machine: set gateway.tls.enabled or a public \
             wss:// address, or paste the setup code itself",
        ));
    }
    if join && address.self_made {
        return Err(ErrorShape::invalid(
            "a join URL needs a certificate that others trust, and the gateway made this one itself: use the setup code, \
             which carries its fingerprint (`tidegate devices join-code` without --join-url)",
        ));
    }
    let Address { url, tls_fingerprint, .. } = address.clone();
    let mint = MintCode { access, url, tls_fingerprint, join };
    let minted = call.gateway.devices.send(mint).await.map_err(restarting(DEVICES))??;
    let setup_code = minted.payload.encode();
    crate::redaction::hide(&setup_code);
    json(&MintResult {
        setup_id: minted.setup_id,
        expires_at_ms: minted.payload.expires_at_ms,
        join_url: minted.join.and_then(|seed| address.join_url(seed.as_str())),
        qr_data_url: params.include_qr.unwrap_or(true).then(|| qr::data_url(&setup_code)).flatten(),
        setup_code,
        gateway_url: address.url,
        auth,
        url_source: address.source,
        access,
        access_downgraded: access != wished,
    })
}

async fn status(call: Call) -> Reply {
    let StatusParams { setup_id } = call.params()?;
    let outcome = call.gateway.devices.send(SetupStatus { setup_id }).await.map_err(restarting(DEVICES))?;
    json(&match outcome {
        Some(outcome) if outcome.delivered => {
            StatusResult { completion: Some(outcome), ..Default::default() }
        }
        outcome => StatusResult { delivery_uncertain: outcome, ..Default::default() },
    })
}

/// Whoever sees a code go by in the clear could use it first: then it must not be worth the whole gateway.
fn safe_access(wished: Access, address: &Address) -> Access {
    match wished {
        Access::Full if address.is_cleartext() && !address.is_loopback() => Access::Limited,
        other => other,
    }
}

/// How others get in without a code; where nobody needs anything, a code means nothing.
fn auth_label(settings: &Settings) -> Result<&'static str, ErrorShape> {
    let mode = settings.gateway.auth.mode();
    if mode == AuthMode::None {
        return Err(ErrorShape::invalid(
            "setup codes need a gateway that asks for something: set gateway.auth.mode to \"token\" or \"password\"",
        ));
    }
    Ok(mode.as_str())
}
