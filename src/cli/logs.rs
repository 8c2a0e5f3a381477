//! `tidegate logs`: the gateway's log, through the gateway; where that is down, from its file.

use std::{
    fs::File,
    io::{Read, Seek, SeekFrom},
    path::Path,
    time::Duration,
};

use clap::Args as ClapArgs;
use serde_json::{Value, json};

use super::{Context, Failure, globals::Span, out, target::Source};
use crate::client::{Backoff, Client, Events};

#[derive(ClapArgs, Debug)]
#[command(after_help = "Examples:\n  tidegate logs --follow\n  tidegate logs --limit 1000 --json")]
pub(super) struct Args {
    /// Stay, and print what comes
    #[arg(long, short)]
    follow: bool,
    /// At most so many lines
    #[arg(long, default_value_t = 200, value_name = "NUMBER")]
    limit: u32,
    /// At most so many bytes
    #[arg(long, default_value_t = 250_000, value_name = "BYTES")]
    max_bytes: u32,
    /// How often to look while following
    #[arg(long, default_value = "1s", value_name = "TIME")]
    interval: Span,
}

pub(super) async fn run(context: &Context, args: Args) -> Result<(), Failure> {
    tokio::select! {
        done = show(context, &args) => done,
        // A quiet log would never find out by writing.
        () = out::reader_gone() => Ok(()),
    }
}

async fn show(context: &Context, args: &Args) -> Result<(), Failure> {
    let mut reader = Reader { context, args, cursor: None };
    let mut connection = match context.connect().await {
        Ok(connection) => connection,
        Err(failure) if failure.code() == 69 => return reader.show_file(failure),
        Err(failure) => return Err(failure),
    };
    let mut backoff = Backoff::default();
    loop {
        match reader.read(&connection.0).await {
            Ok(()) => backoff.reset(),
            Err(failure) if !args.follow || failure.code() != 69 => return Err(failure),
            // The gateway may be starting again; the log goes on then.
            Err(_) => connection = reconnect(context, &mut backoff).await?,
        }
        if !args.follow {
            connection.0.close().await;
            return Ok(());
        }
        tokio::time::sleep(args.interval.or_milliseconds().max(Duration::from_millis(50))).await;
    }
}

async fn reconnect(context: &Context, backoff: &mut Backoff) -> Result<(Client, Events), Failure> {
    out::note("the gateway is gone; waiting for it");
    loop {
        tokio::time::sleep(backoff.next(None)).await;
        match context.connect().await {
            Err(failure) if failure.code() == 69 => {}
            other => return other,
        }
    }
}

struct Reader<'a> {
    context: &'a Context,
    args: &'a Args,
    cursor: Option<u64>,
}

impl Reader<'_> {
    /// The end of the file that the gateway of this machine wrote; `failure` is why it can't be asked.
    fn show_file(&self, failure: Failure) -> Result<(), Failure> {
        if self.context.target()?.source != Source::Local {
            return Err(failure);
        }
        let place = self.context.place()?;
        let settings = self.context.loaded(&place)?.settings;
        let path = settings.logging.file.map_or_else(|| place.state.log_file(), Into::into);
        let Ok(text) = end_of(&path, self.args.max_bytes.into()) else { return Err(failure) };
        if self.args.follow {
            self.notice(&format!("the gateway's log is in {}", path.display()));
            return Err(failure);
        }
        self.notice(&format!("the gateway is not running; this is from {}", path.display()));
        let lines: Vec<&str> = text.lines().collect();
        let left_out = lines.len().saturating_sub(self.args.limit as usize);
        lines.iter().skip(left_out).for_each(|line| self.print(line));
        Ok(())
    }

    async fn read(&mut self, client: &Client) -> Result<(), Failure> {
        let mut params = json!({"limit": self.args.limit, "maxBytes": self.args.max_bytes});
        if let Some(cursor) = self.cursor {
            params["cursor"] = json!(cursor);
        }
        let tail = self.context.call_over(client, "logs.tail", params).await?;
        if self.cursor.is_some() && tail["truncated"] == true {
            self.notice("lines were left out");
        }
        if self.cursor.is_some() && tail["reset"] == true {
            self.notice("the log was rotated");
        }
        self.cursor = tail["cursor"].as_u64();
        for line in out::list(&tail, "lines").iter().filter_map(Value::as_str) {
            self.print(line);
        }
        Ok(())
    }

    fn print(&self, line: &str) {
        let parsed: Option<Value> = serde_json::from_str(line).ok();
        match (self.context.globals.json, parsed) {
            (true, Some(Value::Object(mut entry))) => {
                entry.insert("type".to_owned(), json!("log"));
                out::json_line(&Value::Object(entry));
            }
            (true, _) => out::json_line(&json!({"type": "raw", "raw": line})),
            (false, Some(entry @ Value::Object(_))) => out::line(plain(&entry)),
            (false, _) => out::line(line),
        }
    }

    fn notice(&self, text: &str) {
        if self.context.globals.json {
            out::json_line(&json!({"type": "notice", "message": text}));
        } else {
            out::note(text);
        }
    }
}

/// Whole lines from the end of a file, so many bytes at most.
fn end_of(path: &Path, bytes: u64) -> std::io::Result<String> {
    let mut file = File::open(path)?;
    let start = file.metadata()?.len().saturating_sub(bytes);
    // With the byte before: where that ends a line the first one is whole.
    file.seek(SeekFrom::Start(start.saturating_sub(1)))?;
    let mut text = Vec::new();
    file.read_to_end(&mut text)?;
    let text = String::from_utf8_lossy(&text);
    Ok(match text.split_once('\n') {
        Some((_, whole)) if start > 0 => whole.to_owned(),
        _ => text.into_owned(),
    })
}

/// A log entry as the console shows it.
fn plain(entry: &Value) -> String {
    let mut line = format!(
        "{} {:5} {}",
        out::string(entry, "time"),
        out::string(entry, "level").to_uppercase(),
        out::string(entry, "message")
    );
    for (name, value) in entry.as_object().into_iter().flatten() {
        if !matches!(name.as_str(), "time" | "level" | "message" | "_meta") {
            match value {
                Value::String(text) => line.push_str(&format!(" {name}={text}")),
                value => line.push_str(&format!(" {name}={value}")),
            }
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_file_is_whole_lines() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "one\ntwo\nthree\n").unwrap();
        let end = |bytes| end_of(file.path(), bytes).unwrap();
        assert_eq!(end(1000), "one\ntwo\nthree\n");
        assert_eq!(end(10), "two\nthree\n");
        assert_eq!(end(9), "three\n");
    }
}
