//! The file may change while the gateway runs. It is looked at every two seconds,
//! which needs no watcher library and misses no rename.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::{Duration, SystemTime},
};

use tidegate_actors::settings::{
    ConfigIssue, Settings, SettingsHandle, StatePaths,
    gateway::{GatewaySettings, ReloadMode},
};
use tracing::{info, warn};

use super::{
    ConfigError, DiskConfig, Environment, Flags, Loaded, Place, hash, load_text, read, with_own_token,
};

const EVERY: Duration = Duration::from_secs(2);

/// What a start asks of settings beyond the rules for them: that the files which they name can be used.
pub type StartCheck = fn(&Settings, &StatePaths) -> Result<(), ConfigError>;

/// Applies changes of the config file to the running settings; a bad file leaves them as they are.
pub struct Reloader {
    pub(super) place: Place,
    pub(super) env: Environment,
    pub(super) flags: Flags,
    settings: SettingsHandle,
    seen: Mutex<Seen>,
    start_check: OnceLock<StartCheck>,
}

/// What was last looked at.
struct Seen {
    marks: Vec<Mark>,
    /// Of the text in force.
    applied: String,
    /// Of the last text that was refused, so that it is reported once.
    refused: Option<String>,
    notes: Vec<String>,
}

/// Enough to notice a change without reading the file.
#[derive(PartialEq)]
struct Mark {
    file: PathBuf,
    state: Option<(SystemTime, u64)>,
}

impl Reloader {
    pub(super) fn new(
        place: Place,
        env: Environment,
        flags: Flags,
        loaded: Loaded,
    ) -> (SettingsHandle, Arc<Self>) {
        let notes = notes(&loaded);
        let seen = Seen { marks: marks(&loaded.files), applied: loaded.hash, refused: None, notes };
        let plain = SettingsHandle::new(loaded.settings, place.state.clone());
        let reloader = Arc::new(Self {
            place,
            env,
            flags,
            settings: plain.clone(),
            seen: Mutex::new(seen),
            start_check: OnceLock::new(),
        });
        let settings = plain.backed_by(Arc::new(DiskConfig::live(reloader.clone())));
        (settings, reloader)
    }

    /// From now on an edit is also refused if `check` says that the gateway would not start with it.
    pub fn check_with(&self, check: StartCheck) {
        let _ = self.start_check.set(check);
    }

    /// Watches for as long as the gateway runs.
    pub async fn run(self: Arc<Self>) {
        loop {
            tokio::time::sleep(EVERY).await;
            let reloader = self.clone();
            if tokio::task::spawn_blocking(move || reloader.look()).await.is_err() {
                warn!("looking at the config file failed");
            }
        }
    }

    /// Applies the file if it changed since the last look.
    pub fn look(&self) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let files: Vec<PathBuf> = seen.marks.iter().map(|mark| mark.file.clone()).collect();
        let marks = marks(&files);
        if marks == seen.marks {
            return;
        }
        seen.marks = marks;
        match read(&self.place.config) {
            Ok(Some(text)) => self.take(&text, &mut seen),
            Ok(None) => self.refuse(&mut seen, "gone".to_owned(), &"the config file is gone"),
            Err(error) => self.refuse(&mut seen, "unreadable".to_owned(), &error),
        }
    }

    /// Hash of the text in force.
    pub(super) fn applied(&self) -> String {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).applied.clone()
    }

    fn take(&self, text: &str, seen: &mut Seen) {
        let mut loaded = match load_text(Some(text), &self.place, &self.env, &self.flags) {
            Ok(loaded) => loaded,
            Err(error) => return self.refuse(seen, hash(text), &error),
        };
        // Includes may have come or gone.
        seen.marks = marks(&loaded.files);
        let running = self.settings.get();
        if running.gateway.reload.mode == ReloadMode::Off
            && loaded.settings.gateway.reload.mode == ReloadMode::Off
        {
            return;
        }
        let at_a_start = loaded.check();
        let restart = keep_in_place(&mut loaded.settings, &running);
        let checked = loaded.check().and_then(|()| with_own_token(&mut loaded.settings, &self.place));
        if let Err(error) = checked {
            return self.refuse(seen, hash(text), &error);
        }
        if let Err(error) = at_a_start {
            warn!(%error, "the gateway would not start again with the changed configuration");
        }
        self.report(&loaded, &restart, seen);
        seen.applied.clone_from(&loaded.hash);
        seen.refused = None;
        self.settings.replace(loaded.settings);
    }

    fn report(&self, loaded: &Loaded, restart: &[&str], seen: &mut Seen) {
        info!(file = %self.place.config.display(), "configuration reloaded");
        for key in restart {
            warn!(key, "setting takes effect after a restart of the gateway");
        }
        let notes = notes(loaded);
        for note in notes.iter().filter(|note| !seen.notes.contains(note)) {
            warn!(note, "configuration");
        }
        seen.notes = notes;
    }

    fn refuse(&self, seen: &mut Seen, mark: String, why: &dyn std::fmt::Display) {
        if seen.refused.as_ref() == Some(&mark) {
            return;
        }
        warn!(error = %why, "changed configuration refused, the last good one stays in force");
        seen.refused = Some(mark);
    }

    /// Whether this text would be taken now, and the gateway would start again with it.
    pub(super) fn try_text(&self, text: &str) -> Result<(), ConfigError> {
        let mut loaded = load_text(Some(text), &self.place, &self.env, &self.flags)?;
        loaded.check()?;
        if let Some(check) = self.start_check.get() {
            check(&loaded.settings, &self.place.state)?;
        }
        keep_in_place(&mut loaded.settings, &self.settings.get());
        loaded.check()
    }
}

