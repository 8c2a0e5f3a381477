//! `file.create`: a new file, whose content comes over the invoke's two-way channel. It never replaces one.
//!
//! The gateway asks first where the file would go (`preflightOnly`), and then names that place (`expectedBinding`). The
//! content is in messages of up to a mebibyte, each acknowledged by `ack`; an empty message is the end. Source: the
//! official node host 2026.9.6, driven.

use std::{
    fs::Metadata,
    path::{Path, PathBuf},
};

use serde::Deserialize;
use serde_json::{Value, json};

use super::{Binding, Refused, Target, answer, fetch::sha256, folder::Folder, write::Place};
use crate::node_host::{commands::blocking, duplex::Duplex, failure::Failure};

/// Most bytes of a file, unless the gateway allows more.
const DEFAULT_MAX_BYTES: u64 = 50 * 1024 * 1024;
/// The largest number that is the same in JavaScript.
const MAX_SAFE_INTEGER: u64 = (1 << 53) - 1;

/// Params of `file.create`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(in super::super) struct Params {
    #[serde(flatten)]
    target: Target,
    size_bytes: Value,
    max_bytes: Value,
    expected_sha256: Value,
    create_parents: bool,
}

pub(in super::super) async fn create(params: Params, duplex: Duplex) -> Result<Value, Failure> {
    let plan = match blocking(move || Ok(Plan::of(params))).await? {
        Ok(Next::Answer(value)) => return Ok(answer(Ok(value))),
        Ok(Next::Create(plan)) => plan,
        Err(refused) => return Ok(answer(Err(refused))),
    };
    let content = plan.announced.receive(duplex).await?;
    blocking(move || Ok(answer(plan.publish(&content)))).await
}

/// What the gateway says about the content before it sends it.
#[derive(Debug)]
struct Announced {
    size: u64,
    sha256: String,
}

impl Announced {
    fn by(params: &Params) -> Result<Self, Refused> {
        let invalid = |problem: &str| Refused::new("INVALID_PARAMS", format!("file.create: {problem}"));
        let integer = |value: &Value| value.as_u64().filter(|number| *number <= MAX_SAFE_INTEGER);
        let size = integer(&params.size_bytes)
            .ok_or_else(|| invalid("sizeBytes must be a whole number of bytes"))?;
        let most = match &params.max_bytes {
            Value::Null => DEFAULT_MAX_BYTES,
            most => integer(most).ok_or_else(|| invalid("maxBytes must be a whole number of bytes"))?,
        };
        if size > most {
            return Err(invalid("sizeBytes is more than maxBytes allows"));
        }
        let hash = params.expected_sha256.as_str().unwrap_or_default();
        if hash.len() != 64 || !hash.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(invalid("expectedSha256 must be 64 hexadecimal digits"));
        }
        Ok(Self { size, sha256: hash.to_ascii_lowercase() })
    }

    /// Nothing is on disk before all of it is here and is what was announced.
    async fn receive(&self, mut duplex: Duplex) -> Result<Vec<u8>, Failure> {
        duplex.open().await?;
        let mut content = Vec::new();
        loop {
            let message = duplex.receive().await?;
            if message.is_empty() {
                break;
            }
            content.extend_from_slice(&message);
            if content.len() as u64 > self.size {
                return Err(Failure::invalid("file.create: more content came than sizeBytes announced"));
            }
            duplex.send(b"ack").await?;
        }
        if content.len() as u64 != self.size || sha256(&content) != self.sha256 {
            return Err(Failure::invalid(
                "file.create: the content is not of the announced size and SHA-256",
            ));
        }
        Ok(content)
    }
}

enum Next {
    /// That was only a question.
    Answer(Value),
    Create(Plan),
}

/// A file that the gateway decided to create, and the place that it decided about.
#[derive(Debug)]
struct Plan {
    announced: Announced,
    path: PathBuf,
    anchor: PathBuf,
    anchor_identity: (String, String),
}

