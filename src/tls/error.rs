//! Why a gateway can't serve TLS: always one line that names the file and says what to do.

use std::path::{Path, PathBuf};

use crate::config::ConfigError;

#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("can't read the TLS file {}: {source}", .path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("can't write the TLS file {}: {source}", .path.display())]
    Write {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error(
        "{} is missing: set gateway.tls.certPath and gateway.tls.keyPath to a certificate and its key, or remove what \
         there is of the pair and let gateway.tls.autoGenerate make one",
        .0.display()
    )]
    Missing(PathBuf),
    #[error("{} holds no {what} in PEM", .path.display())]
    Empty { path: PathBuf, what: &'static str },
    #[error("the key in {} does not belong to the certificate in {}", .key.display(), .certificate.display())]
    Mismatch { certificate: PathBuf, key: PathBuf },
    #[error("can't use the TLS files: {0}")]
    Unusable(#[from] rustls::Error),
    #[error("can't make a certificate: {0}")]
    Making(#[from] rcgen::Error),
}

impl From<TlsError> for ConfigError {
    fn from(error: TlsError) -> Self {
        Self::Refused(format!("gateway.tls: {error}"))
    }
}

impl TlsError {
    pub(super) fn writing(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Write { path, source }
    }
}
