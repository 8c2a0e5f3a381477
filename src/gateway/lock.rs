//! One gateway for one state folder.

use nix::fcntl::{Flock, FlockArg};
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Held as long as the gateway runs; the kernel lets go of it however the process ends.
pub(super) struct StateLock {
    _file: Flock<File>,
}

/// Why the lock was not taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another gateway runs on this state.
    #[error(
        "another gateway (pid {pid}) is using {folder}: stop it, or give this one its own state with --state-dir or --profile"
    )]
    Held {
        /// The holder, as it wrote itself down.
        pid: String,
        /// The state folder.
        folder: String,
    },
    /// The file system refused.
    #[error("could not lock {0}: {1}")]
    Io(String, #[source] std::io::Error),
}

impl StateLock {
    pub(super) fn take(folder: &Path) -> Result<Self, LockError> {
        let path = folder.join("tidegate.lock");
        let io = |error| LockError::Io(path.display().to_string(), error);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(io)?;
        let mut holder = String::new();
        file.read_to_string(&mut holder).map_err(io)?;
        let mut file =
            Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| match errno {
                nix::errno::Errno::EWOULDBLOCK => LockError::Held {
                    pid: if holder.trim().is_empty() {
                        "unknown".to_owned()
                    } else {
                        holder.trim().to_owned()
                    },
                    folder: folder.display().to_string(),
                },
                errno => io(errno.into()),
            })?;
        file.set_len(0).map_err(io)?;
        std::io::Seek::rewind(&mut *file).map_err(io)?;
        writeln!(&mut *file, "{}", std::process::id()).map_err(io)?;
        Ok(Self { _file: file })
    }
}

/// The process that runs a gateway on this state, if one does.
pub fn holder(folder: &Path) -> Option<u32> {
    let mut file = File::open(folder.join("tidegate.lock")).ok()?;
    let mut text = String::new();
    file.read_to_string(&mut text).ok()?;
    let pid: u32 = text.trim().parse().ok()?;
    // A lock that nobody holds is better not touched: somebody may just be taking it.
    let process = nix::unistd::Pid::from_raw(i32::try_from(pid).ok()?);
    if nix::sys::signal::kill(process, None) == Err(nix::errno::Errno::ESRCH) {
        return None;
    }
    match Flock::lock(file, FlockArg::LockSharedNonblock) {
        Ok(_) => None,
        Err(_) => Some(pid),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_taker_hears_the_pid_of_the_first() {
        let folder = tempfile::tempdir().unwrap();
        let first = StateLock::take(folder.path()).unwrap();
        let Err(LockError::Held { pid, .. }) = StateLock::take(folder.path()) else { panic!("taken twice") };
        assert_eq!(pid, std::process::id().to_string());
        assert_eq!(holder(folder.path()), Some(std::process::id()));
        drop(first);
        assert_eq!(holder(folder.path()), None);
        assert!(StateLock::take(folder.path()).is_ok());
    }
}
