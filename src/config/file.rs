//! The config file on disk, for those who read or edit it through a command or a call.

use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;
use tidegate_actors::settings::{ConfigFile, ConfigIssue, ConfigSnapshot, ConfigWriteError};

use super::{
    ConfigError, EditError, Environment, Flags, KeyPath, Place, Reloader, edit, hash, include, known,
    load_text, private, read, redacted, resolve,
};

/// The config file of a place; with a running gateway behind it, or without.
pub struct DiskConfig {
    place: Place,
    env: Environment,
    flags: Flags,
    live: Option<Arc<Reloader>>,
    /// Between the check of the hash and the write, nobody else may write.
    writing: Mutex<()>,
}

impl DiskConfig {
    /// For a command that runs without a gateway.
    pub fn new(place: Place, env: Environment) -> Self {
        Self { place, env, flags: Flags::default(), live: None, writing: Mutex::new(()) }
    }

    pub(super) fn live(reloader: Arc<Reloader>) -> Self {
        let (place, env, flags) = (reloader.place.clone(), reloader.env.clone(), reloader.flags.clone());
        Self { place, env, flags, live: Some(reloader), writing: Mutex::new(()) }
    }

    /// Sets one value.
    pub fn set(&self, path: &KeyPath, value: &Value) -> Result<ConfigSnapshot, ConfigWriteError> {
        let text = self.text()?.unwrap_or_default();
        self.write(&edit::set(&text, path, value).map_err(refused)?, Some(&hash(&text)))
    }

    /// Removes one value.
    pub fn unset(&self, path: &KeyPath) -> Result<ConfigSnapshot, ConfigWriteError> {
        let text = self.text()?.unwrap_or_default();
        self.write(&edit::unset(&text, path).map_err(refused)?, Some(&hash(&text)))
    }

    fn text(&self) -> Result<Option<String>, ConfigWriteError> {
        read(&self.place.config).map_err(|error| ConfigWriteError::Invalid(vec![error.issue()]))
    }

    /// Types and references; with a gateway behind it, also whether that may run with it.
    fn validate(&self, text: &str) -> Result<(), ConfigError> {
        match &self.live {
            Some(live) => live.try_text(text),
            None => load_text(Some(text), &self.place, &self.env, &self.flags).map(drop),
        }
    }

    /// The new text, with what an editor was not shown put back: secrets, and references
    /// to variables that it saw filled in.
    fn with_references(&self, text: &str, current: Option<&str>) -> Result<String, ConfigWriteError> {
        let Ok(old) = include::parse(&self.place.config, current.unwrap_or("{}")) else {
            return Ok(text.to_owned());
        };
        let new = include::parse(&self.place.config, text).map_err(|error| invalid(error.issue().message))?;
        if edit::includes(&old) != edit::includes(&new) && !edit::includes(&old).is_empty() {
            return Err(invalid("parts of the file come from $include: edit those files by hand".to_owned()));
        }
        let shown =
            resolve(current, &self.place, &self.env).map(|resolved| resolved.tree).unwrap_or_default();
        edit::restore(text, &old, &shown).map_err(refused)
    }

    fn store(&self, text: &str) -> Result<(), ConfigWriteError> {
        let path = &self.place.config;
        // A link stays a link: what it points to is replaced.
        let real = path.canonicalize().unwrap_or_else(|_| path.clone());
        let folder = real
            .parent()
            .map_or(Ok(()), |folder| if folder.exists() { Ok(()) } else { private::folder(folder) });
        folder
            .and_then(|()| private::write(&real, text.as_bytes()))
            .map_err(|source| ConfigWriteError::Io { path: real.display().to_string(), source })
    }
}

impl ConfigFile for DiskConfig {
    fn path(&self) -> String {
        self.place.config.display().to_string()
    }

    fn read(&self) -> ConfigSnapshot {
        let mut snapshot = ConfigSnapshot { path: self.path(), ..ConfigSnapshot::default() };
        let text = match read(&self.place.config) {
            Ok(text) => text,
            Err(error) => {
                snapshot.exists = true;
                snapshot.issues.push(error.issue());
                return snapshot;
            }
        };
        snapshot.exists = text.is_some();
        snapshot.hash = hash(text.as_deref().unwrap_or_default());
        snapshot.applied_hash =
            self.live.as_ref().map_or_else(|| snapshot.hash.clone(), |live| live.applied());
        let raw = text.as_deref().unwrap_or("{}");
        snapshot.parsed = include::parse(&self.place.config, raw).unwrap_or_default();
        snapshot.resolved =
            resolve(text.as_deref(), &self.place, &self.env).map(|r| r.tree).unwrap_or_default();
        match load_text(text.as_deref(), &self.place, &self.env, &self.flags) {
            Ok(loaded) => {
                // Where no gateway is to run there is none that could refuse it.
                let runs = self.live.is_some() || !loaded.is_remote();
                snapshot.issues.extend(loaded.check().err().filter(|_| runs).map(|error| error.issue()));
                let unused = loaded.unknown.iter().map(|key| unused(key));
                snapshot.warnings = unused.chain(loaded.missing.iter().cloned()).collect();
            }
            Err(error) => snapshot.issues.push(error.issue()),
        }
        snapshot.text = text;
        snapshot
    }

