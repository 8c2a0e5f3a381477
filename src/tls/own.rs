//! A certificate of the gateway's own, for hosts that have none: self-signed, trusted by its fingerprint alone.

use std::{
    net::IpAddr,
    path::Path,
    time::{Duration, SystemTime},
};

use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose, SanType};
use rustls::{
    RootCertStore,
    client::verify_server_cert_signed_by_trust_anchor,
    pki_types::{CertificateDer, UnixTime, pem::PemObject},
    server::ParsedCertificate,
};

use tidegate_actors::remote::{Interface, interfaces};

use super::{TlsError, TlsFiles};
use crate::config::private;

const DAY: Duration = Duration::from_secs(24 * 3600);

/// Clients know it by its fingerprint, which a renewal changes: so it lasts.
const LIFE: Duration = DAY.saturating_mul(3650);

/// How long before its end it is renewed.
pub(super) const RENEW_BEFORE: Duration = DAY.saturating_mul(30);

/// Clocks of clients may be behind.
const BACKDATED: Duration = DAY;

impl TlsFiles {
    /// Makes the pair if it may be made and there is none of it; renews it if it is ours and about to end. True if
    /// there is a new one.
    ///
    /// # Errors
    /// If only half of the pair is there, or the files can't be written.
    pub(super) fn provide(&self) -> Result<bool, TlsError> {
        let make = self.are_to_be_made()? || (self.ours && self.ends_soon());
        if make {
            self.make_pair()?;
        }
        Ok(make)
    }

    /// Whether there is none of the pair, and it may be made.
    ///
    /// # Errors
    /// If a file is missing that may not.
    pub(super) fn are_to_be_made(&self) -> Result<bool, TlsError> {
        match (self.certificate.exists(), self.key.exists()) {
            (true, true) => Ok(false),
            (false, false) if self.make => Ok(true),
            (false, _) => Err(TlsError::Missing(self.certificate.clone())),
            (true, false) => Err(TlsError::Missing(self.key.clone())),
        }
    }

    /// Whether the certificate will have ended in a month.
    pub(super) fn ends_soon(&self) -> bool {
        CertificateDer::from_pem_file(&self.certificate)
            .is_ok_and(|leaf| has_ended(&leaf, SystemTime::now() + RENEW_BEFORE))
    }

    fn make_pair(&self) -> Result<(), TlsError> {
        let key = KeyPair::generate()?;
        let certificate = params()?.self_signed(&key)?;
        // The key first: a certificate without its key would stop the next start.
        write(&self.key, &key.serialize_pem())?;
        write(&self.certificate, &certificate.pem())?;
        tracing::info!(certificate = %self.certificate.display(), "self-signed certificate made");
        Ok(())
    }
}

fn write(path: &Path, text: &str) -> Result<(), TlsError> {
    if let Some(folder) = path.parent()
        && !folder.exists()
    {
        private::folder(folder).map_err(TlsError::writing(folder))?;
    }
    private::write(path, text.as_bytes()).map_err(TlsError::writing(path))
}

fn params() -> Result<CertificateParams, TlsError> {
    let mut params = CertificateParams::new(names())?;
    params.subject_alt_names.extend(addresses().into_iter().map(SanType::IpAddress));
    params.distinguished_name.push(DnType::CommonName, "Tidegate gateway");
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let now = SystemTime::now();
    params.not_before = (now - BACKDATED).into();
    params.not_after = (now + LIFE).into();
    Ok(params)
}

/// The names by which people reach this host.
fn names() -> Vec<String> {
    let plain = |name: &str| {
        !name.is_empty()
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.')
    };
    let host = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
    let host = host.map(|name| name.to_ascii_lowercase()).filter(|name| plain(name) && name != "localhost");
    let mut names = vec!["localhost".to_owned()];
    if let Some(host) = host {
        if !host.contains('.') {
            names.push(format!("{host}.local"));
        }
        names.push(host);
    }
    names
}

