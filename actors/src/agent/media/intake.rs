//! What people send in: fetched, stored under a name that tools can use, and put before the model as far as
//! it can take it. What it can't take is named all the same, with the truth about why.

use super::{MAX_PICTURE, MediaStore, StoredMedia, picture_mime};
use crate::agent::doors::ChannelDoor;
use crate::agent::providers::model::Block;
use crate::channels::FetchMedia;
use crate::inbound::{Attachment, AttachmentSource, Inbound, MediaKind};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// Text files are read to the model up to this size.
const MAX_TEXT: usize = 64 << 10;
/// A document or a sound larger than this stays a file: several of them must fit into one request.
const MAX_SHOWN: usize = 8 << 20;

/// Where files come from, and how large they may be.
pub(in crate::agent) struct Intake<'a> {
    pub(in crate::agent) media: &'a MediaStore,
    pub(in crate::agent) channels: &'a dyn ChannelDoor,
    pub(in crate::agent) limit: u64,
}

impl Intake<'_> {
    /// The blocks of a person's message: the words, then every attachment.
    pub(in crate::agent) async fn blocks(&self, inbound: &Inbound) -> Vec<Block> {
        let mut blocks = Vec::new();
        if !inbound.text.is_empty() {
            blocks.push(Block::text(&inbound.text));
        }
        for attachment in &inbound.attachments {
            blocks.extend(self.take(inbound, attachment).await);
        }
        blocks
    }

    /// The blocks of a message whose files nobody waits for.
    pub(in crate::agent) fn left_out(inbound: &Inbound) -> Vec<Block> {
        let words = (!inbound.text.is_empty()).then(|| Block::text(&inbound.text));
        let files = inbound.attachments.iter().map(|attachment| {
            Block::text(format!("[{}; not fetched: the run was stopped]", label(attachment, attachment.size)))
        });
        words.into_iter().chain(files).collect()
    }

    async fn take(&self, inbound: &Inbound, attachment: &Attachment) -> Vec<Block> {
        let told =
            |what: String| vec![Block::text(format!("[{}; {what}]", label(attachment, attachment.size)))];
        if let Some(size) = attachment.size.filter(|size| *size > self.limit) {
            return told(format!("not fetched: {} are more than the {} allowed", kb(size), kb(self.limit)));
        }
        let bytes = match self.bytes_of(inbound, attachment).await {
            Ok(bytes) => bytes,
            Err(why) => return told(format!("could not be fetched: {why}")),
        };
        let mime = mime_of(attachment, &bytes);
        let kind = if picture_mime(&bytes).is_some() { MediaKind::Image } else { attachment.kind };
        let name = attachment.file_name.as_deref();
        let stored = match self.media.save(&bytes, &mime, kind, name).await {
            Ok(stored) => stored,
            Err(error) => {
                tracing::error!(%error, "a file that a person sent could not be stored");
                return told("could not be stored".to_owned());
            }
        };
        let label = format!("{}; stored as `{}`", label(attachment, Some(bytes.len() as u64)), stored.path);
        if is_text(attachment) {
            return vec![Block::text(read_out(&label, &bytes))];
        }
        match self.media.shown(&stored, &bytes) {
            Ok(block) => vec![Block::text(format!("[{label}]")), block],
            Err(why) => vec![Block::text(format!("[{label}; {why}]"))],
        }
    }

    async fn bytes_of(&self, inbound: &Inbound, attachment: &Attachment) -> Result<Vec<u8>, String> {
        let bytes = match &attachment.source {
            AttachmentSource::Inline { base64 } => {
                let text = base64.split_once("base64,").map_or(base64.as_str(), |(_, data)| data);
                STANDARD.decode(text.trim()).map_err(|_| "it is not valid base64".to_owned())?
            }
            AttachmentSource::Channel { file_id } => {
                let (file_id, file_name, mime) =
                    (file_id.clone(), attachment.file_name.clone(), attachment.mime.clone());
                let wanted = FetchMedia { file_id, file_name, mime };
                self.channels.fetch(&inbound.channel, &inbound.account, wanted).await?
            }
            AttachmentSource::File { path } => {
                self.media.read(path).await.ok_or_else(|| "it is gone".to_owned())?
            }
        };
        match bytes.len() as u64 {
            0 => Err("it is empty".to_owned()),
            size if size > self.limit => Err("it is larger than allowed".to_owned()),
            _ => Ok(bytes),
        }
    }
}

