//! The settings in force, shared by everything that runs.

use std::sync::Arc;

use tokio::sync::watch;

use super::{ConfigFile, Settings, StatePaths};

/// Hands out the newest [`Settings`] and tells those who wait for a change.
#[derive(Clone)]
pub struct SettingsHandle {
    current: Arc<watch::Sender<Arc<Settings>>>,
    file: Option<Arc<dyn ConfigFile>>,
    paths: Arc<StatePaths>,
}

impl SettingsHandle {
    pub fn new(settings: Settings, paths: StatePaths) -> Self {
        Self { current: Arc::new(watch::Sender::new(Arc::new(settings))), file: None, paths: Arc::new(paths) }
    }

    /// Settings that came from a file which operators may read and edit.
    pub fn backed_by(mut self, file: Arc<dyn ConfigFile>) -> Self {
        self.file = Some(file);
        self
    }

    /// The settings in force now. Ask again for each decision; never keep it across an await.
    pub fn get(&self) -> Arc<Settings> {
        self.current.borrow().clone()
    }

    /// Wakes on every replacement.
    pub fn subscribe(&self) -> watch::Receiver<Arc<Settings>> {
        self.current.subscribe()
    }

    pub fn replace(&self, settings: Settings) {
        self.current.send_replace(Arc::new(settings));
    }

    /// Where the gateway keeps its state.
    pub fn paths(&self) -> &StatePaths {
        &self.paths
    }

    /// The file behind the settings, if there is one.
    pub fn file(&self) -> Option<Arc<dyn ConfigFile>> {
        self.file.clone()
    }
}

impl std::fmt::Debug for SettingsHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SettingsHandle").field("current", &self.get()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_replacement_reaches_readers_and_waiters() {
        let handle = SettingsHandle::new(Settings::default(), StatePaths::new("unused"));
        let mut changes = handle.subscribe();
        let mut settings = Settings::default();
        settings.gateway.port = Some(1234);
        handle.replace(settings);
        changes.changed().await.unwrap();
        assert_eq!(handle.get().gateway.port(), 1234);
        assert_eq!(changes.borrow().gateway.port(), 1234);
    }
}
