-- Portable SQL: text ids, epoch seconds as double precision, 0/1 for booleans, JSON as text.

CREATE TABLE users (
  id            TEXT PRIMARY KEY,          -- ours, a UUID; never taken from a client
  source        TEXT NOT NULL,
  external_id   TEXT,
  user_name     TEXT NOT NULL,             -- as sent
  user_name_key TEXT NOT NULL,             -- case-folded, for comparing
  active        INTEGER NOT NULL,
  email         TEXT,
  email_key     TEXT,
  display_name  TEXT,
  doc           TEXT NOT NULL,             -- SCIM attributes without id, meta, groups, password
  person_id     TEXT NOT NULL,
  observation   TEXT NOT NULL,
  observed_at   DOUBLE PRECISION NOT NULL,
  created_at    DOUBLE PRECISION NOT NULL,
  updated_at    DOUBLE PRECISION NOT NULL,
  version       INTEGER NOT NULL,
  deleted_at    DOUBLE PRECISION           -- a tombstone: invisible to SCIM, remembered by us
);
CREATE UNIQUE INDEX users_by_name ON users (source, user_name_key) WHERE deleted_at IS NULL;
CREATE INDEX users_by_external ON users (source, external_id);
CREATE INDEX users_by_email ON users (email_key);
CREATE INDEX users_by_person ON users (person_id);
CREATE INDEX users_in_order ON users (source, created_at, id) WHERE deleted_at IS NULL;

CREATE TABLE groups (
  id           TEXT PRIMARY KEY,
  source       TEXT NOT NULL,
  external_id  TEXT,
  display_name TEXT NOT NULL,
  display_key  TEXT NOT NULL,
  doc          TEXT NOT NULL,
  created_at   DOUBLE PRECISION NOT NULL,
  updated_at   DOUBLE PRECISION NOT NULL,
  version      INTEGER NOT NULL,
  deleted_at   DOUBLE PRECISION
);
CREATE UNIQUE INDEX groups_by_name ON groups (source, display_key) WHERE deleted_at IS NULL;
CREATE INDEX groups_by_external ON groups (source, external_id);
CREATE INDEX groups_in_order ON groups (source, created_at, id) WHERE deleted_at IS NULL;

CREATE TABLE memberships (
  group_id    TEXT NOT NULL REFERENCES groups (id),
  member_id   TEXT NOT NULL,
  member_type TEXT NOT NULL,               -- 'User' or 'Group'
  since       DOUBLE PRECISION NOT NULL,
  PRIMARY KEY (group_id, member_id)
);
CREATE INDEX memberships_by_member ON memberships (member_id);

CREATE TABLE pending_members (              -- ids a push named that nobody knows (yet): kept 24 h
  source   TEXT NOT NULL,
  group_id TEXT NOT NULL,
  value    TEXT NOT NULL,
  seen_at  DOUBLE PRECISION NOT NULL,
  PRIMARY KEY (group_id, value)
);
CREATE INDEX pending_by_value ON pending_members (source, value);

CREATE TABLE persons (
  id              TEXT PRIMARY KEY,
  label           TEXT NOT NULL,
  account_id      TEXT,                    -- the gateway's user_id
  generation      INTEGER NOT NULL,
  role            TEXT,                    -- what policy wants; NULL: nothing
  ever_had_access INTEGER NOT NULL,
  created_at      DOUBLE PRECISION NOT NULL
);
CREATE UNIQUE INDEX persons_by_account ON persons (account_id) WHERE account_id IS NOT NULL;

CREATE TABLE person_accounts (              -- further accounts, linked by hand
  account_id TEXT PRIMARY KEY,
  person_id  TEXT NOT NULL,
  linked_at  DOUBLE PRECISION NOT NULL
);
CREATE INDEX accounts_by_person ON person_accounts (person_id);

CREATE TABLE grants (                       -- a team policy gives, or gave until lost_at
  person_id TEXT NOT NULL,
  team      TEXT NOT NULL,                  -- alias in the configuration
  state     TEXT NOT NULL,                  -- 'granted' or 'leaving'
  since     DOUBLE PRECISION NOT NULL,
  evidence  TEXT,
  lost_at   DOUBLE PRECISION,
  delete_at DOUBLE PRECISION,               -- keys and membership end then, unless a hold is open
  hold_id   TEXT,
  destroyed INTEGER NOT NULL DEFAULT 0,     -- set before the first deletion is sent
  PRIMARY KEY (person_id, team)
);
CREATE INDEX grants_by_hold ON grants (hold_id);

CREATE TABLE blocked_keys (                 -- keys we blocked (a return lifts these) or are about to delete (doomed)
  key_id       TEXT PRIMARY KEY,
  person_id    TEXT NOT NULL,
  account_id   TEXT NOT NULL,
  team_id      TEXT,
  name         TEXT,                        -- the gateway's masked form, for the receipt
  alias        TEXT,
  doomed       INTEGER NOT NULL DEFAULT 0,
  blocked_at   DOUBLE PRECISION NOT NULL
);
CREATE INDEX blocked_by_person ON blocked_keys (person_id);

CREATE TABLE bindings (
  kind     TEXT NOT NULL,                   -- 'team' or 'role'
  target   TEXT NOT NULL,
  spec     TEXT NOT NULL,                   -- the words of the configuration, or 'manual'
  source   TEXT NOT NULL,
  group_id TEXT NOT NULL,
  bound_at DOUBLE PRECISION NOT NULL,
  PRIMARY KEY (kind, target, group_id)
);
CREATE INDEX bindings_by_group ON bindings (group_id);

