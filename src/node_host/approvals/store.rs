//! The file on disk: read anew for every decision, so that an edit by hand holds at once.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use aws_lc_rs::digest;
use serde_json::{Value, json};

use super::{
    file::{AllowEntry, ApprovalsFile},
    policy::{Allowed, Policy},
};
use crate::config::private;

/// A use is written down at most this often for each entry.
const USE_NOTED_EVERY_MS: u64 = 60_000;
/// No approvals file is this large.
const MAX_BYTES: u64 = 1 << 20;

/// Why the approvals can't be used. Exec stays off until they can.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApprovalsError {
    #[error("cannot use {}: {problem}", .path.display())]
    Unusable { path: PathBuf, problem: String },
    #[error("invalid exec approvals: {0}")]
    Invalid(String),
    #[error("the exec approvals changed meanwhile; read them again and repeat the change")]
    Changed,
    #[error("baseHash is required to replace existing exec approvals; read them first")]
    NoBaseHash,
}

/// The document as it stands on disk.
#[derive(Debug, Clone)]
pub(crate) struct Snapshot {
    exists: bool,
    file: ApprovalsFile,
    /// SHA-256 of the text, for compare-and-set.
    hash: String,
}

/// `exec-approvals.json` of one state folder.
#[derive(Debug)]
pub(crate) struct ApprovalsStore {
    path: PathBuf,
    writing: Mutex<()>,
}

impl ApprovalsStore {
    pub(crate) fn new(state: &Path) -> Self {
        Self { path: state.join("exec-approvals.json"), writing: Mutex::new(()) }
    }

    /// What holds for `agent` right now.
    pub(crate) fn policy(&self, agent: &str) -> Result<Policy, ApprovalsError> {
        Policy::of(&self.load()?.file, agent).map_err(ApprovalsError::Invalid)
    }

    /// Reads the document; one that does not exist is empty.
    pub(crate) fn load(&self) -> Result<Snapshot, ApprovalsError> {
        let text = match self.read() {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Snapshot { exists: false, file: ApprovalsFile::default(), hash: hash("") });
            }
            Err(error) => return Err(self.unusable(error)),
        };
        let value: Value = serde_json::from_str(&text).map_err(|error| self.unusable(error))?;
        let file = ApprovalsFile::parse(value).map_err(|problem| self.unusable(problem))?;
        Ok(Snapshot { exists: true, file, hash: hash(&text) })
    }

    /// Replaces the document, if it still is the one that `base_hash` names.
    pub(crate) fn replace(&self, value: Value, base_hash: Option<&str>) -> Result<Snapshot, ApprovalsError> {
        let _turn = self.turn();
        let mut file = ApprovalsFile::parse(value).map_err(ApprovalsError::Invalid)?;
        let now = self.load()?;
        match base_hash {
            Some(base) if base != now.hash => return Err(ApprovalsError::Changed),
            None if now.exists => return Err(ApprovalsError::NoBaseHash),
            _ => (),
        }
        // A reader never sees the socket's token, so what it sends back lacks it.
        if let (Some(socket), Some(old)) = (&mut file.socket, &now.file.socket)
            && let Some(token) = old.get("token")
        {
            socket.entry("token").or_insert_with(|| token.clone());
        }
        file.name_entries();
        self.write(&file)
    }

    /// Notes that entries were used, and adds what a decision allowed for good to `agent`'s list.
    pub(crate) fn record(
        &self,
        used: &[Allowed],
        command: &str,
        agent: &str,
        added: Vec<AllowEntry>,
    ) -> Result<(), ApprovalsError> {
        if used.is_empty() && added.is_empty() {
            return Ok(());
        }
        let _turn = self.turn();
        let mut file = self.load()?.file;
        let mut changed = false;
        for allowed in used {
            changed |= note_use(&mut file, allowed, command);
        }
        for entry in added {
            changed |= add(&mut file, agent, entry);
        }
        if changed {
            self.write(&file)?;
        }
        Ok(())
    }

    /// The answer to `system.execApprovals.get` and `.set`.
    pub(crate) fn describe(&self, snapshot: &Snapshot) -> Value {
        let mut file = snapshot.file.clone();
        if let Some(socket) = &mut file.socket {
            socket.remove("token");
        }
        json!({"path": self.path, "exists": snapshot.exists, "file": file, "hash": snapshot.hash})
    }

    fn turn(&self) -> MutexGuard<'_, ()> {
        self.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self) -> io::Result<String> {
        let meta = fs::metadata(&self.path)?;
        if meta.permissions().mode() & 0o022 != 0 {
            return Err(io::Error::other("others can write it; run chmod 600"));
        }
        if meta.len() > MAX_BYTES {
            return Err(io::Error::other("it is larger than 1 MiB"));
        }
        fs::read_to_string(&self.path)
    }

    fn write(&self, file: &ApprovalsFile) -> Result<Snapshot, ApprovalsError> {
        let mut text = serde_json::to_string_pretty(file).map_err(|error| self.unusable(error))?;
        text.push('\n');
        let folder = self.path.parent().unwrap_or(Path::new("."));
        private::folder(folder)
            .and_then(|()| private::write(&self.path, text.as_bytes()))
            .map_err(|error| self.unusable(error))?;
        Ok(Snapshot { exists: true, file: file.clone(), hash: hash(&text) })
    }

    fn unusable(&self, problem: impl std::fmt::Display) -> ApprovalsError {
        ApprovalsError::Unusable { path: self.path.clone(), problem: problem.to_string() }
    }
}

