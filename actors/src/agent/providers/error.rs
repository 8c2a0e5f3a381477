//! What can go wrong with a model, and the one sentence a person reads about it.

use std::time::Duration;

/// Why a model call failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ModelErrorKind {
    /// The key is missing, wrong or not allowed.
    Auth,
    /// The account has no credit left.
    Billing,
    /// The provider doesn't know the model.
    ModelMissing,
    RateLimited,
    Overloaded,
    /// A 5xx other than overload.
    Server,
    /// The conversation is larger than the model takes.
    ContextOverflow,
    /// The provider refused the request itself.
    BadRequest,
    /// No connection, no name, a broken one before any answer.
    Network,
    /// The stream fell silent.
    Silent,
    /// The stream ended before the answer did.
    Broken,
    /// The answer was no answer of this API.
    Protocol,
    /// There is something else at the address.
    NotAnApi,
}

impl ModelErrorKind {
    /// True when the same request may succeed a little later.
    pub fn passes(self) -> bool {
        matches!(
            self,
            Self::RateLimited | Self::Overloaded | Self::Server | Self::Network | Self::Silent | Self::Broken
        )
    }
}

/// A failed model call.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{provider}/{model}: {kind:?}: {detail}")]
pub struct ModelError {
    pub kind: ModelErrorKind,
    pub provider: String,
    pub model: String,
    pub status: Option<u16>,
    /// What the provider said, shortened, without secrets.
    pub detail: String,
    pub retry_after: Option<Duration>,
}

impl ModelError {
    /// An error without an HTTP status.
    pub fn new(kind: ModelErrorKind, detail: impl Into<String>) -> Self {
        let (provider, model) = (String::new(), String::new());
        Self { kind, provider, model, status: None, detail: detail.into(), retry_after: None }
    }

    /// Names who failed.
    pub fn of(mut self, provider: &str, model: &str) -> Self {
        provider.clone_into(&mut self.provider);
        model.clone_into(&mut self.model);
        self
    }

    /// Sorts an HTTP refusal by its status and by what the body says.
    pub fn from_status(status: u16, body: &str, retry_after: Option<Duration>) -> Self {
        let detail = message_in(body);
        // Every model API says in JSON what it doesn't know.
        if matches!(status, 404 | 405) && serde_json::from_str::<serde_json::Value>(body).is_err() {
            return Self { status: Some(status), ..Self::new(ModelErrorKind::NotAnApi, detail) };
        }
        let kind = classify(status, &format!("{body} {detail}").to_ascii_lowercase());
        Self { status: Some(status), retry_after, ..Self::new(kind, detail) }
    }

    /// One plain sentence for the chat: what happened and what to do.
    pub fn sentence(&self) -> String {
        let (provider, model) = (&self.provider, &self.model);
        match self.kind {
            ModelErrorKind::Auth => format!(
                "The model provider `{provider}` refused the API key. Check the key in the configuration or environment, then try again."
            ),
            ModelErrorKind::Billing => {
                format!("The account at `{provider}` has no credit left, so `{model}` did not answer.")
            }
            ModelErrorKind::ModelMissing => {
                format!(
                    "The provider `{provider}` has no model called `{model}`. Choose another one in `agents.defaults.model`."
                )
            }
            ModelErrorKind::RateLimited => {
                format!(
                    "The model `{provider}/{model}` is limiting requests right now. Try again in a minute."
                )
            }
            ModelErrorKind::Overloaded => {
                format!("The model `{provider}/{model}` is overloaded right now. Try again in a minute.")
            }
            ModelErrorKind::Server => {
                format!(
                    "The model provider `{provider}` has a fault of its own{}. Try again later.",
                    self.status_note()
                )
            }
            ModelErrorKind::ContextOverflow => {
                format!("This conversation has grown too long for `{model}`. Send /new to start a fresh one.")
            }
            ModelErrorKind::BadRequest => {
                format!(
                    "The model provider `{provider}` refused the request{}: {}",
                    self.status_note(),
                    self.short_detail()
                )
            }
            ModelErrorKind::Network => {
                format!("The model provider `{provider}` could not be reached: {}", self.short_detail())
            }
            ModelErrorKind::Silent => {
                format!("The model `{provider}/{model}` stopped sending in the middle of its answer.")
            }
            ModelErrorKind::Broken => {
                format!("The connection to the model `{provider}/{model}` broke in the middle of its answer.")
            }
            ModelErrorKind::NotAnApi => format!(
                "The address of the model provider `{provider}` is no model API: what answers there is something else{}. Check `models.providers.{provider}.baseUrl`.",
                self.status_note()
            ),
            ModelErrorKind::Protocol => {
                format!(
                    "The model provider `{provider}` answered in a way that could not be read: {}",
                    self.short_detail()
                )
            }
        }
    }

