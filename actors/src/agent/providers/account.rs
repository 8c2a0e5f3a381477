//! Where a provider is and how it knows us.

use super::error::{ModelError, ModelErrorKind};
use crate::auth::is_private;
use crate::settings::Secret;
use reqwest::Url;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};

/// One configured provider.
#[derive(Debug, Clone)]
pub struct Account {
    /// The provider's id, the part before the slash of a model's name.
    pub provider: String,
    pub base_url: Url,
    pub api_key: Option<Secret>,
    /// Sent with every request, over our own.
    pub headers: Vec<(String, Secret)>,
}

impl Account {
    pub(super) fn key(&self) -> Option<&str> {
        self.api_key.as_ref().map(Secret::expose).map(str::trim).filter(|key| !key.is_empty())
    }

    /// `path` under the base address; a bare host gets `version` in between.
    pub(super) fn url(&self, version: &str, path: &str) -> String {
        let base = self.base_url.as_str().trim_end_matches('/');
        let bare = self.base_url.path() == "/";
        if bare { format!("{base}/{version}/{path}") } else { format!("{base}/{path}") }
    }

    /// True when the base address is `domain` or a name under it.
    pub(super) fn is_host(&self, domain: &str) -> bool {
        let before = self.base_url.host_str().and_then(|host| host.strip_suffix(domain));
        before.is_some_and(|before| before.is_empty() || before.ends_with('.'))
    }

    /// Whether the provider is on this machine or its network, where a key is rarely asked for.
    pub(super) fn is_local(&self) -> bool {
        let host = self.base_url.host_str().unwrap_or_default();
        match host.trim_matches(['[', ']']).parse() {
            Ok(address) => is_private(address),
            Err(_) => host == "localhost" || host.ends_with(".local") || host.ends_with(".internal"),
        }
    }

    /// The headers of one request: `own` first, configured ones over them.
    pub(super) fn add_headers(&self, own: HeaderMap) -> Result<HeaderMap, ModelError> {
        let mut headers = own;
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        for (name, value) in &self.headers {
            let wrong =
                |_| ModelError::new(ModelErrorKind::BadRequest, format!("`{name}` is no header name"));
            let header = HeaderName::from_bytes(name.as_bytes()).map_err(wrong)?;
            headers.insert(header, super::secret_header(value.expose())?);
        }
        Ok(headers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(base_url: &str) -> Account {
        let (provider, base_url) = ("p".to_owned(), base_url.parse().unwrap());
        Account { provider, base_url, api_key: None, headers: Vec::new() }
    }

    #[test]
    fn a_bare_host_gets_the_version() {
        let url = |base: &str| account(base).url("v1", "messages");
        assert_eq!(url("https://api.anthropic.com"), "https://api.anthropic.com/v1/messages");
        assert_eq!(url("http://127.0.0.1:11434/"), "http://127.0.0.1:11434/v1/messages");
        assert_eq!(url("https://openrouter.ai/api/v1/"), "https://openrouter.ai/api/v1/messages");
    }

    #[test]
    fn hosts_are_compared_whole() {
        assert!(account("https://api.openai.com/v1").is_host("openai.com"));
        assert!(!account("https://notopenai.com/v1").is_host("openai.com"));
        assert!(!account("https://openai.com.evil.example/v1").is_host("openai.com"));
    }

    #[test]
    fn a_host_is_read_as_the_request_will_read_it() {
        for local in [
            "http://127.0.0.1:8000/v1",
            "http://[::1]:1/v1",
            "http://[fd00::1]",
            "http://10.0.0.2",
            "http://100.64.0.7",
            "http://user:secret@localhost:1/v1",
            "http://LOCALHOST",
            "http://nas.local/v1",
        ] {
            assert!(account(local).is_local(), "{local}");
        }
        for remote in [
            "https://api.openai.com/v1",
            "https://8.8.8.8",
            "https://localhost@api.openai.com",
            "https://api.openai.com/?localhost",
        ] {
            assert!(!account(remote).is_local(), "{remote}");
        }
        assert!(account("https://API.OpenAI.com/v1").is_host("openai.com"));
        assert!(!account("https://openai.com@evil.example/v1").is_host("openai.com"));
    }
}
