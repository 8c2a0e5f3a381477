//! The log: one way out for every line, whoever wrote it.
//!
//! Each field and message is cleaned of live secrets and of characters that act on a
//! terminal before it goes to the console or to the file.

mod clean;
mod record;
mod writer;

use std::{
    io::IsTerminal,
    path::PathBuf,
    sync::{OnceLock, RwLock},
    time::Duration,
};

use tidegate_actors::settings::{
    LoggingSettings,
    tools::{ConsoleStyle, LogLevel},
};
use tracing::{Event, Metadata, Subscriber, level_filters::LevelFilter};
use tracing_subscriber::{Layer, filter::Targets, layer::Context, prelude::*, registry::LookupSpan, reload};

pub use self::{clean::escape, record::chain};
use self::{
    record::Record,
    writer::{Lines, LogFile, Writer},
};

/// Libraries that talk too much at these severities.
const QUIET: [&str; 9] =
    ["actix", "actix_http", "actix_server", "h2", "hyper", "hyper_util", "reqwest", "rustls", "tungstenite"];
/// What these have to say of strangers' connections, we say ourselves, and less often.
const SILENT: [&str; 2] = ["actix_http::h1::decoder", "actix_http::h1::dispatcher"];
const LARGEST_FILE: u64 = 10 * 1024 * 1024;

/// Where lines go.
#[derive(Clone, Debug, Default)]
pub struct LogOptions {
    /// None writes no file.
    pub file: Option<PathBuf>,
    pub max_file_bytes: Option<u64>,
    pub file_level: Option<LogLevel>,
    pub console_level: Option<LogLevel>,
    pub console_style: ConsoleStyle,
    /// The settings don't change the console's severity: the command line did.
    pub fixed_console: bool,
}

impl LogOptions {
    /// For a command that ends soon: only what went wrong.
    pub fn command(verbose: u8) -> Self {
        Self { console_level: Some(wordy(verbose).unwrap_or(LogLevel::Warn)), ..Self::default() }
    }

    /// For a process that stays in the foreground and keeps no log of its own.
    pub fn foreground(verbose: u8) -> Self {
        Self { console_level: Some(wordy(verbose).unwrap_or(LogLevel::Info)), ..Self::default() }
    }

    /// For a process that stays, as its settings say.
    pub fn service(settings: &LoggingSettings, file: PathBuf, verbose: u8) -> Self {
        Self {
            file: Some(settings.file.as_ref().map_or(file, PathBuf::from)),
            max_file_bytes: settings.max_file_bytes,
            file_level: settings.level,
            console_level: wordy(verbose).or(settings.console_level),
            fixed_console: verbose > 0,
            console_style: settings.console_style,
        }
    }
}

/// What `-v` and `-vv` ask for.
fn wordy(verbose: u8) -> Option<LogLevel> {
    match verbose {
        0 => None,
        1 => Some(LogLevel::Debug),
        _ => Some(LogLevel::Trace),
    }
}

/// The log of this process. Its end waits for the last lines.
pub struct Log {
    writer: Writer,
    filter: reload::Handle<Targets, tracing_subscriber::Registry>,
    levels: &'static RwLock<Levels>,
    fixed_console: bool,
}

#[derive(Clone, Copy)]
struct Levels {
    file: LevelFilter,
    console: LevelFilter,
}

static LEVELS: RwLock<Levels> = RwLock::new(Levels { file: LevelFilter::OFF, console: LevelFilter::OFF });
static PANICS: OnceLock<Writer> = OnceLock::new();

impl Log {
    /// Starts it; once a process.
    pub fn start(options: LogOptions) -> std::io::Result<Self> {
        let has_file = options.file.is_some();
        let file =
            options.file.map(|path| LogFile::new(path, options.max_file_bytes.unwrap_or(LARGEST_FILE)));
        let writer = Writer::start(file)?;
        let levels = Levels {
            file: if has_file { severity(options.file_level) } else { LevelFilter::OFF },
            console: severity(options.console_level),
        };
        *write_levels() = levels;
        let (filter, handle) = reload::Layer::new(targets(levels));
        let layer = Output {
            writer: writer.clone(),
            colour: std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none(),
            json: options.console_style == ConsoleStyle::Json,
        };
        let subscriber = tracing_subscriber::registry().with(filter).with(layer);
        let _ = tracing::subscriber::set_global_default(subscriber);
        let _ = tracing_log::LogTracer::init();
        log_panics(&writer);
        Ok(Self { writer, filter: handle, levels: &LEVELS, fixed_console: options.fixed_console })
    }

    /// Keeps what comes now from the console, for whoever ends says there itself why.
    pub fn leave_console(&self) {
        let mut levels = self.levels.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        levels.console = LevelFilter::OFF;
    }

