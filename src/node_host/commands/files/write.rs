//! `file.write`: puts a file in place, whole or not at all.

use std::{
    fs::{self, Metadata, OpenOptions, Permissions},
    io::{self, Write},
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};

use base64::{
    Engine, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{Binding, MAX_BYTES, Refused, Target, fetch::sha256, identity};

/// Params of `file.write`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(in super::super) struct Params {
    #[serde(flatten)]
    target: Target,
    content_base64: Option<String>,
    overwrite: bool,
    create_parents: bool,
    expected_sha256: Option<String>,
    reject_hardlinks: bool,
}

pub(in super::super) fn write(params: Params) -> Result<Value, Refused> {
    let asked = params.target.asked()?;
    let bytes = content(params.content_base64.as_deref())?;
    let hash = sha256(&bytes);
    if params.expected_sha256.as_ref().is_some_and(|expected| !expected.eq_ignore_ascii_case(&hash)) {
        return Err(Refused::new("INTEGRITY_FAILURE", format!("the content has SHA-256 {hash}")));
    }
    let place = Place::find(&asked)?;
    place.is_where_asked(&asked, params.target.follow_symlinks)?;
    let binding = place.binding()?;
    params.target.check(&place.path, &binding)?;
    place.allows(&params)?;
    if !params.target.preflight_only {
        place.put(&bytes, params.overwrite).map_err(|error| place.explain(&error))?;
    }
    let mut answer = json!({
        "path": place.path, "size": bytes.len(), "sha256": hash, "overwritten": place.existing.is_some(), "binding": binding,
    });
    if params.reject_hardlinks {
        answer["rejectHardlinks"] = json!(true);
    }
    Ok(answer)
}

fn content(text: Option<&str>) -> Result<Vec<u8>, Refused> {
    let text = text.ok_or_else(|| Refused::new("INVALID_BASE64", "contentBase64 is required"))?;
    if text.len() / 4 * 3 > MAX_BYTES + 3 {
        return Err(Refused::new("FILE_TOO_LARGE", format!("the content is larger than {MAX_BYTES} bytes")));
    }
    let config = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let alphabet = if text.contains(['-', '_']) { alphabet::URL_SAFE } else { alphabet::STANDARD };
    let bytes = GeneralPurpose::new(&alphabet, config)
        .decode(text)
        .map_err(|_| Refused::new("INVALID_BASE64", "contentBase64 is not base64"))?;
    if bytes.len() > MAX_BYTES {
        return Err(Refused::new("FILE_TOO_LARGE", format!("the content is larger than {MAX_BYTES} bytes")));
    }
    Ok(bytes)
}

/// Where the file goes: links in existing folders followed, the last part as it is.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) path: PathBuf,
    /// The nearest folder that exists.
    pub(super) anchor: PathBuf,
    pub(super) existing: Option<Metadata>,
}

impl Place {
    pub(super) fn find(asked: &Path) -> Result<Self, Refused> {
        let mut anchor = asked.parent().ok_or_else(|| Refused::new("INVALID_PATH", "path names no file"))?;
        // A link that leads nowhere is there, too.
        while anchor.symlink_metadata().is_err() {
            anchor = anchor.parent().ok_or_else(|| Refused::new("INVALID_PATH", "path names no file"))?;
        }
        let rest = asked.strip_prefix(anchor).unwrap_or(asked);
        let anchor = anchor.canonicalize().map_err(|_| Refused::redirected(anchor))?;
        let path = anchor.join(rest);
        let existing = path.symlink_metadata().ok();
        Ok(Self { path, anchor, existing })
    }

    /// Refuses a place that only links lead to, unless they may be followed.
    pub(super) fn is_where_asked(&self, asked: &Path, follow_links: bool) -> Result<(), Refused> {
        if self.path == asked || follow_links { Ok(()) } else { Err(Refused::redirected(&self.path)) }
    }

    pub(super) fn binding(&self) -> Result<Binding, Refused> {
        let anchor = self.anchor.metadata().map_err(|error| self.explain(&error))?;
        let (anchor_device, anchor_inode) = identity(&anchor);
        let (target_device, target_inode) = self.existing.as_ref().map(identity).unzip();
        Ok(Binding::Write {
            anchor_path: self.anchor.clone(),
            anchor_device,
            anchor_inode,
            target_device,
            target_inode,
        })
    }

    fn allows(&self, params: &Params) -> Result<(), Refused> {
        let parent_exists = self.path.parent() == Some(&self.anchor);
        let refuse = |code, message: &str| Err(Refused::new(code, message).at(&self.path));
        match &self.existing {
            None if !parent_exists && !params.create_parents => {
                refuse("PARENT_NOT_FOUND", "the folder does not exist")
            }
            None => Ok(()),
            Some(meta) if meta.is_symlink() => {
                refuse("SYMLINK_TARGET_DENIED", "the path is a link; it is not written through")
            }
            Some(meta) if meta.is_dir() => refuse("IS_DIRECTORY", "the path is a folder"),
            Some(meta) if !meta.is_file() => {
                refuse("UNSUPPORTED_FILE_TYPE", "the path is not a regular file")
            }
            Some(_) if !params.overwrite => {
                refuse("EXISTS_NO_OVERWRITE", "the file exists and overwrite is false")
            }
            Some(meta) if params.reject_hardlinks && meta.nlink() > 1 => {
                refuse("HARDLINK_TARGET_DENIED", "the file has more than one name")
            }
            Some(_) => Ok(()),
        }
    }

    fn put(&self, bytes: &[u8], overwrite: bool) -> io::Result<()> {
        let folder = self.path.parent().unwrap_or(&self.anchor);
        fs::create_dir_all(folder)?;
        let draft = folder.join(format!(".tidegate-{}", Uuid::new_v4()));
        let done = (|| {
            let mut file = OpenOptions::new().write(true).create_new(true).open(&draft)?;
            file.write_all(bytes)?;
            if let Some(meta) = &self.existing {
                file.set_permissions(Permissions::from_mode(meta.permissions().mode() & 0o7777))?;
            }
            file.sync_all()?;
            // A link, unlike a rename, fails when the name was taken meanwhile.
            if overwrite { fs::rename(&draft, &self.path) } else { fs::hard_link(&draft, &self.path) }
        })();
        let _ = fs::remove_file(&draft);
        done
    }

    fn explain(&self, error: &io::Error) -> Refused {
        match error.kind() {
            io::ErrorKind::AlreadyExists => Refused::changed(&self.path),
            _ => Refused::io(error, "WRITE_ERROR").at(&self.path),
        }
    }
}
