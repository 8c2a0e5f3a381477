//! From an accepted TCP connection to one that speaks TLS, or to its end.
//!
//! A handshake costs work before anything is known about the peer. So each address may have only so many under way:
//! when there are more, the oldest ends for the newest. A slow one ends in any case, and whoever sits in half a
//! handshake keeps nobody out.

use actix_tls::accept::rustls_0_23::TlsStream;
use actix_web::rt::net::TcpStream;
use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tidegate_actors::auth::net::household;
use tokio::sync::Notify;
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

/// Does the handshakes of a listener. Cheap to clone.
#[derive(Clone)]
pub(super) struct Handshakes {
    acceptor: TlsAcceptor,
    under_way: Arc<Mutex<HashMap<IpAddr, VecDeque<Arc<Notify>>>>>,
}

impl Handshakes {
    pub(super) fn new(config: Arc<rustls::ServerConfig>) -> Self {
        Self { acceptor: TlsAcceptor::from(config), under_way: Arc::default() }
    }

    pub(super) async fn enter(self, stream: TcpStream) -> Result<TlsStream<TcpStream>, HandshakeError> {
        let place = self.place(stream.peer_addr()?.ip());
        tokio::select! {
            shaken = tokio::time::timeout(PATIENCE, self.acceptor.accept(stream)) => match shaken {
                Ok(stream) => Ok(stream?.into()),
                Err(_) => Err(HandshakeError::Slow),
            },
            () = place.leave.notified() => Err(HandshakeError::Crowded),
        }
    }

    fn place(&self, address: IpAddr) -> Place {
        let address = household(address);
        let leave = Arc::new(Notify::new());
        let mut under_way = self.under_way();
        let held = under_way.entry(address).or_default();
        held.push_back(leave.clone());
        if held.len() > SHARE
            && let Some(oldest) = held.pop_front()
        {
            oldest.notify_one();
        }
        Place { all: self.clone(), address, leave }
    }

    fn under_way(&self) -> MutexGuard<'_, HashMap<IpAddr, VecDeque<Arc<Notify>>>> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One handshake under way, until dropped.
struct Place {
    all: Handshakes,
    address: IpAddr,
    /// Told when another needs the place.
    leave: Arc<Notify>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut under_way = self.all.under_way();
        if let Some(held) = under_way.get_mut(&self.address) {
            held.retain(|leave| !Arc::ptr_eq(leave, &self.leave));
            if held.is_empty() {
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

    #[tokio::test(start_paused = true)]
    async fn the_oldest_handshake_of_a_crowd_ends_for_the_newest_and_nobody_elses() {
        let all = handshakes();
        let [crowd, other] = [1, 2].map(|host| IpAddr::from([192, 0, 2, host]));
        let apart = all.place(other);
        let mut places: Vec<_> = (0..=SHARE).map(|_| all.place(crowd)).collect();
        let told = async |place: &Place| {
            tokio::time::timeout(Duration::from_millis(1), place.leave.notified()).await.is_ok()
        };
        assert!(told(&places.remove(0)).await);
        assert!(!told(&places[0]).await && !told(&apart).await);
        assert_eq!(all.under_way()[&crowd].len(), SHARE);
        drop((places, apart));
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
