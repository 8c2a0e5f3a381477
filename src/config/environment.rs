//! The process environment as a value, so that loading can be tested without touching it.

use std::{collections::BTreeMap, path::PathBuf};

/// Environment variables. An empty one counts as unset.
#[derive(Clone, Default)]
pub struct Environment(BTreeMap<String, String>);

impl Environment {
    /// The variables of this process.
    pub fn process() -> Self {
        let text = |value: std::ffi::OsString| value.to_string_lossy().into_owned();
        Self(std::env::vars_os().map(|(name, value)| (text(name), text(value))).collect())
    }

    pub fn of<const N: usize>(variables: [(&str, &str); N]) -> Self {
        Self(variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// A setting under our own prefix, else under OpenClaw's; with the name it has.
    pub fn setting(&self, name: &str) -> Option<(String, &str)> {
        ["TIDEGATE_", "OPENCLAW_"].iter().find_map(|prefix| {
            let full = format!("{prefix}{name}");
            self.get(&full).map(|value| (full, value))
        })
    }

    /// Adds variables that are not set yet.
    pub fn fill(&mut self, name: &str, value: &str) {
        if self.get(name).is_none() {
            self.0.insert(name.to_owned(), value.to_owned());
        }
    }

    /// The same without these settings, under either prefix.
    pub fn without(&self, names: &[&str]) -> Self {
        let gone = |full: &str| {
            let name = full.strip_prefix("TIDEGATE_").or_else(|| full.strip_prefix("OPENCLAW_"));
            name.is_some_and(|name| names.contains(&name))
        };
        Self(self.0.iter().filter(|(full, _)| !gone(full)).map(|(k, v)| (k.clone(), v.clone())).collect())
    }

    /// The user's home folder.
    pub fn home(&self) -> PathBuf {
        self.get("HOME").map_or_else(|| PathBuf::from("."), PathBuf::from)
    }

    /// `~` and `~/...` as a full path.
    pub fn expand(&self, path: &str) -> PathBuf {
        match path.strip_prefix('~') {
            Some("") => self.home(),
            Some(rest) if rest.starts_with('/') => self.home().join(&rest[1..]),
            _ => PathBuf::from(path),
        }
    }
}

impl std::fmt::Debug for Environment {
    /// Names only: values may be secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}
