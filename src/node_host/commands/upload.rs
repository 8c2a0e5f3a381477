//! `terminal.upload`: a file that an operator drops into a terminal of this machine.
//!
//! It is kept for a day, in a folder of its own that only this user may enter. The answer is its path; nothing runs it.

use std::{
    fs::{self, DirBuilder, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::files::MAX_BYTES;
use crate::{config::private, node_host::failure::Failure};

const KEPT_FOR: Duration = Duration::from_secs(24 * 60 * 60);
const MOST_KEPT: usize = 64;
const MOST_KEPT_BYTES: u64 = 256 * 1024 * 1024;
/// Leaves room below the 255 bytes that file systems allow.
const MAX_NAME: usize = 180;
/// Means something to a shell, or can't be in a file name elsewhere.
const UNSAFE_IN_NAMES: &[char] = &['<', '>', ':', '"', '|', '?', '*', '%', '!'];

/// Params of `terminal.upload`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Params {
    name: String,
    content_base64: String,
}

pub(super) fn upload(params: Params, uploads: &Uploads) -> Result<Value, Failure> {
    let bytes = content(&params.content_base64)?;
    let path = uploads.keep(&safe_name(&params.name), &bytes)?;
    Ok(json!({"path": path, "size": bytes.len()}))
}

fn content(text: &str) -> Result<Vec<u8>, Failure> {
    let too_large = || Failure::invalid(format!("the file is larger than {MAX_BYTES} bytes"));
    if text.len() > MAX_BYTES.div_ceil(3) * 4 {
        return Err(too_large());
    }
    let bytes = STANDARD.decode(text).map_err(|_| Failure::invalid("contentBase64 is not base64"))?;
    if bytes.len() > MAX_BYTES { Err(too_large()) } else { Ok(bytes) }
}

/// The last part of a name, fit to be a file here and to be typed into a shell.
fn safe_name(name: &str) -> String {
    let last = name.rsplit(['/', '\\']).find(|part| !part.is_empty()).unwrap_or_default();
    let mut safe = String::new();
    for letter in last.trim().chars() {
        let letter = if letter.is_control() || UNSAFE_IN_NAMES.contains(&letter) { '_' } else { letter };
        if safe.len() + letter.len_utf8() > MAX_NAME {
            break;
        }
        safe.push(letter);
    }
    match safe.trim_end_matches(['.', ' ']) {
        "" => "upload".to_owned(),
        safe => safe.to_owned(),
    }
}

/// The files that were uploaded and are still kept.
#[derive(Debug)]
pub(crate) struct Uploads {
    folder: PathBuf,
    /// The limits are for all of them together, so one comes after the other.
    turn: Mutex<()>,
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Usage {
    files: usize,
    bytes: u64,
}

impl Uploads {
    /// Nothing is made before there is something to keep.
    pub(crate) fn new(folder: PathBuf) -> Self {
        Self { folder, turn: Mutex::default() }
    }

    /// Removes what has been kept long enough.
    pub(crate) fn sweep(&self) {
        let _turn = self.turn();
        if let Err(error) = self.tidy(SystemTime::now()) {
            tracing::warn!(%error, "uploads not swept");
        }
    }

    fn keep(&self, name: &str, bytes: &[u8]) -> Result<PathBuf, Failure> {
        let _turn = self.turn();
        let failed = |error: io::Error| Failure::unavailable(format!("cannot keep the file: {error}"));
        private::folder(&self.folder).map_err(failed)?;
        let used = self.tidy(SystemTime::now()).map_err(failed)?;
        if used.files >= MOST_KEPT || used.bytes + bytes.len() as u64 > MOST_KEPT_BYTES {
            return Err(Failure::unavailable(format!(
                "too many uploads are kept here ({MOST_KEPT} files or {MOST_KEPT_BYTES} bytes); move some away, or wait a day"
            )));
        }
        let folder = self.folder.join(Uuid::new_v4().to_string());
        put(&folder, name, bytes).map_err(|error| {
            let _ = fs::remove_dir_all(&folder);
            failed(error)
        })
    }

    /// Removes what is too old or was moved away; what remains.
    fn tidy(&self, now: SystemTime) -> io::Result<Usage> {
        let mut usage = Usage::default();
        let entries = match fs::read_dir(&self.folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(usage),
            entries => entries?,
        };
        for entry in entries {
            let path = entry?.path();
            let meta = path.symlink_metadata()?;
            if !meta.is_dir() {
                continue;
            }
            let gone = if is_old(meta.modified()?, now) {
                fs::remove_dir_all(&path)
            } else {
                // Only an empty folder can be removed this way.
                fs::remove_dir(&path)
            };
            if gone.is_err() {
                usage.files += 1;
                usage.bytes += size(&path)?;
            }
        }
        Ok(usage)
    }

    fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn put(folder: &Path, name: &str, bytes: &[u8]) -> io::Result<PathBuf> {
    DirBuilder::new().mode(0o700).create(folder)?;
    let path = folder.join(name);
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?.write_all(bytes)?;
    // The shell it is for may be in any folder.
    path.canonicalize()
}

/// A clock that was set back must not keep files for ever.
fn is_old(made: SystemTime, now: SystemTime) -> bool {
    now.duration_since(made).unwrap_or_else(|ahead| ahead.duration()) >= KEPT_FOR
}

fn size(folder: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(folder)? {
        // Of a link this is the size of the link.
        bytes += entry?.metadata()?.len();
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn uploads() -> (tempfile::TempDir, Uploads) {
        let folder = tempfile::tempdir().unwrap();
        let uploads = Uploads::new(folder.path().join("uploads"));
        (folder, uploads)
    }

    fn send(uploads: &Uploads, name: &str, content: &[u8]) -> Result<PathBuf, Failure> {
        let params = Params { name: name.into(), content_base64: STANDARD.encode(content) };
        let answer = upload(params, uploads)?;
        assert_eq!(answer["size"], content.len());
        Ok(PathBuf::from(answer["path"].as_str().unwrap()))
    }

    #[test]
    fn a_file_is_kept_for_this_user_alone() {
        let (_keep, uploads) = uploads();
        let (first, second) =
            (send(&uploads, "a b.txt", b"one").unwrap(), send(&uploads, "a b.txt", b"").unwrap());
        assert_ne!(first, second);
        assert_eq!((fs::read(&first).unwrap(), fs::read(&second).unwrap()), (b"one".to_vec(), vec![]));
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(
            (mode(&first), mode(first.parent().unwrap()), mode(&uploads.folder)),
            (0o600, 0o700, 0o700)
        );
        assert!(first.is_absolute() && first.ends_with("a b.txt"));
    }

    #[test]
    fn a_name_never_leads_elsewhere() {
        for (name, safe) in [
            ("../../etc/passwd", "passwd"),
            ("C:\\x\\notes.txt", "notes.txt"),
            ("a/b/", "b"),
            ("..", "upload"),
            ("", "upload"),
            ("/", "upload"),
            ("a\0b\nc*%!", "a_b_c___"),
            (" spaced. ", "spaced"),
            (".bashrc", ".bashrc"),
        ] {
            assert_eq!(safe_name(name), safe, "{name:?}");
        }
        let long = safe_name(&"ä".repeat(300));
        assert_eq!((long.len(), long.chars().count()), (MAX_NAME, MAX_NAME / 2));
    }

    #[test]
    fn what_is_not_a_file_of_bounded_size_is_refused() {
        let (_keep, uploads) = uploads();
        for text in ["!", "eA", "eB==", "e A="] {
            let params = Params { name: "x".into(), content_base64: text.into() };
            assert_eq!(upload(params, &uploads).unwrap_err().code, "INVALID_REQUEST", "{text}");
        }
        assert_eq!(send(&uploads, "x", &vec![0; MAX_BYTES + 1]).unwrap_err().code, "INVALID_REQUEST");
        assert!(!uploads.folder.exists());
        assert!(send(&uploads, "x", &vec![0; MAX_BYTES]).is_ok());
    }

    #[test]
    fn old_uploads_go_and_what_was_moved_away_makes_room() {
        let (keep, uploads) = uploads();
        let path = send(&uploads, "x", b"four").unwrap();
        let outside = keep.path().join("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("y"), "y").unwrap();
        symlink(&outside, path.with_file_name("link")).unwrap();
        symlink(&outside, uploads.folder.join("link")).unwrap();
        let now = SystemTime::now();
        let used = uploads.tidy(now).unwrap();
        assert!(used.files == 1 && used.bytes >= 4, "{used:?}");
        assert_eq!(uploads.tidy(now + KEPT_FOR + KEPT_FOR).unwrap(), Usage::default());
        assert!(!path.exists() && outside.join("y").exists());
        let moved = send(&uploads, "x", b"x").unwrap();
        fs::rename(&moved, keep.path().join("moved")).unwrap();
        assert_eq!(uploads.tidy(SystemTime::now()).unwrap(), Usage::default());
    }

    #[test]
    fn there_is_an_end_to_what_is_kept() {
        let (_keep, uploads) = uploads();
        for _ in 0..MOST_KEPT {
            send(&uploads, "x", b"x").unwrap();
        }
        let failure = send(&uploads, "x", b"x").unwrap_err();
        assert_eq!(failure.code, "UNAVAILABLE");
        assert_eq!(fs::read_dir(&uploads.folder).unwrap().count(), MOST_KEPT);
        let (_keep, uploads) = super::tests::uploads();
        let path = send(&uploads, "x", b"x").unwrap();
        OpenOptions::new().write(true).open(&path).unwrap().set_len(MOST_KEPT_BYTES).unwrap();
        assert_eq!(send(&uploads, "x", b"x").unwrap_err().code, "UNAVAILABLE");
    }
}