    fn status_note(&self) -> String {
        self.status.map(|status| format!(" (HTTP {status})")).unwrap_or_default()
    }

    fn short_detail(&self) -> String {
        shorten(&self.detail, 300)
    }
}

fn classify(status: u16, text: &str) -> ModelErrorKind {
    let says = |words: &[&str]| words.iter().any(|word| text.contains(word));
    match status {
        401 | 403 => ModelErrorKind::Auth,
        402 => ModelErrorKind::Billing,
        404 => ModelErrorKind::ModelMissing,
        429 if says(&["insufficient_quota", "credit balance"]) => ModelErrorKind::Billing,
        429 => ModelErrorKind::RateLimited,
        413 => ModelErrorKind::ContextOverflow,
        503 | 529 => ModelErrorKind::Overloaded,
        408 | 409 | 425 => ModelErrorKind::Server,
        status if status >= 500 => ModelErrorKind::Server,
        _ if says(&["overloaded"]) => ModelErrorKind::Overloaded,
        _ if says(&["credit balance", "insufficient_quota"]) => ModelErrorKind::Billing,
        _ if says(&["invalid api key", "invalid x-api-key", "incorrect api key", "api key not valid"]) => {
            ModelErrorKind::Auth
        }
        _ if says(&["model_not_found", "does not exist", "not a valid model", "unknown model"]) => {
            ModelErrorKind::ModelMissing
        }
        _ if says(&[
            "context_length",
            "context length",
            "context window",
            "maximum context",
            "prompt is too long",
            "too many tokens",
            "input length",
            "exceed context",
        ]) =>
        {
            ModelErrorKind::ContextOverflow
        }
        _ => ModelErrorKind::BadRequest,
    }
}

/// The human part of an error body, whichever shape the provider gives it.
pub(super) fn message_in(body: &str) -> String {
    let value: Option<serde_json::Value> = serde_json::from_str(body).ok();
    let found = value.as_ref().and_then(|value| {
        ["/error/message", "/message", "/error", "/detail", "/0/error/message"]
            .iter()
            .find_map(|path| value.pointer(path).and_then(|found| found.as_str()).map(str::to_owned))
    });
    shorten(found.as_deref().unwrap_or(body).trim(), 600)
}

/// At most `limit` bytes, cut between characters, with an ellipsis.
pub(crate) fn shorten(text: &str, limit: usize) -> String {
    if text.len() <= limit {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(limit);
    format!("{}…", &text[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(status: u16, body: &str) -> ModelErrorKind {
        ModelError::from_status(status, body, None).kind
    }

    #[test]
    fn statuses_and_bodies_are_sorted() {
        assert_eq!(kind(401, ""), ModelErrorKind::Auth);
        assert_eq!(kind(404, "{\"error\":{\"message\":\"model: nope\"}}"), ModelErrorKind::ModelMissing);
        assert_eq!(kind(429, "{\"error\":{\"code\":\"insufficient_quota\"}}"), ModelErrorKind::Billing);
        assert_eq!(kind(429, "slow down"), ModelErrorKind::RateLimited);
        assert_eq!(kind(529, "{}"), ModelErrorKind::Overloaded);
        assert_eq!(kind(500, "{}"), ModelErrorKind::Server);
        assert_eq!(
            kind(400, "{\"error\":{\"message\":\"prompt is too long: 9 > 8\"}}"),
            ModelErrorKind::ContextOverflow
        );
        assert_eq!(kind(400, "bad"), ModelErrorKind::BadRequest);
        assert_eq!(kind(404, "<html>not here</html>"), ModelErrorKind::NotAnApi);
        assert_eq!(kind(502, "<html>not now</html>"), ModelErrorKind::Server);
    }

    #[test]
    fn the_sentence_names_the_provider_and_the_cure() {
        let error = ModelError::from_status(401, "{}", None).of("anthropic", "claude");
        assert!(error.sentence().contains("`anthropic` refused the API key"));
    }

    #[test]
    fn bodies_of_any_shape_give_a_message() {
        assert_eq!(message_in("{\"error\":\"model 'x' not found\"}"), "model 'x' not found");
        assert_eq!(message_in("<html>502</html>"), "<html>502</html>");
    }
}
