//! `file.stat`: what is at a path.

use serde_json::{Value, json};

use super::{Binding, Refused, Target};

pub(in super::super) fn stat(target: Target) -> Result<Value, Refused> {
    let opened = target.open()?;
    let kind = match (opened.meta.is_dir(), opened.meta.is_file()) {
        (true, _) => "directory",
        (_, true) => "file",
        _ => {
            return Err(Refused::new("UNSUPPORTED_FILE_TYPE", "neither a file nor a folder").at(&opened.path));
        }
    };
    let mut answer = json!({
        "path": opened.path, "type": kind, "size": opened.meta.len(),
        "mtimeMs": super::list::modified_ms(&opened.meta), "binding": Binding::of(&opened.meta),
    });
    if target.preflight_only {
        answer["preflightOnly"] = json!(true);
    }
    Ok(answer)
}
