//! The Bot API over HTTP.
//!
//! The types are tgbot's; the transport is ours. tgbot's client reads every answer as JSON and so can't tell
//! a proxy's 502 page from a garbled success, and that difference decides whether a message may be sent again.

use crate::settings::Secret;
use reqwest::multipart::Form;
use reqwest::{Client, RequestBuilder, StatusCode, Url};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tgbot::types::{Response, ResponseError};

/// How long an ordinary call may take.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);
const CONNECT: Duration = Duration::from_secs(10);
/// The longest that one answer can silence us: a proxy's nonsense must not do it for ever.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(3600);
const SHORTEST_RETRY_AFTER: Duration = Duration::from_secs(1);
/// A page of 100 updates with long texts stays far below this.
const MAX_ANSWER: usize = 16 * 1024 * 1024;

/// One bot on one Bot API server. Clones share the connection pool.
#[derive(Clone)]
pub(super) struct BotApi(Arc<Inner>);

struct Inner {
    root: String,
    token: Secret,
    proxy: Option<String>,
    /// Built when first needed, by the arbiter that uses it, and again when the network looks dead.
    client: Mutex<Option<Client>>,
}

/// What Telegram says of a message it took.
#[derive(Debug, Deserialize)]
pub(super) struct SentMessage {
    pub(super) message_id: i64,
}

/// Why a call did not succeed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum ApiError {
    /// Telegram never saw the request.
    #[error("Telegram could not be reached: {0}")]
    NotSent(String),
    /// The request went out and nothing (readable) came back: it may have been carried out.
    #[error("no answer from Telegram: {0}")]
    NoAnswer(String),
    /// Telegram's own trouble: the request was not carried out.
    #[error("Telegram answered {code}: {text}")]
    Server { code: u16, text: String },
    /// Telegram says no.
    #[error("Telegram answered {code}: {text}")]
    Refused { code: u16, text: String, retry_after: Option<Duration>, migrate_to: Option<i64> },
}

impl ApiError {
    pub(super) fn code(&self) -> Option<u16> {
        match self {
            Self::Server { code, .. } | Self::Refused { code, .. } => Some(*code),
            _ => None,
        }
    }

    /// How long Telegram wants to be left alone. Never not at all, whatever it says.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused { code: 429, retry_after, .. } => {
                Some(retry_after.unwrap_or(Duration::from_secs(5)).max(SHORTEST_RETRY_AFTER))
            }
            _ => None,
        }
    }

    /// Whether a refusal's text has `words` in it.
    pub(super) fn says(&self, words: &str) -> bool {
        matches!(self, Self::Refused { text, .. } if text.to_ascii_lowercase().contains(words))
    }

    /// Whether it is about the way to Telegram rather than about the request.
    pub(super) fn is_network(&self) -> bool {
        matches!(self, Self::NotSent(_) | Self::NoAnswer(_) | Self::Server { .. })
    }
}

impl BotApi {
    pub(super) fn new(root: String, token: Secret, proxy: Option<String>) -> Self {
        Self(Arc::new(Inner { root, token, proxy, client: Mutex::new(None) }))
    }

    /// Forgets all connections and what DNS said: the next call starts from nothing.
    pub(super) fn renew(&self) {
        self.0.client.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// Calls `method` with JSON parameters.
    pub(super) async fn call<T: DeserializeOwned>(
        &self,
        method: &str,
        params: &impl Serialize,
        patience: Duration,
    ) -> Result<T, ApiError> {
        let request = self.client()?.post(self.url("bot", method)).json(params).timeout(patience);
        self.finish(request).await
    }

    /// Calls `method` with parts, one of which is a file that is read as it is sent.
    pub(super) async fn upload<T: DeserializeOwned>(
        &self,
        method: &str,
        form: Form,
        patience: Duration,
    ) -> Result<T, ApiError> {
        let request = self.client()?.post(self.url("bot", method)).multipart(form).timeout(patience);
        self.finish(request).await
    }

    /// Starts the download of a path that `getFile` gave.
    pub(super) async fn file(&self, path: &str, patience: Duration) -> Result<reqwest::Response, ApiError> {
        let request = self.client()?.get(self.url("file/bot", path)).timeout(patience);
        let response = request.send().await.map_err(lost)?;
        match response.status() {
            status if status.is_success() => Ok(response),
            status => Err(refused_status(status)),
        }
    }

    fn url(&self, kind: &str, tail: &str) -> String {
        format!("{}/{kind}{}/{tail}", self.0.root, self.0.token.expose())
    }

    fn client(&self) -> Result<Client, ApiError> {
        let mut slot = self.0.client.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = &*slot {
            return Ok(client.clone());
        }
        let client = self.0.build()?;
        *slot = Some(client.clone());
        Ok(client)
    }

    async fn finish<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, ApiError> {
        let response = request.send().await.map_err(lost)?;
        let status = response.status();
        let body = match read(response).await {
            Ok(body) => body,
            // The status alone decides when the rest was cut off.
            Err(_) if !status.is_success() => Vec::new(),
            Err(error) => return Err(error),
        };
        let raw = envelope(status, &body)?;
        serde_json::from_str(raw.get())
            .map_err(|error| ApiError::NoAnswer(format!("unreadable result: {error}")))
    }
}

impl Inner {
    fn build(&self) -> Result<Client, ApiError> {
        let broken = |error: reqwest::Error| ApiError::NotSent(error.without_url().to_string());
        let mut builder = Client::builder()
            .user_agent(concat!("tidegate/", env!("CARGO_PKG_VERSION")))
            // A redirect would carry the token elsewhere.
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT)
            // Below what servers keep, so that a request does not meet a connection just being closed.
            .pool_idle_timeout(Duration::from_secs(20))
            .pool_max_idle_per_host(2)
            .tcp_keepalive(Duration::from_secs(30));
        let url = Url::parse(&self.root);
        let url = url.map_err(|error| ApiError::NotSent(format!("`apiRoot` is not an address: {error}")))?;
        if let Some(proxy) = &self.proxy {
            let wrong = |_| ApiError::NotSent("`proxy` is not an address".to_owned());
            builder = builder.proxy(reqwest::Proxy::all(proxy).map_err(wrong)?);
        } else if is_loopback(&url) {
            builder = builder.no_proxy();
        }
        let plain = url.scheme() == "http" && !self.proxy.as_deref().is_some_and(|p| p.starts_with("https"));
        if plain {
            // Nothing will be encrypted: don't hold the system's certificates in memory for it.
            builder = builder.tls_certs_only([]);
        }
        builder.build().map_err(broken)
    }
}

