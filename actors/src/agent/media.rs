//! Files of a conversation: what people send in, what nodes return, what goes out again.

use super::doors::ChannelDoor;
use super::providers::model::Block;
use crate::channels::FetchMedia;
use crate::inbound::{Attachment, AttachmentSource, Inbound, MediaKind, OutboundMedia};
use crate::settings::SettingsHandle;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

/// Text files up to this size are read to the model.
const MAX_TEXT: usize = 64 << 10;
/// A picture larger than this is refused by the model APIs.
pub(super) const MAX_PICTURE: usize = 5 << 20;
/// Pictures that all model APIs take.
const PICTURES: [&str; 4] = ["image/jpeg", "image/png", "image/gif", "image/webp"];

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

    /// Stores bytes under a fresh name, mode 0600.
    pub(super) async fn save(
        &self,
        bytes: Vec<u8>,
        mime: &str,
        kind: MediaKind,
    ) -> std::io::Result<StoredMedia> {
        let name = format!("{}.{}", uuid::Uuid::new_v4().simple(), extension(mime));
        let target = self.folder.join(&name);
        let folder = self.folder.clone();
        let written = tokio::task::spawn_blocking(move || write_private(&folder, &target, &bytes)).await;
        written.map_err(std::io::Error::other)??;
        Ok(StoredMedia { path: name, mime: mime.to_owned(), kind })
    }

    /// The bytes of a stored file; `None` when it is gone.
    pub(super) async fn read(&self, path: &str) -> Option<Vec<u8>> {
        tokio::fs::read(self.locate(path)?).await.ok()
    }

    /// A copy for the outbox, which removes its files once they are sent.
    pub(super) async fn outbound(&self, stored: &StoredMedia) -> Option<OutboundMedia> {
        let name = format!("out-{}.{}", uuid::Uuid::new_v4().simple(), extension(&stored.mime));
        let (from, to) = (self.locate(&stored.path)?, self.folder.join(&name));
        tokio::fs::copy(&from, &to).await.ok()?;
        let (kind, mime) = (stored.kind, stored.mime.clone());
        Some(OutboundMedia { kind, mime, file_name: Some(name.clone()), path: name, caption: None })
    }

    /// Only plain names inside the folder.
    fn locate(&self, path: &str) -> Option<PathBuf> {
        let mut parts = Path::new(path).components();
        match (parts.next(), parts.next()) {
            (Some(Component::Normal(name)), None) => Some(self.folder.join(name)),
            _ => None,
        }
    }

    /// The blocks of a person's message: the words, and whatever of the attachments a model can take.
    pub(super) async fn take_in(
        &self,
        inbound: &Inbound,
        channels: &dyn ChannelDoor,
        limit: u64,
    ) -> Vec<Block> {
        let mut blocks = Vec::new();
        if !inbound.text.is_empty() {
            blocks.push(Block::text(&inbound.text));
        }
        for attachment in &inbound.attachments {
            blocks.push(self.take_in_one(inbound, attachment, channels, limit).await);
        }
        blocks
    }

    async fn take_in_one(
        &self,
        inbound: &Inbound,
        attachment: &Attachment,
        channels: &dyn ChannelDoor,
        limit: u64,
    ) -> Block {
        let label = label(attachment);
        let is_picture = attachment.kind == MediaKind::Image || PICTURES.contains(&attachment.mime.as_str());
        let is_text = is_text(attachment);
        if !is_picture && !is_text {
            return Block::text(format!("[{label}; its content can't be read here]"));
        }
        if attachment.size.is_some_and(|size| size > limit) {
            return Block::text(format!("[{label}; larger than allowed]"));
        }
        let bytes = match self.bytes_of(inbound, attachment, channels, limit).await {
            Ok(bytes) => bytes,
            Err(why) => return Block::text(format!("[{label}; could not be fetched: {why}]")),
        };
        if is_text {
            let text = String::from_utf8_lossy(&bytes[..bytes.len().min(MAX_TEXT)]).into_owned();
            return Block::text(format!("[{label}]\n{text}"));
        }
        match picture_mime(&bytes) {
            Some(_) if bytes.len() > MAX_PICTURE => {
                Block::text(format!("[{label}; too large a picture for the model]"))
            }
            Some(mime) => match self.save(bytes, mime, MediaKind::Image).await {
                Ok(stored) => {
                    Block::Image { mime_type: stored.mime, data: String::new(), path: Some(stored.path) }
                }
                Err(error) => {
                    tracing::error!(%error, "a picture could not be stored");
                    Block::text(format!("[{label}; could not be stored]"))
                }
            },
            None => Block::text(format!("[{label}; a kind of picture that can't be read here]")),
        }
    }

    async fn bytes_of(
        &self,
        inbound: &Inbound,
        attachment: &Attachment,
        channels: &dyn ChannelDoor,
        limit: u64,
    ) -> Result<Vec<u8>, String> {
        match &attachment.source {
            AttachmentSource::Inline { base64 } => {
                let text = base64.split_once("base64,").map_or(base64.as_str(), |(_, data)| data);
                STANDARD.decode(text.trim()).map_err(|_| "it is not valid base64".to_owned())
            }
            AttachmentSource::Channel { file_id } => {
                let (file_id, file_name, mime) =
                    (file_id.clone(), attachment.file_name.clone(), attachment.mime.clone());
                let bytes = channels
                    .fetch(&inbound.channel, &inbound.account, FetchMedia { file_id, file_name, mime })
                    .await?;
                if bytes.len() as u64 > limit {
                    Err("it is larger than allowed".to_owned())
                } else {
                    Ok(bytes)
                }
            }
            AttachmentSource::File { path } => self.read(path).await.ok_or_else(|| "it is gone".to_owned()),
        }
    }

    /// Puts the bytes of stored pictures into the blocks, for a request to a model.
    pub(super) async fn load_pictures(&self, blocks: &mut [Block]) {
        for block in blocks {
            let Block::Image { data, path: Some(path), .. } = block else { continue };
            if !data.is_empty() {
                continue;
            }
            match self.read(path).await {
                Some(bytes) => *data = STANDARD.encode(bytes),
                None => *block = Block::text("[a picture that is no longer stored]"),
            }
        }
    }
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

