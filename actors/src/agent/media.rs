//! Files of a conversation: what people send in, what nodes return, what goes out again.

mod intake;

pub(super) use intake::Intake;

use super::providers::model::Block;
use crate::inbound::{MediaKind, OutboundMedia};
use crate::media_type::{ending_of, kind_of, mime_of};
use crate::settings::SettingsHandle;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

/// A picture larger than this is refused by the model APIs.
pub(super) const MAX_PICTURE: usize = 5 << 20;
/// Hexadecimal digits of the number before the name that people know a stored file by.
const NUMBER: usize = 32;
/// Bytes of such a name.
const MAX_NAME: usize = 80;

/// The media folder of the state.
#[derive(Debug, Clone)]
pub(super) struct MediaStore {
    folder: PathBuf,
}

/// A stored file, as a tool result's `details.media` has it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct StoredMedia {
    pub(super) path: String,
    pub(super) mime: String,
    pub(super) kind: MediaKind,
}

impl StoredMedia {
    pub(super) fn to_json(&self) -> Value {
        json!({"path": self.path, "mime": self.mime, "kind": self.kind})
    }

    pub(super) fn from_json(value: &Value) -> Option<Self> {
        let text = |name: &str| value.get(name)?.as_str().map(str::to_owned);
        let kind = serde_json::from_value(value.get("kind")?.clone()).ok()?;
        Some(Self { path: text("path")?, mime: text("mime")?, kind })
    }
}

impl MediaStore {
    pub(super) fn new(settings: &SettingsHandle) -> Self {
        Self { folder: settings.paths().media() }
    }

    /// Stores bytes under a fresh name, which ends as people know the file; mode 0600.
    pub(super) async fn save(
        &self,
        bytes: &[u8],
        mime: &str,
        kind: MediaKind,
        named: Option<&str>,
    ) -> std::io::Result<StoredMedia> {
        let number = uuid::Uuid::new_v4().simple();
        let name = match named.map(plain_name).filter(|name| !name.is_empty()) {
            Some(known) => format!("{number}-{known}"),
            None => format!("{number}.{}", ending_of(mime)),
        };
        let (folder, target, bytes) = (self.folder.clone(), self.folder.join(&name), bytes.to_vec());
        let written = tokio::task::spawn_blocking(move || write_private(&folder, &target, &bytes)).await;
        written.map_err(std::io::Error::other)??;
        Ok(StoredMedia { path: name, mime: mime.to_owned(), kind })
    }

    /// A stored file by the name that the model was told.
    pub(super) async fn find(&self, path: &str) -> Option<(StoredMedia, u64)> {
        let place = self.locate(path)?;
        let meta = tokio::fs::symlink_metadata(&place).await.ok().filter(std::fs::Metadata::is_file)?;
        let mime = mime_of(&place);
        Some((StoredMedia { path: path.to_owned(), mime: mime.to_owned(), kind: kind_of(mime) }, meta.len()))
    }

    /// The bytes of a stored file; `None` when it is gone.
    pub(super) async fn read(&self, path: &str) -> Option<Vec<u8>> {
        tokio::fs::read(self.locate(path)?).await.ok()
    }

    /// A copy for the outbox, which removes its files once they are sent.
    pub(super) async fn outbound(&self, stored: &StoredMedia) -> Option<OutboundMedia> {
        let name = format!("out-{}.{}", uuid::Uuid::new_v4().simple(), ending_of(&stored.mime));
        let (from, to) = (self.locate(&stored.path)?, self.folder.join(&name));
        tokio::fs::copy(&from, &to).await.ok()?;
        let (kind, mime) = (stored.kind, stored.mime.clone());
        let file_name = stored.path.get(NUMBER + 1..).filter(|_| stored.path.as_bytes()[NUMBER] == b'-');
        Some(OutboundMedia { kind, mime, file_name: file_name.map(str::to_owned), path: name, caption: None })
    }

    /// Only plain names inside the folder.
    fn locate(&self, path: &str) -> Option<PathBuf> {
        let mut parts = Path::new(path).components();
        match (parts.next(), parts.next()) {
            (Some(Component::Normal(name)), None) => Some(self.folder.join(name)),
            _ => None,
        }
    }

    /// Puts the bytes of stored files into the blocks, for a request to a model.
    pub(super) async fn load(&self, blocks: &mut [Block]) {
        for block in blocks {
            let (data, path, what) = match block {
                Block::Image { data, path: Some(path), .. } => (data, path, "picture"),
                Block::File { data, path, .. } => (data, path, "file"),
                _ => continue,
            };
            if !data.is_empty() {
                continue;
            }
            match self.read(path).await {
                Some(bytes) => *data = STANDARD.encode(bytes),
                None => *block = Block::text(format!("[a {what} that is no longer stored]")),
            }
        }
    }
}