/// The addresses that this host has now. Those that it gets later work as well: the fingerprint is what counts.
fn addresses() -> Vec<IpAddr> {
    let mut addresses = vec![IpAddr::from([127, 0, 0, 1]), IpAddr::V6(std::net::Ipv6Addr::LOCALHOST)];
    for Interface { address, .. } in interfaces() {
        if matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local()) {
            continue;
        }
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    addresses
}

/// Whether a certificate is over at this time. Asked of the verifier that clients use: as its own root the
/// certificate is fine but for its dates.
fn has_ended(leaf: &CertificateDer<'_>, at: SystemTime) -> bool {
    use rustls::{CertificateError::*, Error};
    let Ok(since) = at.duration_since(SystemTime::UNIX_EPOCH) else { return false };
    let mut roots = RootCertStore::empty();
    let _ = roots.add(leaf.clone().into_owned());
    let Ok(parsed) = ParsedCertificate::try_from(leaf) else { return false };
    let algorithms = rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms;
    let at = UnixTime::since_unix_epoch(since);
    let verdict = verify_server_cert_signed_by_trust_anchor(&parsed, &roots, &[], at, algorithms.all);
    matches!(verdict, Err(Error::InvalidCertificate(Expired | ExpiredContext { .. })))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn files(folder: &Path) -> TlsFiles {
        TlsFiles {
            certificate: folder.join("tls/cert.pem"),
            key: folder.join("tls/key.pem"),
            authorities: None,
            make: true,
            ours: true,
        }
    }

    pub(in crate::tls) fn ending_in(days: u32) -> (CertificateDer<'static>, String, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = params().unwrap();
        params.not_after = (SystemTime::now() + DAY * days).into();
        let certificate = params.self_signed(&key).unwrap();
        (certificate.der().clone(), certificate.pem(), key.serialize_pem())
    }

    #[test]
    fn the_pair_is_made_once_for_us_alone_and_fits() {
        let folder = tempfile::tempdir().unwrap();
        let files = files(folder.path());
        assert!(files.provide().unwrap());
        let pin = files.pin().unwrap();
        assert!(!files.provide().unwrap());
        assert_eq!(files.pin().unwrap(), pin);
        for file in [&files.certificate, &files.key] {
            assert_eq!(std::fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
        }
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        assert_eq!(files.load(&provider).unwrap().pin, pin);
    }

    #[test]
    fn half_a_pair_is_left_alone_and_refused() {
        let folder = tempfile::tempdir().unwrap();
        let files = files(folder.path());
        files.provide().unwrap();
        std::fs::remove_file(&files.key).unwrap();
        assert!(matches!(files.provide(), Err(TlsError::Missing(path)) if path == files.key));
        let nothing_made = TlsFiles { make: false, ..files.clone() };
        std::fs::remove_file(&files.certificate).unwrap();
        assert!(matches!(nothing_made.provide(), Err(TlsError::Missing(_))));
    }

    #[test]
    fn a_certificate_of_ours_is_renewed_before_it_ends_and_anothers_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let files = files(folder.path());
        files.provide().unwrap();
        let (_, certificate, key) = ending_in(10);
        std::fs::write(&files.certificate, certificate).unwrap();
        std::fs::write(&files.key, key).unwrap();
        let old = files.pin().unwrap();
        let theirs = TlsFiles { ours: false, ..files.clone() };
        assert!(theirs.ends_soon() && !theirs.provide().unwrap());
        assert!(files.provide().unwrap());
        assert_ne!(files.pin().unwrap(), old);
        assert!(!files.ends_soon());
    }

    #[test]
    fn the_end_of_a_certificate_is_seen() {
        let (leaf, ..) = ending_in(10);
        assert!(!has_ended(&leaf, SystemTime::now()));
        assert!(has_ended(&leaf, SystemTime::now() + DAY * 11));
    }
}
