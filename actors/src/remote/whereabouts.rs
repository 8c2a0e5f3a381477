//! Where the gateway is to be found: told by those who know, watched by those who tell others.

use std::net::SocketAddr;

/// What is known at the moment; each part is set by the one that knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Whereabouts {
    /// The listeners, once they are open.
    pub listening: Vec<SocketAddr>,
    /// SHA-256, 64 hex digits, of the certificate that they show.
    pub tls_sha256: Option<String>,
    /// The gateway signed it itself: only who knows its fingerprint can trust it.
    pub tls_self_made: bool,
}
