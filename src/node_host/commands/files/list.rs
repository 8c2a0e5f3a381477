//! `dir.list`: what is in a folder, page by page.

use std::{
    fs::{self, Metadata},
    path::Path,
    time::UNIX_EPOCH,
};

use serde::Deserialize;
use serde_json::{Value, json};

use super::{Binding, Refused, Target, mime};

const DEFAULT_ENTRIES: usize = 200;
const MAX_ENTRIES: usize = 5_000;

/// Params of `dir.list`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(in super::super) struct Params {
    #[serde(flatten)]
    target: Target,
    max_entries: Option<f64>,
    page_token: Option<String>,
}

pub(in super::super) fn list(params: Params) -> Result<Value, Refused> {
    let opened = params.target.open()?;
    if !opened.meta.is_dir() {
        return Err(Refused::not_folder(&opened.path));
    }
    let binding = Binding::of(&opened.meta);
    if params.target.preflight_only {
        return Ok(
            json!({"path": opened.path, "entries": [], "truncated": false, "preflight": true, "binding": binding}),
        );
    }
    let most = params.max_entries.filter(|most| *most >= 1.0).map_or(DEFAULT_ENTRIES, |most| most as usize);
    let most = most.min(MAX_ENTRIES);
    let offset: usize = params.page_token.and_then(|token| token.parse().ok()).unwrap_or(0);
    let names = names(&opened.path).map_err(|error| Refused::io(&error, "READ_ERROR").at(&opened.path))?;
    let entries: Vec<Value> =
        names.iter().skip(offset).take(most).map(|name| entry(&opened.path, name)).collect();
    let end = offset.saturating_add(most);
    let mut answer =
        json!({"path": opened.path, "entries": entries, "truncated": end < names.len(), "binding": binding});
    if end < names.len() {
        answer["nextPageToken"] = json!(end.to_string());
    }
    Ok(answer)
}

fn names(folder: &Path) -> std::io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

fn entry(folder: &Path, name: &str) -> Value {
    let path = folder.join(name);
    // A link is described as the link it is.
    let meta = path.symlink_metadata().ok();
    let is_folder = meta.as_ref().is_some_and(Metadata::is_dir);
    json!({
        "name": name,
        "path": path,
        "size": if is_folder { 0 } else { meta.as_ref().map_or(0, Metadata::len) },
        "mimeType": if is_folder { "inode/directory" } else { mime::by_name(name) },
        "isDir": is_folder,
        "mtime": meta.as_ref().map_or(0.0, modified_ms),
    })
}

/// When it was changed last, in milliseconds since the epoch.
pub(super) fn modified_ms(meta: &Metadata) -> f64 {
    let since = meta.modified().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
    since.map_or(0.0, |since| since.as_secs_f64() * 1000.0)
}
