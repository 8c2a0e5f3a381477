//! `file.fetch`: the content of a file.

use std::{
    io::Read,
    path::{Path, PathBuf},
};

use aws_lc_rs::digest;
use base64::{Engine, engine::general_purpose::STANDARD};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Binding, MAX_BYTES, Opened, Refused, Target, mime, plain};

const DEFAULT_BYTES: usize = 8 * 1024 * 1024;

/// Params of `file.fetch`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(in super::super) struct Params {
    #[serde(flatten)]
    target: Target,
    max_bytes: Option<f64>,
    /// `binary`: over the invoke's two-way channel, of any size. Otherwise in the answer.
    transport: Value,
    /// The file must lie below this folder, wherever links lead.
    root_path: Option<PathBuf>,
}

impl Params {
    /// Whether the content is to go over the two-way channel. A question about the file is answered at once.
    pub(in super::super) fn is_streamed(&self) -> bool {
        !self.transport.is_null() && !self.target.preflight_only
    }

    /// The file, if it is one and not too large.
    pub(super) fn find(&self, limit: u64) -> Result<Opened, Refused> {
        let opened = self.target.open()?;
        confine(&opened, self.root_path.as_deref())?;
        if opened.meta.is_dir() {
            return Err(Refused::new("IS_DIRECTORY", "the path is a folder").at(&opened.path));
        }
        if !opened.meta.is_file() {
            return Err(Refused::new("UNSUPPORTED_FILE_TYPE", "not a regular file").at(&opened.path));
        }
        if opened.meta.len() > limit {
            return Err(too_large(opened.meta.len(), limit, &opened.path));
        }
        Ok(opened)
    }

    /// What the gateway must say when it wants the content streamed.
    pub(super) fn streamed_limit(&self) -> Result<u64, Refused> {
        let invalid = |problem: &str| Refused::new("INVALID_PARAMS", format!("file.fetch: {problem}"));
        if self.transport != "binary" {
            return Err(invalid("the only transport is \"binary\""));
        }
        let whole = |most: &f64| *most >= 1.0 && *most <= 9_007_199_254_740_991.0 && most.fract() == 0.0;
        let most =
            self.max_bytes.filter(whole).ok_or_else(|| invalid("maxBytes must be a whole number above 0"))?;
        let bound = matches!(self.target.expected_binding, Some(Binding::Existing { .. }));
        if !bound && !self.target.preflight_only {
            return Err(invalid("the binary transport needs the binding of a preflight"));
        }
        Ok(most as u64)
    }

    fn limit(&self) -> Result<u64, Refused> {
        if !self.transport.is_null() {
            return self.streamed_limit();
        }
        let wanted = self.max_bytes.filter(|most| *most >= 1.0).map_or(DEFAULT_BYTES, |most| most as usize);
        Ok(wanted.min(MAX_BYTES) as u64)
    }
}

pub(super) fn too_large(size: u64, limit: u64, path: &Path) -> Refused {
    Refused::new("FILE_TOO_LARGE", format!("the file has {size} bytes, the limit is {limit}")).at(path)
}

pub(in super::super) fn fetch(params: Params) -> Result<Value, Refused> {
    let limit = params.limit()?;
    let opened = params.find(limit)?;
    let binding = Binding::of(&opened.meta);
    if params.target.preflight_only {
        return Ok(json!({
            "path": opened.path, "size": opened.meta.len(), "mimeType": "", "base64": "", "sha256": "",
            "preflightOnly": true, "binding": binding,
        }));
    }
    let mut bytes = Vec::new();
    // It may grow while it is read.
    (&opened.file)
        .take(limit + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| Refused::io(&error, "READ_ERROR").at(&opened.path))?;
    if bytes.len() as u64 > limit {
        return Err(too_large(bytes.len() as u64, limit, &opened.path));
    }
    let name = opened.path.file_name().unwrap_or_default().to_string_lossy();
    Ok(json!({
        "path": opened.path, "size": bytes.len(), "mimeType": mime::of(&name, &bytes),
        "base64": STANDARD.encode(&bytes), "sha256": sha256(&bytes), "binding": binding,
    }))
}

fn confine(opened: &Opened, root: Option<&Path>) -> Result<(), Refused> {
    let Some(root) = root else { return Ok(()) };
    let root = plain(root).canonicalize().map_err(|error| Refused::io(&error, "READ_ERROR"))?;
    if opened.path.starts_with(&root) {
        return Ok(());
    }
    Err(Refused::new("SYMLINK_REDIRECT", "the file lies outside of rootPath").at(&opened.path))
}

/// Lowercase hex.
pub(super) fn sha256(bytes: &[u8]) -> String {
    hex(&digest::digest(&digest::SHA256, bytes))
}

pub(super) fn hex(digest: &digest::Digest) -> String {
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}
