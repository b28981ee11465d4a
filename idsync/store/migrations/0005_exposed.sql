-- What somebody who left may still know: keys that are nobody's own, and keys they made for others. Filled by store/upgrade.py.
CREATE TABLE left_behind (                   -- what a person left, and whether its keys were counted since
  person_id  TEXT NOT NULL,
  kind       TEXT NOT NULL,                  -- 'team', 'account', or 'departure': all of a settled one is counted
  subject    TEXT NOT NULL,                  -- the gateway's team_id, its user_id, or the id of the departure
  team       TEXT,                           -- the alias in the configuration of a team
  left_at    DOUBLE PRECISION NOT NULL,
  counted_at DOUBLE PRECISION,               -- when the listing began that counted: the first after access had ended
  PRIMARY KEY (person_id, kind, subject)
);
CREATE INDEX left_behind_uncounted ON left_behind (kind, person_id) WHERE counted_at IS NULL;
CREATE TABLE exposed_keys (
  key_id       TEXT NOT NULL,
  person_id    TEXT NOT NULL,
  why          TEXT NOT NULL,                -- 'created_by', 'service_account' or 'shared'
  departure_id TEXT,                         -- NULL: they left the team and are still here
  team_id      TEXT,
  team         TEXT,                         -- its alias
  owner        TEXT,                         -- the user_id whose key it is; NULL: nobody's
  alias        TEXT,
  name         TEXT,                         -- the gateway's masked form
  last_used_at DOUBLE PRECISION,
  spend        DOUBLE PRECISION,
  wants        TEXT NOT NULL,                -- 'report' or 'rotate': teams.on_member_departure
  left_at      DOUBLE PRECISION NOT NULL,
  noted_at     DOUBLE PRECISION NOT NULL,
  PRIMARY KEY (key_id, person_id, why)
);
CREATE INDEX exposed_by_person ON exposed_keys (person_id);
