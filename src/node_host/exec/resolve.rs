//! Which file a command name means.

use std::{
    env,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

/// The file that `name` runs: by `PATH` for a bare name, relative to `cwd` for a path.
pub(crate) fn find(name: &str, cwd: &Path) -> Option<PathBuf> {
    if name.contains('/') {
        return Some(cwd.join(name)).filter(|path| is_executable(path));
    }
    let path = env::var_os("PATH")?;
    // A relative entry would make the meaning of a name depend on the working directory.
    env::split_paths(&path)
        .filter(|folder| folder.is_absolute())
        .map(|folder| folder.join(name))
        .find(|file| is_executable(file))
}

fn is_executable(path: &Path) -> bool {
    path.metadata().is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_by_path_and_paths_by_the_working_directory() {
        let shell = find("sh", Path::new("/")).unwrap();
        assert!(shell.is_absolute() && shell.ends_with("sh"));
        assert_eq!(find("bin/sh", Path::new("/")), Some("/bin/sh".into()));
        assert_eq!(find("no-such-program", Path::new("/")), None);
        assert_eq!(find("etc/passwd", Path::new("/")), None);
    }
}
