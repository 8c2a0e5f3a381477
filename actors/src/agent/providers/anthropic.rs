//! Anthropic's Messages API.

mod request;
mod stream;

use super::error::ModelError;
use super::http::{Endpoint, Flow, Patience, post_stream};
use super::model::{ModelEvent, ModelRequest};
use super::{Account, Provider, broken};
use futures_util::future::LocalBoxFuture;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

/// The API's name in transcripts.
pub const API: &str = "anthropic-messages";
const VERSION: &str = "2023-06-01";

/// Speaks to one account of the Messages API.
pub struct Anthropic {
    account: Account,
    patience: Patience,
}

impl Anthropic {
    /// A provider for `account`.
    pub fn new(account: Account, patience: Patience) -> Self {
        Self { account, patience }
    }

    fn headers(&self) -> Result<HeaderMap, ModelError> {
        let mut headers = HeaderMap::new();
        headers.insert("anthropic-version", HeaderValue::from_static(VERSION));
        if let Some(key) = self.account.key() {
            headers.insert(HeaderName::from_static("x-api-key"), super::secret_header(key)?);
        }
        self.account.add_headers(headers)
    }
}

impl Provider for Anthropic {
    fn api(&self) -> &'static str {
        API
    }

    fn stream<'a>(
        &'a self,
        request: &'a ModelRequest,
        events: &'a mut dyn FnMut(ModelEvent),
    ) -> LocalBoxFuture<'a, Result<(), ModelError>> {
        Box::pin(async move {
            let endpoint = Endpoint {
                url: self.account.url("v1", "messages"),
                headers: self.headers()?,
                patience: self.patience,
                secret: self.account.key(),
            };
            let body = request::body(request).to_string().into_bytes();
            let mut decoder = stream::Decoder::default();
            match post_stream(&endpoint, body, &mut |event| decoder.take(&event, events)).await? {
                Flow::Done => Ok(()),
                Flow::More => Err(broken()),
            }
        })
    }
}