/// The listener stays where it is, for its own bind decides what is open and not the
/// file's; the log stays in its file. Names the keys that would have moved them.
fn keep_in_place(new: &mut Settings, running: &Settings) -> Vec<&'static str> {
    let GatewaySettings { port, bind, custom_bind_host, tls, tailscale, .. } = &running.gateway;
    let mut changed = Vec::new();
    if new.gateway.port() != running.gateway.port() {
        changed.push("gateway.port");
    }
    if new.gateway.bind != *bind {
        changed.push("gateway.bind");
    }
    if new.gateway.custom_bind_host != *custom_bind_host {
        changed.push("gateway.customBindHost");
    }
    if new.gateway.tailscale != *tailscale {
        changed.push("gateway.tailscale");
    }
    if new.gateway.tls != *tls {
        changed.push("gateway.tls");
    }
    if new.logging.file != running.logging.file {
        changed.push("logging.file");
    }
    new.logging.file.clone_from(&running.logging.file);
    new.gateway.port = *port;
    new.gateway.bind = *bind;
    new.gateway.custom_bind_host.clone_from(custom_bind_host);
    new.gateway.tailscale.clone_from(tailscale);
    new.gateway.tls.clone_from(tls);
    changed
}

fn marks(files: &[PathBuf]) -> Vec<Mark> {
    let state = |file: &PathBuf| {
        let meta = std::fs::metadata(file).ok()?;
        Some((meta.modified().ok()?, meta.len()))
    };
    files.iter().map(|file| Mark { file: file.clone(), state: state(file) }).collect()
}

/// What the log should say about a configuration that is in force.
pub(super) fn notes(loaded: &Loaded) -> Vec<String> {
    let unused = loaded.unknown.iter().map(|key| format!("`{key}` is not used by this version"));
    let missing = loaded
        .missing
        .iter()
        .map(|ConfigIssue { path, message, .. }| format!("`{path}` is left out: {message}"));
    unused.chain(missing).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{PlaceFlags, private, start};

    #[test]
    fn a_good_edit_is_taken_and_a_bad_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let flags = PlaceFlags { state_dir: Some(folder.path().display().to_string()), ..Default::default() };
        let place = Place::find(&flags, &Environment::default()).unwrap();
        let config = place.config.clone();
        let running = start(place, Environment::default(), Flags::default()).unwrap();
        let dms = || running.settings.get().commands.owner_allow_from.clone();

        private::write(&config, b"{commands: {ownerAllowFrom: ['telegram:1']}}").unwrap();
        running.reloader.look();
        assert_eq!(dms(), ["telegram:1"]);

        for bad in ["{commands: {ownerAllowFrom: [", "{commands: 1}", "{gateway: {auth: {token: 'null'}}}"] {
            private::write(&config, bad.as_bytes()).unwrap();
            running.reloader.look();
            assert_eq!(dms(), ["telegram:1"], "{bad}");
        }

        private::write(&config, b"{gateway: {bind: 'lan', port: 9}}").unwrap();
        running.reloader.look();
        let settings = running.settings.get();
        assert!(settings.commands.owner_allow_from.is_empty());
        assert_eq!(settings.gateway.port(), 18_789);
    }
}
