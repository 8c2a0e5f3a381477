//! Numbered migrations, run before anything is served, with a backup beside the database.

use super::StoreError;
use rusqlite::Connection;
use std::path::Path;

/// In order; the number of a migration is its place, from 1. Never change one that was released.
const MIGRATIONS: &[&str] = &[
    include_str!("migrations/0001_start.sql"),
    include_str!("migrations/0002_devices.sql"),
    include_str!("migrations/0003_nodes.sql"),
    include_str!("migrations/0004_channels.sql"),
    include_str!("migrations/0005_audit.sql"),
    include_str!("migrations/0006_setup_codes.sql"),
    include_str!("migrations/0007_messages.sql"),
];

/// Brings the database to the newest schema.
pub(super) fn run(connection: &Connection, path: &Path) -> Result<(), StoreError> {
    check(connection)?;
    let known = i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX);
    let found: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if found > known {
        return Err(StoreError::Newer { found, known });
    }
    if found > 0 && found < known {
        back_up(connection, path, found)?;
    }
    for (index, sql) in MIGRATIONS.iter().enumerate().skip(usize::try_from(found).unwrap_or(0)) {
        let version = index + 1;
        connection
            .execute_batch(&format!("BEGIN IMMEDIATE; {sql}\nPRAGMA user_version = {version}; COMMIT;"))?;
        tracing::info!(version, "database migrated");
    }
    Ok(())
}

fn check(connection: &Connection) -> Result<(), StoreError> {
    let verdict: String = connection.pragma_query_value(None, "quick_check", |row| row.get(0))?;
    if verdict == "ok" { Ok(()) } else { Err(StoreError::Damaged(verdict)) }
}

fn back_up(connection: &Connection, path: &Path, version: i64) -> Result<(), StoreError> {
    let copy = path.with_extension(format!("before-{}.bak", version + 1));
    if copy.exists() {
        return Ok(());
    }
    super::create_private(&copy)?;
    connection.backup("main", &copy, None::<fn(rusqlite::backup::Progress)>)?;
    tracing::info!(copy = %copy.display(), "database backed up before migrating");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Store, TemporaryFolder};

    #[test]
    fn a_newer_database_is_refused_untouched() {
        let folder = TemporaryFolder::new().unwrap();
        let path = folder.0.join("a.db");
        Connection::open(&path).unwrap().pragma_update(None, "user_version", 999).unwrap();
        assert!(matches!(Store::open(&path).err(), Some(StoreError::Newer { found: 999, .. })));
        let left: i64 = Connection::open(&path)
            .unwrap()
            .pragma_query_value(None, "user_version", |row| row.get(0))
            .unwrap();
        assert_eq!(left, 999);
    }

    #[test]
    fn the_file_is_private() {
        use std::os::unix::fs::PermissionsExt;
        let folder = TemporaryFolder::new().unwrap();
        let path = folder.0.join("a.db");
        let _store = Store::open(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
