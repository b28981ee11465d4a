-- Organization memberships that a departure ends: noted before, so that a return can give them back.
CREATE TABLE left_organizations (
  account_id      TEXT NOT NULL,
  organization_id TEXT NOT NULL,
  person_id       TEXT NOT NULL,
  role            TEXT,                      -- what they were in it
  noted_at        DOUBLE PRECISION NOT NULL,
  left_at         DOUBLE PRECISION,          -- NULL: not read back as ended yet
  hidden          INTEGER NOT NULL,          -- 1: since then the gateway does not show the account at all
  PRIMARY KEY (account_id, organization_id)
);
CREATE INDEX left_organizations_by_person ON left_organizations (person_id);
