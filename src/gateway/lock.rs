//! One gateway for one state folder.

use crate::lock::{self, NotLocked};
use nix::fcntl::{Flock, FlockArg};
use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;

/// Held as long as the gateway runs; the kernel lets go of it however the process ends.
pub(super) struct StateLock {
    file: Flock<File>,
}

/// The gateway that runs on a state folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LockHolder {
    /// Its process.
    pub pid: u32,
    /// Where it listens, once it does.
    pub port: Option<u16>,
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
        let file = lock::take(&path).map_err(|error| match error {
            NotLocked::Io(error) => LockError::Io(path.display().to_string(), error),
            NotLocked::Held(pid) => LockError::Held {
                pid: pid.map_or_else(|| "unknown".to_owned(), |pid| pid.to_string()),
                folder: folder.display().to_string(),
            },
        })?;
        Ok(Self { file })
    }

    /// Writes down where the gateway listens, for the commands of this machine.
    pub(super) fn listens_on(&mut self, port: u16) -> Result<(), LockError> {
        writeln!(&mut *self.file, "{port}")
            .map_err(|error| LockError::Io("the state folder".to_owned(), error))
    }
}

/// The gateway that runs on this state, if one does. Its process need not be one that this process can see: the state
/// may be that of a container.
pub fn holder(folder: &Path) -> Option<LockHolder> {
    let mut file = File::open(folder.join("tidegate.lock")).ok()?;
    let mut text = String::new();
    file.read_to_string(&mut text).ok()?;
    let mut lines = text.lines();
    let pid: u32 = lines.next()?.trim().parse().ok()?;
    let port = lines.next().and_then(|port| port.trim().parse().ok());
    match Flock::lock(file, FlockArg::LockSharedNonblock) {
        Ok(_) => None,
        Err(_) => Some(LockHolder { pid, port }),
    }
}

/// The port of this machine's own gateway: the one that it runs on, else the one that it is configured for.
pub fn own_port(configured: u16, folder: &Path) -> u16 {
    holder(folder).and_then(|holder| holder.port).unwrap_or(configured)
}

/// Whether it is this machine's own gateway that listens on a port: it runs, and has written that down. Any other port,
/// and its own while it doesn't run, may be the near end of a tunnel, and the secret of this machine must not go through
/// it.
pub fn is_own_port(port: u16, folder: &Path) -> bool {
    holder(folder).is_some_and(|holder| holder.port == Some(port))
}

/// A gateway that runs on this state and port, as far as others can see, for as long as the answer lives.
#[cfg(test)]
pub(crate) fn held(folder: &Path, port: u16) -> impl Sized + use<> {
    let mut lock = StateLock::take(folder).unwrap();
    lock.listens_on(port).unwrap();
    lock
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_taker_hears_the_pid_of_the_first() {
        let folder = tempfile::tempdir().unwrap();
        let mut first = StateLock::take(folder.path()).unwrap();
        let Err(LockError::Held { pid, .. }) = StateLock::take(folder.path()) else { panic!("taken twice") };
        assert_eq!(pid, std::process::id().to_string());
        let pid = std::process::id();
        assert_eq!(holder(folder.path()), Some(LockHolder { pid, port: None }));
        first.listens_on(4000).unwrap();
        assert_eq!(holder(folder.path()), Some(LockHolder { pid, port: Some(4000) }));
        let Err(LockError::Held { pid: told, .. }) = StateLock::take(folder.path()) else {
            panic!("taken twice")
        };
        assert_eq!(told, pid.to_string());
        drop(first);
        assert_eq!(holder(folder.path()), None);
        assert!(StateLock::take(folder.path()).is_ok());
    }

    #[test]
    fn a_gateway_in_a_container_is_seen_by_its_lock_alone() {
        let folder = tempfile::tempdir().unwrap();
        let lock = StateLock::take(folder.path()).unwrap();
        // No process here has this number.
        let pid = i32::MAX.unsigned_abs();
        std::fs::write(folder.path().join("tidegate.lock"), format!("{pid}\n4000\n")).unwrap();
        assert_eq!(holder(folder.path()), Some(LockHolder { pid, port: Some(4000) }));
        assert!(is_own_port(4000, folder.path()) && !is_own_port(18_789, folder.path()));
        drop(lock);
        assert!(!is_own_port(4000, folder.path()), "what a gateway wrote down outlives it");
    }
}
