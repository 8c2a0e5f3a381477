-- Who was not let in. Tries that are alike are one row; no secret is ever part of one.
CREATE TABLE audit_access (
  seq      INTEGER PRIMARY KEY AUTOINCREMENT,
  first_at INTEGER NOT NULL,
  last_at  INTEGER NOT NULL,
  tries    INTEGER NOT NULL,
  address  TEXT NOT NULL,
  client   TEXT NOT NULL,
  role     TEXT NOT NULL,
  code     TEXT NOT NULL
);
CREATE INDEX audit_access_by_time ON audit_access (last_at);
