//! Media types by the ending of a name, and back.

use crate::inbound::MediaKind;
use std::path::Path;

/// Ending and type; the first ending of a type is the one for files that we name.
const KNOWN: &[(&str, &str)] = &[
    ("png", "image/png"),
    ("jpg", "image/jpeg"),
    ("jpeg", "image/jpeg"),
    ("webp", "image/webp"),
    ("gif", "image/gif"),
    ("svg", "image/svg+xml"),
    ("heic", "image/heic"),
    ("mp3", "audio/mpeg"),
    ("ogg", "audio/ogg"),
    ("oga", "audio/ogg"),
    ("opus", "audio/ogg"),
    ("wav", "audio/wav"),
    ("m4a", "audio/mp4"),
    ("flac", "audio/flac"),
    ("mp4", "video/mp4"),
    ("webm", "video/webm"),
    ("mov", "video/quicktime"),
    ("pdf", "application/pdf"),
    ("zip", "application/zip"),
    ("json", "application/json"),
    ("txt", "text/plain"),
    ("md", "text/plain"),
    ("log", "text/plain"),
    ("csv", "text/csv"),
    ("html", "text/html"),
];

/// What a file of this name is.
pub(crate) fn mime_of(name: &Path) -> &'static str {
    let ending = name.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
    let known = KNOWN.iter().find(|(known, _)| known.eq_ignore_ascii_case(ending));
    known.map_or("application/octet-stream", |(_, mime)| mime)
}

/// The ending for a file of this type.
pub(crate) fn ending_of(mime: &str) -> &'static str {
    KNOWN.iter().find(|(_, known)| *known == mime).map_or("bin", |(ending, _)| ending)
}

/// How a file of this type is shown.
pub(crate) fn kind_of(mime: &str) -> MediaKind {
    match mime.split('/').next() {
        Some("image") => MediaKind::Image,
        Some("audio") => MediaKind::Audio,
        Some("video") => MediaKind::Video,
        _ => MediaKind::Document,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_go_as_what_they_are() {
        assert_eq!(kind_of(mime_of(Path::new("a.PNG"))), MediaKind::Image);
        assert_eq!(kind_of(mime_of(Path::new("a.opus"))), MediaKind::Audio);
        assert_eq!(mime_of(Path::new("a")), "application/octet-stream");
        assert_eq!((ending_of("audio/ogg"), ending_of("x/y")), ("ogg", "bin"));
    }
}
