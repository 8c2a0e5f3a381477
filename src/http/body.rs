//! The end of a connection: it serves one request, and no body, since no route reads one.

use super::wire::Wire;
use actix_web::dev::{RequestHead, ServiceRequest, ServiceResponse};
use actix_web::http::{ConnectionType, header};
use std::cell::Cell;
use std::time::Duration;
use tidegate_actors::connection::KillSwitch;

/// How long a sender may take to read the answer and stop sending.
pub(super) const GOODBYE: Duration = Duration::from_secs(2);

/// Whether a body follows the head.
pub(super) fn is_announced(head: &RequestHead) -> bool {
    let sized = head.headers.get_all(header::CONTENT_LENGTH).any(|length| length != "0");
    sized || head.headers.contains_key(header::TRANSFER_ENCODING)
}

/// What is left to do after the answer: nothing, or to end a connection on which a body may come for ever.
pub(super) struct LastWords(Option<KillSwitch>);

impl LastWords {
    pub(super) fn of(request: &ServiceRequest) -> Self {
        let kill = || request.conn_data::<Wire>().map(|wire| wire.kill.clone());
        Self(is_announced(request.head()).then(kill).flatten())
    }

    pub(super) fn after<B>(self, mut answer: ServiceResponse<B>) -> ServiceResponse<B> {
        if let Some(kill) = self.0 {
            answer.response_mut().head_mut().set_connection_type(ConnectionType::Close);
            actix_web::rt::spawn(async move {
                actix_web::rt::time::sleep(GOODBYE).await;
                kill();
            });
        }
        answer
    }
}

/// Whether a connection has brought its request.
#[derive(Default)]
pub(super) struct Served(Cell<bool>);

impl Served {
    /// How to end the connection, if it brought a request before this one. What follows a request may as well be its
    /// body, so it gets no answer.
    pub(super) fn second(request: &ServiceRequest) -> Option<KillSwitch> {
        let served = request.conn_data::<Self>()?.0.replace(true);
        served.then(|| request.conn_data::<Wire>().map(|wire| wire.kill.clone())).flatten()
    }
}
