//! Files in both directions, streamed: none is ever whole in memory.

use super::api::{ApiError, SentMessage};
use super::formatted::Formatted;
use super::line::{Line, Timing};
use super::split::{MAX_CAPTION_UNITS, split};
use crate::channels::{FetchError, FetchMedia, FetchedMedia, extension};
use crate::inbound::{MediaKind, OutboundMedia};
use reqwest::Body;
use reqwest::multipart::{Form, Part};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tgbot::types::File as RemoteFile;
use tokio::fs::File;
use tokio::io::AsyncWriteExt;
use tokio::time::sleep;
use uuid::Uuid;

const MIB: u64 = 1024 * 1024;
/// What bots may fetch, send, and send as a photo: Telegram's limits.
const MAX_DOWNLOAD: u64 = 20 * MIB;
const MAX_UPLOAD: u64 = 50 * MIB;
const MAX_PHOTO: u64 = 10 * MIB;
/// For a large file over a slow line.
const TRANSFER: Duration = Duration::from_secs(10 * 60);

/// Tries to fetch one file: a person doesn't send it again because a line dropped once.
const TRIES: u32 = 4;
/// The longest pause before another try: somebody waits for the answer.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Fetches a file that a person sent into the state folder's `media`.
pub(super) async fn fetch(line: &Line, wanted: FetchMedia) -> Result<FetchedMedia, FetchError> {
    let mut tries = 1;
    loop {
        let error = match fetch_once(line, &wanted).await {
            Ok(fetched) => return Ok(fetched),
            Err(Miss::Api(error))
                if tries < TRIES && (error.is_network() || error.retry_after().is_some()) =>
            {
                error
            }
            Err(miss) => return Err(miss.into()),
        };
        let usual = Timing::pause(&line.timing.network, tries);
        let pause = error.retry_after().unwrap_or_default().max(usual).min(LONGEST_PAUSE);
        tracing::info!(account = line.name, tries, ?pause, %error, "fetching a file again");
        sleep(pause).await;
        tries += 1;
    }
}

/// Why a try brought no file.
enum Miss {
    Api(ApiError),
    Final(FetchError),
}

impl From<Miss> for FetchError {
    fn from(miss: Miss) -> Self {
        match miss {
            Miss::Api(error) => Self::Failed(error.to_string()),
            Miss::Final(error) => error,
        }
    }
}

async fn fetch_once(line: &Line, wanted: &FetchMedia) -> Result<FetchedMedia, Miss> {
    let limit = MAX_DOWNLOAD.min(line.account().media_max_bytes);
    let too_large = || Miss::Final(FetchError::TooLarge { limit_mib: limit / MIB });
    let failed = |why: &str| Miss::Final(FetchError::Failed(why.to_owned()));
    let refused = |error: ApiError| match error {
        error if error.says("file is too big") => too_large(),
        error => Miss::Api(error),
    };
    let params = json!({"file_id": wanted.file_id});
    let remote: RemoteFile = line.call("getFile", &params).await.map_err(refused)?;
    if remote.file_size.is_some_and(|size| u64::try_from(size).unwrap_or(u64::MAX) > limit) {
        return Err(too_large());
    }
    let path = remote.file_path.ok_or_else(|| failed("Telegram names no path"))?;
    // A local Bot API server names files on its own disk; ours is not the place to look for them.
    if path.starts_with('/') || path.split('/').any(|part| part == "..") {
        return Err(failed("the Bot API server keeps its files locally"));
    }
    let response = line.api.file(&path, TRANSFER).await.map_err(refused)?;
    let target = line.media_folder().join(format!("in-{}.{}", Uuid::new_v4(), ending(wanted, &path)));
    let saved = save(response, &target, limit).await;
    if let Ok(Some(size)) = saved {
        return Ok(FetchedMedia { path: target, mime: wanted.mime.clone(), size });
    }
    let _ = tokio::fs::remove_file(&target).await;
    saved.and_then(|_| Err(too_large()))
}

