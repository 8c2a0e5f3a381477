//! Looks for an Ollama on this machine, only when nothing else could answer.

use super::http::client;
use serde::Deserialize;
use std::cell::RefCell;
use std::time::Duration;
use tokio::time::Instant;

const PROBE_TIMEOUT: Duration = Duration::from_millis(800);
/// How long an answer is believed; a model that was just pulled should be found soon.
const FOUND_FOR: Duration = Duration::from_secs(60);
const ABSENT_FOR: Duration = Duration::from_secs(5);

/// Remembers the last probe for a moment.
#[derive(Debug, Default)]
pub struct OllamaProbe(RefCell<Option<(Instant, Vec<String>)>>);

#[derive(Debug, Deserialize)]
struct Tags {
    #[serde(default)]
    models: Vec<Tag>,
}

#[derive(Debug, Deserialize)]
struct Tag {
    name: String,
}

impl OllamaProbe {
    /// The models that a local Ollama has, the most recently changed first; empty when there is none.
    pub async fn models(&self, host: Option<String>) -> Vec<String> {
        if let Some((until, models)) = &*self.0.borrow()
            && Instant::now() < *until
        {
            return models.clone();
        }
        let models = tags(host.as_deref()).await.unwrap_or_default();
        let keep = if models.is_empty() { ABSENT_FOR } else { FOUND_FOR };
        *self.0.borrow_mut() = Some((Instant::now() + keep, models.clone()));
        models
    }
}

async fn tags(host: Option<&str>) -> Option<Vec<String>> {
    let base = base_from_host(host.unwrap_or_default());
    let url = format!("{}/api/tags", base.trim_end_matches("/v1"));
    let response = client().ok()?.get(url).timeout(PROBE_TIMEOUT).send().await.ok()?;
    let tags: Tags = response.error_for_status().ok()?.json().await.ok()?;
    let chats = tags.models.into_iter().map(|tag| tag.name).filter(|name| !name.contains("embed"));
    Some(chats.collect())
}

/// The address that `OLLAMA_HOST` means: with or without scheme and port, and with `0.0.0.0`, which is where
/// the server listens and not where it is found.
pub(super) fn base_from_host(host: &str) -> String {
    let host = host.trim().trim_end_matches('/');
    let (scheme, rest) = host.split_once("://").unwrap_or(("http", host));
    let rest = rest.trim_end_matches("/v1");
    let (name, port) = match rest.rsplit_once(':') {
        Some((name, port)) if !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) => {
            (name, port)
        }
        _ => (rest, "11434"),
    };
    let name = if matches!(name, "" | "0.0.0.0" | "[::]") { "127.0.0.1" } else { name };
    format!("{scheme}://{name}:{port}/v1")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_in_every_spelling() {
        assert_eq!(base_from_host(""), "http://127.0.0.1:11434/v1");
        assert_eq!(base_from_host("0.0.0.0"), "http://127.0.0.1:11434/v1");
        assert_eq!(base_from_host(":9"), "http://127.0.0.1:9/v1");
        assert_eq!(base_from_host("http://box.local:80/"), "http://box.local:80/v1");
        assert_eq!(base_from_host("[::1]:11434"), "http://[::1]:11434/v1");
    }
}
