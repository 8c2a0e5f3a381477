//! `connect`: the first request on a socket, and the challenge that precedes it.

use crate::client::ClientInfo;
use crate::error::ErrorShape;
use crate::params;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;
use std::collections::BTreeMap;

/// Payload of the `connect.challenge` event. Clients sign `nonce` and use `ts` as `device.signedAt`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Challenge {
    /// Random, one for each socket.
    pub nonce: String,
    /// The gateway's clock, in milliseconds since the epoch.
    pub ts: i64,
}

/// `ConnectParams` of the published schema, with what newer clients were seen to add.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ConnectParams {
    pub min_protocol: u64,
    pub max_protocol: u64,
    pub client: ClientInfo,
    #[serde(default)]
    pub caps: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub commands: Vec<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub permissions: BTreeMap<String, bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path_env: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub computer_use: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker_runs: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_catalog: Option<Value>,
    /// `operator` when absent. A string here: an unknown role has an error of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    #[serde(default)]
    pub scopes: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<DeviceBlock>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<ConnectAuth>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub locale: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_agent: Option<String>,
}

/// `device` of `ConnectParams`: an Ed25519 key and its signature over the challenge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DeviceBlock {
    /// Lowercase hex SHA-256 of the raw public key.
    pub id: String,
    /// base64url of the raw 32 bytes.
    pub public_key: String,
    /// base64url of the 64 bytes.
    pub signature: String,
    /// `challenge.ts`.
    pub signed_at: i64,
    /// `challenge.nonce`.
    pub nonce: String,
}

/// `auth` of `ConnectParams`. `Debug` shows only which fields are there.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ConnectAuth {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bootstrap_token: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_token: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval_runtime_token: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_runtime_identity_token: Option<String>,
}

impl std::fmt::Debug for ConnectAuth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ConnectAuth")
            .field("token", &self.token.is_some())
            .field("bootstrap_token", &self.bootstrap_token.is_some())
            .field("device_token", &self.device_token.is_some())
            .field("password", &self.password.is_some())
            .finish_non_exhaustive()
    }
}

impl ConnectParams {
    /// Reads and checks the params of a `connect` request.
    pub fn parse(raw: Option<&RawValue>) -> Result<Self, ErrorShape> {
        let parsed: Self = params::parse_without_nulls("connect", raw)?;
        let strings = [
            ("/client/version", Some(parsed.client.version.as_str())),
            ("/client/platform", Some(parsed.client.platform.as_str())),
            ("/client/displayName", parsed.client.display_name.as_deref()),
            ("/client/deviceFamily", parsed.client.device_family.as_deref()),
            ("/client/instanceId", parsed.client.instance_id.as_deref()),
            ("/role", parsed.role.as_deref()),
        ];
        for (path, value) in strings {
            if value == Some("") {
                return Err(params::invalid("connect", path, "must not have fewer than 1 characters"));
            }
        }
        if parsed.min_protocol == 0 {
            return Err(params::invalid("connect", "/minProtocol", "must be >= 1"));
        }
        if parsed.max_protocol == 0 {
            return Err(params::invalid("connect", "/maxProtocol", "must be >= 1"));
        }
        Ok(parsed)
    }

    /// The credential that a device signature covers: token, else device token, else bootstrap token, else empty.
    pub fn signed_token(&self) -> &str {
        let auth = self.auth.as_ref();
        auth.and_then(|auth| {
            auth.token.as_deref().or(auth.device_token.as_deref()).or(auth.bootstrap_token.as_deref())
        })
        .unwrap_or("")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<ConnectParams, ErrorShape> {
        ConnectParams::parse(Some(&RawValue::from_string(text.to_owned()).unwrap()))
    }

    #[test]
    fn errors_name_the_place_as_the_official_gateway_does() {
        let cases = [
            ("{\"minProtocol\":4,\"maxProtocol\":4}", "must have required property 'client'"),
            (
                r#"{"minProtocol":4,"maxProtocol":4,"client":{"id":"nope","version":"1","platform":"x","mode":"cli"}}"#,
                "at /client/id: must be equal to one of the allowed values",
            ),
            (
                r#"{"minProtocol":4,"maxProtocol":4,"client":{"id":"cli","version":"1","platform":"x","mode":"cli","foo":1}}"#,
                "at /client: unexpected property 'foo'",
            ),
            (
                r#"{"foo":1,"minProtocol":4,"maxProtocol":4,"client":{"id":"cli","version":"1","platform":"x","mode":"cli"}}"#,
                "at root: unexpected property 'foo'",
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(parse(text).unwrap_err().message, format!("invalid connect params: {expected}"));
        }
    }

    #[test]
    fn what_should_be_an_object_is_one_and_nothing_is_null() {
        let connect = |field: &str| {
            let client = r#"{"id":"cli","version":"1","platform":"x","mode":"cli"}"#;
            parse(&format!(r#"{{"minProtocol":4,"maxProtocol":4,"client":{client},{field}}}"#))
        };
        for (field, expected) in [
            (r#""auth":["secret"]"#, "at /auth: must be object"),
            (r#""auth":null"#, "at /auth: must be object"),
            (r#""auth":true"#, "at /auth: must be object"),
            (r#""auth":{"token":null}"#, "at /auth/token: must be string"),
            (r#""device":["id","key","signature",1,"nonce"]"#, "at /device: must be object"),
            (r#""device":null"#, "at /device: must be object"),
            (r#""role":null"#, "at /role: must be string"),
            (r#""scopes":null"#, "at /scopes: must be array"),
            (r#""permissions":[]"#, "at /permissions: must be object"),
        ] {
            let refused = connect(field).unwrap_err().message;
            assert_eq!(refused, format!("invalid connect params: {expected}"), "{field}");
        }
        assert!(connect(r#""auth":{"token":"secret"},"role":"operator""#).is_ok());
        assert!(parse(r#"[4,4,{"id":"cli"}]"#).unwrap_err().message.ends_with("at root: must be object"));
    }

    #[test]
    fn secrets_do_not_show_in_debug() {
        let auth = ConnectAuth { token: Some("s3cret".into()), ..Default::default() };
        assert!(!format!("{auth:?}").contains("s3cret"));
    }
}
