//! Setup codes: everything that a machine needs to join a gateway, in one string to paste or to scan.
//!
//! A code is base64url of a JSON object; `oc-pair://` may stand in front of it. Keys that are not known here are no
//! reason to refuse one.

use crate::{Role, Scopes};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

/// May stand in front of a code, so that a paste shows what it is.
pub const SCHEME: &str = "oc-pair://";

/// Longest code that is looked at; the official clients read as much from a join address.
const LONGEST: usize = 24 * 1024;

/// What a setup code says. `Debug` does not show the token.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SetupPayload {
    /// `ws://` or `wss://`.
    pub url: String,
    /// Opens the gateway once, for the device that shows it first.
    pub bootstrap_token: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at_ms: Option<i64>,
    /// SHA-256 of the gateway's certificate in hex, where the gateway itself serves TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls_fingerprint: Option<String>,
}

/// What a device may do that joined with a code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Access {
    /// Be a node, and nothing else.
    Node,
    /// A node, and an operator that changes neither the gateway nor its pairings.
    Limited,
    /// A node, and an operator who may do everything.
    Full,
}

/// Why a text is no setup code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SetupCodeError {
    #[error("this is no setup code")]
    NotACode,
    #[error("the setup code names no gateway or no token")]
    Incomplete,
}

impl SetupPayload {
    /// The code.
    pub fn encode(&self) -> String {
        // Strings and a number: there is nothing that could fail.
        URL_SAFE_NO_PAD.encode(serde_json::to_vec(self).unwrap_or_default())
    }

    /// Reads a code, with or without [`SCHEME`]. Whether it has expired is for the caller to see.
    ///
    /// # Errors
    /// If it is none.
    pub fn decode(text: &str) -> Result<Self, SetupCodeError> {
        let text = text.trim();
        let code = match text.get(..SCHEME.len()) {
            Some(scheme) if scheme.eq_ignore_ascii_case(SCHEME) => &text[SCHEME.len()..],
            _ => text,
        };
        if code.len() > LONGEST {
            return Err(SetupCodeError::NotACode);
        }
        let json = URL_SAFE_NO_PAD.decode(code).map_err(|_| SetupCodeError::NotACode)?;
        Self::from_json(&json)
    }

    /// Reads what a join address answers with.
    ///
    /// # Errors
    /// If it is something else.
    pub fn from_json(json: &[u8]) -> Result<Self, SetupCodeError> {
        let value: serde_json::Value = serde_json::from_slice(json).map_err(|_| SetupCodeError::NotACode)?;
        let payload: Self = serde_json::from_value(value).map_err(|_| SetupCodeError::Incomplete)?;
        let is_complete = !payload.url.trim().is_empty() && !payload.bootstrap_token.trim().is_empty();
        if is_complete { Ok(payload) } else { Err(SetupCodeError::Incomplete) }
    }

    pub fn is_expired(&self, now_ms: i64) -> bool {
        self.expires_at_ms.is_some_and(|expires| expires <= now_ms)
    }
}

impl std::fmt::Debug for SetupPayload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SetupPayload")
            .field("url", &self.url)
            .field("expires_at_ms", &self.expires_at_ms)
            .field("tls_fingerprint", &self.tls_fingerprint)
            .finish_non_exhaustive()
    }
}

/// What an operator gets that joined with a code. `operator.pairing` is never handed on by name.
const HANDED_ON: [&str; 5] =
    ["operator.approvals", "operator.questions", "operator.read", "operator.talk.secrets", "operator.write"];

impl Access {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Limited => "limited",
            Self::Full => "full",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        [Self::Node, Self::Limited, Self::Full].into_iter().find(|access| access.as_str() == name)
    }

    pub fn roles(self) -> &'static [Role] {
        match self {
            Self::Node => &[Role::Node],
            Self::Limited | Self::Full => &[Role::Node, Role::Operator],
        }
    }

    /// The scopes of the operator role.
    pub fn scopes(self) -> Scopes {
        match self {
            Self::Node => Scopes::none(),
            Self::Limited => HANDED_ON.into_iter().collect(),
            Self::Full => std::iter::once("operator.admin").chain(HANDED_ON).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From a recording of the official gateway.
    const RECORDED: &str = "eyJ1cmwiOiJ3czovLzEyNy4wLjAuMToxODg1MiIsImJvb3RzdHJhcFRva2VuIjoidlo0ZnEwTWhtWVp3RnRSbDZZ\
        LWFBRVg0ZGxvUzlxakl3UGtwb0hWZkQ4VSIsImV4cGlyZXNBdE1zIjoxNzk1MzY4ODg0MjU3fQ";

    #[test]
    fn an_official_code_is_read_and_written_back_unchanged() {
        for spelling in
            [RECORDED.to_owned(), format!(" oc-pair://{RECORDED}\n"), format!("OC-PAIR://{RECORDED}")]
        {
            let payload = SetupPayload::decode(&spelling).unwrap();
            assert_eq!(payload.url, "ws://127.0.0.1:18852");
            assert_eq!(payload.bootstrap_token, "vZ4fq0MhmYZwFtRl6Y-aAEX4dloS9qjIwPkpoHVfD8U");
            assert!(payload.is_expired(1_795_368_884_257) && !payload.is_expired(1_795_368_884_256));
            assert_eq!(payload.encode(), RECORDED);
            assert!(!format!("{payload:?}").contains("vZ4fq0"), "{payload:?}");
        }
    }

    #[test]
    fn unknown_keys_are_no_reason_to_refuse_and_missing_ones_are() {
        let code = |json: &str| URL_SAFE_NO_PAD.encode(json);
        assert!(SetupPayload::decode(&code(r#"{"url":"ws://a","bootstrapToken":"t","later":[1]}"#)).is_ok());
        for (text, why) in [
            (String::new(), SetupCodeError::NotACode),
            ("not a code".into(), SetupCodeError::NotACode),
            (code("text"), SetupCodeError::NotACode),
            (code(r#"{"url":"ws://a"}"#), SetupCodeError::Incomplete),
            (code(r#"{"url":" ","bootstrapToken":"t"}"#), SetupCodeError::Incomplete),
            (code("[]"), SetupCodeError::Incomplete),
        ] {
            assert_eq!(SetupPayload::decode(&text), Err(why), "{text}");
        }
    }

    #[test]
    fn only_full_access_is_that_of_an_admin() {
        for access in [Access::Node, Access::Limited, Access::Full] {
            assert!(!access.scopes().names().iter().any(|scope| scope == "operator.pairing"));
            assert_eq!(Access::parse(access.as_str()), Some(access));
        }
        assert!(Access::Full.scopes().allows(crate::Scope::Admin));
        assert!(!Access::Limited.scopes().allows(crate::Scope::Admin));
    }
}
