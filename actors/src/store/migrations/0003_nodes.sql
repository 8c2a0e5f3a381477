-- Nodes that were ever let in. `approved_*` is what an operator approved; NULL before the first approval.
CREATE TABLE nodes (
  node_id           TEXT PRIMARY KEY,            -- the id of the node's device
  display_name      TEXT,
  renamed           INTEGER NOT NULL DEFAULT 0,  -- an operator chose the name
  platform          TEXT NOT NULL,
  device_family     TEXT,
  version           TEXT NOT NULL,
  client_id         TEXT NOT NULL,
  client_mode       TEXT NOT NULL,
  approved          TEXT,                        -- JSON of Surface
  approved_at       INTEGER,
  created_at        INTEGER NOT NULL,
  last_connected_at INTEGER,
  last_seen_at      INTEGER NOT NULL,
  last_seen_reason  TEXT NOT NULL,
  host_stats        TEXT                         -- JSON of the newest node.host.stats
) WITHOUT ROWID;

-- Surfaces that wait for an operator: at most one a node.
CREATE TABLE node_requests (
  node_id    TEXT PRIMARY KEY REFERENCES nodes (node_id) ON DELETE CASCADE,
  request_id TEXT NOT NULL UNIQUE,
  surface    TEXT NOT NULL,                      -- JSON of Surface
  silent     INTEGER NOT NULL,
  created_at INTEGER NOT NULL,
  asked_at   INTEGER NOT NULL
) WITHOUT ROWID;
