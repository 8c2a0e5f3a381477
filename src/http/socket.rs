//! The socket actor: moves frames between a WebSocket and its session, and nothing else.
//!
//! This is the only file that knows `actix-web-actors`, which is deprecated upstream. Its guards: the pacer bounds
//! what is read, [`Outgoings`] bounds what is written, the kill switch and the kernel end it when it is stuck.

use super::pacer::{FramePacer, PaceError};
use super::wire::Wire;
use actix::{Actor, ActorContext, Addr, AsyncContext, StreamHandler};
use actix_http::ws::Item;
use actix_web::error::PayloadError;
use actix_web::{HttpRequest, HttpResponse, web};
use actix_web_actors::ws::{self, CloseCode, CloseReason, Message, ProtocolError, WebsocketContext};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;
use tidegate_actors::connection::{FrameLimit, Outgoing, Outgoings};
use tidegate_actors::session::{FromSocket, Session};
use tidegate_protocol::limits::MAX_PAYLOAD;

/// Fragments that one message may have: each costs work however small it is.
const MAX_FRAGMENTS: usize = 1024;

/// How long a peer may take to answer a close frame.
const GOODBYE: Duration = Duration::from_secs(2);

pub(super) struct Socket {
    session: Addr<Session>,
    outgoings: Option<Outgoings>,
    limit: FrameLimit,
    fragments: Option<Fragments>,
    closing: bool,
    wire: Wire,
    /// Set before the error that the pacer's refusal becomes is handed on: actix keeps only its text.
    too_large: Rc<Cell<bool>>,
}

#[derive(Default)]
struct Fragments {
    bytes: BytesMut,
    count: usize,
}

/// Whether actix would answer the upgrade.
///
/// # Errors
/// The answer of HTTP that says what is wrong with it.
pub(super) fn check(request: &HttpRequest) -> Result<(), actix_web::Error> {
    ws::handshake(request)?;
    Ok(())
}

/// Answers the upgrade and starts the socket.
pub(super) fn start(
    request: &HttpRequest,
    body: web::Payload,
    session: Addr<Session>,
    outgoings: Outgoings,
    limit: FrameLimit,
    wire: Wire,
) -> Result<HttpResponse, actix_web::Error> {
    let too_large = Rc::new(Cell::new(false));
    let refused = Rc::clone(&too_large);
    let frames = FramePacer::new(body, limit.clone()).map(move |item| {
        item.map_err(|error| {
            refused.set(matches!(error, PaceError::TooLarge));
            PayloadError::Io(std::io::Error::other(error))
        })
    });
    let outgoings = Some(outgoings);
    let socket = Socket { session, outgoings, limit, fragments: None, closing: false, wire, too_large };
    ws::WsResponseBuilder::new(socket, request, frames).frame_size(MAX_PAYLOAD).start()
}

impl Socket {
    fn goodbye(&mut self, code: CloseCode, reason: String, context: &mut WebsocketContext<Self>) {
        if std::mem::replace(&mut self.closing, true) {
            return;
        }
        // The socket goes on reading until the peer has closed: closing with bytes unread would reset the connection
        // and lose the close frame. A peer that never closes is ended, from outside since this actor may be stuck.
        let kill = self.wire.kill.clone();
        actix_web::rt::spawn(async move {
            actix_web::rt::time::sleep(GOODBYE).await;
            kill();
        });
        let description = (!reason.is_empty()).then_some(reason);
        context.close(Some(CloseReason { code, description }));
    }

    fn text(&mut self, bytes: Bytes, context: &mut WebsocketContext<Self>) {
        match String::from_utf8(bytes.into()) {
            Ok(text) => self.session.do_send(FromSocket::Text(text)),
            Err(_) => self.goodbye(CloseCode::Invalid, String::new(), context),
        }
    }

