//! Reading the file: JSON5, and other files that it pulls in with `$include`.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::ConfigError;

const DEEPEST: usize = 10;
const LARGEST: u64 = 2 * 1024 * 1024;

/// The file with its includes in place, and every file that was read.
#[derive(Debug)]
pub(super) struct Tree {
    pub(super) value: Value,
    pub(super) files: Vec<PathBuf>,
}

/// Puts the included files into an already parsed file.
pub(super) fn resolve(file: &Path, parsed: Value) -> Result<Tree, ConfigError> {
    let boundary = file.parent().unwrap_or(Path::new("/"));
    let mut includes = Includes {
        boundary: boundary.canonicalize().unwrap_or_else(|_| boundary.to_owned()),
        open: vec![file.to_owned()],
        files: vec![file.to_owned()],
    };
    let value = includes.expand(parsed, boundary)?;
    Ok(Tree { value, files: includes.files })
}

/// JSON5 text as a value; the error says where, without quoting the line.
pub(super) fn parse(file: &Path, text: &str) -> Result<Value, ConfigError> {
    match value(file, text)? {
        value @ Value::Object(_) => Ok(value),
        _ => Err(ConfigError::in_file(file, "", &"the file must hold one object: { ... }")),
    }
}

/// An empty file may be one that somebody is just writing: it doesn't mean that there are no settings.
fn value(file: &Path, text: &str) -> Result<Value, ConfigError> {
    if text.trim().is_empty() {
        return Err(ConfigError::in_file(file, "", &"the file is empty: write {} for no settings"));
    }
    json5::from_str(text).map_err(|error| ConfigError::in_file(file, "", &error))
}

struct Includes {
    boundary: PathBuf,
    /// From the main file down to the one being read.
    open: Vec<PathBuf>,
    files: Vec<PathBuf>,
}

impl Includes {
    fn expand(&mut self, value: Value, folder: &Path) -> Result<Value, ConfigError> {
        match value {
            Value::Object(map) => self.expand_object(map, folder),
            Value::Array(items) => items
                .into_iter()
                .map(|item| self.expand(item, folder))
                .collect::<Result<_, _>>()
                .map(Value::Array),
            other => Ok(other),
        }
    }

    /// Included files first, in order; keys beside `$include` win over them.
    fn expand_object(&mut self, mut map: Map<String, Value>, folder: &Path) -> Result<Value, ConfigError> {
        let mut merged = match map.shift_remove("$include") {
            None => Value::Object(Map::new()),
            Some(Value::String(path)) => self.read(&path, folder)?,
            Some(Value::Array(paths)) => {
                let mut all = Value::Object(Map::new());
                for path in paths {
                    let Value::String(path) = path else {
                        return Err(self.refused("$include takes file names"));
                    };
                    merge(&mut all, self.read(&path, folder)?);
                }
                all
            }
            Some(_) => return Err(self.refused("$include takes a file name or a list of them")),
        };
        if map.is_empty() && !merged.is_object() {
            return Ok(merged);
        }
        let mut rest = Map::new();
        for (key, value) in map {
            rest.insert(key, self.expand(value, folder)?);
        }
        merge(&mut merged, Value::Object(rest));
        Ok(merged)
    }

    fn read(&mut self, name: &str, folder: &Path) -> Result<Value, ConfigError> {
        let path = self.checked(name, folder)?;
        if self.open.contains(&path) {
            return Err(self.refused(&format!("`{name}` includes itself")));
        }
        if self.open.len() > DEEPEST {
            return Err(self.refused(&format!("includes go deeper than {DEEPEST} files at `{name}`")));
        }
        let text = std::fs::read_to_string(&path).map_err(|error| ConfigError::in_file(&path, "", &error))?;
        let value = value(&path, &text)?;
        self.files.push(path.clone());
        let folder = path.parent().map(Path::to_owned).unwrap_or_default();
        self.open.push(path);
        let value = self.expand(value, &folder);
        self.open.pop();
        value
    }

    /// A file in the config's own folder, and no device or endless pipe.
    fn checked(&self, name: &str, folder: &Path) -> Result<PathBuf, ConfigError> {
        if name.contains('\0') || name.len() >= 4096 {
            return Err(self.refused("an $include has an impossible file name"));
        }
        let path = folder.join(name);
        let real = path.canonicalize().map_err(|error| ConfigError::in_file(&path, "", &error))?;
        if !real.starts_with(&self.boundary) {
            return Err(self.refused(&format!("$include `{name}` leaves the config folder")));
        }
        let meta = real.metadata().map_err(|error| ConfigError::in_file(&real, "", &error))?;
        if !meta.is_file() || meta.len() > LARGEST {
            return Err(self.refused(&format!("$include `{name}` is not a file of at most 2 MB")));
        }
        Ok(real)
    }

    fn refused(&self, why: &str) -> ConfigError {
        let file = self.open.last().cloned().unwrap_or_default();
        ConfigError::in_file(&file, "", &why)
    }
}

/// Objects merge, anything else replaces.
pub(super) fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                match into.get_mut(&key) {
                    Some(old) => merge(old, value),
                    None => {
                        into.insert(key, value);
                    }
                }
            }
        }
        (into, from) => *into = from,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(folder: &Path, main: &str) -> Result<Tree, ConfigError> {
        let file = folder.join("tidegate.json");
        std::fs::write(&file, main).unwrap();
        resolve(&file, parse(&file, main)?)
    }

    #[test]
    fn included_files_merge_and_siblings_win() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.json5"), "{x: 1, deep: {a: 1, b: 1}, // note\n}").unwrap();
        std::fs::write(folder.path().join("b.json5"), "{deep: {b: 2}}").unwrap();
        let tree = read(folder.path(), "{agents: {$include: ['./a.json5', 'b.json5'], x: 9}}").unwrap();
        assert_eq!(tree.value, json!({"agents": {"x": 9, "deep": {"a": 1, "b": 2}}}));
        assert_eq!(tree.files.len(), 3);
    }

    #[test]
    fn an_include_stays_in_the_folder() {
        let outer = tempfile::tempdir().unwrap();
        let folder = outer.path().join("config");
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(outer.path().join("x.json"), "{}").unwrap();
        std::os::unix::fs::symlink(outer.path().join("x.json"), folder.join("link.json")).unwrap();
        for name in ["../x.json", "link.json", "/etc/hostname"] {
            let error = read(&folder, &format!("{{a: {{$include: '{name}'}}}}")).unwrap_err().to_string();
            assert!(error.contains("leaves the config folder"), "{error}");
        }
    }

    #[test]
    fn an_empty_file_is_said_to_be_empty() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.json"), "").unwrap();
        for (main, file) in [(" \n", "tidegate.json"), ("{a: {$include: 'a.json'}}", "a.json")] {
            let error = read(folder.path(), main).unwrap_err().to_string();
            assert!(
                error.ends_with(&format!("{file}: the file is empty: write {{}} for no settings")),
                "{error}"
            );
        }
    }

    #[test]
    fn a_circle_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.json"), "{b: {$include: 'a.json'}}").unwrap();
        let error = read(folder.path(), "{a: {$include: 'a.json'}}").unwrap_err().to_string();
        assert!(error.contains("includes itself"), "{error}");
    }
}