fn is_loopback(url: &Url) -> bool {
    match url.host_str() {
        Some("localhost") => true,
        Some(host) => {
            host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
        }
        None => false,
    }
}

/// Whether a broken request can have reached Telegram.
fn lost(error: reqwest::Error) -> ApiError {
    let unsent = error.is_builder() || error.is_connect();
    let mut text = if error.is_timeout() { "timed out".to_owned() } else { String::new() };
    // The address holds the token; the causes below it do not.
    let error = error.without_url();
    let mut cause: Option<&dyn std::error::Error> = Some(&error);
    while let Some(error) = cause {
        let part = error.to_string();
        if !text.contains(&part) {
            text = if text.is_empty() { part } else { format!("{text}: {part}") };
        }
        cause = error.source();
    }
    if unsent { ApiError::NotSent(text) } else { ApiError::NoAnswer(text) }
}

async fn read(mut response: reqwest::Response) -> Result<Vec<u8>, ApiError> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(lost)? {
        if body.len() + chunk.len() > MAX_ANSWER {
            return Err(ApiError::NoAnswer("the answer is too large".to_owned()));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// The result of an answer, or what kind of failure it is.
fn envelope(status: StatusCode, body: &[u8]) -> Result<Box<RawValue>, ApiError> {
    match serde_json::from_slice::<Response<Box<RawValue>>>(body).map(Response::into_result) {
        Ok(Ok(result)) if status.is_success() => Ok(result),
        Ok(Err(error)) => Err(refused(status, &error)),
        _ if status.is_success() => Err(ApiError::NoAnswer("the answer is not JSON".to_owned())),
        _ => Err(refused_status(status)),
    }
}

fn refused(status: StatusCode, error: &ResponseError) -> ApiError {
    let code = error.error_code().and_then(|code| u16::try_from(code).ok()).unwrap_or(status.as_u16());
    let text = error.description().to_owned();
    if code >= 500 {
        return ApiError::Server { code, text };
    }
    let retry_after = error.retry_after().map(|after| Duration::from_secs(after).min(LONGEST_RETRY_AFTER));
    ApiError::Refused { code, text, retry_after, migrate_to: error.migrate_to_chat_id() }
}

fn refused_status(status: StatusCode) -> ApiError {
    let code = status.as_u16();
    let text = status.canonical_reason().unwrap_or("no reason given").to_owned();
    if status.is_server_error() {
        return ApiError::Server { code, text };
    }
    ApiError::Refused {
        code,
        text: format!("{text} (not from the Bot API)"),
        retry_after: None,
        migrate_to: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(status: u16, body: &str) -> Result<String, ApiError> {
        let status = StatusCode::from_u16(status).unwrap();
        envelope(status, body.as_bytes()).map(|raw| raw.get().to_owned())
    }

    #[test]
    fn answers_are_told_apart() {
        assert_eq!(parse(200, r#"{"ok":true,"result":{"a":1}}"#).unwrap(), r#"{"a":1}"#);
        let flood =
            r#"{"ok":false,"error_code":429,"description":"Too Many","parameters":{"retry_after":7}}"#;
        assert_eq!(parse(429, flood).unwrap_err().retry_after(), Some(Duration::from_secs(7)));
        let endless = format!(
            r#"{{"ok":false,"error_code":429,"description":"Too Many","parameters":{{"retry_after":{}}}}}"#,
            i64::MAX
        );
        assert_eq!(parse(429, &endless).unwrap_err().retry_after(), Some(LONGEST_RETRY_AFTER));
        assert!(matches!(parse(502, "<html>"), Err(ApiError::Server { code: 502, .. })));
        assert!(matches!(
            parse(500, r#"{"ok":false,"error_code":500,"description":"x"}"#),
            Err(ApiError::Server { .. })
        ));
        assert!(matches!(parse(200, "{\"ok\":tr"), Err(ApiError::NoAnswer(_))));
        assert!(matches!(parse(404, "nope"), Err(ApiError::Refused { code: 404, .. })));
        let moved =
            r#"{"ok":false,"error_code":400,"description":"up","parameters":{"migrate_to_chat_id":-100}}"#;
        assert!(matches!(parse(400, moved), Err(ApiError::Refused { migrate_to: Some(-100), .. })));
    }

    #[actix::test]
    async fn an_unreachable_server_was_not_reached_and_the_token_stays_secret() {
        let api = BotApi::new("http://127.0.0.1:1".to_owned(), Secret::new("77:secret-token"), None);
        let error = api.call::<bool>("getMe", &(), PATIENCE).await.unwrap_err();
        assert!(matches!(error, ApiError::NotSent(_)), "{error}");
        assert!(!error.to_string().contains("secret-token"), "{error}");
    }
}
