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
            config_path: gateway.settings.file().filter(|_| admin).map(|file| file.path()),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::Outbound;
    use crate::settings::{
        ConfigFile, ConfigSnapshot, ConfigWriteError, Settings, SettingsHandle, StatePaths,
    };
    use crate::store::Store;
    use std::sync::Arc;
    use tidegate_protocol::Role;
    use tidegate_protocol::hello::AuthMethod;

    /// A file that must not be touched on the thread that serves connections.
    struct Untouchable;

    impl ConfigFile for Untouchable {
        fn path(&self) -> String {
            "/etc/tidegate.json".to_owned()
        }

        fn read(&self) -> ConfigSnapshot {
            panic!("read")
        }

        fn write(&self, _: &str, _: Option<&str>) -> Result<ConfigSnapshot, ConfigWriteError> {
            panic!("written")
        }

        fn patched(&self, _: &str, _: &str, _: &[String]) -> Result<String, ConfigWriteError> {
            panic!("patched")
        }

        fn shown(&self, snapshot: &ConfigSnapshot) -> ConfigSnapshot {
            snapshot.clone()
        }
    }

    #[actix::test]
    async fn an_admin_learns_where_the_config_is_and_nobody_reads_it_for_that() {
        let settings = SettingsHandle::new(Settings::default(), StatePaths::new("unused"));
        let gateway = Gateway::new(settings.backed_by(Arc::new(Untouchable)), Store::temporary().unwrap());
        for (scope, shown) in [("operator.admin", Some("/etc/tidegate.json")), ("operator.read", None)] {
            let client = json!({"id": "cli", "version": "1", "platform": "linux", "mode": "cli"});
            let caller = Caller {
                conn_id: "c1".into(),
                role: Role::Operator,
                scopes: [scope].into_iter().collect(),
                client: serde_json::from_value(client).unwrap(),
                caps: vec![],
                device_id: None,
                local: true,
                vouched_for: false,
                peer: std::net::Ipv4Addr::LOCALHOST.into(),
                auth_method: AuthMethod::Token,
                outbound: Outbound::new("c1".into(), Arc::new(|| ())).0,
                connected_at_ms: 0,
                revoked: Default::default(),
                ticket: Default::default(),
                last_words: Default::default(),
            };
            let auth = HelloAuth {
                role: Role::Operator,
                scopes: caller.scopes.clone(),
                method: None,
                device_token: None,
                issued_at_ms: None,
                device_tokens: vec![],
            };
            let hello = hello(&gateway, &caller, auth).await;
            assert_eq!(hello.snapshot.config_path.as_deref(), shown);
        }
    }
}
