//! `nodes` and `node_requests`: who may come in as a node and with which commands; and, in `idempotency`,
//! which calls the agent already sent to a node.

use super::{Store, StoreError};
use crate::clock::now_ms;
use crate::pairings::{NodeRecord, SurfaceRequest};
use rusqlite::{Connection, OptionalExtension, Row, params};

/// The rows of `idempotency` that belong to calls of nodes.
const SCOPE: &str = "node.invoke";
/// How long an ended call is remembered.
const KEEP_MS: i64 = 7 * 24 * 3600 * 1000;

/// What is known about a call that must run once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoredCall {
    /// Nobody asked for it before; from now on it counts as sent.
    New,
    /// It ended; this is how.
    Done(String),
    /// It was sent, and nobody knows how it ended.
    Unknown,
    /// The key belongs to a call with other params.
    Different,
}

impl Store {
    /// Every known node, and every surface that waits.
    ///
    /// # Errors
    /// If the database can't be read.
    pub async fn load_nodes(&self) -> Result<(Vec<NodeRecord>, Vec<SurfaceRequest>), StoreError> {
        self.read(|db| {
            let mut nodes = db.prepare_cached(
                "SELECT node_id, display_name, renamed, platform, device_family, version, client_id, client_mode,
                        approved, approved_at, created_at, last_connected_at, last_seen_at, last_seen_reason, host_stats
                 FROM nodes ORDER BY node_id",
            )?;
            let nodes = nodes.query_map([], |row| Ok(read_node(row)))?.map(|row| row?).collect::<Result<_, _>>()?;
            let mut requests = db.prepare_cached(
                "SELECT node_id, request_id, surface, silent, created_at, asked_at FROM node_requests ORDER BY created_at DESC",
            )?;
            let requests =
                requests.query_map([], |row| Ok(read_request(row)))?.map(|row| row?).collect::<Result<_, _>>()?;
            Ok((nodes, requests))
        })
        .await
    }

    /// Stores a node as it is now.
    ///
    /// # Errors
    /// If nothing was stored.
    pub async fn save_node(&self, node: NodeRecord) -> Result<(), StoreError> {
        self.write(move |db| put_node(db, &node)).await
    }

    /// Stores what a node says about itself and when it was seen; its approval and a name that an operator
    /// gave it stay as they are.
    ///
    /// # Errors
    /// If nothing was stored.
    pub async fn touch_node(&self, node: NodeRecord) -> Result<(), StoreError> {
        self.write(move |db| {
            let host_stats = node.host_stats.as_ref().map(serde_json::to_string).transpose()?;
            db.prepare_cached(
                "UPDATE nodes SET display_name = CASE WHEN renamed THEN display_name ELSE ?2 END, platform = ?3,
                   device_family = ?4, version = ?5, client_id = ?6, client_mode = ?7, last_connected_at = ?8,
                   last_seen_at = ?9, last_seen_reason = ?10, host_stats = ?11
                 WHERE node_id = ?1",
            )?
            .execute(params![
                node.node_id,
                node.display_name,
                node.platform,
                node.device_family,
                node.version,
                node.client_id,
                node.client_mode,
                node.last_connected_at_ms,
                node.last_seen_at_ms,
                node.last_seen_reason,
                host_stats,
            ])?;
            Ok(())
        })
        .await
    }

    /// Stores a node whose surface waits; replaces what waited before.
    ///
    /// # Errors
    /// If nothing was stored.
    pub async fn save_node_request(
        &self,
        node: NodeRecord,
        request: SurfaceRequest,
    ) -> Result<(), StoreError> {
        self.write(move |db| {
            put_node(db, &node)?;
            db.prepare_cached(
                "INSERT INTO node_requests (node_id, request_id, surface, silent, created_at, asked_at)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)
                 ON CONFLICT (node_id) DO UPDATE SET request_id = excluded.request_id, surface = excluded.surface,
                   silent = excluded.silent, created_at = excluded.created_at, asked_at = excluded.asked_at",
            )?
            .execute(params![
                request.node_id,
                request.request_id,
                serde_json::to_string(&request.surface)?,
                request.silent,
                request.created_at_ms,
                request.asked_at_ms,
            ])?;
            Ok(())
        })
        .await
    }

