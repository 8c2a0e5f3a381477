//! Names that clients choose: of a conversation's transcript, and of a request that must not be done twice.

use serde::de::Error;
use serde::{Deserialize, Deserializer};

const LONGEST_SESSION_ID: usize = 128;

/// It is kept for every message and call.
const LONGEST_KEY: usize = 256;

/// Reads a `sessionId` that may be absent: letters, digits, `.`, `_` and `-`, so that nothing takes it for a path.
pub(super) fn session_id<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let id = Option::<String>::deserialize(deserializer)?;
    match id {
        Some(id) if !is_session_id(&id) => {
            Err(D::Error::custom(r#"must match pattern "^[\p{L}\p{N}][\p{L}\p{N}\p{M}._-]{0,127}$""#))
        }
        id => Ok(id),
    }
}

fn is_session_id(text: &str) -> bool {
    text.chars().next().is_some_and(char::is_alphanumeric)
        && text.chars().count() <= LONGEST_SESSION_ID
        && text.chars().all(|c| c.is_alphanumeric() || ".-_".contains(c))
}

/// Reads an `idempotencyKey`.
pub(super) fn idempotency_key<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let key = String::deserialize(deserializer)?;
    if key.trim().is_empty() {
        return Err(D::Error::custom("must not have fewer than 1 characters"));
    }
    if key.chars().count() > LONGEST_KEY {
        return Err(D::Error::custom(format_args!("must not have more than {LONGEST_KEY} characters")));
    }
    if key.chars().any(char::is_control) {
        return Err(D::Error::custom("must not have control characters"));
    }
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::value::RawValue;
    use tidegate_protocol::params;

    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Named {
        #[serde(default, deserialize_with = "session_id")]
        session_id: Option<String>,
        #[serde(deserialize_with = "idempotency_key")]
        idempotency_key: String,
    }

    fn read(text: &str) -> Result<Named, String> {
        let raw = RawValue::from_string(text.to_owned()).unwrap();
        params::parse("x", Some(&raw)).map_err(|error| error.message)
    }

    #[test]
    fn a_session_id_is_no_path() {
        for id in ["a", "0b5e9f2c-1111-4222-8333-444455556666", "Größe_1.b-c", "会話"] {
            let named = read(&format!(r#"{{"sessionId":"{id}","idempotencyKey":"k"}}"#)).unwrap();
            assert_eq!((named.session_id.as_deref(), named.idempotency_key.as_str()), (Some(id), "k"));
        }
        assert_eq!(read(r#"{"idempotencyKey":"k"}"#).unwrap().session_id, None);
        for id in ["../../x", "", ".hidden", "-a", "a/b", "a\\\\b", "a b", "a\\u0000", &"a".repeat(129)] {
            let refused = read(&format!(r#"{{"sessionId":"{id}","idempotencyKey":"k"}}"#)).err().unwrap();
            assert!(
                refused.starts_with("invalid x params: at /sessionId: must match pattern"),
                "{id}: {refused}"
            );
        }
    }

    #[test]
    fn an_idempotency_key_is_short_and_readable() {
        let refused = |key: &str| read(&format!(r#"{{"idempotencyKey":"{key}"}}"#)).err();
        assert_eq!(refused(&"é".repeat(256)), None);
        for (key, why) in [
            ("", "must not have fewer than 1 characters"),
            (&"é".repeat(257), "must not have more than 256 characters"),
            ("a\\u0000b", "must not have control characters"),
        ] {
            assert_eq!(refused(key).unwrap(), format!("invalid x params: at /idempotencyKey: {why}"));
        }
        assert_eq!(
            read("{}").err().unwrap(),
            "invalid x params: must have required property 'idempotencyKey'"
        );
    }
}
