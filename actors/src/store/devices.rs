//! `devices`, `device_tokens`, `device_requests`, `setup_codes`.

use super::{Store, StoreError};
use crate::clock::now_ms;
use crate::pairings::{Change, DeviceBook, DeviceRecord, PairingRequest, SetupCode, TokenRecord, Used};
use crate::secret::SecretDigest;
use rusqlite::{Connection, Row, params};
use serde::de::DeserializeOwned;
use tidegate_protocol::Role;

/// When a device was last here.
#[derive(Debug, Clone)]
pub struct DeviceSeen {
    pub device_id: String,
    pub at_ms: i64,
    pub reason: String,
    /// The roles whose token was used, and when.
    pub tokens: Vec<(Role, i64)>,
}

impl Store {
    /// Everything about devices.
    ///
    /// # Errors
    /// If the database can't be read.
    pub async fn load_devices(&self) -> Result<DeviceBook, StoreError> {
        self.read(|db| {
            let mut devices = all(db, "SELECT * FROM devices", device)?;
            for (device_id, token) in all(db, "SELECT * FROM device_tokens ORDER BY created_at", token)? {
                let mut owners = devices.iter_mut();
                if let Some(owner) = owners.find(|owner| owner.device_id() == device_id) {
                    owner.tokens.push(token);
                }
            }
            let requests = all(db, "SELECT * FROM device_requests", request)?;
            Ok(DeviceBook::new(devices, requests, all(db, "SELECT * FROM setup_codes", code)?))
        })
        .await
    }

    /// Makes one step durable.
    ///
    /// # Errors
    /// If the database can't be written: then nothing of the step is stored.
    pub async fn change_devices(&self, change: Change) -> Result<(), StoreError> {
        self.write(move |db| match &change {
            Change::SaveDevice { record, answers, consumes } => {
                if let Some(digest) = consumes {
                    consume(db, digest, record)?;
                }
                if answers.is_some() {
                    db.execute("DELETE FROM device_requests WHERE device_id = ?1", [record.device_id()])?;
                }
                save_device(db, record)
            }
            Change::SaveRequest(asked) => save_request(db, asked),
            Change::DropRequest { device_id } => {
                db.execute("DELETE FROM device_requests WHERE device_id = ?1", [device_id])?;
                Ok(())
            }
            Change::RemoveDevice { device_id } => {
                db.execute("DELETE FROM device_requests WHERE device_id = ?1", [device_id])?;
                db.execute("DELETE FROM devices WHERE device_id = ?1", [device_id])?;
                Ok(())
            }
            Change::SaveCode(code) => save_code(db, code),
            Change::CloseJoin { digest } => {
                db.execute("UPDATE setup_codes SET join_open = 0 WHERE digest = ?1", [digest])?;
                Ok(())
            }
            Change::CodeDelivered { digest } => {
                db.execute("UPDATE setup_codes SET delivered = 1 WHERE digest = ?1", [digest])?;
                Ok(())
            }
            Change::ForgetCodes { before_ms } => {
                db.execute("DELETE FROM setup_codes WHERE expires_at < ?1", [before_ms])?;
                Ok(())
            }
        })
        .await
    }

    /// Notes when devices were last here.
    ///
    /// # Errors
    /// If the database can't be written.
    pub async fn note_devices_seen(&self, seen: Vec<DeviceSeen>) -> Result<(), StoreError> {
        self.write(move |db| {
            let mut device = db.prepare_cached(
                "UPDATE devices SET last_seen_at = ?2, last_seen_reason = ?3 WHERE device_id = ?1",
            )?;
            let mut token = db.prepare_cached(
                "UPDATE device_tokens SET last_used_at = ?3 WHERE device_id = ?1 AND role = ?2",
            )?;
            for seen in seen {
                device.execute(params![seen.device_id, seen.at_ms, seen.reason])?;
                for (role, at_ms) in seen.tokens {
                    token.execute(params![seen.device_id, role.as_str(), at_ms])?;
                }
            }
            Ok(())
        })
        .await
    }
}

/// Uses a code up; a second use, even at the same moment, finds it used.
fn consume(db: &Connection, digest: &[u8; 32], by: &DeviceRecord) -> Result<(), StoreError> {
    let used = db.execute(
        "UPDATE setup_codes SET used_at = ?2, device_id = ?3, device_name = ?4, join_open = 0
         WHERE digest = ?1 AND used_at IS NULL",
        params![digest, now_ms(), by.device_id(), by.claim.display_name],
    )?;
    if used == 1 { Ok(()) } else { Err(rusqlite::Error::QueryReturnedNoRows.into()) }
}

fn save_code(db: &Connection, code: &SetupCode) -> Result<(), StoreError> {
    db.execute(
        "INSERT INTO setup_codes (digest, setup_id, access, url, tls_fingerprint, join_open, created_at, expires_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        params![
            code.digest.digest(),
            code.setup_id,
            code.access.as_str(),
            code.url,
            code.tls_fingerprint,
            code.join_open,
            code.created_at_ms,
            code.expires_at_ms,
        ],
    )?;
    Ok(())
}

