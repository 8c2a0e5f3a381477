//! The answer to a `connect` that was let in.

use crate::connection::{Caller, presence};
use crate::{Gateway, VERSION, rpc};
use serde_json::json;
use tidegate_protocol::Scope;
use tidegate_protocol::hello::{AttachmentPolicy, Features, HelloAuth, HelloOk, Policy, Server, Snapshot};
use tidegate_protocol::limits::{
    MAX_ATTACHMENT_BYTES, MAX_BUFFERED_BYTES, MAX_IMAGE_BYTES, MAX_PAYLOAD, PROTOCOL_VERSION, TICK_INTERVAL,
};

/// Puts the hello together; what it shows depends on what the caller may see.
pub(super) async fn hello(gateway: &Gateway, caller: &Caller, auth: HelloAuth) -> HelloOk {
    let reads = caller.allows(Scope::Read);
    let admin = caller.allows(Scope::Admin);
    let settings = gateway.settings.get();
    let paths = gateway.settings.paths();
    HelloOk {
        kind: "hello-ok".to_owned(),
        protocol: PROTOCOL_VERSION,
        server: Server {
            version: VERSION.to_owned(),
            conn_id: caller.conn_id.clone(),
            boot_id: Some(gateway.boot_id.clone()),
        },
        features: Features {
            methods: rpc::advertised(),
            events: rpc::EVENTS.iter().map(|&event| event.to_owned()).collect(),
        },
        snapshot: Snapshot {
            presence: if reads { presence(&gateway.connections, &gateway.boot_id) } else { Vec::new() },
            health: rpc::health(gateway, reads).await,
            state_version: gateway.versions.now(),
            uptime_ms: u64::try_from(gateway.started.elapsed().as_millis()).unwrap_or(u64::MAX),
            session_defaults: Some({
                json!({
                    "defaultAgentId": "main",
                    "mainKey": "main",
                    "mainSessionKey": "agent:main:main",
                    "scope": "per-sender",
                    "modelConfigured": rpc::model_configured(&settings),
                })
            }),
            config_path: gateway.settings.file().filter(|_| admin).map(|file| file.read().path),
            state_dir: admin.then(|| paths.root().display().to_string()),
            auth_mode: admin.then(|| settings.gateway.auth.mode().as_str().to_owned()),
        },
        auth,
        policy: policy(),
    }
}

fn policy() -> Policy {
    Policy {
        max_payload: MAX_PAYLOAD as u64,
        max_buffered_bytes: MAX_BUFFERED_BYTES as u64,
        tick_interval_ms: u64::try_from(TICK_INTERVAL.as_millis()).unwrap_or(u64::MAX),
        attachments: Some(AttachmentPolicy {
            max_bytes: MAX_ATTACHMENT_BYTES as u64,
            max_image_bytes: MAX_IMAGE_BYTES as u64,
        }),
    }
}
