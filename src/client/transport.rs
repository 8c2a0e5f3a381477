//! The socket under a connection: TCP, TLS where asked for, then the WebSocket upgrade.

use std::io;

use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{self, client::IntoClientRequest, error::ProtocolError, protocol::WebSocketConfig},
};

use super::{ClientError, Endpoint, tls};
use tidegate_protocol::limits::MAX_PAYLOAD;

/// Any byte stream a WebSocket can run over.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

pub(super) type Socket = WebSocketStream<Box<dyn Stream>>;

/// Small: an idle node host should be small too.
const BUFFER_BYTES: usize = 16 * 1024;

/// Opens a WebSocket to `endpoint`.
pub(super) async fn open(endpoint: &Endpoint) -> Result<Socket, ClientError> {
    endpoint.check_plaintext()?;
    let unreachable = |source| ClientError::Unreachable { url: endpoint.to_string(), source };
    let socket = TcpStream::connect(endpoint.dialled()).await.map_err(unreachable)?;
    // Frames are small and answers are awaited.
    socket.set_nodelay(true).map_err(unreachable)?;
    let stream: Box<dyn Stream> =
        if endpoint.tls { Box::new(tls::wrap(endpoint, socket).await?) } else { Box::new(socket) };
    upgrade(endpoint, stream).await
}

async fn upgrade(endpoint: &Endpoint, stream: Box<dyn Stream>) -> Result<Socket, ClientError> {
    let failed = |problem: String| ClientError::NotAGateway { url: endpoint.to_string(), problem };
    let scheme = if endpoint.tls { "wss" } else { "ws" };
    let request = format!("{scheme}://{}{}", endpoint.authority(), endpoint.path)
        .into_client_request()
        .map_err(|error| ClientError::BadAddress { url: endpoint.to_string(), problem: error.to_string() })?;
    let config = WebSocketConfig::default()
        .read_buffer_size(BUFFER_BYTES)
        .write_buffer_size(BUFFER_BYTES)
        .max_message_size(Some(MAX_PAYLOAD))
        .max_frame_size(Some(MAX_PAYLOAD));
    match client_async_with_config(request, stream, Some(config)).await {
        Ok((socket, _)) => Ok(socket),
        Err(tungstenite::Error::Http(answer)) => Err(failed(refused_upgrade(&answer))),
        Err(tungstenite::Error::Io(source)) => {
            Err(ClientError::Unreachable { url: endpoint.to_string(), source })
        }
        Err(tungstenite::Error::Protocol(ProtocolError::HttparseError(_))) if !endpoint.tls => Err(failed(
            "its answer is no HTTP; if it speaks TLS, use wss:// (or --tls for a node)".to_owned(),
        )),
        Err(error) => Err(failed(error.to_string())),
    }
}

/// The status of an answer that is not an upgrade, and the sentence in its body, if there is one.
fn refused_upgrade(answer: &tungstenite::http::Response<Option<Vec<u8>>>) -> String {
    let body = answer.body().as_deref().map(String::from_utf8_lossy).unwrap_or_default();
    let message = serde_json::from_str::<serde_json::Value>(&body)
        .ok()
        .and_then(|json| Some(json.get("error")?.get("message")?.as_str()?.to_owned()))
        .unwrap_or_else(|| body.lines().next().unwrap_or_default().trim().chars().take(200).collect());
    let colon = if message.is_empty() { "" } else { ": " };
    format!("HTTP {}{colon}{message}", answer.status())
}

/// What a failed read or write says about the end of a connection.
pub(super) fn ended(error: tungstenite::Error) -> ClientError {
    let reason = match error {
        tungstenite::Error::ConnectionClosed
        | tungstenite::Error::AlreadyClosed
        | tungstenite::Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => String::new(),
        tungstenite::Error::Io(error) if error.kind() == io::ErrorKind::UnexpectedEof => String::new(),
        error => error.to_string(),
    };
    ClientError::Closed { code: 1006, reason }
}