    /// Stores a node and forgets what waited for it: it was approved, rejected, or is no longer needed.
    ///
    /// # Errors
    /// If nothing was stored.
    pub async fn settle_node_request(&self, node: NodeRecord) -> Result<(), StoreError> {
        self.write(move |db| {
            put_node(db, &node)?;
            db.prepare_cached("DELETE FROM node_requests WHERE node_id = ?1")?.execute([&node.node_id])?;
            Ok(())
        })
        .await
    }

    /// Forgets a node and whatever waited for it.
    ///
    /// # Errors
    /// If nothing was deleted.
    pub async fn delete_node(&self, node_id: &str) -> Result<(), StoreError> {
        let node_id = node_id.to_owned();
        self.write(move |db| {
            db.prepare_cached("DELETE FROM nodes WHERE node_id = ?1")?.execute([node_id])?;
            Ok(())
        })
        .await
    }

    /// Records that a call is about to be sent, unless it was sent before.
    ///
    /// # Errors
    /// If nothing was recorded: then nothing may be sent.
    pub async fn begin_node_call(&self, key: &str, fingerprint: &str) -> Result<StoredCall, StoreError> {
        let (key, fingerprint) = (key.to_owned(), fingerprint.to_owned());
        self.write(move |db| {
            let new = db
                .prepare_cached(
                    "INSERT INTO idempotency (scope, key, fingerprint, state, created_at)
                     VALUES (?1, ?2, ?3, 'running', ?4) ON CONFLICT DO NOTHING",
                )?
                .execute(params![SCOPE, key, fingerprint, now_ms()])?;
            if new == 1 {
                return Ok(StoredCall::New);
            }
            let found = db
                .prepare_cached("SELECT fingerprint, outcome FROM idempotency WHERE scope = ?1 AND key = ?2")?
                .query_row([SCOPE, &key], |row| {
                    Ok((row.get::<_, String>(0)?, row.get::<_, Option<String>>(1)?))
                })
                .optional()?;
            Ok(match found {
                Some((stored, _)) if stored != fingerprint => StoredCall::Different,
                Some((_, Some(outcome))) => StoredCall::Done(outcome),
                Some((_, None)) | None => StoredCall::Unknown,
            })
        })
        .await
    }

    /// What is recorded of a call; `None` when it was never sent, or ran nothing.
    ///
    /// # Errors
    /// If the database can't be read.
    pub async fn node_call(&self, key: &str) -> Result<Option<StoredCall>, StoreError> {
        let key = key.to_owned();
        self.read(move |db| {
            let mut query =
                db.prepare_cached("SELECT outcome FROM idempotency WHERE scope = ?1 AND key = ?2")?;
            let found = query.query_row([SCOPE, &key], |row| row.get::<_, Option<String>>(0)).optional()?;
            Ok(found.map(|outcome| outcome.map_or(StoredCall::Unknown, StoredCall::Done)))
        })
        .await
    }

    /// Records how a call ended; `None`: it ran nothing, so its key is free again.
    ///
    /// # Errors
    /// If nothing was recorded.
    pub async fn finish_node_call(&self, key: &str, outcome: Option<String>) -> Result<(), StoreError> {
        let key = key.to_owned();
        self.write(move |db| {
            match outcome {
                Some(outcome) => db
                    .prepare_cached(
                        "UPDATE idempotency SET state = 'done', outcome = ?3 WHERE scope = ?1 AND key = ?2",
                    )?
                    .execute(params![SCOPE, key, outcome])?,
                None => db
                    .prepare_cached("DELETE FROM idempotency WHERE scope = ?1 AND key = ?2")?
                    .execute([SCOPE, &key])?,
            };
            Ok(())
        })
        .await
    }

