-- What somebody is in a team, and the roles that idsync gave at the gateway and would take back.
ALTER TABLE grants ADD COLUMN role TEXT NOT NULL DEFAULT 'user';
CREATE TABLE given_roles (
  account_id TEXT NOT NULL,
  place      TEXT NOT NULL,                -- 'gateway', 'team:<id>' or 'organization:<id>'
  person_id  TEXT NOT NULL,
  role       TEXT NOT NULL,
  before     TEXT,                         -- what they were until then
  noted_at   DOUBLE PRECISION NOT NULL,    -- before the call
  given_at   DOUBLE PRECISION,             -- NULL: not read back yet
  PRIMARY KEY (account_id, place)
);