CREATE TABLE bans (
  id          TEXT PRIMARY KEY,
  person_id   TEXT NOT NULL,
  label       TEXT NOT NULL,
  reason      TEXT NOT NULL,
  override    INTEGER NOT NULL,
  created_at  DOUBLE PRECISION NOT NULL,
  created_by  TEXT NOT NULL,
  lifted_at   DOUBLE PRECISION,
  lifted_why  TEXT
);
CREATE INDEX bans_by_person ON bans (person_id);

CREATE TABLE conflicts (
  id          TEXT PRIMARY KEY,
  kind        TEXT NOT NULL,
  subject     TEXT NOT NULL,
  detail      TEXT NOT NULL,
  remedy      TEXT NOT NULL,
  created_at  DOUBLE PRECISION NOT NULL,
  resolved_at DOUBLE PRECISION
);
CREATE UNIQUE INDEX conflicts_open ON conflicts (kind, subject) WHERE resolved_at IS NULL;

CREATE TABLE departures (
  id            TEXT PRIMARY KEY,
  person_id     TEXT NOT NULL,
  label         TEXT NOT NULL,
  account_id    TEXT,
  kind          TEXT NOT NULL,              -- 'departure' or 'suspension'
  evidence      TEXT NOT NULL,
  cause         TEXT NOT NULL,
  source        TEXT NOT NULL,
  state         TEXT NOT NULL,
  received_at   DOUBLE PRECISION NOT NULL,  -- the request came in; time to revoke starts here
  accepted_at   DOUBLE PRECISION NOT NULL,
  pushed_at     DOUBLE PRECISION NOT NULL,  -- accepted, or hastened by a later push; what the push guard counts
  fenced_at     DOUBLE PRECISION,
  blocked_at    DOUBLE PRECISION,
  destroying_at DOUBLE PRECISION,           -- set before the first deletion is sent
  deleted_at    DOUBLE PRECISION,
  verified_at   DOUBLE PRECISION,
  settled_at    DOUBLE PRECISION,
  closed_at     DOUBLE PRECISION,           -- cancelled, or the person came back
  delete_at     DOUBLE PRECISION NOT NULL,
  settle_at     DOUBLE PRECISION,
  hold_id       TEXT,
  fence         TEXT,                       -- assumed, unsupported, proven, none
  problem       TEXT,                       -- why it is not further, in words
  receipt       TEXT NOT NULL
);
CREATE UNIQUE INDEX departures_open ON departures (person_id) WHERE closed_at IS NULL;
CREATE INDEX departures_in_order ON departures (accepted_at);
CREATE INDEX departures_pushed ON departures (source, pushed_at);
CREATE INDEX departures_by_hold ON departures (hold_id);

CREATE TABLE jobs (                          -- at most one a person: "make the gateway agree"
  person_id   TEXT PRIMARY KEY,
  lane        TEXT NOT NULL,
  wanted      INTEGER NOT NULL,              -- the generation that opened or raised it
  run_at      DOUBLE PRECISION NOT NULL,
  attempts    INTEGER NOT NULL,
  owner       TEXT,
  lease_until DOUBLE PRECISION,
  created_at  DOUBLE PRECISION NOT NULL,
  waiting     INTEGER NOT NULL DEFAULT 0,    -- 1: nothing to do before run_at (a waiting deletion, a second look)
  last_error  TEXT,
  alive       INTEGER NOT NULL DEFAULT 0     -- 1: the last try ended with something alive that was said to be gone
);
CREATE INDEX jobs_due ON jobs (lane, run_at);

CREATE TABLE holds (
  id         TEXT PRIMARY KEY,
  kind       TEXT NOT NULL,
  reason     TEXT NOT NULL,
  state      TEXT NOT NULL,                  -- open, approved, rejected, emptied (all it kept came back)
  created_at DOUBLE PRECISION NOT NULL,
  decided_at DOUBLE PRECISION,
  decided_by TEXT
);
CREATE TABLE hold_items (
  hold_id   TEXT NOT NULL REFERENCES holds (id),
  person_id TEXT NOT NULL,
  team      TEXT NOT NULL,                   -- '' for a whole departure
  cause     TEXT NOT NULL,
  version   TEXT NOT NULL,                   -- of the evidence, part of the checksum
  PRIMARY KEY (hold_id, person_id, team)
);

CREATE TABLE tokens (
  id         TEXT PRIMARY KEY,
  kind       TEXT NOT NULL,                  -- 'source' or 'operator'
  name       TEXT NOT NULL,
  scope      TEXT NOT NULL,
  digest     TEXT NOT NULL UNIQUE,           -- SHA-256 of the token; the token itself is never kept
  created_at DOUBLE PRECISION NOT NULL,
  used_at    DOUBLE PRECISION,
  revoked_at DOUBLE PRECISION
);

CREATE TABLE audit (
  seq     INTEGER PRIMARY KEY,
  at      DOUBLE PRECISION NOT NULL,
  actor   TEXT NOT NULL,
  action  TEXT NOT NULL,
  subject TEXT NOT NULL,
  detail  TEXT NOT NULL,
  prev    TEXT NOT NULL,
  hash    TEXT NOT NULL
);
CREATE INDEX audit_by_subject ON audit (subject);

CREATE TABLE facts (                         -- what was learnt: verbs, the fence, team ids, the last pass
  name  TEXT PRIMARY KEY,
  value TEXT NOT NULL,
  at    DOUBLE PRECISION NOT NULL
);
