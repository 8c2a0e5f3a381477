//! `file.fetch`: the content of a file.

use std::{io::Read, path::PathBuf};

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
    /// The file must lie below this folder, wherever links lead.
    root_path: Option<PathBuf>,
}

pub(in super::super) fn fetch(params: Params) -> Result<Value, Refused> {
    let opened = params.target.open()?;
    confine(&opened, params.root_path)?;
    if opened.meta.is_dir() {
        return Err(Refused::new("IS_DIRECTORY", "the path is a folder").at(&opened.path));
    }
    if !opened.meta.is_file() {
        return Err(Refused::new("UNSUPPORTED_FILE_TYPE", "not a regular file").at(&opened.path));
    }
    let limit = params.max_bytes.filter(|most| *most >= 1.0).map_or(DEFAULT_BYTES, |most| most as usize);
    let limit = limit.min(MAX_BYTES);
    let too_large = |size: u64| {
        Refused::new("FILE_TOO_LARGE", format!("the file has {size} bytes, the limit is {limit}"))
            .at(&opened.path)
    };
    if opened.meta.len() > limit as u64 {
        return Err(too_large(opened.meta.len()));
    }
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
        .take(limit as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| Refused::io(&error, "READ_ERROR").at(&opened.path))?;
    if bytes.len() > limit {
        return Err(too_large(bytes.len() as u64));
    }
    let name = opened.path.file_name().unwrap_or_default().to_string_lossy();
    Ok(json!({
        "path": opened.path, "size": bytes.len(), "mimeType": mime::of(&name, &bytes),
        "base64": STANDARD.encode(&bytes), "sha256": sha256(&bytes), "binding": binding,
    }))
}

fn confine(opened: &Opened, root: Option<PathBuf>) -> Result<(), Refused> {
    let Some(root) = root else { return Ok(()) };
    let root = plain(&root).canonicalize().map_err(|error| Refused::io(&error, "READ_ERROR"))?;
    if opened.path.starts_with(&root) {
        return Ok(());
    }
    Err(Refused::new("SYMLINK_REDIRECT", "the file lies outside of rootPath").at(&opened.path))
}

/// Lowercase hex.
pub(super) fn sha256(bytes: &[u8]) -> String {
    digest::digest(&digest::SHA256, bytes).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}