    /// Takes over severities that changed while running.
    pub fn apply(&self, settings: &LoggingSettings) {
        let mut levels = self.levels.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        if levels.file != LevelFilter::OFF {
            levels.file = severity(settings.level);
        }
        if !self.fixed_console {
            levels.console = severity(settings.console_level);
        }
        let _ = self.filter.reload(targets(*levels));
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.writer.flush(Duration::from_secs(2));
    }
}

fn write_levels() -> std::sync::RwLockWriteGuard<'static, Levels> {
    LEVELS.write().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// What is worth making a record of at all. `TIDEGATE_LOG` may say more, as in
/// `info,tidegate_actors::nodes=debug`.
fn targets(levels: Levels) -> Targets {
    let most = levels.file.max(levels.console);
    let quiet = QUIET.iter().map(|name| (*name, most.min(LevelFilter::WARN)));
    let silent = SILENT.iter().map(|name| (*name, LevelFilter::OFF));
    let base = Targets::new().with_default(most).with_targets(quiet).with_targets(silent);
    match std::env::var("TIDEGATE_LOG").ok().and_then(|text| text.parse::<Targets>().ok()) {
        Some(wanted) => base.with_targets(wanted.iter().map(|(name, level)| (name.to_owned(), level))),
        None => base,
    }
}

fn severity(level: Option<LogLevel>) -> LevelFilter {
    match level.unwrap_or(LogLevel::Info) {
        LogLevel::Silent => LevelFilter::OFF,
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    }
}

/// The layer.
struct Output {
    writer: Writer,
    colour: bool,
    json: bool,
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Output {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let record = Record::of(event);
        let levels = *LEVELS.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        let file = (levels.file >= record.level).then(|| record.json());
        let console = (levels.console >= record.level).then(|| match (self.json, &file) {
            (true, Some(line)) => line.clone(),
            (true, None) => record.json(),
            (false, _) => record.console(self.colour),
        });
        if file.is_some() || console.is_some() {
            self.writer.write(Lines { console, file });
        }
    }

    fn enabled(&self, _: &Metadata<'_>, _: Context<'_, S>) -> bool {
        true
    }
}

/// A panic ends one actor, silently: the log must say which and where.
fn log_panics(writer: &Writer) {
    if PANICS.set(writer.clone()).is_err() {
        return;
    }
    std::panic::set_hook(Box::new(|panic| {
        let message = panic.payload_as_str().unwrap_or("no message");
        let location = panic.location().map(ToString::to_string).unwrap_or_default();
        let thread = std::thread::current();
        let thread = thread.name().unwrap_or("unnamed");
        tracing::error!(location, thread, reason = message, "panic");
        // A second panic aborts the process: this line must be out before that.
        if thread != writer::THREAD
            && let Some(writer) = PANICS.get()
        {
            writer.flush(Duration::from_millis(200));
        }
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_clean_on_both_ways_out() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.log");
        let options = LogOptions {
            file: Some(path.clone()),
            console_level: Some(LogLevel::Silent),
            ..LogOptions::default()
        };
        let log = Log::start(options).unwrap();
        tidegate_actors::redaction::hide("telemetry-test-secret");
        let agent = "x\n{\"level\":\"error\"}\u{1b}[2J\u{202e}";
        tracing::info!(agent, url = "ws://h/?token=telemetry-test-secret", count = 3, "hello \u{1b}[0m");
        tracing_log::log::warn!("from the log crate telemetry-test-secret");
        let _ = std::thread::spawn(|| panic!("in a thread")).join();
        drop(log);

        // Other tests of this process log as well: the last line may be half written.
        let read = || std::fs::read_to_string(&path).unwrap_or_default();
        let text = (0..100)
            .map(|_| read())
            .find(|text| {
                std::thread::sleep(Duration::from_millis(100));
                ["hello", "from the log crate", "in a thread"].iter().all(|part| text.contains(part))
            })
            .unwrap_or_else(read);
        assert!(
            !text.contains("telemetry-test-secret") && !text.contains('\u{1b}') && !text.contains('\u{202e}')
        );
        let lines: Vec<serde_json::Value> =
            text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let line = |field: &str, start: &str| {
            let fits =
                |line: &&serde_json::Value| line[field].as_str().is_some_and(|text| text.starts_with(start));
            lines.iter().find(fits).unwrap_or_else(|| panic!("no {field} {start} in {text}"))
        };
        assert_eq!(line("message", "hello")["count"], 3);
        assert_eq!(line("message", "hello")["url"], "ws://h/?token=[redacted]");
        assert_eq!(line("message", "from the log crate")["level"], "warn");
        assert!(line("reason", "in a thread")["location"].as_str().unwrap().contains("telemetry"));
    }
}