    fn fragment(&mut self, item: Item, context: &mut WebsocketContext<Self>) {
        let (bytes, last) = match item {
            Item::FirstText(bytes) | Item::FirstBinary(bytes) => {
                self.fragments = Some(Fragments::default());
                (bytes, false)
            }
            Item::Continue(bytes) => (bytes, false),
            Item::Last(bytes) => (bytes, true),
        };
        let Some(fragments) = &mut self.fragments else { return };
        fragments.bytes.extend_from_slice(&bytes);
        fragments.count += 1;
        if fragments.bytes.len() > self.limit.bytes() {
            self.fragments = None;
            self.goodbye(CloseCode::Size, String::new(), context);
        } else if fragments.count > MAX_FRAGMENTS {
            self.fragments = None;
            self.goodbye(CloseCode::Policy, "too many fragments".to_owned(), context);
        } else if last && let Some(whole) = self.fragments.take() {
            self.text(whole.bytes.freeze(), context);
        }
    }

    fn broken(&mut self, error: &ProtocolError, context: &mut WebsocketContext<Self>) {
        let code = match error {
            _ if self.too_large.take() => CloseCode::Size,
            ProtocolError::Overflow => CloseCode::Size,
            ProtocolError::Io(error) => match by_words_of_actix(&error.to_string()) {
                Some(code) => code,
                None => {
                    tracing::debug!(%error, "connection broke");
                    return context.stop();
                }
            },
            _ => CloseCode::Protocol,
        };
        self.goodbye(code, String::new(), context);
    }
}

/// What the peer did wrong, where actix tells it by nothing but a text: "invalid utf-8 sequence of ..." and "incomplete
/// utf-8 byte sequence ..." of `actix-web-actors` for a text frame, "Received a frame with non-zero reserved bits" of
/// `actix-http`.
fn by_words_of_actix(text: &str) -> Option<CloseCode> {
    match text {
        _ if text.contains("utf-8") => Some(CloseCode::Invalid),
        _ if text.contains("reserved bits") => Some(CloseCode::Protocol),
        _ => None,
    }
}

impl Actor for Socket {
    type Context = WebsocketContext<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        if let Some(outgoings) = self.outgoings.take() {
            context.add_stream(outgoings);
        }
    }
}

impl StreamHandler<Outgoing> for Socket {
    fn handle(&mut self, outgoing: Outgoing, context: &mut Self::Context) {
        match outgoing {
            _ if self.closing => (),
            Outgoing::Text(text) => context.text(text),
            Outgoing::Ping => context.ping(b""),
            Outgoing::Close { code, reason } => self.goodbye(CloseCode::from(code), reason, context),
        }
    }

    fn finished(&mut self, context: &mut Self::Context) {
        // The session is gone, and with it every hold on this socket.
        if self.closing {
            context.stop();
        } else {
            self.goodbye(CloseCode::Normal, String::new(), context);
        }
    }
}

impl StreamHandler<Result<Message, ProtocolError>> for Socket {
    fn handle(&mut self, message: Result<Message, ProtocolError>, context: &mut Self::Context) {
        match message {
            Ok(Message::Close(reason)) => {
                if !std::mem::replace(&mut self.closing, true) {
                    context.close(reason);
                }
                context.stop();
            }
            _ if self.closing => (),
            Ok(Message::Text(text)) => self.text(text.into_bytes(), context),
            Ok(Message::Binary(bytes)) => self.text(bytes, context),
            Ok(Message::Continuation(item)) => self.fragment(item, context),
            Ok(Message::Ping(payload)) => {
                context.pong(&payload);
                self.session.do_send(FromSocket::Alive);
            }
            Ok(Message::Pong(_)) => self.session.do_send(FromSocket::Alive),
            Ok(Message::Nop) => (),
            Err(error) => self.broken(&error, context),
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.session.do_send(FromSocket::Gone);
        // actix keeps the connection open for a peer that never closes its side.
        let kill = self.wire.kill.clone();
        actix_web::rt::spawn(async move {
            actix_web::rt::time::sleep(Duration::from_secs(1)).await;
            kill();
        });
    }
}
