-- What people wrote, before anyone is told that it arrived. (channel, account, event_id) is what the channel calls it.
CREATE TABLE ingress (
  id          INTEGER PRIMARY KEY,
  channel     TEXT NOT NULL,
  account     TEXT NOT NULL,
  event_id    TEXT NOT NULL,
  run_id      TEXT NOT NULL,
  session_key TEXT NOT NULL,
  body        TEXT NOT NULL,                     -- JSON of Inbound; '{}' for what was ignored
  state       TEXT NOT NULL CHECK (state IN ('pending', 'done', 'ignored')),
  outcome     TEXT,                              -- JSON of RunOutcome once done
  reason      TEXT,                              -- why it was ignored
  received_at INTEGER NOT NULL,                  -- ms since the epoch
  done_at     INTEGER,
  UNIQUE (channel, account, event_id)
);
CREATE INDEX ingress_pending ON ingress (id) WHERE state = 'pending';
CREATE INDEX ingress_run ON ingress (run_id);

-- How far a channel's updates were taken over.
CREATE TABLE offsets (
  channel TEXT NOT NULL,
  account TEXT NOT NULL,
  value   INTEGER NOT NULL,
  PRIMARY KEY (channel, account)
) WITHOUT ROWID;

-- Answers on their way to a channel. The key makes a replayed run enqueue its answer once.
CREATE TABLE outbox (
  id              INTEGER PRIMARY KEY,
  key             TEXT NOT NULL UNIQUE,
  channel         TEXT NOT NULL,
  account         TEXT NOT NULL,
  chat            TEXT NOT NULL,
  thread          TEXT,
  run_id          TEXT,
  body            TEXT NOT NULL,                 -- JSON of OutboundMessage
  state           TEXT NOT NULL DEFAULT 'pending'
                  CHECK (state IN ('pending', 'sending', 'sent', 'unknown', 'failed', 'expired')),
  progress        TEXT,                          -- JSON: which parts were sent, and their message ids
  attempts        INTEGER NOT NULL DEFAULT 0,
  next_attempt_at INTEGER NOT NULL,
  last_error      TEXT,
  created_at      INTEGER NOT NULL,
  expires_at      INTEGER NOT NULL,
  sent_at         INTEGER
);
CREATE INDEX outbox_due ON outbox (channel, account, id) WHERE state IN ('pending', 'sending');

CREATE TABLE sessions (
  key           TEXT PRIMARY KEY,
  agent_id      TEXT NOT NULL,
  session_id    TEXT NOT NULL,                   -- changes with /new; the transcript hangs on it
  channel       TEXT,
  chat_type     TEXT NOT NULL DEFAULT 'direct',
  title         TEXT,
  route         TEXT,                            -- JSON of Route: where this session last spoke
  model         TEXT,                            -- provider/model of the last run
  status        TEXT NOT NULL DEFAULT 'idle',    -- idle | running | done | failed
  last_run_id   TEXT,
  input_tokens  INTEGER NOT NULL DEFAULT 0,
  output_tokens INTEGER NOT NULL DEFAULT 0,
  total_tokens  INTEGER NOT NULL DEFAULT 0,      -- size of the context after the last run
  archived      INTEGER NOT NULL DEFAULT 0,
  started_at    INTEGER,
  ended_at      INTEGER,
  created_at    INTEGER NOT NULL,
  updated_at    INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE transcript (
  id         INTEGER PRIMARY KEY,
  session_id TEXT NOT NULL,
  seq        INTEGER NOT NULL,                   -- from 1, without gaps
  message_id TEXT NOT NULL UNIQUE,
  run_id     TEXT,
  role       TEXT NOT NULL,
  message    TEXT NOT NULL,                      -- JSON as chat.history shows it
  created_at INTEGER NOT NULL,
  UNIQUE (session_id, seq)
);

-- Requests that must run once however often they are sent.
CREATE TABLE idempotency (
  scope       TEXT NOT NULL,
  key         TEXT NOT NULL,
  fingerprint TEXT NOT NULL,                     -- of the parameters: the same key with others is an error
  state       TEXT NOT NULL CHECK (state IN ('running', 'done', 'unknown')),
  outcome     TEXT,
  created_at  INTEGER NOT NULL,
  PRIMARY KEY (scope, key)
) WITHOUT ROWID;

CREATE TABLE facts (
  name  TEXT PRIMARY KEY,
  value TEXT NOT NULL
) WITHOUT ROWID;
