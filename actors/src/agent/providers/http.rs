//! The one way out to a model provider: a POST whose answer is a stream of events.

use super::error::{ModelError, ModelErrorKind};
use super::sse::{SseEvent, SseParser};
use reqwest::header::{CONTENT_TYPE, HeaderMap, RETRY_AFTER};
use std::cell::OnceCell;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// How long to wait for what.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// Until the answer begins. A local model may have to be loaded first.
    pub first_byte: Duration,
    /// Between two pieces of the answer.
    pub idle: Duration,
    /// For the whole answer, however busily it drips.
    pub total: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            first_byte: Duration::from_secs(300),
            idle: Duration::from_secs(120),
            total: Duration::from_secs(1800),
        }
    }
}

const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
const MAX_ERROR_BODY: usize = 64 << 10;
const MAX_STREAM_BYTES: usize = 256 << 20;

/// Whether the decoder has seen the end of the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flow {
    More,
    Done,
}

/// Where to send and what must never be shown.
pub(super) struct Endpoint<'a> {
    pub url: String,
    pub headers: HeaderMap,
    pub patience: Patience,
    /// Taken out of every text that the provider sends back.
    pub secret: Option<&'a str>,
}

/// This thread's client. A pooled connection is driven by the arbiter that opened it, so clients are not
/// shared between arbiters; and it is built only when a model is first called, for it costs memory.
pub fn client() -> Result<reqwest::Client, ModelError> {
    thread_local! {
        static CLIENT: OnceCell<reqwest::Client> = const { OnceCell::new() };
    }
    CLIENT.with(|cell| {
        if let Some(client) = cell.get() {
            return Ok(client.clone());
        }
        let client = reqwest::Client::builder()
            .user_agent(concat!("tidegate/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_idle_timeout(Duration::from_secs(60))
            .pool_max_idle_per_host(4)
            // A redirect would carry the key to a place that nobody configured.
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|error| ModelError::new(ModelErrorKind::Network, chain(&error)))?;
        Ok(cell.get_or_init(|| client).clone())
    })
}

/// Sends `body` and feeds every event of the answer to `decode` until it says that the answer is whole.
///
/// A server that ignores `stream` and answers in one JSON document is fed as one event.
pub(super) async fn post_stream(
    endpoint: &Endpoint<'_>,
    body: Vec<u8>,
    decode: &mut dyn FnMut(SseEvent) -> Result<Flow, ModelError>,
) -> Result<Flow, ModelError> {
    let hide = |error: ModelError| hide_secret(error, endpoint.secret);
    // The first one takes its time to build, which is not the server's.
    let client = client()?;
    let started = Instant::now();
    let deadline = started + endpoint.patience.total;
    let request = client.post(&endpoint.url).headers(endpoint.headers.clone()).body(body).send();
    let response = timeout_at(started + endpoint.patience.first_byte, request)
        .await
        .map_err(|_| ModelError::new(ModelErrorKind::Silent, "no answer"))?
        .map_err(|error| hide(network(error)))?;
    if !response.status().is_success() {
        return Err(hide(refusal(response, deadline).await));
    }
    let whole = response
        .headers()
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|kind| kind.to_ascii_lowercase().contains("application/json"));
    if whole {
        let body = read_body(response, MAX_STREAM_BYTES, deadline).await?;
        let data = String::from_utf8_lossy(&body).into_owned();
        return decode(SseEvent { event: String::new(), data }).map_err(hide);
    }
    read_events(response, endpoint.patience, deadline, decode).await.map_err(hide)
}