fn save_device(db: &Connection, record: &DeviceRecord) -> Result<(), StoreError> {
    db.prepare_cached(
        "INSERT INTO devices VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)
         ON CONFLICT DO UPDATE SET claim = excluded.claim, operator_label = excluded.operator_label,
           roles = excluded.roles, scopes = excluded.scopes, approved_via = excluded.approved_via,
           approved_at = excluded.approved_at, last_seen_at = excluded.last_seen_at,
           last_seen_reason = excluded.last_seen_reason",
    )?
    .execute(params![
        record.device_id(),
        serde_json::to_string(&record.claim)?,
        record.operator_label,
        serde_json::to_string(&record.roles)?,
        serde_json::to_string(&record.scopes)?,
        record.approved_via,
        record.created_at_ms,
        record.approved_at_ms,
        record.last_seen_at_ms,
        record.last_seen_reason,
    ])?;
    db.execute("DELETE FROM device_tokens WHERE device_id = ?1", [record.device_id()])?;
    let mut insert =
        db.prepare_cached("INSERT INTO device_tokens VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)")?;
    for token in &record.tokens {
        insert.execute(params![
            record.device_id(),
            token.role.as_str(),
            serde_json::to_string(&token.scopes)?,
            token.salt,
            token.digest.digest(),
            token.created_at_ms,
            token.rotated_at_ms,
            token.revoked_at_ms,
            token.last_used_at_ms,
        ])?;
    }
    Ok(())
}

fn save_request(db: &Connection, asked: &PairingRequest) -> Result<(), StoreError> {
    db.prepare_cached(
        "INSERT INTO device_requests VALUES (?1, ?2, ?3)
         ON CONFLICT DO UPDATE SET body = excluded.body, asked_at = excluded.asked_at",
    )?
    .execute(params![asked.claim.device_id, serde_json::to_string(asked)?, asked.asked_at_ms])?;
    Ok(())
}

fn all<T>(
    db: &Connection,
    sql: &str,
    read: impl Fn(&Row<'_>) -> Result<T, StoreError>,
) -> Result<Vec<T>, StoreError> {
    let mut query = db.prepare(sql)?;
    let mut rows = query.query([])?;
    let mut out = vec![];
    while let Some(row) = rows.next()? {
        out.push(read(row)?);
    }
    Ok(out)
}

fn device(row: &Row<'_>) -> Result<DeviceRecord, StoreError> {
    Ok(DeviceRecord {
        claim: json(row, "claim")?,
        operator_label: row.get("operator_label")?,
        roles: json(row, "roles")?,
        scopes: json(row, "scopes")?,
        approved_via: row.get("approved_via")?,
        created_at_ms: row.get("created_at")?,
        approved_at_ms: row.get("approved_at")?,
        last_seen_at_ms: row.get("last_seen_at")?,
        last_seen_reason: row.get("last_seen_reason")?,
        tokens: vec![],
    })
}

fn token(row: &Row<'_>) -> Result<(String, TokenRecord), StoreError> {
    let token = TokenRecord {
        role: role(row)?,
        scopes: json(row, "scopes")?,
        salt: row.get("salt")?,
        digest: SecretDigest::from_digest(row.get("digest")?),
        created_at_ms: row.get("created_at")?,
        rotated_at_ms: row.get("rotated_at")?,
        revoked_at_ms: row.get("revoked_at")?,
        last_used_at_ms: row.get("last_used_at")?,
    };
    Ok((row.get("device_id")?, token))
}

fn request(row: &Row<'_>) -> Result<PairingRequest, StoreError> {
    let asked: PairingRequest = json(row, "body")?;
    Ok(PairingRequest { asked_at_ms: row.get("asked_at")?, ..asked })
}

fn code(row: &Row<'_>) -> Result<SetupCode, StoreError> {
    let (used_at, device_id) =
        (row.get::<_, Option<i64>>("used_at")?, row.get::<_, Option<String>>("device_id")?);
    let used = match used_at.zip(device_id) {
        Some((at_ms, device_id)) => Some(Used {
            at_ms,
            device_id,
            device_name: row.get("device_name")?,
            delivered: row.get("delivered")?,
        }),
        None => None,
    };
    Ok(SetupCode {
        setup_id: row.get("setup_id")?,
        digest: SecretDigest::from_digest(row.get("digest")?),
        access: named(row, "access")?,
        url: row.get("url")?,
        tls_fingerprint: row.get("tls_fingerprint")?,
        join_open: row.get("join_open")?,
        created_at_ms: row.get("created_at")?,
        expires_at_ms: row.get("expires_at")?,
        used,
    })
}

/// Roles are stored as they are named on the wire.
fn role(row: &Row<'_>) -> Result<Role, StoreError> {
    named(row, "role")
}

fn named<T: DeserializeOwned>(row: &Row<'_>, column: &str) -> Result<T, StoreError> {
    let name: String = row.get(column)?;
    Ok(serde_json::from_value(serde_json::Value::from(name))?)
}

fn json<T: DeserializeOwned>(row: &Row<'_>, column: &str) -> Result<T, StoreError> {
    Ok(serde_json::from_str(&row.get::<_, String>(column)?)?)
}
