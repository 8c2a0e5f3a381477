//! One call of a method.

use crate::connection::Caller;
use crate::gateway::Gateway;
use crate::supervise::Restarting;
use actix::MailboxError;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use std::sync::Arc;
use std::time::Duration;
use tidegate_protocol::limits::MAX_PAYLOAD;
use tidegate_protocol::{ErrorShape, frame, params};

/// What a method answers with: JSON text, ready to be framed.
pub type Payload = Box<RawValue>;

/// A method's answer.
pub type Reply = Result<Payload, ErrorShape>;

pub(super) const AGENT: Restarting = Restarting("the agent");
pub(super) const DEVICES: Restarting = Restarting("device pairing");
pub(super) const NODES: Restarting = Restarting("the registry of nodes");

/// When an actor that is restarting may be asked again.
const RESTARTED_AFTER: Duration = Duration::from_millis(500);

/// A request on its way through a handler.
#[derive(Clone)]
pub struct Call {
    pub gateway: Gateway,
    pub caller: Arc<Caller>,
    pub method: &'static str,
    pub(crate) id: Arc<str>,
    pub(crate) params: Option<Arc<RawValue>>,
}

impl Call {
    /// The params, typed.
    ///
    /// # Errors
    /// `INVALID_REQUEST` that names the place; absent params count as `{}`.
    pub fn params<T: DeserializeOwned>(&self) -> Result<T, ErrorShape> {
        params::parse(self.method, self.raw())
    }

    /// The params as they came.
    pub fn raw(&self) -> Option<&RawValue> {
        self.params.as_deref()
    }

    /// An `INVALID_REQUEST` about one place of the params; `path` is a JSON pointer.
    pub fn invalid(&self, path: &str, problem: &str) -> ErrorShape {
        params::invalid(self.method, path, problem)
    }

    /// Whether an answer is small enough for a frame.
    pub fn fits(&self, payload: &RawValue) -> bool {
        let around = frame::response_ok(&self.id, RawValue::NULL).len();
        payload.get().len() + around <= MAX_PAYLOAD
    }

    /// Sends a first response under the request's id; the handler's own answer follows it.
    pub fn interim(&self, payload: &RawValue) {
        let _ = self.caller.outbound.frame(frame::response_ok(&self.id, payload));
    }
}

/// An answer out of any serialisable value.
///
/// # Errors
/// `UNAVAILABLE` when it can't be written as JSON, which is a bug.
pub fn json(value: &(impl Serialize + ?Sized)) -> Reply {
    serde_json::value::to_raw_value(value).map_err(|error| {
        tracing::error!(%error, "an answer could not be serialised");
        ErrorShape::unavailable("the answer could not be serialised; see the gateway's log")
    })
}

/// The answer of a method whose actor is being restarted.
pub(super) fn restarting(who: Restarting) -> impl FnOnce(MailboxError) -> ErrorShape {
    move |_| ErrorShape::unavailable(who.to_string()).retry_after(RESTARTED_AFTER)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_restarts_is_named_and_may_be_asked_again_soon() {
        for who in [AGENT, DEVICES, NODES] {
            let error = restarting(who)(MailboxError::Closed);
            assert_eq!(error.message, format!("{} is restarting; try again", who.0));
            assert_eq!((error.retryable, error.retry_after_ms), (Some(true), Some(500)));
        }
    }
}
