//! Model providers: one trait, two wire formats, and the rules about which model is asked and how often.

mod account;
mod anthropic;
mod assemble;
mod candidate;
pub mod catalog;
mod error;
mod http;
mod known;
pub mod model;
mod ollama;
mod openai;
mod sse;
#[cfg(test)]
mod tests;
mod turn;

pub use account::Account;
pub use anthropic::{API as ANTHROPIC_API, Anthropic};
pub use assemble::Assembler;
pub use error::{ModelError, ModelErrorKind};
pub use http::{Patience, client};
pub use ollama::OllamaProbe;
pub use openai::{API as OPENAI_API, OpenAi};
pub use sse::{MAX_EVENT_BYTES, SseEvent, SseParser, TooLarge};
pub use turn::{RetryPolicy, TurnFailure, TurnObserver, complete};

pub(crate) use error::shorten;

use futures_util::future::LocalBoxFuture;
use model::{ModelEvent, ModelRequest};
use reqwest::header::HeaderValue;

/// One way of asking a model.
pub trait Provider {
    /// The wire format's name, as transcripts have it.
    fn api(&self) -> &'static str;

    /// Asks once and hands out the answer as it comes. `Ok` means that the provider said the answer is
    /// whole; dropping the future ends the request.
    fn stream<'a>(
        &'a self,
        request: &'a ModelRequest,
        events: &'a mut dyn FnMut(ModelEvent),
    ) -> LocalBoxFuture<'a, Result<(), ModelError>>;
}

/// The stream ended, the answer did not.
fn broken() -> ModelError {
    ModelError::new(ModelErrorKind::Broken, "the stream ended before the answer did")
}

/// A header that no debug output shows.
fn secret_header(text: &str) -> Result<HeaderValue, ModelError> {
    let mut value = HeaderValue::from_str(text.trim())
        .map_err(|_| ModelError::new(ModelErrorKind::Auth, "the API key holds characters that no key has"))?;
    value.set_sensitive(true);
    Ok(value)
}

/// Both APIs take ids of letters, digits, `_` and `-` only, and a transcript may hold another provider's.
fn api_call_id(id: &str) -> String {
    id.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' }).collect()
}

/// How a summary of older turns is told to the model.
fn summary_text(summary: &str) -> String {
    format!("[Summary of the conversation so far; the turns themselves are no longer shown]\n{summary}")
}
