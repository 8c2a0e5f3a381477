//! Files and folders that only their owner may read.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, chown},
    path::Path,
};

/// Makes a folder (and those above it) that only we may enter.
pub fn folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    let mode = fs::metadata(path)?.permissions().mode();
    if mode & 0o077 != 0 {
        fs::set_permissions(path, fs::Permissions::from_mode(0o700))?;
    }
    Ok(())
}

/// Writes a file whole or not at all, readable by us alone.
pub fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    let folder = path.parent().ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
    let temporary = folder.join(format!(
        ".{}.{}.tmp",
        path.file_name().unwrap_or_default().to_string_lossy(),
        std::process::id()
    ));
    let result = write_new(&temporary, content)
        .and_then(|()| give_to_owner(&temporary, path, folder))
        .and_then(|()| fs::rename(&temporary, path));
    if result.is_err() {
        let _ = fs::remove_file(&temporary);
        return result;
    }
    File::open(folder)?.sync_all()
}

/// An administrator edits what a service reads: the file stays, or becomes, the service's.
fn give_to_owner(file: &Path, old: &Path, folder: &Path) -> io::Result<()> {
    if !nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    let owner = fs::metadata(old).or_else(|_| fs::metadata(folder))?;
    chown(file, Some(owner.uid()), Some(owner.gid()))
}

/// Takes away what others may do with a file of ours, if it is in our folder; true if
/// there was something to take.
pub(super) fn tighten(path: &Path, folder: &Path) -> io::Result<bool> {
    let Ok(meta) = fs::symlink_metadata(path) else { return Ok(false) };
    if !meta.is_file() || !path.starts_with(folder) || meta.permissions().mode() & 0o077 == 0 {
        return Ok(false);
    }
    fs::set_permissions(path, fs::Permissions::from_mode(meta.permissions().mode() & 0o700))?;
    Ok(true)
}

fn write_new(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(content)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn nobody_else_may_look() {
        let folder_path = tempfile::tempdir().unwrap().keep().join("a/b");
        folder(&folder_path).unwrap();
        assert_eq!(mode(&folder_path), 0o700);
        let file = folder_path.join("f");
        write(&file, b"one").unwrap();
        write(&file, b"two").unwrap();
        assert_eq!((mode(&file), fs::read_to_string(&file).unwrap().as_str()), (0o600, "two"));
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(!tighten(&file, Path::new("/elsewhere")).unwrap());
        assert!(tighten(&file, &folder_path).unwrap());
        assert_eq!(mode(&file), 0o600);
        assert_eq!(fs::read_dir(&folder_path).unwrap().count(), 1);
    }
}
