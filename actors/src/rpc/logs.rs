//! `logs.tail`: the end of the gateway's log file.

use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use tidegate_protocol::{ErrorShape, Scope};

use super::{Call, Method, Reply, json};

pub(super) const METHODS: &[Method] =
    &[Method::operator("logs.tail", Scope::Read, |call| Box::pin(tail(call)))];

const LINES: usize = 500;
const MOST_LINES: usize = 5_000;
const BYTES: u64 = 250_000;
const MOST_BYTES: u64 = 1_000_000;

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Params {
    cursor: Option<u64>,
    limit: Option<usize>,
    max_bytes: Option<u64>,
}

#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Tail {
    file: String,
    /// Where the next call goes on.
    cursor: u64,
    size: u64,
    lines: Vec<String>,
    /// Older lines were left out.
    truncated: bool,
    /// The file is another one than at the cursor: it was rotated.
    reset: bool,
}

async fn tail(call: Call) -> Reply {
    let params: Params = call.params()?;
    if !(1..=MOST_LINES).contains(&params.limit.unwrap_or(LINES)) {
        return Err(call.invalid("/limit", "must be between 1 and 5000"));
    }
    if !(1..=MOST_BYTES).contains(&params.max_bytes.unwrap_or(BYTES)) {
        return Err(call.invalid("/maxBytes", "must be between 1 and 1000000"));
    }
    let settings = call.gateway.settings.get();
    let file = settings
        .logging
        .file
        .as_ref()
        .map_or_else(|| call.gateway.settings.paths().log_file(), PathBuf::from);
    let job = tokio::task::spawn_blocking(move || read(&file, &params));
    match job.await {
        Ok(Ok(tail)) => json(&tail),
        Ok(Err(error)) => Err(ErrorShape::unavailable(format!("the log can't be read: {error}"))),
        Err(_) => Err(ErrorShape::unavailable("the log can't be read")),
    }
}

fn read(path: &Path, params: &Params) -> io::Result<Tail> {
    let mut tail = Tail {
        file: path.display().to_string(),
        cursor: 0,
        size: 0,
        lines: Vec::new(),
        truncated: false,
        reset: false,
    };
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            tail.reset = params.cursor.is_some_and(|cursor| cursor > 0);
            return Ok(tail);
        }
        Err(error) => return Err(error),
    };
    tail.size = file.metadata()?.len();
    tail.reset = params.cursor.is_some_and(|cursor| cursor > tail.size);
    let from = params.cursor.filter(|_| !tail.reset);
    let earliest = tail.size.saturating_sub(params.max_bytes.unwrap_or(BYTES));
    let start = from.unwrap_or(0).max(earliest);
    let cut = start > from.unwrap_or(0);
    let text = span(&mut file, start, tail.size)?;
    // A line that is still being written stays for the next call.
    let whole = text.rfind('\n').map_or(0, |end| end + 1);
    tail.cursor = start + whole as u64;
    let mut lines: Vec<&str> = text[..whole].lines().collect();
    // The first line begins somewhere in its middle.
    if cut && !lines.is_empty() {
        lines.remove(0);
    }
    let skip = lines.len().saturating_sub(params.limit.unwrap_or(LINES));
    tail.truncated = cut || skip > 0;
    tail.lines = lines[skip..].iter().map(|line| crate::redaction::scrub(line).into_owned()).collect();
    Ok(tail)
}

/// The bytes from `start` to `end` as text; the log is UTF-8, but a cut may fall into a character.
fn span(file: &mut File, start: u64, end: u64) -> io::Result<String> {
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    file.take(end - start).read_to_end(&mut bytes)?;
    let broken = bytes.iter().take_while(|byte| **byte & 0xc0 == 0x80).count();
    // What is cut off is replaced byte by byte, so that positions stay true.
    bytes[..broken].fill(b'?');
    Ok(String::from_utf8(bytes).unwrap_or_else(|error| {
        let mut bytes = error.into_bytes();
        bytes.iter_mut().filter(|byte| !byte.is_ascii()).for_each(|byte| *byte = b'?');
        String::from_utf8_lossy(&bytes).into_owned()
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn ask(path: &Path, cursor: Option<u64>, limit: usize, max_bytes: u64) -> Tail {
        read(path, &Params { cursor, limit: Some(limit), max_bytes: Some(max_bytes) }).unwrap()
    }

    #[test]
    fn it_goes_on_where_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gateway.log");
        assert_eq!(ask(&path, None, 10, 1000).lines.len(), 0);
        let mut file = File::create(&path).unwrap();
        file.write_all("one\ntwö\nthr".as_bytes()).unwrap();
        let first = ask(&path, None, 10, 1000);
        assert_eq!(first.lines, ["one", "twö"]);
        assert!(!first.truncated && !first.reset);
        file.write_all(b"ee\n").unwrap();
        let second = ask(&path, Some(first.cursor), 10, 1000);
        assert_eq!(second.lines, ["three"]);
        assert_eq!(second.cursor, second.size);
    }

    #[test]
    fn a_long_log_is_cut_at_a_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gateway.log");
        std::fs::write(&path, "a first line\nsecond ß\nthird\n").unwrap();
        let tail = ask(&path, None, 10, 16);
        assert_eq!(tail.lines, ["third"]);
        assert!(tail.truncated);
        let tail = ask(&path, None, 1, 1000);
        assert_eq!(tail.lines, ["third"]);
        assert!(tail.truncated);
    }

    #[test]
    fn a_rotated_log_starts_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gateway.log");
        std::fs::write(&path, "new\n").unwrap();
        let tail = ask(&path, Some(4000), 10, 1000);
        assert!(tail.reset);
        assert_eq!(tail.lines, ["new"]);
    }
}
