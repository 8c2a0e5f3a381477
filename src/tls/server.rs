//! The serving side: one configuration for all listeners, whose certificate follows the files.

use std::{
    fmt,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use rustls::{
    ServerConfig,
    crypto::CryptoProvider,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use tidegate_actors::settings::{SettingsHandle, gateway::ReloadMode};

use super::{
    Pin, TlsError, TlsFiles,
    files::{Marks, Material},
};

/// How often the files are looked at.
const EVERY: Duration = Duration::from_secs(2);

/// Looks between two questions whether the certificate is about to end: half a day.
const LOOKS_A_RENEWAL: u32 = 21_600;

/// A gateway's TLS. Cheap to clone.
#[derive(Clone)]
pub struct ServerTls {
    files: TlsFiles,
    provider: Arc<CryptoProvider>,
    current: Arc<Current>,
    config: Arc<ServerConfig>,
}

/// The certificate in force.
struct Current(RwLock<Material>);

impl ServerTls {
    /// Reads the files, or makes them.
    ///
    /// # Errors
    /// If there is nothing to serve with: the gateway must not start without TLS then.
    pub fn open(files: TlsFiles) -> Result<Self, TlsError> {
        files.provide()?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let current = Arc::new(Current(RwLock::new(files.load(&provider)?)));
        let mut config = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
            .with_no_client_auth()
            .with_cert_resolver(current.clone());
        // WebSockets need HTTP/1.1, and every other request is small.
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        files.warn();
        if files.key_is_open() {
            tracing::warn!(key = %files.key.display(), "everybody on this machine can read the TLS key: chmod 600 it");
        }
        Ok(Self { files, provider, current, config: Arc::new(config) })
    }

    /// For an acceptor.
    pub fn config(&self) -> Arc<ServerConfig> {
        self.config.clone()
    }

    /// Fingerprint of the certificate that is served now.
    pub fn pin(&self) -> Pin {
        self.current.0.read().unwrap_or_else(PoisonError::into_inner).pin
    }

    /// Takes up changed files for as long as the gateway runs, unless reloading is off, and renews what is ours.
    pub async fn keep_fresh(self, settings: SettingsHandle) {
        let mut seen = self.files.marks();
        for look in 1_u32.. {
            tokio::time::sleep(EVERY).await;
            if settings.get().gateway.reload.mode == ReloadMode::Off {
                continue;
            }
            let tls = self.clone();
            let before = seen.clone();
            let looked = tokio::task::spawn_blocking(move || tls.look(&before, look % LOOKS_A_RENEWAL == 0));
            match looked.await {
                Ok(now) => seen = now,
                Err(error) => tracing::error!(%error, "looking at the TLS files failed"),
            }
        }
    }

    /// The files as they are now; those that changed and fit together are in force.
    fn look(&self, before: &Marks, renew: bool) -> Marks {
        if renew {
            if let Err(error) = self.files.provide() {
                tracing::error!(%error, "the TLS certificate could not be renewed");
            }
            self.files.warn();
        }
        let now = self.files.marks();
        if now != *before {
            match self.files.load(&self.provider) {
                Ok(material) => self.serve(material),
                Err(error) => {
                    tracing::error!(%error, "changed TLS files refused, the last good certificate stays in force");
                }
            }
        }
        now
    }

    fn serve(&self, material: Material) {
        let mut current = self.current.0.write().unwrap_or_else(PoisonError::into_inner);
        if !material.pin.is(&current.pin) {
            tracing::warn!(old = %current.pin, new = %material.pin, "TLS certificate changed: clients need the new fingerprint");
        }
        *current = material;
    }
}

impl TlsFiles {
    fn warn(&self) {
        if self.ends_soon() {
            tracing::warn!(certificate = %self.certificate.display(), "the TLS certificate ends within a month");
        }
    }
}

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.read().unwrap_or_else(PoisonError::into_inner).key.clone())
    }
}

impl fmt::Debug for Current {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Current")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate_actors::settings::{StatePaths, gateway::TlsSettings};

    #[test]
    fn files_that_fit_are_taken_up_and_others_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let open = |name: &str| {
            let state = StatePaths::new(folder.path().join(name));
            ServerTls::open(TlsFiles::of(&TlsSettings { enabled: true, ..Default::default() }, &state))
                .unwrap()
        };
        let (tls, other) = (open("a"), open("b"));
        let first = tls.pin();
        let copy =
            |from: &std::path::Path, to: &std::path::Path| assert!(std::fs::copy(from, to).unwrap() > 0);

        copy(&other.files.certificate, &tls.files.certificate);
        let seen = tls.look(&Marks::default(), false);
        assert_eq!(tls.pin(), first, "the key is not there yet");

        copy(&other.files.key, &tls.files.key);
        tls.look(&Marks::default(), false);
        assert_eq!(tls.pin(), other.pin());

        std::fs::write(&tls.files.certificate, "nonsense").unwrap();
        assert_ne!(tls.look(&seen, false), seen);
        assert_eq!(tls.pin(), other.pin());
    }

    #[test]
    fn an_idle_look_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let state = StatePaths::new(folder.path());
        let tls = ServerTls::open(TlsFiles::of(&TlsSettings::default(), &state)).unwrap();
        let (pin, seen) = (tls.pin(), tls.files.marks());
        assert_eq!(tls.look(&seen, true), seen);
        assert_eq!(tls.pin(), pin);
    }
}