/// A name as a person wrote it, without anything that could be more than a name.
fn plain_name(name: &str) -> String {
    let last = name.rsplit(['/', '\\']).next().unwrap_or_default().trim();
    let plain = |c: char| if c.is_alphanumeric() || matches!(c, '.' | '-' | '_') { c } else { '_' };
    let plain: String = last.chars().map(plain).collect();
    // The end says what the file is.
    let from = plain.ceil_char_boundary(plain.len().saturating_sub(MAX_NAME));
    plain[from..].trim_start_matches('.').to_owned()
}

/// Files of conversations older than this are removed; what the model and the person saw of them stays told.
const KEEP: Duration = Duration::from_secs(30 * 24 * 3600);

/// Removes files that have lain in the media folder for long.
pub async fn prune_media(settings: &SettingsHandle) {
    let folder = settings.paths().media();
    let pruned = tokio::task::spawn_blocking(move || prune(&folder, KEEP)).await;
    match pruned {
        Ok(Ok(0)) => {}
        Ok(Ok(count)) => tracing::info!(count, "old media files removed"),
        Ok(Err(error)) => tracing::warn!(%error, "old media files could not be removed"),
        Err(error) => tracing::warn!(%error, "old media files could not be removed"),
    }
}

fn prune(folder: &Path, keep: Duration) -> std::io::Result<usize> {
    if !folder.is_dir() {
        return Ok(0);
    }
    let mut count = 0;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        let old = metadata.modified()?.elapsed().is_ok_and(|age| age > keep);
        if metadata.is_file() && old {
            std::fs::remove_file(entry.path())?;
            count += 1;
        }
    }
    Ok(count)
}

fn write_private(folder: &Path, target: &Path, bytes: &[u8]) -> std::io::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
    if !folder.is_dir() {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(target)?;
    file.write_all(bytes)?;
    // The outbox will name this file before long, and must not outlive it after a power cut.
    file.sync_all()
}

/// The kind of a picture by its first bytes; what the sender says is not believed.
pub(super) fn picture_mime(bytes: &[u8]) -> Option<&'static str> {
    match bytes {
        [0xFF, 0xD8, 0xFF, ..] => Some("image/jpeg"),
        [0x89, b'P', b'N', b'G', ..] => Some("image/png"),
        [b'G', b'I', b'F', b'8', ..] => Some("image/gif"),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Some("image/webp"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> (tempfile::TempDir, MediaStore) {
        let folder = tempfile::tempdir().unwrap();
        let store = MediaStore { folder: folder.path().join("media") };
        (folder, store)
    }

    #[tokio::test]
    async fn files_are_private_and_come_back() {
        use std::os::unix::fs::PermissionsExt;
        let (_folder, store) = store();
        let saved = store.save(b"x", "image/png", MediaKind::Image, None).await.unwrap();
        let mode = std::fs::metadata(store.folder.join(&saved.path)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(store.read(&saved.path).await.unwrap(), b"x");
        assert_eq!(StoredMedia::from_json(&saved.to_json()), Some(saved));
    }

    #[tokio::test]
    async fn no_path_leads_out_of_the_folder() {
        let (folder, store) = store();
        std::fs::write(folder.path().join("secret"), "s").unwrap();
        for path in ["../secret", "/etc/passwd", "a/../../secret", ".."] {
            assert_eq!(store.read(path).await, None, "{path}");
        }
    }

    #[tokio::test]
    async fn only_old_files_are_removed() {
        let (_folder, store) = store();
        assert_eq!(prune(&store.folder, KEEP).unwrap(), 0);
        store.save(b"x", "image/png", MediaKind::Image, None).await.unwrap();
        assert_eq!(prune(&store.folder, KEEP).unwrap(), 0);
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert_eq!(prune(&store.folder, Duration::from_millis(5)).unwrap(), 1);
    }

    #[tokio::test]
    async fn a_file_goes_out_under_the_name_it_came_with() {
        let (_folder, store) = store();
        let name = "../../Mein Bericht (1).pdf";
        let saved = store.save(b"x", "application/pdf", MediaKind::Document, Some(name)).await.unwrap();
        assert!(saved.path.ends_with("-Mein_Bericht__1_.pdf"), "{}", saved.path);
        assert_eq!(store.find(&saved.path).await, Some((saved.clone(), 1)));
        let out = store.outbound(&saved).await.unwrap();
        assert_eq!(out.file_name.as_deref(), Some("Mein_Bericht__1_.pdf"));
        let nameless = store.save(b"x", "image/png", MediaKind::Image, None).await.unwrap();
        assert_eq!(store.outbound(&nameless).await.unwrap().file_name, None);
    }

    #[test]
    fn pictures_are_known_by_their_bytes() {
        assert_eq!(picture_mime(&[0xFF, 0xD8, 0xFF, 0xE0]), Some("image/jpeg"));
        assert_eq!(picture_mime(b"<svg"), None);
    }
}
