//! SQLite: the only place that knows SQL. One file a table family; one writer thread, one reader thread.

mod audit;
mod channel_pairing;
mod channel_places;
pub(crate) mod devices;
mod error;
mod ingress;
mod keeper;
mod migrate;
mod nodes;
mod outbox;
mod sessions;
mod thread;
mod transcript;

pub use audit::{AuditRow, Refused, Tally};
pub use channel_pairing::{
    AllowedSender, PAIRING_TTL_MS, PENDING_PER_ACCOUNT, PairingAsked, PairingName, PairingRequest, Stranger,
};
pub use devices::DeviceSeen;
pub use error::StoreError;
pub use ingress::{Accepted, Arrival, IngressRow, IngressState, Offset};
pub use keeper::{FirstThreads, StoreKeeper};
pub use nodes::StoredCall;
pub use outbox::{Claimed, DeliveryState, NewOutbound, OutboxRow, Progress, answer_key, enqueue};
pub use sessions::{SessionRow, SessionUpdate};
pub use transcript::{NewMessage, RunEnd, TranscriptRow};

use crate::clock::now_ms;
use rusqlite::Connection;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use tokio::sync::{mpsc, oneshot};

use thread::{Job, Threads};

/// Jobs that may wait for a thread before the caller waits.
const QUEUE: usize = 1024;

/// A handle to the database: cheap to clone, usable from any thread.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

struct Inner {
    path: PathBuf,
    /// Replaced when the threads are started anew.
    queues: RwLock<Queues>,
    /// Keeps a temporary database's folder for as long as the handle lives.
    _folder: Option<TemporaryFolder>,
}

#[derive(Clone)]
struct Queues {
    write: mpsc::Sender<Job>,
    read: mpsc::Sender<Job>,
}

impl Store {
    /// Opens (or creates, mode 0600) the database, brings it up to date and starts its threads.
    ///
    /// # Errors
    /// If the file can't be opened, is damaged, or was written by a newer version.
    pub fn open(path: &Path) -> Result<(Self, StoreThreads), StoreError> {
        Self::open_in(path, None)
    }

    /// A database of its own in a temporary folder, for tests.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn temporary() -> Result<Self, StoreError> {
        let folder = TemporaryFolder::new()?;
        let path = folder.0.join("test.db");
        Ok(Self::open_in(&path, Some(folder))?.0)
    }

    fn open_in(path: &Path, folder: Option<TemporaryFolder>) -> Result<(Self, StoreThreads), StoreError> {
        let (queues, threads) = start(path)?;
        let store =
            Self(Arc::new(Inner { path: path.to_owned(), queues: RwLock::new(queues), _folder: folder }));
        Ok((store, threads))
    }

    /// Starts the threads again after one of them died.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn reopen(&self) -> Result<StoreThreads, StoreError> {
        let (queues, threads) = start(&self.0.path)?;
        *self.0.queues.write().unwrap_or_else(PoisonError::into_inner) = queues;
        Ok(threads)
    }

    /// Runs `job` in a transaction. When this returns `Ok`, its changes are on the disk.
    ///
    /// Jobs that wait at the same time share one commit; a job that fails is rolled back alone.
    ///
    /// # Errors
    /// The job's own, or [`StoreError::Commit`] when the shared commit failed.
    pub async fn write<T: Send + 'static>(
        &self,
        job: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        submit(&self.queues().write, job).await
    }

    /// Runs `job` on the reader's connection: it sees everything committed so far.
    ///
    /// # Errors
    /// The job's own.
    pub async fn read<T: Send + 'static>(
        &self,
        job: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        submit(&self.queues().read, job).await
    }

    /// Whether the disk takes writes: stores the time of the last look.
    ///
    /// # Errors
    /// What the disk said.
    pub async fn probe(&self) -> Result<(), StoreError> {
        self.write(|db| {
            let now = now_ms().to_string();
            db.execute(
                "INSERT INTO facts VALUES ('probed', ?1) ON CONFLICT DO UPDATE SET value = excluded.value",
                [now],
            )?;
            Ok(())
        })
        .await
    }

    fn queues(&self) -> Queues {
        self.0.queues.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn submit<T: Send + 'static>(
    queue: &mpsc::Sender<Job>,
    job: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    let (reply, answer) = oneshot::channel();
    let job: Job = Box::new(move |connection| {
        let result = job(connection);
        let keep = result.is_ok();
        let finish = Box::new(move |committed: Result<(), StoreError>| {
            // The asker may have gone: then nobody needs the answer.
            let _ = reply.send(committed.and(result));
        });
        (keep, finish)
    });
    queue.send(job).await.map_err(|_| StoreError::Closed)?;
    answer.await.map_err(|_| StoreError::Closed)?
}