fn ending(wanted: &FetchMedia, path: &str) -> String {
    let named = wanted.file_name.as_deref().unwrap_or(path);
    let ending = Path::new(named).extension().and_then(|ending| ending.to_str()).unwrap_or_default();
    let plain = (1..=8).contains(&ending.len()) && ending.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if plain { ending.to_ascii_lowercase() } else { extension(MediaKind::Document, &wanted.mime).to_owned() }
}

/// The size, or `None` when it is more than `limit`.
async fn save(mut response: reqwest::Response, target: &Path, limit: u64) -> Result<Option<u64>, Miss> {
    let unstored =
        |error: std::io::Error| Miss::Final(FetchError::Failed(format!("it could not be stored: {error}")));
    let cut = |error: reqwest::Error| Miss::Api(ApiError::NoAnswer(error.without_url().to_string()));
    let mut file = create(target).await.map_err(unstored)?;
    let mut size = 0;
    while let Some(chunk) = response.chunk().await.map_err(cut)? {
        size += chunk.len() as u64;
        if size > limit {
            return Ok(None);
        }
        file.write_all(&chunk).await.map_err(unstored)?;
    }
    file.flush().await.map_err(unstored)?;
    Ok(Some(size))
}

async fn create(target: &Path) -> std::io::Result<File> {
    if let Some(folder) = target.parent() {
        tokio::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).await?;
    }
    tokio::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(target).await
}

/// Where a file to send lies: in the media folder, and nowhere else.
fn locate(folder: &Path, file: &OutboundMedia) -> Option<PathBuf> {
    let path = folder.join(&file.path);
    (path.parent() == Some(folder) && path.file_name().is_some()).then_some(path)
}

async fn size(folder: &Path, file: &OutboundMedia) -> Option<u64> {
    let meta = tokio::fs::symlink_metadata(locate(folder, file)?).await.ok()?;
    meta.is_file().then_some(meta.len())
}

/// Why a file can't be sent, for the person who waits for it.
pub(super) async fn problem(folder: &Path, file: &OutboundMedia, limit: u64) -> Option<String> {
    let name = file.file_name.as_deref().unwrap_or("a file");
    let limit = MAX_UPLOAD.min(limit);
    match size(folder, file).await {
        Some(0) => Some(format!("{name} is empty and was not sent.")),
        Some(size) if size > limit => Some(format!(
            "{name} is too large to send here: {} MiB, and the limit is {} MiB.",
            size.div_ceil(MIB),
            limit / MIB
        )),
        Some(_) => None,
        None => Some(format!("{name} is no longer there and was not sent.")),
    }
}

/// Sends one file with its caption, as what it is: a photo that Telegram does not take goes as a document.
pub(super) async fn send(
    line: &Line,
    place: Value,
    file: &OutboundMedia,
    caption: &Formatted,
) -> Result<SentMessage, ApiError> {
    let (method, field) = method(file, size(&line.media_folder(), file).await.unwrap_or(0));
    match upload(line, &place, file, caption, method, field).await {
        Err(error) if field != "document" && error.code() == Some(400) && !error.says("chat not found") => {
            tracing::info!(account = line.name, method, %error, "sending the file as a document instead");
            upload(line, &place, file, caption, "sendDocument", "document").await
        }
        other => other,
    }
}

fn method(file: &OutboundMedia, size: u64) -> (&'static str, &'static str) {
    match file.kind {
        MediaKind::Image if size > MAX_PHOTO || file.mime == "image/gif" || file.mime == "image/svg+xml" => {
            ("sendDocument", "document")
        }
        MediaKind::Image => ("sendPhoto", "photo"),
        MediaKind::Voice => ("sendVoice", "voice"),
        MediaKind::Audio => ("sendAudio", "audio"),
        MediaKind::Video => ("sendVideo", "video"),
        MediaKind::Document => ("sendDocument", "document"),
    }
}