async fn read_events(
    mut response: reqwest::Response,
    patience: Patience,
    deadline: Instant,
    decode: &mut dyn FnMut(SseEvent) -> Result<Flow, ModelError>,
) -> Result<Flow, ModelError> {
    let mut parser = SseParser::default();
    let mut received = 0;
    // The first event of a busy server may take as long as its headers did.
    let mut wait = patience.first_byte.max(patience.idle);
    loop {
        let until = (Instant::now() + wait).min(deadline);
        let chunk = match timeout_at(until, response.chunk()).await {
            Err(_) => return Err(ModelError::new(ModelErrorKind::Silent, "the stream fell silent")),
            Ok(Err(error)) => {
                return Err(ModelError::new(ModelErrorKind::Broken, chain(&error.without_url())));
            }
            Ok(Ok(None)) => return Ok(Flow::More),
            Ok(Ok(Some(chunk))) => chunk,
        };
        wait = patience.idle;
        // No event and no JSON begins so.
        if received == 0 && chunk.trim_ascii_start().starts_with(b"<") {
            return Err(ModelError::new(ModelErrorKind::NotAnApi, "a web page came back"));
        }
        received += chunk.len();
        if received > MAX_STREAM_BYTES {
            return Err(ModelError::new(ModelErrorKind::Protocol, "the answer is larger than any model's"));
        }
        let mut outcome = Ok(Flow::More);
        parser
            .feed(&chunk, |event| {
                if matches!(outcome, Ok(Flow::More)) {
                    outcome = decode(event);
                }
            })
            .map_err(|error| ModelError::new(ModelErrorKind::Protocol, error.to_string()))?;
        if outcome? == Flow::Done {
            return Ok(Flow::Done);
        }
    }
}

async fn refusal(response: reqwest::Response, deadline: Instant) -> ModelError {
    let status = response.status().as_u16();
    let retry_after = retry_after(response.headers());
    let limit = (Instant::now() + Duration::from_secs(10)).min(deadline);
    let body = read_body(response, MAX_ERROR_BODY, limit).await.unwrap_or_default();
    ModelError::from_status(status, &String::from_utf8_lossy(&body), retry_after)
}

async fn read_body(
    mut response: reqwest::Response,
    limit: usize,
    deadline: Instant,
) -> Result<Vec<u8>, ModelError> {
    let mut body = Vec::new();
    loop {
        match timeout_at(deadline, response.chunk()).await {
            Err(_) => return Err(ModelError::new(ModelErrorKind::Silent, "the answer did not end")),
            Ok(Err(error)) => {
                return Err(ModelError::new(ModelErrorKind::Broken, chain(&error.without_url())));
            }
            Ok(Ok(None)) => return Ok(body),
            Ok(Ok(Some(chunk))) => {
                let room = limit.saturating_sub(body.len());
                body.extend_from_slice(&chunk[..chunk.len().min(room)]);
                if room < chunk.len() {
                    return Ok(body);
                }
            }
        }
    }
}

/// What `retry-after-ms` or `retry-after` asks for. Dates are rare from model providers and not honoured.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let number = |name: &str| -> Option<f64> { headers.get(name)?.to_str().ok()?.trim().parse().ok() };
    let seconds = number("retry-after-ms").map(|ms| ms / 1000.0).or_else(|| number(RETRY_AFTER.as_str()))?;
    Duration::try_from_secs_f64(seconds).ok()
}

fn network(error: reqwest::Error) -> ModelError {
    let kind = if error.is_builder() { ModelErrorKind::BadRequest } else { ModelErrorKind::Network };
    ModelError::new(kind, chain(&error.without_url()))
}

/// The error with its causes, the innermost last: `reqwest` keeps the useful half for itself.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let part = inner.to_string();
        if !text.contains(&part) {
            text.push_str(": ");
            text.push_str(&part);
        }
        cause = inner.source();
    }
    text
}

fn hide_secret(mut error: ModelError, secret: Option<&str>) -> ModelError {
    if let Some(secret) = secret.filter(|secret| secret.len() >= 6) {
        error.detail = error.detail.replace(secret, "***");
    }
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_read_in_both_spellings() {
        let mut headers = HeaderMap::new();
        headers.insert("retry-after", "7".parse().unwrap());
        assert_eq!(retry_after(&headers), Some(Duration::from_secs(7)));
        headers.insert("retry-after-ms", "250".parse().unwrap());
        assert_eq!(retry_after(&headers), Some(Duration::from_millis(250)));
        headers.insert("retry-after-ms", "-1".parse().unwrap());
        assert_eq!(retry_after(&headers), None);
    }

    #[test]
    fn secrets_are_taken_out_of_what_the_provider_says() {
        let error = ModelError::new(ModelErrorKind::Auth, "bad key sk-12345678");
        assert_eq!(hide_secret(error, Some("sk-12345678")).detail, "bad key ***");
    }
}
