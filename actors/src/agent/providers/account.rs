//! Where a provider is and how it knows us.

use super::error::{ModelError, ModelErrorKind};
use crate::settings::Secret;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};

/// One configured provider.
#[derive(Debug, Clone)]
pub struct Account {
    /// The provider's id, the part before the slash of a model's name.
    pub provider: String,
    pub base_url: String,
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
        let base = self.base_url.trim().trim_end_matches('/');
        let after_scheme = base.split_once("://").map_or(base, |(_, rest)| rest);
        let bare = !after_scheme.contains('/');
        if bare { format!("{base}/{version}/{path}") } else { format!("{base}/{path}") }
    }

    /// True when the base address is `domain` or a name under it.
    pub(super) fn is_host(&self, domain: &str) -> bool {
        let rest = self.base_url.split_once("://").map_or(self.base_url.as_str(), |(_, rest)| rest);
        let host = rest.split(['/', ':', '?']).next().unwrap_or_default();
        host.strip_suffix(domain).is_some_and(|before| before.is_empty() || before.ends_with('.'))
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
        let (provider, base_url) = ("p".to_owned(), base_url.to_owned());
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
}