async fn upload(
    line: &Line,
    place: &Value,
    file: &OutboundMedia,
    caption: &Formatted,
    method: &str,
    field: &'static str,
) -> Result<SentMessage, ApiError> {
    let form = form(&line.media_folder(), place, file, caption, field).await;
    let form = form.map_err(|error| ApiError::NotSent(format!("the file could not be read: {error}")))?;
    line.api.upload(method, form, TRANSFER).await
}

async fn form(
    folder: &Path,
    place: &Value,
    file: &OutboundMedia,
    caption: &Formatted,
    field: &'static str,
) -> std::io::Result<Form> {
    let path = locate(folder, file).ok_or_else(|| std::io::Error::other("it is not in the media folder"))?;
    let source = File::open(path).await?;
    let length = source.metadata().await?.len();
    let usual = || format!("{field}.{}", extension(file.kind, &file.mime));
    let name = file.file_name.clone().unwrap_or_else(usual);
    let part = Part::stream_with_length(Body::from(source), length).file_name(name);
    let part = part.mime_str(&file.mime).map_err(|_| std::io::Error::other("its type is not one"))?;
    let mut form = Form::new().part(field, part);
    for (name, value) in place.as_object().into_iter().flatten() {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        form = form.text(name.clone(), value);
    }
    let shown = split(caption, MAX_CAPTION_UNITS).into_iter().next();
    if let Some(shown) = shown {
        form = form.text("caption", shown.html()).text("parse_mode", "HTML");
    }
    Ok(form)
}

/// Removes files that were put into the media folder to be sent.
pub(super) async fn clear(line: &Line, files: &[OutboundMedia]) {
    let folder = line.media_folder();
    for path in files.iter().filter_map(|file| locate(&folder, file)) {
        let _ = tokio::fs::remove_file(path).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(mime: &str) -> OutboundMedia {
        OutboundMedia {
            kind: MediaKind::Image,
            mime: mime.into(),
            file_name: None,
            path: "/nowhere/x".into(),
            caption: None,
        }
    }

    #[test]
    fn a_large_or_moving_picture_goes_as_a_document() {
        assert_eq!(method(&image("image/png"), 5), ("sendPhoto", "photo"));
        assert_eq!(method(&image("image/png"), MAX_PHOTO + 1).0, "sendDocument");
        assert_eq!(method(&image("image/gif"), 5).0, "sendDocument");
    }

    #[test]
    fn an_ending_is_taken_only_when_it_looks_like_one() {
        let wanted = |name: Option<&str>| FetchMedia {
            file_id: "f".into(),
            file_name: name.map(str::to_owned),
            mime: "application/pdf".into(),
        };
        assert_eq!(ending(&wanted(Some("a.TXT")), "x/y.bin"), "txt");
        assert_eq!(ending(&wanted(None), "x/y.oga"), "oga");
        assert_eq!(ending(&wanted(Some("a.x/../../etc")), "x"), "pdf");
    }

    #[actix::test]
    async fn a_missing_file_is_said_and_not_an_error() {
        let said = problem(Path::new("/nowhere"), &image("image/png"), MAX_UPLOAD).await;
        assert!(said.unwrap().contains("no longer there"));
    }

    #[test]
    fn only_files_of_the_media_folder_are_sent() {
        let at = |path: &str| {
            locate(Path::new("/state/media"), &OutboundMedia { path: path.into(), ..image("image/png") })
        };
        assert_eq!(at("a.png"), Some("/state/media/a.png".into()));
        assert_eq!(at("/state/media/a.png"), Some("/state/media/a.png".into()));
        for elsewhere in ["/etc/passwd", "../tidegate.db", "sub/a.png", "..", ""] {
            assert_eq!(at(elsewhere), None, "{elsewhere}");
        }
    }
}
