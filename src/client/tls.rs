//! TLS by pin: the SHA-256 of the gateway's certificate is trusted, and nothing else.
//!
//! The pin replaces the chain of authorities, not the signature: whoever shows the certificate must hold its key.

use std::{
    fmt, io,
    sync::{Arc, Mutex, PoisonError},
};

use aws_lc_rs::{constant_time::verify_slices_are_equal, digest};
use rustls::{
    ClientConfig, DigitallySignedStruct, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{ClientError, Endpoint};

/// SHA-256 of a certificate in DER.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Pin([u8; 32]);

impl Pin {
    /// Reads hex, with or without colons and a leading `sha256:`.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim().to_ascii_lowercase();
        let text = text.strip_prefix("sha256:").or_else(|| text.strip_prefix("sha256/")).unwrap_or(&text);
        let digits: Vec<u8> = text.bytes().filter(|byte| *byte != b':').collect();
        if digits.len() != 64 {
            return None;
        }
        let mut pin = [0; 32];
        for (byte, pair) in pin.iter_mut().zip(digits.chunks(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
        }
        Some(Self(pin))
    }

    /// The pin of a certificate.
    pub fn of(certificate: &[u8]) -> Self {
        let mut pin = [0; 32];
        pin.copy_from_slice(digest::digest(&digest::SHA256, certificate).as_ref());
        Self(pin)
    }
}

impl fmt::Display for Pin {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("sha256:")?;
        self.0.iter().try_for_each(|byte| write!(out, "{byte:02x}"))
    }
}

impl fmt::Debug for Pin {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}

/// Sets up TLS over `socket`, accepting only the pinned certificate.
pub(super) async fn wrap(
    endpoint: &Endpoint,
    socket: TcpStream,
) -> Result<TlsStream<TcpStream>, ClientError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = Arc::new(Pinned { pin: endpoint.pin, seen: Mutex::new(None), provider: provider.clone() });
    let failed = |source: io::Error| ClientError::Tls { url: endpoint.to_string(), source };
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| failed(io::Error::other(error)))?
        .dangerous()
        .with_custom_certificate_verifier(verifier.clone())
        .with_no_client_auth();
    let name =
        ServerName::try_from(endpoint.host.clone()).map_err(|error| failed(io::Error::other(error)))?;
    match TlsConnector::from(Arc::new(config)).connect(name, socket).await {
        Ok(stream) => Ok(stream),
        Err(source) => Err(verifier.complaint(endpoint).unwrap_or_else(|| failed(source))),
    }
}

/// Accepts one certificate, and remembers what it saw so that the error can name it.
#[derive(Debug)]
struct Pinned {
    pin: Option<Pin>,
    seen: Mutex<Option<Pin>>,
    provider: Arc<CryptoProvider>,
}

impl Pinned {
    fn complaint(&self, endpoint: &Endpoint) -> Option<ClientError> {
        let found = (*self.seen.lock().unwrap_or_else(PoisonError::into_inner))?;
        let (url, found_text) = (endpoint.to_string(), found.to_string());
        match self.pin {
            None => Some(ClientError::NoPin { url, found: found_text }),
            Some(pin) if pin != found => {
                Some(ClientError::WrongPin { url, expected: pin.to_string(), found: found_text })
            }
            Some(_) => None,
        }
    }
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let found = Pin::of(leaf);
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(found);
        match self.pin {
            Some(pin) if verify_slices_are_equal(&pin.0, &found.0).is_ok() => {
                Ok(ServerCertVerified::assertion())
            }
            _ => Err(rustls::Error::InvalidCertificate(
                rustls::CertificateError::ApplicationVerificationFailure,
            )),
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pin_is_read_in_the_usual_spellings() {
        let pin = Pin::of(b"certificate");
        let shown = pin.to_string();
        assert_eq!(Pin::parse(&shown), Some(pin));
        let hex = shown.strip_prefix("sha256:").unwrap().to_uppercase();
        assert_eq!(Pin::parse(&hex), Some(pin));
        let pairs: Vec<&str> = (0..32).map(|i| &hex[2 * i..2 * i + 2]).collect();
        assert_eq!(Pin::parse(&pairs.join(":")), Some(pin));
        assert_eq!(Pin::parse(&hex[1..]), None);
        assert_eq!(Pin::parse(&hex.replace('A', "g").replace('0', "x")), None);
    }
}