impl MediaStore {
    /// A stored file as a block for models, or why it can be none. Whether the model that is asked takes
    /// such a block is seen when it is asked.
    pub(in crate::agent) fn shown(&self, stored: &StoredMedia, bytes: &[u8]) -> Result<Block, &'static str> {
        let (mime_type, path) = (stored.mime.clone(), Some(stored.path.clone()));
        match stored.mime.as_str() {
            _ if picture_mime(bytes).is_some() => match bytes.len() {
                ..=MAX_PICTURE => Ok(Block::Image { mime_type, data: String::new(), path }),
                _ => Err("too large a picture to be seen"),
            },
            "application/pdf" | "audio/ogg" | "audio/mpeg" | "audio/wav" | "audio/mp4" | "audio/flac" => {
                match bytes.len() {
                    size @ ..=MAX_SHOWN => Ok(Block::File {
                        mime_type,
                        size: size as u64,
                        data: String::new(),
                        path: stored.path.clone(),
                    }),
                    _ => Err("too large to be read here; a node may be able to"),
                }
            }
            mime if mime.starts_with("image/") => Err("a kind of picture that can't be seen here"),
            _ => Err("its content can't be read here; a node may be able to"),
        }
    }
}

/// The text of a file, and the truth about what of it is missing.
fn read_out(label: &str, bytes: &[u8]) -> String {
    if bytes.len() <= MAX_TEXT {
        return format!("[{label}]\n{}", String::from_utf8_lossy(bytes));
    }
    // Not in the middle of a character.
    let end = (MAX_TEXT - 3..=MAX_TEXT).rev().find(|end| bytes[*end] & 0xC0 != 0x80).unwrap_or(MAX_TEXT);
    let text = String::from_utf8_lossy(&bytes[..end]);
    let missing = bytes.len() - end;
    format!(
        "[{label}; only its first {end} bytes follow]\n{text}\n[The file goes on: {missing} of its {} bytes are left out here.]",
        bytes.len()
    )
}

/// Senders are not believed about pictures and PDFs, which model APIs check.
fn mime_of(attachment: &Attachment, bytes: &[u8]) -> String {
    let said = attachment.mime.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if let Some(mime) = picture_mime(bytes) {
        return mime.to_owned();
    }
    let is_pdf = bytes.starts_with(b"%PDF-");
    match said.as_str() {
        _ if is_pdf => "application/pdf".to_owned(),
        "application/pdf" => "application/octet-stream".to_owned(),
        "audio/opus" | "application/ogg" => "audio/ogg".to_owned(),
        "audio/mp3" => "audio/mpeg".to_owned(),
        "audio/x-wav" | "audio/wave" => "audio/wav".to_owned(),
        "audio/m4a" | "audio/x-m4a" => "audio/mp4".to_owned(),
        _ => said,
    }
}

fn label(attachment: &Attachment, size: Option<u64>) -> String {
    let kind = match attachment.kind {
        MediaKind::Image => "picture",
        MediaKind::Audio => "audio file",
        MediaKind::Voice => "voice message",
        MediaKind::Video => "video",
        MediaKind::Document => "file",
    };
    let name = attachment.file_name.as_deref().map(|name| format!(" `{name}`")).unwrap_or_default();
    let size = size.map(|size| format!(", {}", kb(size))).unwrap_or_default();
    format!("Attached {kind}{name}, {}{size}", attachment.mime)
}

fn kb(bytes: u64) -> String {
    format!("{} kB", bytes.div_ceil(1024))
}

fn is_text(attachment: &Attachment) -> bool {
    let mime = attachment.mime.as_str();
    attachment.kind == MediaKind::Document
        && (mime.starts_with("text/")
            || ["application/json", "application/xml", "application/yaml", "application/toml"]
                .contains(&mime))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_is_cut_between_characters_and_says_so() {
        let short = read_out("Attached file", "all of it".as_bytes());
        assert_eq!(short, "[Attached file]\nall of it");
        let text = format!("x{}", "ü".repeat(MAX_TEXT));
        let read = read_out("Attached file", text.as_bytes());
        assert!(read.contains("; only its first 65535 bytes follow]") && !read.contains('\u{FFFD}'));
        assert!(read.ends_with(&format!(
            "{} of its {} bytes are left out here.]",
            text.len() - 65_535,
            text.len()
        )));
    }

    #[test]
    fn a_pdf_is_known_by_its_bytes() {
        let file = |mime: &str| Attachment {
            kind: MediaKind::Document,
            mime: mime.into(),
            file_name: None,
            size: None,
            source: AttachmentSource::File { path: "x".into() },
        };
        assert_eq!(mime_of(&file("application/octet-stream"), b"%PDF-1.7"), "application/pdf");
        assert_eq!(mime_of(&file("application/pdf"), b"<html>"), "application/octet-stream");
        assert_eq!(mime_of(&file("audio/ogg; codecs=opus"), b"OggS"), "audio/ogg");
    }
}
