//! TLS to a gateway: by pin, or by the authorities that this machine trusts.
//!
//! A pin is the SHA-256 of the gateway's certificate; that one is trusted and nothing else. It replaces the chain of
//! authorities, not the signature: whoever shows the certificate must hold its key.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
};

use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{ClientError, Endpoint};
use crate::tls::Pin;

/// Sets up TLS over `socket`, accepting only the pinned certificate; without a pin, only one that an authority of
/// this machine vouches for.
pub(crate) async fn wrap(
    endpoint: &Endpoint,
    socket: TcpStream,
) -> Result<TlsStream<TcpStream>, ClientError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let trust = match endpoint.pin {
        Some(pin) => Trust::Pin(pin),
        None => Trust::Authorities(authorities(provider.clone()).await),
    };
    let verifier = Arc::new(Verifier { trust, seen: Mutex::new(None), provider: provider.clone() });
    let failed = |source: io::Error| ClientError::Tls { url: endpoint.to_string(), source };
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| failed(io::Error::other(error)))?
        .dangerous()
        .with_custom_certificate_verifier(verifier.clone())
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let name =
        ServerName::try_from(endpoint.host.clone()).map_err(|error| failed(io::Error::other(error)))?;
    TlsConnector::from(Arc::new(config)).connect(name, socket).await.map_err(|source| {
        match verifier.complaint(endpoint) {
            Some(complaint) => complaint,
            None if source.kind() == io::ErrorKind::InvalidData => failed(source),
            // The connection broke: that says nothing about who is there.
            None => ClientError::Unreachable { url: endpoint.to_string(), source },
        }
    })
}

/// This machine's own list; `None` on a machine without one.
async fn authorities(provider: Arc<CryptoProvider>) -> Option<Arc<WebPkiServerVerifier>> {
    let load = move || {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build().ok()
    };
    tokio::task::spawn_blocking(load).await.ok().flatten()
}

#[derive(Debug)]
enum Trust {
    Pin(Pin),
    Authorities(Option<Arc<WebPkiServerVerifier>>),
}

/// Remembers the certificate that it refused, so that the error can name it.
#[derive(Debug)]
struct Verifier {
    trust: Trust,
    seen: Mutex<Option<Pin>>,
    provider: Arc<CryptoProvider>,
}

impl Verifier {
    /// What was wrong with the certificate, if that was it.
    fn complaint(&self, endpoint: &Endpoint) -> Option<ClientError> {
        let found = (*self.seen.lock().unwrap_or_else(PoisonError::into_inner))?.to_string();
        let url = endpoint.to_string();
        Some(match self.trust {
            Trust::Pin(pin) => ClientError::WrongPin { url, expected: pin.to_string(), found },
            Trust::Authorities(_) => ClientError::NoPin { url, found },
        })
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let found = Pin::of(leaf);
        let verdict = match &self.trust {
            Trust::Pin(pin) if pin.is(&found) => Ok(ServerCertVerified::assertion()),
            Trust::Authorities(Some(known)) => known.verify_server_cert(leaf, intermediates, name, ocsp, now),
            Trust::Pin(_) | Trust::Authorities(None) => Err(rustls::Error::InvalidCertificate(
                rustls::CertificateError::ApplicationVerificationFailure,
            )),
        };
        if verdict.is_err() {
            *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(found);
        }
        verdict
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