    fn write(&self, text: &str, base_hash: Option<&str>) -> Result<ConfigSnapshot, ConfigWriteError> {
        let _one_at_a_time = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let current = self.text()?;
        if base_hash.is_some_and(|base| base != hash(current.as_deref().unwrap_or_default())) {
            return Err(ConfigWriteError::Changed);
        }
        let text = self.with_references(text, current.as_deref())?;
        self.validate(&text).map_err(|error| ConfigWriteError::Invalid(vec![error.issue()]))?;
        self.store(&text)?;
        if let Some(live) = &self.live {
            live.look();
        }
        Ok(self.read())
    }

    fn patched(&self, text: &str, patch: &str, replace_paths: &[String]) -> Result<String, ConfigWriteError> {
        let changes =
            include::parse(&self.place.config, patch).map_err(|error| invalid(error.issue().message))?;
        let old = include::parse(&self.place.config, if text.trim().is_empty() { "{}" } else { text });
        let old = old.map_err(|error| invalid(error.issue().message))?;
        if let Some(path) = edit::shortened(&old, &changes).find(|path| !replace_paths.contains(path)) {
            return Err(invalid(format!(
                "the patch would remove entries of the array `{path}`: name it in replacePaths if that is meant"
            )));
        }
        edit::patch(text, &changes).map_err(refused)
    }

    fn shown(&self, snapshot: &ConfigSnapshot) -> ConfigSnapshot {
        let mut shown = snapshot.clone();
        // A text that can't be parsed can't be shown without its secrets.
        shown.text = snapshot.text.as_deref().and_then(|text| edit::redact(text).ok());
        shown.parsed = redacted(&snapshot.parsed);
        shown.resolved = redacted(&snapshot.resolved);
        shown
    }
}

fn unused(key: &str) -> ConfigIssue {
    let meant = known::meant(key).map(|meant| format!("; did you mean {meant}?")).unwrap_or_default();
    ConfigIssue { file: None, path: key.to_owned(), message: format!("not used by this version{meant}") }
}

fn refused(error: EditError) -> ConfigWriteError {
    invalid(error.to_string())
}

fn invalid(message: String) -> ConfigWriteError {
    ConfigWriteError::Invalid(vec![ConfigIssue { file: None, path: String::new(), message }])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::config::{PlaceFlags, REDACTED};

    fn disk(folder: &std::path::Path) -> DiskConfig {
        let flags = PlaceFlags { state_dir: Some(folder.display().to_string()), ..PlaceFlags::default() };
        DiskConfig::new(Place::find(&flags, &Environment::default()).unwrap(), Environment::default())
    }

    #[test]
    fn a_bad_value_never_reaches_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let disk = disk(folder.path());
        disk.set(&"gateway.port".parse().unwrap(), &json!(1)).unwrap();
        let error = disk.set(&"gateway.port".parse().unwrap(), &json!("x")).unwrap_err().to_string();
        assert!(error.contains("gateway.port"), "{error}");
        assert_eq!(disk.read().parsed, json!({"gateway": {"port": 1}}));
    }

    #[test]
    fn a_write_on_an_old_hash_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let disk = disk(folder.path());
        let first = disk.write("{gateway: {auth: {token: 'a-real-token'}}}", None).unwrap();
        disk.set(&"gateway.port".parse().unwrap(), &json!(1)).unwrap();
        assert!(matches!(disk.write("{}", Some(&first.hash)), Err(ConfigWriteError::Changed)));
    }

    #[test]
    fn a_patch_does_not_shorten_an_array_by_accident() {
        let folder = tempfile::tempdir().unwrap();
        let disk = disk(folder.path());
        let text = "{commands: {ownerAllowFrom: ['a', 'b']}}";
        let patch = "{commands: {ownerAllowFrom: ['a']}}";
        let error = disk.patched(text, patch, &[]).unwrap_err().to_string();
        assert!(error.contains("commands.ownerAllowFrom"), "{error}");
        assert!(disk.patched(text, "{commands: null}", &[]).is_err());
        disk.patched(text, patch, &["commands.ownerAllowFrom".to_owned()]).unwrap();
        disk.patched(text, "{commands: {ownerAllowFrom: ['a', 'b', 'c']}}", &[]).unwrap();
    }

    #[test]
    fn a_reference_survives_an_editor_that_saw_its_value() {
        let folder = tempfile::tempdir().unwrap();
        let mut disk = disk(folder.path());
        disk.env = Environment::of([("HOST", "10.0.0.9"), ("KEY", "a-real-key")]);
        let text = "{gateway: {customBindHost: '${HOST}', auth: {token: '${KEY}'}}}";
        let snapshot = disk.write(text, None).unwrap();
        let shown = disk.shown(&snapshot);
        assert_eq!(shown.resolved["gateway"]["customBindHost"], "10.0.0.9");
        let after = disk.write(&shown.resolved.to_string(), Some(&shown.hash)).unwrap();
        assert_eq!(after.parsed, snapshot.parsed);
    }

    #[test]
    fn what_is_shown_can_be_written_back() {
        let folder = tempfile::tempdir().unwrap();
        let disk = disk(folder.path());
        let snapshot = disk.write("{gateway: {auth: {token: 'a-real-token'}}}", None).unwrap();
        let shown = disk.shown(&snapshot);
        let text = shown.text.unwrap();
        assert!(text.contains(REDACTED) && !text.contains("a-real-token"));
        let after = disk.write(&text, Some(&shown.hash)).unwrap();
        assert_eq!(after.parsed["gateway"]["auth"]["token"], "a-real-token");
    }
}
