//! The Chat Completions API, as OpenAI and the many servers that imitate it speak it.

mod request;
mod stream;
mod think;

use super::error::{ModelError, ModelErrorKind};
use super::http::{Endpoint, Flow, Patience, post_stream};
use super::model::{ModelEvent, ModelRequest};
use super::{Account, Provider, broken};
use futures_util::future::LocalBoxFuture;
use reqwest::header::{AUTHORIZATION, HeaderMap};

/// The API's name in transcripts.
pub const API: &str = "openai-completions";
/// How often a request is said again without the field that a server refused.
const MAX_CONCESSIONS: usize = 4;

/// Speaks to one server.
pub struct OpenAi {
    account: Account,
    patience: Patience,
}

impl OpenAi {
    /// A provider for `account`.
    pub fn new(account: Account, patience: Patience) -> Self {
        Self { account, patience }
    }

    fn endpoint(&self) -> Result<Endpoint<'_>, ModelError> {
        let mut headers = HeaderMap::new();
        if let Some(key) = self.account.key() {
            headers.insert(AUTHORIZATION, super::secret_header(&format!("Bearer {key}"))?);
        }
        Ok(Endpoint {
            url: self.account.url("v1", "chat/completions"),
            headers: self.account.add_headers(headers)?,
            patience: self.patience,
            secret: self.account.key(),
        })
    }
}

impl Provider for OpenAi {
    fn api(&self) -> &'static str {
        API
    }

    fn stream<'a>(
        &'a self,
        request: &'a ModelRequest,
        events: &'a mut dyn FnMut(ModelEvent),
    ) -> LocalBoxFuture<'a, Result<(), ModelError>> {
        Box::pin(async move {
            let endpoint = self.endpoint()?;
            let official = self.account.is_host("openai.com");
            let mut body = request::body(request, official);
            for _ in 0..MAX_CONCESSIONS {
                let mut decoder = stream::Decoder::default();
                let bytes = body.to_string().into_bytes();
                let outcome = post_stream(&endpoint, bytes, &mut |event| decoder.take(&event, events)).await;
                match outcome {
                    Ok(Flow::Done) => return Ok(()),
                    // Some servers close after the last chunk without saying `[DONE]`.
                    Ok(Flow::More) => {
                        return if decoder.end_of_stream(events) { Ok(()) } else { Err(broken()) };
                    }
                    Err(error)
                        if error.kind == ModelErrorKind::BadRequest
                            && request::concede(&mut body, &error) => {}
                    Err(error) => return Err(error),
                }
            }
            Err(ModelError::new(ModelErrorKind::BadRequest, "the server refuses every form of the request"))
        })
    }
}
