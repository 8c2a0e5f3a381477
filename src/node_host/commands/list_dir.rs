//! `fs.listDir`: the folders inside a folder, for pickers.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde::Deserialize;
use serde_json::{Value, json};

use crate::node_host::failure::Failure;

/// A picker with more entries helps nobody.
const MAX_ENTRIES: usize = 5_000;

/// Params of `fs.listDir`.
#[derive(Debug, Deserialize)]
pub(super) struct Params {
    path: Option<String>,
}

/// Lists the folders in `path`, visible ones first. Without a path: the home folder.
pub(super) fn list(params: Params, home: &Path) -> Result<Value, Failure> {
    let path = resolve(params.path.as_deref().unwrap_or_default(), home)?;
    let mut names = folders(&path).map_err(|error| explain(&path, &error))?;
    names.sort_by_key(|name| (name.starts_with('.'), name.to_lowercase(), name.clone()));
    names.truncate(MAX_ENTRIES);
    let entries: Vec<Value> = names.iter().map(|name| entry(&path, name)).collect();
    let mut answer = json!({"path": path, "home": home, "entries": entries});
    if let Some(parent) = path.parent() {
        answer["parent"] = json!(parent);
    }
    Ok(answer)
}

fn resolve(path: &str, home: &Path) -> Result<PathBuf, Failure> {
    let path = path.trim();
    if path.is_empty() || path == "~" {
        return Ok(home.to_owned());
    }
    let path = path.strip_prefix("~/").map_or_else(|| PathBuf::from(path), |rest| home.join(rest));
    if !path.is_absolute() || path.to_string_lossy().contains('\0') {
        return Err(Failure::invalid("path must be absolute, or begin with ~/"));
    }
    // `a/..` is shown as what it means.
    Ok(path.canonicalize().unwrap_or(path))
}

fn folders(path: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        // Links to folders are folders here.
        if entry.path().is_dir() {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    Ok(names)
}

fn entry(folder: &Path, name: &str) -> Value {
    let mut entry = json!({"name": name, "path": folder.join(name)});
    if name.starts_with('.') {
        entry["hidden"] = json!(true);
    }
    entry
}

fn explain(path: &Path, error: &io::Error) -> Failure {
    let code = match error.kind() {
        io::ErrorKind::NotFound => "ENOENT: ",
        io::ErrorKind::PermissionDenied => "EACCES: ",
        io::ErrorKind::NotADirectory => "ENOTDIR: ",
        _ => "",
    };
    Failure::invalid(format!("{code}cannot list {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_folders_are_listed_hidden_ones_last() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().canonicalize().unwrap();
        for name in [".git", "b", "A"] {
            fs::create_dir(path.join(name)).unwrap();
        }
        fs::write(path.join("file"), "").unwrap();
        std::os::unix::fs::symlink(path.join("b"), path.join("link")).unwrap();
        let answer = list(Params { path: None }, &path).unwrap();
        let names: Vec<&str> = answer["entries"]
            .as_array()
            .unwrap()
            .iter()
            .map(|entry| entry["name"].as_str().unwrap())
            .collect();
        assert_eq!(names, ["A", "b", "link", ".git"]);
        assert_eq!(answer["entries"][3]["hidden"], true);
        assert_eq!(answer["home"], json!(path));
        assert_eq!(list(Params { path: Some("~/b".into()) }, &path).unwrap()["parent"], json!(path));
    }

    #[test]
    fn what_cannot_be_listed_says_why() {
        let failure = |path: &str| list(Params { path: Some(path.into()) }, Path::new("/root")).unwrap_err();
        assert!(failure("/nope").message.starts_with("ENOENT: "));
        assert!(failure("/etc/passwd").message.starts_with("ENOTDIR: "));
        assert_eq!(failure("relative").code, "INVALID_REQUEST");
    }
}
