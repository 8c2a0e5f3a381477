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
        commit_together(connection, batch);
    }
}

fn commit_together(connection: &Connection, batch: Vec<Job>) {
    if let Err(error) = connection.execute_batch("BEGIN IMMEDIATE") {
        let error = StoreError::Commit(Arc::new(error));
        for job in batch {
            // The job must run to give its asker an answer; outside a transaction it may not write.
            refuse(connection, job, &error);
        }
        return;
    }
    let mut finishes = Vec::with_capacity(batch.len());
    for job in batch {
        let opened = connection.execute_batch("SAVEPOINT job");
        let (keep, finish) = job(connection);
        let closed = match (opened, keep) {
            (Ok(()), true) => connection.execute_batch("RELEASE job"),
            (Ok(()), false) => connection.execute_batch("ROLLBACK TO job; RELEASE job"),
            (Err(error), _) => Err(error),
        };
        finishes.push((finish, closed));
    }
    let committed = connection.execute_batch("COMMIT").map_err(Arc::new);
    if committed.is_err() && !connection.is_autocommit() {
        // A full disk leaves the transaction open; nothing of it may linger into the next batch.
        let _ = connection.execute_batch("ROLLBACK");
    }
    for (finish, closed) in finishes {
        let fate = closed.map_err(Arc::new).and(committed.clone());
        finish(fate.map_err(StoreError::Commit));
    }
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
