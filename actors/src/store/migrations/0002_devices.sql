-- Paired devices, what they ask for, and their tokens (digests only: see devices/token.rs).

CREATE TABLE devices (
    device_id        TEXT PRIMARY KEY NOT NULL,
    claim            TEXT NOT NULL,
    operator_label   TEXT,
    roles            TEXT NOT NULL,
    scopes           TEXT NOT NULL,
    approved_via     TEXT NOT NULL,
    created_at       INTEGER NOT NULL,
    approved_at      INTEGER NOT NULL,
    last_seen_at     INTEGER,
    last_seen_reason TEXT
) STRICT;

CREATE TABLE device_tokens (
    device_id    TEXT NOT NULL REFERENCES devices (device_id) ON DELETE CASCADE,
    role         TEXT NOT NULL,
    scopes       TEXT NOT NULL,
    salt         BLOB NOT NULL,
    digest       BLOB NOT NULL,
    created_at   INTEGER NOT NULL,
    rotated_at   INTEGER,
    revoked_at   INTEGER,
    last_used_at INTEGER,
    PRIMARY KEY (device_id, role)
) STRICT;

-- One a device; it need not be paired.
CREATE TABLE device_requests (
    device_id TEXT PRIMARY KEY NOT NULL,
    body      TEXT NOT NULL,
    asked_at  INTEGER NOT NULL
) STRICT;

CREATE TABLE bootstrap_tokens (
    digest     BLOB PRIMARY KEY NOT NULL,
    setup_id   TEXT NOT NULL,
    role       TEXT NOT NULL,
    scopes     TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    used_at    INTEGER
) STRICT;