fn note_use(file: &mut ApprovalsFile, allowed: &Allowed, command: &str) -> bool {
    let Ok(mut rules) = file.agent(&allowed.agent) else { return false };
    let now = now_ms();
    let same = |entry: &&mut AllowEntry| entry.pattern == allowed.entry.pattern;
    let Some(entry) = rules.allowlist.get_mut(allowed.index).filter(same) else { return false };
    if entry.last_used_at.is_some_and(|last| now.saturating_sub(last) < USE_NOTED_EVERY_MS) {
        return false;
    }
    entry.last_used_at = Some(now);
    if entry.source.is_none() {
        entry.last_used_command = Some(command.to_owned());
    }
    file.set_agent(&allowed.agent, &rules);
    true
}

fn add(file: &mut ApprovalsFile, agent: &str, mut entry: AllowEntry) -> bool {
    let Ok(mut rules) = file.agent(agent) else { return false };
    let same = |old: &AllowEntry| old.pattern == entry.pattern && old.arg_pattern == entry.arg_pattern;
    if rules.allowlist.iter().any(same) {
        return false;
    }
    entry.id = Some(uuid::Uuid::new_v4().to_string());
    entry.last_used_at = Some(now_ms());
    rules.allowlist.push(entry);
    file.set_agent(agent, &rules);
    true
}

fn hash(text: &str) -> String {
    digest::digest(&digest::SHA256, text.as_bytes())
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

fn now_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> (tempfile::TempDir, ApprovalsStore) {
        let folder = tempfile::tempdir().unwrap();
        let store = ApprovalsStore::new(folder.path());
        (folder, store)
    }

    #[test]
    fn a_change_needs_the_hash_of_what_it_changes() {
        let (_folder, store) = store();
        let empty = store.load().unwrap();
        assert!(!empty.exists);
        let file = json!({"version": 1, "future": true, "agents": {"*": {"allowlist": [{"pattern": "ls"}]}}});
        let first = store.replace(file.clone(), Some(&empty.hash)).unwrap();
        assert!(matches!(store.replace(file.clone(), Some(&empty.hash)), Err(ApprovalsError::Changed)));
        assert!(matches!(store.replace(file.clone(), None), Err(ApprovalsError::NoBaseHash)));
        let read = store.load().unwrap();
        assert_eq!(read.hash, first.hash);
        let shown = store.describe(&read);
        assert_eq!(shown["file"]["future"], true);
        assert!(shown["file"]["agents"]["*"]["allowlist"][0]["id"].is_string());
        store.replace(json!({"version": 1}), Some(&first.hash)).unwrap();
        let mode = fs::metadata(&store.path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600);
    }

    #[test]
    fn the_sockets_token_is_kept_and_never_shown() {
        let (_folder, store) = store();
        let socket = json!({"path": "/s", "token": "secret"});
        let first = store.replace(json!({"version": 1, "socket": socket}), None).unwrap();
        let shown = store.describe(&first);
        assert!(!shown.to_string().contains("secret"));
        store.replace(shown["file"].clone(), Some(&first.hash)).unwrap();
        assert_eq!(store.load().unwrap().file.socket.unwrap()["token"], "secret");
    }

    #[test]
    fn a_damaged_or_open_file_is_an_error_not_an_empty_one() {
        let (_folder, store) = store();
        fs::write(&store.path, "{").unwrap();
        assert!(store.load().is_err());
        fs::write(&store.path, r#"{"version":1}"#).unwrap();
        fs::set_permissions(&store.path, fs::Permissions::from_mode(0o666)).unwrap();
        assert!(store.load().unwrap_err().to_string().contains("chmod 600"));
    }

    #[test]
    fn uses_and_lasting_decisions_are_written_down_once() {
        let (_folder, store) = store();
        store
            .replace(json!({"version": 1, "agents": {"main": {"allowlist": [{"pattern": "ls"}]}}}), None)
            .unwrap();
        let pattern = |pattern: &str| AllowEntry { pattern: pattern.into(), ..AllowEntry::default() };
        let used = [Allowed { agent: "main".into(), index: 0, entry: pattern("ls") }];
        store.record(&used, "ls -l", "main", vec![pattern("/bin/pwd")]).unwrap();
        let first = store.load().unwrap();
        store.record(&used, "ls -l", "main", vec![pattern("/bin/pwd")]).unwrap();
        assert_eq!(store.load().unwrap().hash, first.hash);
        let rules = first.file.agent("main").unwrap();
        assert_eq!(rules.allowlist.len(), 2);
        assert_eq!(rules.allowlist[0].last_used_command.as_deref(), Some("ls -l"));
        assert!(rules.allowlist[1].id.is_some());
    }
}
