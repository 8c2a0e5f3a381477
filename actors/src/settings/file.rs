//! What an operator may ask of the config file, seen from here: the file itself,
//! with its includes and environment, belongs to the program's `config` module.

use serde_json::Value;

/// The config file behind the running settings.
pub trait ConfigFile: Send + Sync {
    /// Where it is. Reads nothing.
    fn path(&self) -> String;

    /// Reads it as it is now. Blocking: call it off the arbiter.
    fn read(&self) -> ConfigSnapshot;

    /// Replaces the text, if it still has `base_hash` and the result is valid. Blocking.
    fn write(&self, text: &str, base_hash: Option<&str>) -> Result<ConfigSnapshot, ConfigWriteError>;

    /// The text with a patch merged in: objects merge, `null` removes a key, comments stay.
    /// An array may only lose entries when its path is in `replace_paths`. Blocking.
    fn patched(&self, text: &str, patch: &str, replace_paths: &[String]) -> Result<String, ConfigWriteError>;

    /// The same snapshot without a secret in it, fit for an operator's eyes.
    fn shown(&self, snapshot: &ConfigSnapshot) -> ConfigSnapshot;
}

/// The config file at one moment.
#[derive(Clone, Debug, Default)]
pub struct ConfigSnapshot {
    pub path: String,
    pub exists: bool,
    /// The file's text; holds secrets.
    pub text: Option<String>,
    /// Parsed, before includes and environment; holds secrets.
    pub parsed: Value,
    /// After includes and environment; holds secrets.
    pub resolved: Value,
    /// Why it is not valid; empty when it is.
    pub issues: Vec<ConfigIssue>,
    /// Keys that this version doesn't use.
    pub warnings: Vec<ConfigIssue>,
    /// Changes with every change of the file.
    pub hash: String,
    /// Hash of the file that the running settings came from.
    pub applied_hash: String,
}

/// Something wrong with one key; never holds a secret's value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigIssue {
    /// The file that is wrong; none where it is not one file's fault.
    pub file: Option<String>,
    /// `gateway.port`; empty for the whole file.
    pub path: String,
    pub message: String,
}

impl std::fmt::Display for ConfigIssue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(file) = &self.file {
            write!(f, "{file}: ")?;
        }
        if self.path.is_empty() {
            f.write_str(&self.message)
        } else {
            write!(f, "{}: {}", self.path, self.message)
        }
    }
}

/// Why a config file was not written.
#[derive(Debug, thiserror::Error)]
pub enum ConfigWriteError {
    #[error("the config file has changed since it was read; read it again and retry")]
    Changed,
    #[error("the result would not be valid: {}", list(.0))]
    Invalid(Vec<ConfigIssue>),
    #[error("can't write `{path}`")]
    Io {
        path: String,
        #[source]
        source: std::io::Error,
    },
}

fn list(issues: &[ConfigIssue]) -> String {
    issues.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}
