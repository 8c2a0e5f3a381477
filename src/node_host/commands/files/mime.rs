//! What kind of content a file has, as far as its name and its first bytes tell.

/// By the ending of the name.
pub(super) fn by_name(name: &str) -> &'static str {
    let ending = name.rsplit_once('.').map(|(_, ending)| ending.to_ascii_lowercase()).unwrap_or_default();
    match ending.as_str() {
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "gif" => "image/gif",
        "webp" => "image/webp",
        "heic" => "image/heic",
        "svg" => "image/svg+xml",
        "pdf" => "application/pdf",
        "json" => "application/json",
        "txt" | "log" => "text/plain",
        "md" => "text/markdown",
        "html" | "htm" => "text/html",
        "csv" => "text/csv",
        "zip" => "application/zip",
        "gz" | "tgz" => "application/gzip",
        "tar" => "application/x-tar",
        "mp3" => "audio/mpeg",
        "wav" => "audio/wav",
        "ogg" | "opus" => "audio/ogg",
        "mp4" => "video/mp4",
        "mov" => "video/quicktime",
        "webm" => "video/webm",
        _ => "application/octet-stream",
    }
}

/// By the content where it is unmistakable, else by the name, else whether it reads as text.
pub(super) fn of(name: &str, bytes: &[u8]) -> &'static str {
    let begins = |magic: &[u8]| bytes.starts_with(magic);
    if begins(b"\x89PNG\r\n\x1a\n") {
        return "image/png";
    }
    if begins(b"\xff\xd8\xff") {
        return "image/jpeg";
    }
    if begins(b"GIF8") {
        return "image/gif";
    }
    if begins(b"%PDF-") {
        return "application/pdf";
    }
    match by_name(name) {
        "application/octet-stream" if is_text(bytes) => "text/plain",
        named => named,
    }
}

fn is_text(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes)
        .is_ok_and(|text| !text.chars().any(|c| c.is_control() && !"\t\r\n\u{c}".contains(c)))
}
