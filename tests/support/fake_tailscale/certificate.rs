//! The certificate of the MagicDNS name. A real daemon has one from a public authority; this authority is known only to
//! clients that are told of it.

use super::NAME;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use rustls::server::ResolvesServerCertUsingSni;
use rustls::sign::CertifiedKey;
use std::sync::Arc;

pub(super) struct Certificate {
    authority: String,
    server: Arc<ServerConfig>,
}

impl Certificate {
    pub(super) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, "An authority of the tests");
        let key = KeyPair::generate().unwrap();
        let authority = params.self_signed(&key).unwrap().pem();
        let issuer = Issuer::new(params, key);

        let own = KeyPair::generate().unwrap();
        let leaf = CertificateParams::new([NAME.to_owned()]).unwrap().signed_by(&own, &issuer).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let key = PrivateKeyDer::try_from(own.serialize_der()).unwrap();
        let signer = provider.key_provider.load_private_key(key).unwrap();
        // As the real daemon: whoever asks for another name, or for none, is shown no certificate.
        let mut names = ResolvesServerCertUsingSni::new();
        names.add(NAME, CertifiedKey::new(vec![leaf.der().clone()], signer)).unwrap();
        let mut server = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(names));
        server.alpn_protocols = vec![b"http/1.1".to_vec()];
        Self { authority, server: Arc::new(server) }
    }

    /// The authority's own certificate, PEM.
    pub(super) fn authority(&self) -> &str {
        &self.authority
    }

    pub(super) fn server(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.server)
    }
}