    /// Forgets calls that are too old to be asked for again.
    ///
    /// # Errors
    /// If the database can't be written.
    pub async fn prune_node_calls(&self) -> Result<usize, StoreError> {
        self.write(|db| {
            let before = now_ms() - KEEP_MS;
            Ok(db.execute(
                "DELETE FROM idempotency WHERE scope = ?1 AND created_at < ?2",
                params![SCOPE, before],
            )?)
        })
        .await
    }

    /// At start: calls that were on their way when the gateway died ended nobody knows how.
    ///
    /// # Errors
    /// If the database can't be written.
    pub async fn give_up_node_calls(&self) -> Result<usize, StoreError> {
        self.write(|db| {
            Ok(db.execute(
                "UPDATE idempotency SET state = 'unknown' WHERE scope = ?1 AND state = 'running'",
                [SCOPE],
            )?)
        })
        .await
    }
}

fn put_node(db: &Connection, node: &NodeRecord) -> Result<(), StoreError> {
    let approved = node.approved.as_ref().map(serde_json::to_string).transpose()?;
    let host_stats = node.host_stats.as_ref().map(serde_json::to_string).transpose()?;
    db.prepare_cached(
        "INSERT INTO nodes (node_id, display_name, renamed, platform, device_family, version, client_id, client_mode,
                            approved, approved_at, created_at, last_connected_at, last_seen_at, last_seen_reason, host_stats)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)
         ON CONFLICT (node_id) DO UPDATE SET
           display_name = excluded.display_name, renamed = excluded.renamed, platform = excluded.platform,
           device_family = excluded.device_family, version = excluded.version, client_id = excluded.client_id,
           client_mode = excluded.client_mode, approved = excluded.approved, approved_at = excluded.approved_at,
           last_connected_at = excluded.last_connected_at, last_seen_at = excluded.last_seen_at,
           last_seen_reason = excluded.last_seen_reason, host_stats = excluded.host_stats",
    )?
    .execute(params![
        node.node_id,
        node.display_name,
        node.renamed,
        node.platform,
        node.device_family,
        node.version,
        node.client_id,
        node.client_mode,
        approved,
        node.approved_at_ms,
        node.created_at_ms,
        node.last_connected_at_ms,
        node.last_seen_at_ms,
        node.last_seen_reason,
        host_stats,
    ])?;
    Ok(())
}

fn read_node(row: &Row<'_>) -> Result<NodeRecord, StoreError> {
    let approved: Option<String> = row.get(8)?;
    let host_stats: Option<String> = row.get(14)?;
    Ok(NodeRecord {
        node_id: row.get(0)?,
        display_name: row.get(1)?,
        renamed: row.get(2)?,
        platform: row.get(3)?,
        device_family: row.get(4)?,
        version: row.get(5)?,
        client_id: row.get(6)?,
        client_mode: row.get(7)?,
        approved: approved.map(|text| serde_json::from_str(&text)).transpose()?,
        approved_at_ms: row.get(9)?,
        created_at_ms: row.get(10)?,
        last_connected_at_ms: row.get(11)?,
        last_seen_at_ms: row.get(12)?,
        last_seen_reason: row.get(13)?,
        host_stats: host_stats.map(|text| serde_json::from_str(&text)).transpose()?,
    })
}

