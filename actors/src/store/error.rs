//! What can go wrong with the database.

use std::sync::Arc;

/// Cloneable, since one failed commit is the failure of every job in it.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// SQLite refused.
    #[error("database: {0}")]
    Sqlite(Arc<rusqlite::Error>),
    /// The commit of a finished job failed: nothing of it is stored.
    #[error("could not be written to the disk: {0}")]
    Commit(Arc<rusqlite::Error>),
    /// A stored JSON text can't be read, or a value can't be stored as one.
    #[error("stored JSON: {0}")]
    Json(Arc<serde_json::Error>),
    /// The file system refused.
    #[error("database file: {0}")]
    Io(Arc<std::io::Error>),
    /// A newer Tidegate has written this database.
    #[error(
        "the database has schema {found}, this version knows {known}: start the newer version again, or restore a backup"
    )]
    Newer {
        /// The schema found.
        found: i64,
        /// The newest one known here.
        known: i64,
    },
    /// SQLite's own check failed.
    #[error("the database is damaged: {0}")]
    Damaged(String),
    /// The database's thread is being restarted.
    #[error("the database is restarting")]
    Closed,
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(Arc::new(error))
    }
}

impl From<serde_json::Error> for StoreError {
    fn from(error: serde_json::Error) -> Self {
        Self::Json(Arc::new(error))
    }
}

impl From<std::io::Error> for StoreError {
    fn from(error: std::io::Error) -> Self {
        Self::Io(Arc::new(error))
    }
}

impl From<StoreError> for tidegate_protocol::ErrorShape {
    fn from(error: StoreError) -> Self {
        tracing::error!(%error, "store refused");
        Self::unavailable("the gateway could not reach its database; see its log").retryable()
    }
}
