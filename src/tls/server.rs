//! The serving side: one configuration for all listeners, whose certificate follows the files.

use std::{
    fmt,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard},
    time::Duration,
};

use rustls::{
    ServerConfig,
    crypto::CryptoProvider,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use tidegate_actors::settings::{SettingsHandle, gateway::ReloadMode};

use super::{Pin, TlsError, TlsFiles, files::Material};

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
        self.current().pin
    }

    /// Whether nobody vouches for it but the gateway that made it.
    pub fn is_self_made(&self) -> bool {
        self.current().self_made
    }

    /// Takes up changed files for as long as the gateway runs, unless reloading is off, and renews what is ours in any
    /// case.
    pub async fn keep_fresh(self, settings: SettingsHandle, shown: impl Fn(Pin)) {
        let mut refused = None;
        for look in 1_u32.. {
            tokio::time::sleep(EVERY).await;
            let renew = look % LOOKS_A_RENEWAL == 0;
            let take_up = settings.get().gateway.reload.mode != ReloadMode::Off;
            if !take_up && !renew {
                continue;
            }
            let tls = self.clone();
            match tokio::task::spawn_blocking(move || tls.look(take_up, renew)).await {
                Ok(Ok(changed)) => {
                    refused = None;
                    if changed {
                        shown(self.pin());
                    }
                }
                // They may be readable, or complete, at the next look.
                Ok(Err(error)) => {
                    let why = Some(error.to_string());
                    if refused != why {
                        tracing::error!(%error, "changed TLS files refused, the last good certificate stays in force");
                        refused = why;
                    }
                }
                Err(error) => tracing::error!(%error, "looking at the TLS files failed"),
            }
        }
    }

    /// Renews what is ours and about to end, and takes up files that are not those in force. True if it did.
    fn look(&self, take_up: bool, renew: bool) -> Result<bool, TlsError> {
        let renewed = renew && self.renew();
        if !(take_up || renewed) || self.files.marks() == self.current().marks {
            return Ok(false);
        }
        self.serve(self.files.load(&self.provider)?);
        Ok(true)
    }

    fn renew(&self) -> bool {
        let renewed = self.files.provide().unwrap_or_else(|error| {
            tracing::error!(%error, "the TLS certificate could not be renewed");
            false
        });
        self.files.warn();
        renewed
    }

    fn current(&self) -> RwLockReadGuard<'_, Material> {
        self.current.0.read().unwrap_or_else(PoisonError::into_inner)
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
    use crate::tls::own::tests::ending_in;
    use std::{os::unix::fs::PermissionsExt, path::Path};
    use tidegate_actors::settings::{Settings, StatePaths, gateway::TlsSettings};

    fn open(state: &Path) -> ServerTls {
        let settings = TlsSettings { enabled: true, ..Default::default() };
        ServerTls::open(TlsFiles::of(&settings, &StatePaths::new(state))).unwrap()
    }

    #[test]
    fn files_that_fit_are_taken_up_and_others_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let (tls, other) = (open(&folder.path().join("a")), open(&folder.path().join("b")));
        let first = tls.pin();
        let copy =
            |from: &std::path::Path, to: &std::path::Path| assert!(std::fs::copy(from, to).unwrap() > 0);

        copy(&other.files.certificate, &tls.files.certificate);
        for _ in 0..2 {
            assert!(tls.look(true, false).is_err(), "the key is not there yet");
            assert_eq!(tls.pin(), first);
        }

        copy(&other.files.key, &tls.files.key);
        assert!(!tls.look(false, true).unwrap(), "it is not to be taken up");
        assert!(tls.look(true, false).unwrap());
        assert_eq!(tls.pin(), other.pin());

        std::fs::write(&tls.files.certificate, "nonsense").unwrap();
        assert!(tls.look(true, false).is_err());
        assert_eq!(tls.pin(), other.pin());
    }

    #[test]
    fn a_file_that_only_becomes_readable_is_a_changed_file() {
        let folder = tempfile::tempdir().unwrap();
        let tls = open(folder.path());
        let before = tls.files.marks();
        // The change time has the kernel's coarse clock.
        std::thread::sleep(Duration::from_millis(20));
        std::fs::set_permissions(&tls.files.key, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert_ne!(tls.files.marks(), before);
    }

    #[test]
    fn an_idle_look_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let tls = open(folder.path());
        let pin = tls.pin();
        assert!(!tls.look(true, true).unwrap());
        assert_eq!(tls.pin(), pin);
    }

    #[tokio::test(start_paused = true)]
    async fn a_running_gateway_renews_its_certificate_even_with_reloading_off() {
        let folder = tempfile::tempdir().unwrap();
        let files = open(folder.path()).files;
        let (_, certificate, key) = ending_in(10);
        std::fs::write(&files.certificate, certificate).unwrap();
        std::fs::write(&files.key, key).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let current = Arc::new(Current(RwLock::new(files.load(&provider).unwrap())));
        let tls = ServerTls { files, provider, current, ..open(&folder.path().join("other")) };
        let old = tls.pin();

        let mut settings = Settings::default();
        settings.gateway.reload.mode = ReloadMode::Off;
        let (shows, mut shown) = tokio::sync::mpsc::unbounded_channel();
        let running = tls.clone().keep_fresh(
            SettingsHandle::new(settings, StatePaths::new(folder.path())),
            move |pin| {
                let _ = shows.send(pin);
            },
        );
        let new = tokio::select! {
            new = shown.recv() => new.unwrap(),
            () = running => unreachable!(),
        };
        assert_ne!(new, old);
        assert_eq!(tls.pin(), new);
        assert!(!tls.files.ends_soon());
    }
}
