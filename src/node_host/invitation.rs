//! `--pair`: from what was pasted to a gateway and the token that opens it once.

use std::{
    io::Read,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tidegate_protocol::setup_code::SetupPayload;
use tokio_tungstenite::tungstenite::http::Uri;

use super::NodeHostError;
use crate::client::{Endpoint, Pin};

/// For fetching a code from its join address.
const FETCH: Duration = Duration::from_secs(15);
/// What is read of the answer.
const MAX_ANSWER: usize = 24 * 1024;

/// Reads a code, fetches one from its join address, or takes it from standard input.
pub(super) async fn read(text: &str) -> Result<SetupPayload, NodeHostError> {
    let typed = match text.trim() {
        "-" => Some(tokio::task::spawn_blocking(standard_input).await.map_err(bad)??),
        _ => None,
    };
    let text = typed.as_deref().unwrap_or(text).trim();
    let payload = match text.get(..4) {
        Some(start) if start.eq_ignore_ascii_case("http") => fetch(text).await?,
        _ => SetupPayload::decode(text).map_err(bad)?,
    };
    tidegate_actors::redaction::hide(&payload.bootstrap_token);
    Ok(payload)
}

fn standard_input() -> Result<String, NodeHostError> {
    let mut text = String::new();
    let mut input = std::io::stdin().take(MAX_ANSWER as u64);
    input.read_to_string(&mut text).map_err(bad)?;
    Ok(text)
}

/// The gateway that a code names.
pub(super) fn endpoint(payload: &SetupPayload) -> Result<Endpoint, NodeHostError> {
    let mut endpoint = Endpoint::parse(&payload.url).map_err(bad)?;
    // Without a port a code means the port of its scheme, not of a gateway.
    if !endpoint.tls && payload.url.parse::<Uri>().map_err(bad)?.port().is_none() {
        endpoint.port = 80;
    }
    if let Some(fingerprint) = &payload.tls_fingerprint {
        let pin = Pin::parse(fingerprint).filter(|_| endpoint.tls);
        endpoint.pin = Some(pin.ok_or_else(|| bad("the setup code has no usable certificate fingerprint"))?);
    }
    Ok(endpoint)
}

/// The token to join with; none when the code is too old and this node needs none any more.
pub(super) fn token(payload: SetupPayload, has_own: bool) -> Result<Option<String>, NodeHostError> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    if !payload.is_expired(i64::try_from(now).unwrap_or(i64::MAX)) {
        return Ok(Some(payload.bootstrap_token));
    }
    if has_own { Ok(None) } else { Err(bad("the setup code has expired")) }
}

/// An address gives its code out once: nothing is retried, nothing is followed elsewhere.
async fn fetch(address: &str) -> Result<SetupPayload, NodeHostError> {
    let url: reqwest::Url = address.parse().map_err(bad)?;
    let host = url.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']').to_owned();
    let here = host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
    if url.scheme() != "https" && !here {
        return Err(bad("a join address must begin with https://, unless it is on this machine"));
    }
    if !url.path().contains("/j/") || url.query().is_some() || !url.username().is_empty() {
        return Err(bad("this is no join address: one ends with /j/ and 22 characters"));
    }
    let mut client = reqwest::Client::builder().timeout(FETCH).redirect(reqwest::redirect::Policy::none());
    if here {
        client = client.no_proxy();
    }
    let unreachable =
        |error: reqwest::Error| bad(format!("the join address can't be read: {}", cause(&error)));
    let mut answer = client.build().map_err(unreachable)?.get(url).send().await.map_err(unreachable)?;
    if !answer.status().is_success() {
        return Err(bad(match answer.status().as_u16() {
            404 => "the join address is unknown, was used already, or has expired".to_owned(),
            429 => "too many wrong join addresses were tried from here; wait, then try again".to_owned(),
            other => format!("the join address answered with HTTP {other}"),
        }));
    }
    let mut bytes = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(unreachable)? {
        bytes.extend_from_slice(&chunk);
        if bytes.len() > MAX_ANSWER {
            return Err(bad("the join address answered with something else than a setup code"));
        }
    }
    SetupPayload::from_json(&bytes).map_err(bad)
}

/// The innermost reason, without the address: it is a secret.
fn cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

fn bad(why: impl std::fmt::Display) -> NodeHostError {
    NodeHostError::Invitation(why.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(url: &str, tls_fingerprint: Option<String>) -> SetupPayload {
        SetupPayload { url: url.into(), bootstrap_token: "t".into(), expires_at_ms: Some(1), tls_fingerprint }
    }

    #[test]
    fn a_code_names_its_gateway_with_port_path_and_pin() {
        let shown = |url: &str| endpoint(&code(url, None)).unwrap().to_string();
        assert_eq!(shown("ws://10.0.0.1:18789"), "ws://10.0.0.1:18789");
        assert_eq!(shown("ws://10.0.0.1"), "ws://10.0.0.1:80");
        assert_eq!(shown("wss://gateway.example/gw"), "wss://gateway.example:443/gw");
        let pin = "ab".repeat(32);
        assert_eq!(endpoint(&code("wss://g", Some(pin.clone()))).unwrap().pin, Pin::parse(&pin));
        assert!(endpoint(&code("wss://g", Some("zz".into()))).is_err());
        assert!(endpoint(&code("ws://g", Some(pin))).is_err(), "a pin without TLS protects nothing");
    }

    #[test]
    fn an_old_code_is_of_no_use_unless_none_is_needed() {
        assert!(token(code("ws://g", None), false).is_err());
        assert_eq!(token(code("ws://g", None), true).unwrap(), None);
        let fresh = SetupPayload { expires_at_ms: None, ..code("ws://g", None) };
        assert_eq!(token(fresh, true).unwrap().as_deref(), Some("t"));
    }

    #[tokio::test]
    async fn a_join_address_in_the_clear_is_for_this_machine_only() {
        for text in ["http://10.0.0.1/j/0123456789012345678901", "https://g.example/other", "not a code!"] {
            assert!(matches!(read(text).await, Err(NodeHostError::Invitation(_))), "{text}");
        }
    }
}
