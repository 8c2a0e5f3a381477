//! The two threads that own the connections.

use super::StoreError;
use rusqlite::Connection;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};

/// Called once the fate of the job's changes is known.
type Finish = Box<dyn FnOnce(Result<(), StoreError>) + Send>;

/// Does its work and says whether to keep it, and whom to tell.
pub(super) type Job = Box<dyn FnOnce(&Connection) -> (bool, Finish) + Send>;

/// Jobs that share one commit at most.
const BATCH: usize = 256;

pub(super) struct Threads {
    ended: oneshot::Receiver<String>,
}

impl Threads {
    pub(super) fn start(
        writer: Connection,
        write_jobs: mpsc::Receiver<Job>,
        reader: Connection,
        read_jobs: mpsc::Receiver<Job>,
    ) -> std::io::Result<Self> {
        let (tell, ended) = oneshot::channel();
        let tell = Arc::new(std::sync::Mutex::new(Some(tell)));
        spawn("store-write", Arc::clone(&tell), move || write_loop(&writer, write_jobs))?;
        spawn("store-read", tell, move || read_loop(&reader, read_jobs))?;
        Ok(Self { ended })
    }

    pub(super) async fn died(self) -> String {
        self.ended.await.unwrap_or_else(|_| "the database was closed".to_owned())
    }
}

type Tell = Arc<std::sync::Mutex<Option<oneshot::Sender<String>>>>;

fn spawn(name: &'static str, tell: Tell, body: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
    std::thread::Builder::new().name(name.to_owned()).stack_size(512 * 1024).spawn(move || {
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body));
        let Err(payload) = result else { return };
        let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let text = text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_default();
        if let Ok(mut tell) = tell.lock()
            && let Some(tell) = tell.take()
        {
            let _ = tell.send(format!("{name}: {text}"));
        }
    })?;
    Ok(())
}

fn write_loop(connection: &Connection, mut jobs: mpsc::Receiver<Job>) {
    while let Some(first) = jobs.blocking_recv() {
        let mut batch = vec![first];
        while batch.len() < BATCH
            && let Ok(job) = jobs.try_recv()
        {
            batch.push(job);
        }
        let mut batch = batch.into_iter();
        while batch.len() > 0 {
            commit_together(connection, &mut batch);
        }
    }
}

/// Commits what is in the batch, or what of it came before a job that took the transaction with it.
fn commit_together(connection: &Connection, batch: &mut std::vec::IntoIter<Job>) {
    if let Err(error) = connection.execute_batch("BEGIN IMMEDIATE") {
        let error = StoreError::Commit(Arc::new(error));
        for job in batch {
            // The job must run to give its asker an answer; outside a transaction it may not write.
            refuse(connection, job, &error);
        }
        return;
    }
    let mut finishes = Vec::with_capacity(batch.len());
    let mut undone = None;
    for job in batch.by_ref() {
        if let Err(error) = connection.execute_batch("SAVEPOINT job") {
            refuse(connection, job, &StoreError::Commit(Arc::new(error)));
            continue;
        }
        let (keep, finish) = job(connection);
        let closed = connection.execute_batch(match keep {
            true => "RELEASE job",
            false => "ROLLBACK TO job; RELEASE job",
        });
        finishes.push((finish, closed));
        if connection.is_autocommit() {
            // A full disk or a failing one makes SQLite undo the whole transaction. The next savepoint would begin, and
            // commit, one of its own.
            undone = Some(Err(Arc::new(undone_with_another())));
            break;
        }
    }
    let committed = undone.unwrap_or_else(|| connection.execute_batch("COMMIT").map_err(Arc::new));
    if committed.is_err() && !connection.is_autocommit() {
        // A full disk leaves the transaction open; nothing of it may linger into the next batch.
        let _ = connection.execute_batch("ROLLBACK");
    }
    for (finish, closed) in finishes {
        let fate = committed.clone().and(closed.map_err(Arc::new));
        finish(fate.map_err(StoreError::Commit));
    }
}

fn undone_with_another() -> rusqlite::Error {
    let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_ABORT_ROLLBACK);
    rusqlite::Error::SqliteFailure(code, Some("undone together with a write that failed".to_owned()))
}

/// Answers a job whose transaction could not even begin, with all its changes undone.
fn refuse(connection: &Connection, job: Job, error: &StoreError) {
    let _ = connection.pragma_update(None, "query_only", true);
    let (_, finish) = job(connection);
    let _ = connection.pragma_update(None, "query_only", false);
    finish(Err(error.clone()));
}

fn read_loop(connection: &Connection, mut jobs: mpsc::Receiver<Job>) {
    while let Some(job) = jobs.blocking_recv() {
        let (_, finish) = job(connection);
        finish(Ok(()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    /// Writes so many bytes, and notes what it was told in the end.
    fn writes(name: &'static str, bytes: usize, told: &Arc<Mutex<Vec<(&'static str, bool)>>>) -> Job {
        let told = Arc::clone(told);
        Box::new(move |db| {
            let result = db.execute("INSERT INTO facts VALUES (?1, ?2)", (name, "x".repeat(bytes)));
            let kept = result.is_ok();
            let finish = Box::new(move |fate: Result<(), StoreError>| {
                told.lock().unwrap().push((name, result.is_ok() && fate.is_ok()));
            });
            (kept, finish)
        })
    }

    #[test]
    fn what_a_full_disk_undid_is_told_so_and_nothing_else_is() {
        let folder = tempfile::tempdir().unwrap();
        let db = Connection::open(folder.path().join("a.db")).unwrap();
        db.execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT)")
            .unwrap();
        db.query_row("PRAGMA max_page_count = 20", [], |_| Ok(())).unwrap();
        let told = Arc::default();
        let names = ["before", "large", "after", "last"];
        let batch = names.map(|name| writes(name, if name == "large" { 1 << 20 } else { 10 }, &told));
        let mut batch = batch.into_iter().collect::<Vec<_>>().into_iter();
        while batch.len() > 0 {
            commit_together(&db, &mut batch);
        }
        let mut stored = db.prepare("SELECT name FROM facts ORDER BY rowid").unwrap();
        let stored =
            stored.query_map([], |row| row.get(0)).unwrap().collect::<Result<Vec<String>, _>>().unwrap();
        let told = told.lock().unwrap();
        let promised: Vec<_> = told.iter().filter(|(_, kept)| *kept).map(|(name, _)| *name).collect();
        assert_eq!(told.iter().map(|(name, _)| *name).collect::<Vec<_>>(), names);
        assert_eq!(promised, ["after", "last"]);
        assert_eq!(stored, promised);
    }
}