fn start(path: &Path) -> Result<(Queues, StoreThreads), StoreError> {
    let writer = open_connection(path)?;
    migrate::run(&writer, path)?;
    let reader = open_connection(path)?;
    let (write, write_jobs) = mpsc::channel(QUEUE);
    let (read, read_jobs) = mpsc::channel(QUEUE);
    let threads = Threads::start(writer, write_jobs, reader, read_jobs)?;
    Ok((Queues { write, read }, StoreThreads(threads)))
}

fn open_connection(path: &Path) -> Result<Connection, StoreError> {
    create_private(path)?;
    let connection = Connection::open(path)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.pragma_update(None, "trusted_schema", false)?;
    // Each connection may keep this many KiB of pages; the default would hold 2 MB.
    connection.pragma_update(None, "cache_size", -512)?;
    connection.busy_timeout(std::time::Duration::from_secs(5))?;
    Ok(connection)
}

/// SQLite gives its journal files the mode of the database, so that one decides for all.
fn create_private(path: &Path) -> Result<(), StoreError> {
    use std::os::unix::fs::OpenOptionsExt;
    std::fs::OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
    Ok(())
}

/// The database's threads. Ask it for news of their death.
pub struct StoreThreads(Threads);

impl StoreThreads {
    /// Waits until a thread ends, which it does only by a bug; says which and why.
    pub async fn died(self) -> String {
        self.0.died().await
    }
}

struct TemporaryFolder(PathBuf);

impl TemporaryFolder {
    fn new() -> Result<Self, StoreError> {
        let path = std::env::temp_dir().join(format!("tidegate-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir(&path)?;
        Ok(Self(path))
    }
}

impl Drop for TemporaryFolder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[actix::test]
    async fn a_failed_job_is_rolled_back_alone() {
        let store = Store::temporary().unwrap();
        let good = store.write(|db| Ok(db.execute("INSERT INTO facts VALUES ('a', '1')", [])?));
        let bad = store.write(|db| {
            db.execute("INSERT INTO facts VALUES ('b', '1')", [])?;
            db.execute("INSERT INTO nonsense VALUES (1)", [])?;
            Ok(())
        });
        let (good, bad) = futures_util::future::join(good, bad).await;
        assert_eq!(good.unwrap(), 1);
        assert!(bad.is_err());
        let count: i64 = store
            .read(|db| Ok(db.query_row("SELECT count(*) FROM facts", [], |row| row.get(0))?))
            .await
            .unwrap();
        assert_eq!(count, 1);
    }

    #[actix::test]
    async fn a_panicking_job_ends_the_thread_and_reopening_heals() {
        let folder = TemporaryFolder::new().unwrap();
        let (store, threads) = Store::open(&folder.0.join("a.db")).unwrap();
        store.write(|db| Ok(db.execute("INSERT INTO facts VALUES ('a', '1')", [])?)).await.unwrap();
        let lost = store.write(|_| -> Result<(), StoreError> { panic!("a bug") }).await;
        assert!(matches!(lost, Err(StoreError::Closed)));
        assert!(threads.died().await.contains("a bug"));
        let _threads = store.reopen().unwrap();
        let count: i64 = store
            .read(|db| Ok(db.query_row("SELECT count(*) FROM facts", [], |row| row.get(0))?))
            .await
            .unwrap();
        assert_eq!(count, 1);
    }

    #[actix::test]
    async fn many_writers_share_commits_and_all_is_there() {
        let store = Store::temporary().unwrap();
        let jobs = (0..200).map(|n| {
            store.write(move |db| Ok(db.execute("INSERT INTO facts VALUES (?1, '')", [n.to_string()])?))
        });
        let results = futures_util::future::join_all(jobs).await;
        assert!(results.iter().all(Result::is_ok));
        let count: i64 = store
            .read(|db| Ok(db.query_row("SELECT count(*) FROM facts", [], |row| row.get(0))?))
            .await
            .unwrap();
        assert_eq!(count, 200);
    }
}
