-- Several processes on one database: who is there, who leads, and audit entries that are not linked into the chain yet.
CREATE TABLE audit_unlinked (
  id      TEXT PRIMARY KEY,                  -- sorts by when it was written
  at      DOUBLE PRECISION NOT NULL,
  actor   TEXT NOT NULL,
  action  TEXT NOT NULL,
  subject TEXT NOT NULL,
  detail  TEXT NOT NULL
);
CREATE TABLE replicas (
  id         TEXT PRIMARY KEY,               -- the owner of its jobs
  role       TEXT NOT NULL,                  -- 'all', 'web', 'worker', or 'command': a command line
  host       TEXT NOT NULL,
  release    TEXT NOT NULL,
  started_at DOUBLE PRECISION NOT NULL,
  seen_at    DOUBLE PRECISION NOT NULL       -- by the clock of the database
);
CREATE TABLE turnstile (                      -- always empty: its lock lets writers through one by one when they collide
  place TEXT PRIMARY KEY
);
CREATE TABLE leader (
  place      TEXT PRIMARY KEY,               -- 'leader': there is one
  replica_id TEXT NOT NULL,
  since      DOUBLE PRECISION NOT NULL,
  until      DOUBLE PRECISION NOT NULL       -- by the clock of the database: then anybody may take it
);
