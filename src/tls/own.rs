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

use tidegate_actors::host::host_name;
use tidegate_actors::remote::{Interface, interfaces};

use super::{TlsError, TlsFiles};
use crate::config::private;

const DAY: Duration = Duration::from_secs(24 * 3600);

/// Clients know it by its fingerprint, which a renewal changes: so it lasts.
const LIFE: Duration = DAY.saturating_mul(3650);

/// How long before its end it is renewed.
pub(super) const RENEW_BEFORE: Duration = DAY.saturating_mul(30);

/// By this name a gateway knows what it has made itself.
const NAME: &str = "Tidegate gateway";

/// Clocks of clients may be behind.
const BACKDATED: Duration = DAY;

impl TlsFiles {
    /// Makes the pair if it may be made and there is none of it; renews it if it was made like that and is about to
    /// end. True if there is a new one.
    ///
    /// # Errors
    /// If only half of the pair is there, or the files can't be written.
    pub(super) fn provide(&self) -> Result<bool, TlsError> {
        let missing = self.are_to_be_made()?;
        let made_here = || self.ours || self.make && self.holds_self_made();
        let make = missing || made_here() && self.ends_soon();
        if missing && !self.ours {
            tracing::warn!(
                certificate = %self.certificate.display(),
                "there is no such certificate: one is made there that only its fingerprint speaks for; with \
                 gateway.tls.autoGenerate: false this would stop the start"
            );
        }
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
            // What is left of a first start that was cut short between the two: nobody has seen that key's certificate.
            (false, true) if self.ours => Ok(true),
            (false, _) => Err(TlsError::Missing(self.certificate.clone())),
            (true, false) => Err(TlsError::Missing(self.key.clone())),
        }
    }

    fn holds_self_made(&self) -> bool {
        CertificateDer::from_pem_file(&self.certificate).is_ok_and(|leaf| is_self_made(&leaf))
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
    params.distinguished_name.push(DnType::CommonName, NAME);
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
    let host =
        host_name().map(|name| name.to_ascii_lowercase()).filter(|name| plain(name) && name != "localhost");
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

/// Whether a gateway made this certificate for itself.
pub(super) fn is_self_made(leaf: &CertificateDer<'_>) -> bool {
    let Ok(leaf) = webpki::EndEntityCert::try_from(leaf) else { return false };
    leaf.issuer() == leaf.subject() && leaf.subject().windows(NAME.len()).any(|part| part == NAME.as_bytes())
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
        ending_in_as(days, params().unwrap())
    }

    fn ending_in_as(days: u32, mut params: CertificateParams) -> (CertificateDer<'static>, String, String) {
        let key = KeyPair::generate().unwrap();
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
        std::fs::remove_file(&files.certificate).unwrap();
        let nothing_made = TlsFiles { make: false, ours: false, ..files.clone() };
        assert!(matches!(nothing_made.provide(), Err(TlsError::Missing(_))));
        let named = TlsFiles { ours: false, ..files };
        std::fs::write(&named.key, "somebody's").unwrap();
        assert!(matches!(named.provide(), Err(TlsError::Missing(path)) if path == named.certificate));
        assert_eq!(std::fs::read(&named.key).unwrap(), b"somebody's");
    }

    #[test]
    fn a_start_that_was_cut_short_after_the_key_is_made_up_for() {
        let folder = tempfile::tempdir().unwrap();
        let files = files(folder.path());
        files.provide().unwrap();
        std::fs::remove_file(&files.certificate).unwrap();
        assert!(files.provide().unwrap());
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        assert_eq!(files.load(&provider).unwrap().pin, files.pin().unwrap());
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
        let left_alone = TlsFiles { make: false, ours: false, ..files.clone() };
        assert!(left_alone.ends_soon() && !left_alone.provide().unwrap());
        // Wherever it is: a named pair that was missing was made by us as well.
        let named = TlsFiles { ours: false, ..files.clone() };
        assert!(named.provide().unwrap());
        assert_ne!(files.pin().unwrap(), old);
        assert!(!files.ends_soon());
        let foreign = CertificateParams::new(vec!["gateway.example".to_owned()]).unwrap();
        let (_, certificate, key) = ending_in_as(10, foreign);
        std::fs::write(&files.certificate, certificate).unwrap();
        std::fs::write(&files.key, key).unwrap();
        assert!(named.ends_soon() && !named.provide().unwrap());
    }

    #[test]
    fn the_end_of_a_certificate_is_seen() {
        let (leaf, ..) = ending_in(10);
        assert!(!has_ended(&leaf, SystemTime::now()));
        assert!(has_ended(&leaf, SystemTime::now() + DAY * 11));
    }
}