fn label(attachment: &Attachment) -> String {
    let kind = match attachment.kind {
        MediaKind::Image => "picture",
        MediaKind::Audio => "audio file",
        MediaKind::Voice => "voice message",
        MediaKind::Video => "video",
        MediaKind::Document => "file",
    };
    let name = attachment.file_name.as_deref().map(|name| format!(" `{name}`")).unwrap_or_default();
    let size = attachment.size.map(|size| format!(", {} kB", size.div_ceil(1024))).unwrap_or_default();
    format!("Attached {kind}{name}, {}{size}", attachment.mime)
}

fn is_text(attachment: &Attachment) -> bool {
    let mime = attachment.mime.as_str();
    attachment.kind == MediaKind::Document
        && (mime.starts_with("text/")
            || ["application/json", "application/xml", "application/yaml", "application/toml"]
                .contains(&mime))
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

fn extension(mime: &str) -> &'static str {
    match mime {
        "image/jpeg" => "jpg",
        "image/png" => "png",
        "image/gif" => "gif",
        "image/webp" => "webp",
        "video/mp4" => "mp4",
        "video/webm" => "webm",
        "audio/ogg" => "ogg",
        "audio/mpeg" => "mp3",
        _ => "bin",
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
        let saved = store.save(b"x".to_vec(), "image/png", MediaKind::Image).await.unwrap();
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
        store.save(b"x".to_vec(), "image/png", MediaKind::Image).await.unwrap();
        assert_eq!(prune(&store.folder, KEEP).unwrap(), 0);
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert_eq!(prune(&store.folder, Duration::from_millis(5)).unwrap(), 1);
    }

    #[test]
    fn pictures_are_known_by_their_bytes() {
        assert_eq!(picture_mime(&[0xFF, 0xD8, 0xFF, 0xE0]), Some("image/jpeg"));
        assert_eq!(picture_mime(b"<svg"), None);
    }
}
