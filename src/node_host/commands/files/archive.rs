//! A folder as a gzipped tar, within limits.
//!
//! Everything is opened from the folder above it and never through a link, so a tree that is changed meanwhile cannot lead
//! elsewhere. A link or a device in it refuses the whole: whoever unpacks the archive must not get less than there is, and
//! could not be trusted with more.

use std::{
    ffi::{CStr, OsStr},
    fs::File,
    io::{self, Read, Write},
    os::unix::ffi::OsStrExt,
    time::{Duration, Instant},
};

use flate2::{Compression, write::GzEncoder};
use nix::{
    dir::Dir,
    fcntl::{AtFlags, OFlag, openat},
    sys::stat::{Mode, SFlag, fstatat},
};
use tar::{Builder, Header, HeaderMode};

use super::{MAX_BYTES, Refused};

/// How much may be packed.
#[derive(Debug, Clone)]
pub(super) struct Limits {
    archive_bytes: usize,
    /// Of one file.
    file_bytes: usize,
    /// Of all files, before they are compressed.
    content_bytes: usize,
    entries: usize,
    /// Folders within folders; each of them is kept open.
    depth: usize,
    time: Duration,
}

impl Limits {
    pub(super) fn with_archive_bytes(archive_bytes: usize) -> Self {
        Self {
            archive_bytes,
            file_bytes: MAX_BYTES,
            content_bytes: 64 * 1024 * 1024,
            entries: 5_000,
            depth: 64,
            time: Duration::from_secs(60),
        }
    }
}

/// A packed folder.
#[derive(Debug)]
pub(super) struct Archive {
    pub(super) bytes: Vec<u8>,
    /// The paths of everything in it, below the folder, sorted.
    pub(super) entries: Vec<String>,
}

/// Packs what is in an open folder.
pub(super) fn pack(folder: &File, limits: &Limits) -> Result<Archive, Refused> {
    let output = Bounded { bytes: Vec::new(), most: limits.archive_bytes };
    let mut packer = Packer {
        tar: Builder::new(GzEncoder::new(output, Compression::default())),
        limits,
        entries: Vec::new(),
        content_bytes: 0,
        until: Instant::now() + limits.time,
    };
    packer.add(".", folder, &[])?;
    packer.descend(folder, "", 0)?;
    let mut entries = packer.entries;
    entries.sort();
    let output = packer.tar.into_inner().and_then(GzEncoder::finish);
    let output = output.map_err(|error| unwritten(&error, limits))?;
    Ok(Archive { bytes: output.bytes, entries })
}

struct Packer<'a> {
    tar: Builder<GzEncoder<Bounded>>,
    limits: &'a Limits,
    entries: Vec<String>,
    content_bytes: usize,
    until: Instant,
}

impl Packer<'_> {
    /// Adds what is in a folder whose path ends with a slash, or is empty.
    fn descend(&mut self, folder: &File, path: &str, depth: usize) -> Result<(), Refused> {
        if depth > self.limits.depth {
            return Err(too_large(format!("more than {} folders within folders", self.limits.depth)));
        }
        for name in self.names(folder, path)? {
            self.entry(folder, &name, format!("{path}{name}"), depth)?;
        }
        Ok(())
    }

    fn entry(&mut self, folder: &File, name: &str, path: String, depth: usize) -> Result<(), Refused> {
        if Instant::now() > self.until {
            return Err(Refused::new(
                "READ_ERROR",
                format!("not read within {} seconds", self.limits.time.as_secs()),
            ));
        }
        match kind(folder, name).map_err(|error| unread(&path, &error))? {
            // It has no content, and ends with whoever listens on it.
            SFlag::S_IFSOCK => return Ok(()),
            SFlag::S_IFREG | SFlag::S_IFDIR => (),
            SFlag::S_IFLNK => return Err(unfit(&path, "is a link")),
            _ => return Err(unfit(&path, "is neither a file nor a folder")),
        }
        let file = open(folder, name).map_err(|error| unread(&path, &error))?;
        let meta = file.metadata().map_err(|error| unread(&path, &error))?;
        if meta.is_dir() {
            self.add(&path, &file, &[])?;
            let below = format!("{path}/");
            self.count(path)?;
            self.descend(&file, &below, depth + 1)
        } else if meta.is_file() {
            let content = self.content(&file, &path)?;
            self.add(&path, &file, &content)?;
            self.count(path)
        } else {
            Err(unfit(&path, "is neither a file nor a folder"))
        }
    }

    /// The names in a folder; no more of them than may still be packed.
    fn names(&self, folder: &File, path: &str) -> Result<Vec<String>, Refused> {
        let failed = |error| unread(if path.is_empty() { "." } else { path }, &error);
        // Opened anew, because a copy of the descriptor would share its place in the listing.
        let listed = open(folder, ".").map_err(failed)?;
        let mut dir = Dir::from_fd(listed.into()).map_err(|error| failed(error.into()))?;
        let mut names = Vec::new();
        for entry in dir.iter() {
            let entry = entry.map_err(|error| failed(error.into()))?;
            let Some(name) = readable(entry.file_name(), path)? else { continue };
            names.push(name);
            if self.entries.len() + names.len() > self.limits.entries {
                return Err(self.too_many());
            }
        }
        names.sort();
        Ok(names)
    }

    fn count(&mut self, path: String) -> Result<(), Refused> {
        self.entries.push(path);
        if self.entries.len() > self.limits.entries { Err(self.too_many()) } else { Ok(()) }
    }

    fn too_many(&self) -> Refused {
        too_large(format!("more than {} files and folders", self.limits.entries))
    }

    fn content(&mut self, file: &File, path: &str) -> Result<Vec<u8>, Refused> {
        let left = self.limits.content_bytes - self.content_bytes;
        let most = self.limits.file_bytes.min(left);
        let mut content = Vec::new();
        // It may grow while it is read.
        file.take(most as u64 + 1).read_to_end(&mut content).map_err(|error| unread(path, &error))?;
        if content.len() > self.limits.file_bytes {
            return Err(too_large(format!("{path} is larger than {} bytes", self.limits.file_bytes)));
        }
        if content.len() > left {
            return Err(too_large(format!("the content is larger than {} bytes", self.limits.content_bytes)));
        }
        self.content_bytes += content.len();
        Ok(content)
    }

    fn add(&mut self, path: &str, file: &File, content: &[u8]) -> Result<(), Refused> {
        let meta = file.metadata().map_err(|error| unread(path, &error))?;
        let mut header = Header::new_gnu();
        header.set_metadata_in_mode(&meta, HeaderMode::Complete);
        header.set_size(content.len() as u64);
        self.tar.append_data(&mut header, path, content).map_err(|error| unwritten(&error, self.limits))
    }
}

