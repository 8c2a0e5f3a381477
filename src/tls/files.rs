//! The files that a gateway's TLS comes from.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use nix::unistd::{AccessFlags, access};
use rustls::{
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    sign::CertifiedKey,
};
use tidegate_actors::settings::{StatePaths, gateway::TlsSettings};

use super::{Pin, TlsError, own::is_self_made};

/// Links of a chain that are sent besides the certificate itself; a longer chain is a loop.
const MOST_LINKS: usize = 8;

/// Where the certificate, its key and the authorities above it are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    pub certificate: PathBuf,
    pub key: PathBuf,
    /// Authorities that complete the chain where the certificate's file holds only the certificate.
    pub authorities: Option<PathBuf>,
    /// Make a pair where both files are missing; as with OpenClaw that holds for named files too.
    pub(super) make: bool,
    /// The files are in the state folder, where nobody but us puts any.
    pub(super) ours: bool,
}

/// What the files hold.
#[derive(Debug)]
pub(super) struct Material {
    pub(super) key: Arc<CertifiedKey>,
    pub(super) pin: Pin,
    /// A gateway made the certificate, not an authority.
    pub(super) self_made: bool,
    /// How the files were before they were read.
    pub(super) marks: Marks,
}

/// Enough to notice a change without reading the files.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Marks(Vec<Option<Mark>>);

/// The change time also tells of a new owner or mode, by which a file becomes readable.
#[derive(Clone, Debug, PartialEq)]
struct Mark {
    inode: u64,
    length: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl TlsFiles {
    /// The files that the settings name, those in the state folder unless they name others.
    pub fn of(settings: &TlsSettings, state: &StatePaths) -> Self {
        let named = |path: &Option<String>| {
            path.as_deref().map(str::trim).filter(|path| !path.is_empty()).map(PathBuf::from)
        };
        let (certificate, key) = (named(&settings.cert_path), named(&settings.key_path));
        Self {
            ours: certificate.is_none() && key.is_none() && settings.auto_generate,
            certificate: certificate.unwrap_or_else(|| state.tls_certificate()),
            key: key.unwrap_or_else(|| state.tls_key()),
            authorities: named(&settings.ca_path),
            make: settings.auto_generate,
        }
    }

    /// The fingerprint of the certificate, which anyone may know: its key is not touched.
    pub fn pin(&self) -> Result<Pin, TlsError> {
        Ok(Pin::of(&certificates(&self.certificate)?[0]))
    }

    /// Whether a gateway could serve with them; makes nothing.
    ///
    /// # Errors
    /// What a start would say.
    pub fn check(&self) -> Result<(), TlsError> {
        if self.are_to_be_made()? {
            return can_be_made(&self.key).and_then(|()| can_be_made(&self.certificate));
        }
        self.load(&rustls::crypto::aws_lc_rs::default_provider()).map(drop)
    }

    /// Reads everything and checks that it fits together.
    pub(super) fn load(&self, provider: &CryptoProvider) -> Result<Material, TlsError> {
        let marks = self.marks();
        let mut chain = certificates(&self.certificate)?;
        if let Some(path) = &self.authorities {
            complete(&mut chain, &certificates(path)?);
        }
        let text = read(&self.key)?;
        let key = PrivateKeyDer::from_pem_slice(&text)
            .map_err(|_| TlsError::Empty { path: self.key.clone(), what: "private key" })?;
        let (pin, self_made) = (Pin::of(&chain[0]), is_self_made(&chain[0]));
        let key = CertifiedKey::from_der(chain, key, provider).map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => {
                TlsError::Mismatch { certificate: self.certificate.clone(), key: self.key.clone() }
            }
            other => TlsError::Unusable(other),
        })?;
        Ok(Material { key: Arc::new(key), pin, self_made, marks })
    }

    /// Whether others on this machine may read the key.
    pub(super) fn key_is_open(&self) -> bool {
        fs::metadata(&self.key).is_ok_and(|meta| meta.mode() & 0o007 != 0)
    }

    /// What changes when one of the files does, be it by a link that is turned.
    pub(super) fn marks(&self) -> Marks {
        let state = |path: &PathBuf| {
            let meta = fs::metadata(path).ok()?;
            Some(Mark {
                inode: meta.ino(),
                length: meta.len(),
                modified: (meta.mtime(), meta.mtime_nsec()),
                changed: (meta.ctime(), meta.ctime_nsec()),
            })
        };
        Marks([&self.certificate, &self.key].into_iter().chain(&self.authorities).map(state).collect())
    }
}

/// Whether its folder, or the nearest one above that is there, takes new files.
fn can_be_made(path: &Path) -> Result<(), TlsError> {
    let there = path.ancestors().skip(1).find(|folder| folder.exists()).unwrap_or(Path::new("."));
    access(there, AccessFlags::W_OK | AccessFlags::X_OK)
        .map_err(|errno| TlsError::writing(path)(errno.into()))
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(path).map_err(|source| TlsError::Read { path: path.to_owned(), source })
}

/// The certificates of a PEM file; at least one.
fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let text = read(path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        _ => Err(TlsError::Empty { path: path.to_owned(), what: "certificate" }),
    }
}

/// Adds the authorities that the last link names as its issuer, up to a root, which a client has or refuses anyway.
fn complete(chain: &mut Vec<CertificateDer<'static>>, authorities: &[CertificateDer<'static>]) {
    while chain.len() <= MOST_LINKS
        && let Some(issuer) = chain.last().and_then(|last| next_link(last, authorities))
    {
        chain.push(issuer);
    }
}

fn next_link(
    last: &CertificateDer<'_>,
    authorities: &[CertificateDer<'static>],
) -> Option<CertificateDer<'static>> {
    let last = webpki::EndEntityCert::try_from(last).ok()?;
    authorities
        .iter()
        .find(|authority| {
            let Ok(authority) = webpki::EndEntityCert::try_from(*authority) else { return false };
            authority.subject() == last.issuer() && authority.subject() != authority.issuer()
        })
        .cloned()
}
