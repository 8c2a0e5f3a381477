//! Lines leave on a thread of their own: a slow disk or terminal never holds up the gateway.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, Sender, SyncSender, TrySendError, channel, sync_channel},
    },
    thread,
    time::Duration,
};

/// Lines on their way; more than that are dropped and counted.
const QUEUE: usize = 512;
const ARCHIVES: u32 = 5;
pub(super) const THREAD: &str = "log";

/// One event, ready to be written.
pub(super) struct Lines {
    pub(super) console: Option<String>,
    pub(super) file: Option<String>,
}

enum Job {
    Write(Lines),
    /// Answered when everything before it is written.
    Flush(Sender<()>),
}

/// The way to the writing thread.
#[derive(Clone)]
pub(super) struct Writer {
    jobs: SyncSender<Job>,
    dropped: &'static AtomicU64,
}

static DROPPED: AtomicU64 = AtomicU64::new(0);

impl Writer {
    pub(super) fn start(file: Option<LogFile>) -> io::Result<Self> {
        let (jobs, queue) = sync_channel(QUEUE);
        thread::Builder::new().name(THREAD.into()).stack_size(128 * 1024).spawn(move || run(&queue, file))?;
        Ok(Self { jobs, dropped: &DROPPED })
    }

    pub(super) fn write(&self, lines: Lines) {
        if let Err(TrySendError::Full(_)) = self.jobs.try_send(Job::Write(lines)) {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits until what was written so far is out, for a moment at most.
    pub(super) fn flush(&self, patience: Duration) {
        let (done, wait) = channel();
        if self.jobs.try_send(Job::Flush(done)).is_ok() {
            let _ = wait.recv_timeout(patience);
        }
    }
}

fn run(queue: &Receiver<Job>, mut file: Option<LogFile>) {
    while let Ok(job) = queue.recv() {
        match job {
            Job::Write(lines) => write(&lines, &mut file),
            Job::Flush(done) => drop(done.send(())),
        }
        let dropped = DROPPED.swap(0, Ordering::Relaxed);
        if dropped > 0 {
            let note = format!("{dropped} log lines dropped: the log can't keep up\n");
            let lines = Lines { console: Some(note), file: None };
            write(&lines, &mut file);
        }
    }
}

/// Nobody is left to tell when the log itself can't be written.
fn write(lines: &Lines, file: &mut Option<LogFile>) {
    if let Some(line) = &lines.console {
        let _ = io::stderr().write_all(line.as_bytes());
    }
    if let (Some(line), Some(file)) = (&lines.file, file) {
        let _ = file.write(line);
    }
}

/// A file that makes room for itself: `gateway.log`, `gateway.log.1`, ...
pub(super) struct LogFile {
    path: PathBuf,
    most: u64,
    open: Option<File>,
    size: u64,
}

impl LogFile {
    pub(super) fn new(path: PathBuf, most: u64) -> Self {
        Self { path, most: most.max(4096), open: None, size: 0 }
    }

    fn write(&mut self, line: &str) -> io::Result<()> {
        let length = line.len() as u64;
        if self.open.is_some() && self.size > 0 && self.size + length > self.most {
            self.open = None;
            self.rotate()?;
        }
        // Somebody else may have moved the file away.
        if self.open.is_some() && !self.path.exists() {
            self.open = None;
        }
        let file = match &mut self.open {
            Some(file) => file,
            None => {
                let file = open(&self.path)?;
                self.size = file.metadata()?.len();
                self.open.insert(file)
            }
        };
        file.write_all(line.as_bytes())?;
        self.size += length;
        Ok(())
    }

    fn rotate(&self) -> io::Result<()> {
        for number in (1..ARCHIVES).rev() {
            let from = archive(&self.path, number);
            if from.exists() {
                fs::rename(from, archive(&self.path, number + 1))?;
            }
        }
        fs::rename(&self.path, archive(&self.path, 1))
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)
}

fn archive(path: &Path, number: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_rotated_and_private() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gateway.log");
        let mut file = LogFile::new(path.clone(), 4096);
        let line = format!("{}\n", "x".repeat(2000));
        for _ in 0..20 {
            file.write(&line).unwrap();
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 6);
        assert!(fs::metadata(&path).unwrap().len() <= 4096);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn flush_waits_for_what_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gateway.log");
        let writer = Writer::start(Some(LogFile::new(path.clone(), 1 << 20))).unwrap();
        for number in 0..100 {
            writer.write(Lines { console: None, file: Some(format!("{number}\n")) });
        }
        writer.flush(Duration::from_secs(5));
        assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 100);
    }
}
