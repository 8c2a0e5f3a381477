-- Setup codes (digests only: see devices/setup_code.rs), and what became of them.

DROP TABLE bootstrap_tokens;

CREATE TABLE setup_codes (
    digest          BLOB PRIMARY KEY NOT NULL,
    setup_id        TEXT NOT NULL UNIQUE,
    access          TEXT NOT NULL,
    url             TEXT NOT NULL,
    tls_fingerprint TEXT,
    join_open       INTEGER NOT NULL,
    created_at      INTEGER NOT NULL,
    expires_at      INTEGER NOT NULL,
    used_at         INTEGER,
    device_id       TEXT,
    device_name     TEXT,
    delivered       INTEGER NOT NULL DEFAULT 0
) STRICT;
