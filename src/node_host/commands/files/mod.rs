//! `file.*` and `dir.*`: files and folders of this machine, for gateways whose operator opens these commands.
//!
//! Who may touch which path is the gateway's decision, taken in two steps: it first asks what a path means (`preflightOnly`),
//! decides, and then names the very file it decided about (`expectedCanonicalPath`, `expectedBinding`). Links are followed
//! only when it says so.

mod archive;
mod create;
mod fetch;
mod fetch_folder;
mod folder;
mod list;
mod mime;
mod stat;
mod stream;
mod write;

use std::{
    fs::{self, File, Metadata, OpenOptions},
    io,
    os::{
        fd::AsRawFd,
        unix::fs::{MetadataExt, OpenOptionsExt},
    },
    path::{Component, Path, PathBuf},
};

use nix::fcntl::OFlag;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

pub(super) use create::create;
pub(super) use fetch::{Params as FetchParams, fetch};
pub(super) use fetch_folder::fetch_folder;
pub(super) use list::list;
pub(super) use stat::stat;
pub(super) use stream::stream;
pub(super) use write::write;

/// Most bytes of a file in one answer or request.
pub(super) const MAX_BYTES: usize = 16 * 1024 * 1024;

/// Why a path was not touched. It is an answer, not a failed invoke.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refused {
    code: &'static str,
    message: String,
    canonical: Option<PathBuf>,
}

impl Refused {
    fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), canonical: None }
    }

    fn at(mut self, path: &Path) -> Self {
        self.canonical = Some(path.to_owned());
        self
    }

    fn not_folder(path: &Path) -> Self {
        Self::new("IS_FILE", "the path is not a folder").at(path)
    }

    fn redirected(path: &Path) -> Self {
        Self::new("SYMLINK_REDIRECT", "the path leads through a link").at(path)
    }

    fn changed(path: &Path) -> Self {
        Self::new("CANONICAL_PATH_CHANGED", "this is not the file that was authorised").at(path)
    }

    fn io(error: &io::Error, otherwise: &'static str) -> Self {
        let code = match error.kind() {
            io::ErrorKind::NotFound => "NOT_FOUND",
            io::ErrorKind::PermissionDenied => "PERMISSION_DENIED",
            io::ErrorKind::IsADirectory => "IS_DIRECTORY",
            _ => otherwise,
        };
        Self::new(code, error.to_string())
    }
}

/// The payload for either outcome.
pub(super) fn answer(outcome: Result<Value, Refused>) -> Value {
    match outcome {
        Ok(mut value) => {
            value["ok"] = json!(true);
            value
        }
        Err(refused) => {
            let mut value = json!({"ok": false, "code": refused.code, "message": refused.message});
            if let Some(path) = refused.canonical {
                value["canonicalPath"] = json!(path);
            }
            value
        }
    }
}

/// What all of these commands take.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Target {
    path: String,
    follow_symlinks: bool,
    preflight_only: bool,
    expected_canonical_path: Option<PathBuf>,
    expected_binding: Option<Binding>,
}

/// Which file was meant, beyond its name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub(super) enum Binding {
    Existing {
        device: String,
        inode: String,
    },
    #[serde(rename_all = "camelCase")]
    Write {
        anchor_path: PathBuf,
        anchor_device: String,
        anchor_inode: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        target_device: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        target_inode: Option<String>,
    },
}

impl Binding {
    fn of(file: &Metadata) -> Self {
        let (device, inode) = identity(file);
        Self::Existing { device, inode }
    }
}

fn identity(file: &Metadata) -> (String, String) {
    (file.dev().to_string(), file.ino().to_string())
}

/// A file or folder that was opened, and what its path really is.
struct Opened {
    file: File,
    meta: Metadata,
    path: PathBuf,
}

impl Target {
    /// The path as asked for, which must be absolute.
    fn asked(&self) -> Result<PathBuf, Refused> {
        if self.path.is_empty() {
            return Err(Refused::new("INVALID_PATH", "path is required"));
        }
        if self.path.contains('\0') || !Path::new(&self.path).is_absolute() {
            return Err(Refused::new("INVALID_PATH", "path must be absolute and without NUL"));
        }
        Ok(plain(Path::new(&self.path)))
    }

    /// Opens what exists at the path, if it is what the caller means.
    fn open(&self) -> Result<Opened, Refused> {
        let asked = self.asked()?;
        let path = asked.canonicalize().map_err(|error| Refused::io(&error, "READ_ERROR"))?;
        if path != asked && !self.follow_symlinks {
            return Err(Refused::redirected(&path));
        }
        let opened = open(path)?;
        self.check(&opened.path, &Binding::of(&opened.meta))?;
        Ok(opened)
    }

    fn check(&self, path: &Path, binding: &Binding) -> Result<(), Refused> {
        let same_path = self.expected_canonical_path.as_deref().is_none_or(|expected| expected == path);
        let same_file = self.expected_binding.as_ref().is_none_or(|expected| expected == binding);
        if same_path && same_file { Ok(()) } else { Err(Refused::changed(path)) }
    }
}

/// Opens a canonical path without following a link that appeared meanwhile, and without waiting on a pipe.
fn open(path: PathBuf) -> Result<Opened, Refused> {
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits())
        .open(&path)
        .map_err(|error| Refused::io(&error, "READ_ERROR").at(&path))?;
    let meta = file.metadata().map_err(|error| Refused::io(&error, "READ_ERROR").at(&path))?;
    // A folder above it may have been exchanged between looking and opening.
    let real = fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).or_else(|_| path.canonicalize());
    if real.is_ok_and(|real| real == path) {
        Ok(Opened { file, meta, path })
    } else {
        Err(Refused::changed(&path))
    }
}

/// The path without `.` and `..`, by its words alone.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                plain.pop();
            }
            Component::CurDir => (),
            part => plain.push(part),
        }
    }
    plain
}

#[cfg(test)]
mod tests;
