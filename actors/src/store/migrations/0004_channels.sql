-- Strangers who wrote to a channel and wait for the owner's word.
CREATE TABLE channel_requests (
  request_id   TEXT PRIMARY KEY,
  channel      TEXT NOT NULL,
  account      TEXT NOT NULL,
  sender       TEXT NOT NULL,
  label        TEXT NOT NULL,                    -- what the person calls themselves; never trusted
  username     TEXT,
  chat         TEXT NOT NULL,
  code         TEXT NOT NULL,
  created_at   INTEGER NOT NULL,
  last_seen_at INTEGER NOT NULL,
  expires_at   INTEGER NOT NULL,
  UNIQUE (channel, account, sender)
) WITHOUT ROWID;

-- Those who got it: for direct messages only.
CREATE TABLE channel_allowed (
  channel     TEXT NOT NULL,
  account     TEXT NOT NULL,
  sender      TEXT NOT NULL,
  label       TEXT NOT NULL,
  approved_at INTEGER NOT NULL,
  PRIMARY KEY (channel, account, sender)
) WITHOUT ROWID;

-- The message that shows a run's answer while it grows, so that a restart goes on with the same one.
CREATE TABLE channel_drafts (
  channel    TEXT NOT NULL,
  account    TEXT NOT NULL,
  run_id     TEXT NOT NULL,
  chat       TEXT NOT NULL,
  message_id INTEGER NOT NULL,
  created_at INTEGER NOT NULL,
  PRIMARY KEY (channel, account, run_id)
) WITHOUT ROWID;

-- Groups that go on under another id.
CREATE TABLE channel_moves (
  channel TEXT NOT NULL,
  account TEXT NOT NULL,
  old     TEXT NOT NULL,
  new     TEXT NOT NULL,
  PRIMARY KEY (channel, account, old)
) WITHOUT ROWID;