impl Plan {
    fn of(params: Params) -> Result<Next, Refused> {
        let announced = Announced::by(&params)?;
        let asked = params.target.asked()?;
        let place = Place::find(&asked)?;
        place.is_where_asked(&asked, params.target.follow_symlinks)?;
        if !place.anchor.is_dir() {
            return Err(Refused::new("INVALID_PATH", "a part of the path is not a folder").at(&place.anchor));
        }
        if place.path.parent() != Some(&place.anchor) && !params.create_parents {
            return Err(Refused::new("PARENT_NOT_FOUND", "the folder does not exist"));
        }
        if params.target.expected_canonical_path.as_ref().is_some_and(|expected| *expected != place.path) {
            return Err(Refused::changed(&place.path));
        }
        if place.existing.as_ref().is_some_and(Metadata::is_symlink) && !params.target.follow_symlinks {
            return Err(Refused::redirected(&place.path));
        }
        if place.existing.as_ref().is_some_and(|meta| !meta.is_file()) {
            return Err(Refused::new("NOT_FILE", "what is there is not a regular file").at(&place.path));
        }
        let binding = place.binding()?;
        if params.target.preflight_only {
            let Announced { size, sha256 } = announced;
            return Ok(Next::Answer(
                json!({"path": place.path, "size": size, "sha256": sha256, "binding": binding}),
            ));
        }
        let (anchor, anchor_identity) = authorised(params.target.expected_binding, &binding, &place.path)?;
        Ok(Next::Create(Self { announced, path: place.path, anchor, anchor_identity }))
    }

    /// Puts the content in place unless there is a file.
    fn publish(&self, content: &[u8]) -> Result<Value, Refused> {
        let failed = |error: std::io::Error| Refused::io(&error, "WRITE_ERROR").at(&self.path);
        let mut folder = Folder::open(&self.anchor).map_err(failed)?;
        if folder.identity().map_err(failed)? != self.anchor_identity {
            return Err(Refused::changed(&self.path));
        }
        let (parents, name) = self.below_anchor()?;
        for parent in parents {
            folder = folder.enter_or_make(parent).map_err(failed)?;
        }
        let created = folder.publish(name.as_ref(), content).map_err(failed)?;
        let meta = folder.look(name.as_ref()).map_err(failed)?;
        if !meta.is_file() {
            return Err(Refused::new("NOT_FILE", "what is there is not a regular file").at(&self.path));
        }
        let binding = Binding::of(&meta);
        Ok(if created {
            let Announced { size, sha256 } = &self.announced;
            json!({"path": self.path, "status": "created", "size": size, "sha256": sha256, "binding": binding})
        } else {
            json!({"path": self.path, "status": "exists", "binding": binding})
        })
    }

    fn below_anchor(&self) -> Result<(Vec<&Path>, &Path), Refused> {
        let outside = || Refused::new("WRITE_ERROR", "the path is outside of the authorised folder");
        let rest = self.path.strip_prefix(&self.anchor).map_err(|_| outside())?;
        let mut parts: Vec<&Path> = rest.iter().map(Path::new).collect();
        let name = parts.pop().ok_or_else(outside)?;
        Ok((parts, name))
    }
}

/// The folder that the gateway decided about; it must hold the file that it saw there, if it saw one.
fn authorised(
    expected: Option<Binding>,
    found: &Binding,
    path: &Path,
) -> Result<(PathBuf, (String, String)), Refused> {
    let Some(Binding::Write { anchor_path, anchor_device, anchor_inode, target_device, target_inode }) =
        expected
    else {
        let problem = "file.create needs the binding of its preflight";
        return Err(Refused::new("CANONICAL_PATH_CHANGED", problem));
    };
    let Binding::Write { target_device: device, target_inode: inode, .. } = found else {
        return Err(Refused::changed(path));
    };
    if target_device.is_some() && (&target_device, &target_inode) != (device, inode) {
        return Err(Refused::changed(path));
    }
    Ok((anchor_path, (anchor_device, anchor_inode)))
}