/// What an entry is, links not followed. Asked before it is opened, because opening a device can have effects.
fn kind(folder: &File, name: &str) -> io::Result<SFlag> {
    let stat = fstatat(folder, name, AtFlags::AT_SYMLINK_NOFOLLOW)?;
    Ok(SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT)
}

fn open(folder: &File, name: &str) -> io::Result<File> {
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    Ok(openat(folder, name, flags, Mode::empty())?.into())
}

/// A name that is the same for the gateway, which decides by it; `None` for the folder itself and the one above.
fn readable(name: &CStr, folder: &str) -> Result<Option<String>, Refused> {
    if matches!(name.to_bytes(), b"." | b"..") {
        return Ok(None);
    }
    match name.to_str() {
        Ok(name) if !name.contains('\\') => Ok(Some(name.to_owned())),
        _ => {
            let name = OsStr::from_bytes(name.to_bytes()).display();
            Err(unfit(&format!("{folder}{name}"), "has a name that does not mean the same elsewhere"))
        }
    }
}

fn too_large(message: String) -> Refused {
    Refused::new("TREE_TOO_LARGE", message)
}

fn unfit(path: &str, why: &str) -> Refused {
    Refused::new("READ_ERROR", format!("{path} {why}; the folder cannot be packed"))
}

/// Whatever is wrong with an entry, the folder that was asked for is there.
fn unread(path: &str, error: &io::Error) -> Refused {
    Refused::new("READ_ERROR", format!("{path} cannot be read: {error}"))
}

fn unwritten(error: &io::Error, limits: &Limits) -> Refused {
    match error.kind() {
        io::ErrorKind::FileTooLarge => {
            too_large(format!("the archive is larger than {} bytes", limits.archive_bytes))
        }
        _ => Refused::new("READ_ERROR", format!("the folder cannot be packed: {error}")),
    }
}

/// Memory that takes so much and no more.
struct Bounded {
    bytes: Vec<u8>,
    most: usize,
}

impl Write for Bounded {
    fn write(&mut self, more: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + more.len() > self.most {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.bytes.extend_from_slice(more);
        Ok(more.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;

    fn limits() -> Limits {
        Limits::with_archive_bytes(MAX_BYTES)
    }

    fn code(folder: &Path, limits: &Limits) -> &'static str {
        pack(&File::open(folder).unwrap(), limits).map_or_else(|refused| refused.code, |_| "ok")
    }

    #[test]
    fn every_limit_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        fs::create_dir_all(path.join("a/b")).unwrap();
        fs::write(path.join("a/b/x"), [7; 100]).unwrap();
        fs::write(path.join("y"), [7; 50]).unwrap();
        let exact = Limits { file_bytes: 100, content_bytes: 150, entries: 4, depth: 2, ..limits() };
        assert_eq!(code(path, &exact), "ok");
        for less in [
            Limits { file_bytes: 99, ..exact.clone() },
            Limits { content_bytes: 149, ..exact.clone() },
            Limits { entries: 3, ..exact.clone() },
            Limits { depth: 1, ..exact.clone() },
            Limits { archive_bytes: 20, ..exact.clone() },
        ] {
            assert_eq!(code(path, &less), "TREE_TOO_LARGE", "{less:?}");
        }
        assert_eq!(code(path, &Limits { time: Duration::ZERO, ..exact }), "READ_ERROR");
    }

    #[test]
    fn empty_folders_count_too() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["a", "b", "c"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        fs::write(folder.path().join("a/x"), "").unwrap();
        assert_eq!(code(folder.path(), &Limits { entries: 3, ..limits() }), "TREE_TOO_LARGE");
        assert_eq!(code(folder.path(), &Limits { entries: 4, ..limits() }), "ok");
    }

    #[test]
    fn a_name_that_could_mean_another_path_refuses_the_folder() {
        for name in [&b"a\\b"[..], b"a\xff"] {
            let folder = tempfile::tempdir().unwrap();
            fs::write(folder.path().join(OsStr::from_bytes(name)), "x").unwrap();
            assert_eq!(code(folder.path(), &limits()), "READ_ERROR");
        }
    }

    #[test]
    fn nothing_is_opened_through_a_link() {
        let folder = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/etc", folder.path().join("etc")).unwrap();
        assert!(open(&File::open(folder.path()).unwrap(), "etc").is_err());
    }
}