fn read_request(row: &Row<'_>) -> Result<SurfaceRequest, StoreError> {
    let surface: String = row.get(2)?;
    Ok(SurfaceRequest {
        node_id: row.get(0)?,
        request_id: row.get(1)?,
        surface: serde_json::from_str(&surface)?,
        silent: row.get(3)?,
        created_at_ms: row.get(4)?,
        asked_at_ms: row.get(5)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pairings::Surface;

    fn node(id: &str) -> NodeRecord {
        NodeRecord {
            node_id: id.into(),
            display_name: Some("Büro".into()),
            renamed: true,
            platform: "linux".into(),
            device_family: None,
            version: "1".into(),
            client_id: "node-host".into(),
            client_mode: "node".into(),
            approved: Some(Surface { caps: vec!["system".into()], commands: vec!["system.run".into()] }),
            approved_at_ms: Some(7),
            created_at_ms: 1,
            last_connected_at_ms: None,
            last_seen_at_ms: 2,
            last_seen_reason: "connect".into(),
            host_stats: Some(serde_json::json!({ "cpuCount": 2 })),
        }
    }

    fn request(id: &str, node_id: &str) -> SurfaceRequest {
        SurfaceRequest {
            request_id: id.into(),
            node_id: node_id.into(),
            surface: Surface { caps: vec![], commands: vec!["b".into(), "a".into()] },
            silent: true,
            created_at_ms: 3,
            asked_at_ms: 4,
        }
    }

    #[actix::test]
    async fn a_node_and_what_waits_for_it_come_back_as_they_were() {
        let store = Store::temporary().unwrap();
        store.save_node_request(node("n"), request("r1", "n")).await.unwrap();
        store.save_node_request(node("n"), request("r2", "n")).await.unwrap();
        assert_eq!(store.load_nodes().await.unwrap(), (vec![node("n")], vec![request("r2", "n")]));
        store.settle_node_request(node("n")).await.unwrap();
        assert_eq!(store.load_nodes().await.unwrap(), (vec![node("n")], vec![]));
    }

    #[actix::test]
    async fn being_seen_changes_neither_approval_nor_a_given_name() {
        let store = Store::temporary().unwrap();
        store.save_node(node("n")).await.unwrap();
        let seen = NodeRecord {
            display_name: Some("declared".into()),
            renamed: false,
            approved: None,
            approved_at_ms: None,
            last_seen_at_ms: 9,
            ..node("n")
        };
        store.touch_node(seen).await.unwrap();
        let expected = NodeRecord { last_seen_at_ms: 9, ..node("n") };
        assert_eq!(store.load_nodes().await.unwrap().0, [expected]);
    }

    #[actix::test]
    async fn a_forgotten_node_takes_its_request_along() {
        let store = Store::temporary().unwrap();
        store.save_node_request(node("n"), request("r", "n")).await.unwrap();
        store.delete_node("n").await.unwrap();
        assert_eq!(store.load_nodes().await.unwrap(), (vec![], vec![]));
    }

    #[actix::test]
    async fn old_calls_are_forgotten_and_young_ones_kept() {
        let store = Store::temporary().unwrap();
        for key in ["old", "young"] {
            store.begin_node_call(key, "f").await.unwrap();
        }
        let age = "UPDATE idempotency SET created_at = created_at - ?1 WHERE key = 'old'";
        store.write(move |db| Ok(db.execute(age, [KEEP_MS + 1])?)).await.unwrap();
        assert_eq!(store.prune_node_calls().await.unwrap(), 1);
        assert_eq!(store.begin_node_call("young", "f").await.unwrap(), StoredCall::Unknown);
    }

    #[actix::test]
    async fn a_call_is_sent_once_even_across_a_crash() {
        let store = Store::temporary().unwrap();
        assert_eq!(store.node_call("k").await.unwrap(), None);
        assert_eq!(store.begin_node_call("k", "f").await.unwrap(), StoredCall::New);
        assert_eq!(store.begin_node_call("k", "f").await.unwrap(), StoredCall::Unknown);
        assert_eq!(store.node_call("k").await.unwrap(), Some(StoredCall::Unknown));
        assert_eq!(store.give_up_node_calls().await.unwrap(), 1);
        assert_eq!(store.begin_node_call("k", "f").await.unwrap(), StoredCall::Unknown);
        assert_eq!(store.begin_node_call("k", "other").await.unwrap(), StoredCall::Different);
        store.finish_node_call("k", Some("{}".into())).await.unwrap();
        assert_eq!(store.begin_node_call("k", "f").await.unwrap(), StoredCall::Done("{}".into()));
        store.finish_node_call("k", None).await.unwrap();
        assert_eq!(store.begin_node_call("k", "f").await.unwrap(), StoredCall::New);
    }
}
