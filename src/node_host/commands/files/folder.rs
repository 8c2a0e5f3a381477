//! A folder that is held open: its name may come to mean another one meanwhile, this stays the one that was meant.

use std::{
    fs::{File, Metadata},
    io::{self, Write},
    os::fd::{AsFd, OwnedFd},
    path::Path,
};

use nix::{
    errno::Errno,
    fcntl::{AtFlags, OFlag, open, openat},
    sys::stat::{Mode, mkdirat},
    unistd::{UnlinkatFlags, linkat, unlinkat},
};
use uuid::Uuid;

use super::identity;

const FOLDER: OFlag = OFlag::O_DIRECTORY.union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

pub(super) struct Folder(File);

impl Folder {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self::of(open(path, FOLDER, Mode::empty())?))
    }

    fn of(fd: OwnedFd) -> Self {
        Self(File::from(fd))
    }

    /// Device and inode.
    pub(super) fn identity(&self) -> io::Result<(String, String)> {
        Ok(identity(&self.0.metadata()?))
    }

    /// The folder of this name in it, made if it is missing. A link is not followed.
    pub(super) fn enter_or_make(&self, name: &Path) -> io::Result<Self> {
        match mkdirat(self.0.as_fd(), name, Mode::from_bits_truncate(0o777)) {
            Ok(()) | Err(Errno::EEXIST) => Ok(Self::of(openat(self.0.as_fd(), name, FOLDER, Mode::empty())?)),
            Err(error) => Err(error.into()),
        }
    }

    /// Puts a file in it, whole or not at all, for this user alone; `false` when the name is taken.
    pub(super) fn publish(&self, name: &Path, content: &[u8]) -> io::Result<bool> {
        let draft = format!(".tidegate-{}", Uuid::new_v4());
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let file = openat(self.0.as_fd(), draft.as_str(), flags, Mode::from_bits_truncate(0o600))?;
        let published = self.fill_and_link(File::from(file), &draft, name, content);
        let _ = unlinkat(self.0.as_fd(), draft.as_str(), UnlinkatFlags::NoRemoveDir);
        // Some file systems can't; the file is there all the same.
        let _ = self.0.sync_all();
        published
    }

    fn fill_and_link(&self, mut file: File, draft: &str, name: &Path, content: &[u8]) -> io::Result<bool> {
        file.write_all(content)?;
        file.sync_all()?;
        // A link, unlike a rename, fails when the name was taken meanwhile.
        match linkat(self.0.as_fd(), draft, self.0.as_fd(), name, AtFlags::empty()) {
            Ok(()) => Ok(true),
            Err(Errno::EEXIST) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// What has this name in it, a link not followed.
    pub(super) fn look(&self, name: &Path) -> io::Result<Metadata> {
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        File::from(openat(self.0.as_fd(), name, flags, Mode::empty())?).metadata()
    }
}
