//! From an accepted TCP connection to one that speaks TLS, or to its end.
//!
//! A handshake costs work before anything is known about the peer. So each address may have only so many under way,
//! and a slow one ends; whoever sits in half a handshake keeps nobody else out.

use actix_tls::accept::rustls_0_23::TlsStream;
use actix_web::rt::net::TcpStream;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tidegate_actors::auth::net::household;
use tokio_rustls::TlsAcceptor;

/// Time for a handshake.
const PATIENCE: Duration = Duration::from_secs(10);

/// Handshakes that one address may have under way.
const SHARE: usize = 64;

/// Why a connection came to nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum HandshakeError {
    #[error("too many TLS handshakes at a time from this address")]
    Crowded,
    #[error("the TLS handshake took too long")]
    Slow,
    #[error("TLS: {0}")]
    Tls(#[from] std::io::Error),
}

/// Does the handshakes of a listener.
#[derive(Clone)]
pub(super) struct Handshakes {
    acceptor: TlsAcceptor,
    under_way: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

impl Handshakes {
    pub(super) fn new(config: Arc<rustls::ServerConfig>) -> Self {
        Self { acceptor: TlsAcceptor::from(config), under_way: Arc::default() }
    }

    pub(super) async fn enter(self, stream: TcpStream) -> Result<TlsStream<TcpStream>, HandshakeError> {
        let _place = self.place(stream.peer_addr()?.ip()).ok_or(HandshakeError::Crowded)?;
        match tokio::time::timeout(PATIENCE, self.acceptor.accept(stream)).await {
            Ok(Ok(stream)) => Ok(stream.into()),
            Ok(Err(error)) => Err(error.into()),
            Err(_) => Err(HandshakeError::Slow),
        }
    }

    fn place(&self, address: IpAddr) -> Option<Place> {
        let address = household(address);
        let mut under_way = self.under_way();
        let held = under_way.entry(address).or_default();
        if *held >= SHARE {
            return None;
        }
        *held += 1;
        Some(Place { all: self.clone(), address })
    }

    fn under_way(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One handshake under way, until dropped.
struct Place {
    all: Handshakes,
    address: IpAddr,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut under_way = self.all.under_way();
        if let Some(held) = under_way.get_mut(&self.address) {
            *held -= 1;
            if *held == 0 {
                under_way.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::{ServerTls, TlsFiles};
    use tidegate_actors::settings::{StatePaths, gateway::TlsSettings};

    fn handshakes() -> Handshakes {
        let folder = tempfile::tempdir().unwrap();
        let files = TlsFiles::of(&TlsSettings::default(), &StatePaths::new(folder.path()));
        Handshakes::new(ServerTls::open(files).unwrap().config())
    }

    #[test]
    fn one_address_cannot_take_the_handshakes_of_others() {
        let (all, crowd) = (handshakes(), IpAddr::from([192, 0, 2, 1]));
        let mut places: Vec<_> = std::iter::from_fn(|| all.place(crowd)).collect();
        assert_eq!(places.len(), SHARE);
        assert!(all.place(IpAddr::from([192, 0, 2, 2])).is_some());
        places.pop();
        assert!(all.place(crowd).is_some());
        drop(places);
        assert!(all.under_way().is_empty());
    }

    #[actix_web::test]
    async fn half_a_handshake_ends() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let _silent = TcpStream::connect(address).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        let entering = handshakes();
        tokio::time::pause();
        assert!(matches!(entering.enter(stream).await, Err(HandshakeError::Slow)));
    }
}
