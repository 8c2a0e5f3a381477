//! One process for a folder: a file that is locked as long as the process runs, with its number in it.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Seek, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
    thread,
    time::Duration,
};

use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
};

/// Somebody who only asks whether a file is locked has it for less than this.
const GLANCE: Duration = Duration::from_millis(20);

/// Why a file was not locked.
#[derive(Debug)]
pub(crate) enum NotLocked {
    /// Another process has it; its number as far as it is known.
    Held(Option<u32>),
    /// The file system refused.
    Io(io::Error),
}

impl From<io::Error> for NotLocked {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Locks a file and writes down whose it is. The kernel lets go of it however the process ends.
pub(crate) fn take(path: &Path) -> Result<Flock<File>, NotLocked> {
    let open =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
    let mut file = match exclusively(open) {
        Ok(file) => file,
        Err((mut file, Errno::EWOULDBLOCK)) => {
            let mut holder = String::new();
            let _ = file.read_to_string(&mut holder);
            return Err(NotLocked::Held(holder.lines().next().and_then(|pid| pid.trim().parse().ok())));
        }
        Err((_, error)) => return Err(NotLocked::Io(error.into())),
    };
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", std::process::id())?;
    Ok(file)
}

/// Takes the lock unless it stays taken.
fn exclusively(file: File) -> Result<Flock<File>, (File, Errno)> {
    Flock::lock(file, FlockArg::LockExclusiveNonblock).or_else(|(file, _)| {
        thread::sleep(GLANCE);
        Flock::lock(file, FlockArg::LockExclusiveNonblock)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_locked_once_and_names_its_holder() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        std::fs::write(&path, "4294967295 and something longer of an earlier holder").unwrap();
        let first = take(&path).unwrap();
        assert!(matches!(take(&path), Err(NotLocked::Held(Some(pid))) if pid == std::process::id()));
        drop(first);
        assert!(take(&path).is_ok());
        assert!(matches!(take(&folder.path().join("none/lock")), Err(NotLocked::Io(_))));
    }
}
