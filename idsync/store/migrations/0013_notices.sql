-- What was told to whom, and what is still to be told: a restart loses nothing and repeats nothing.
CREATE TABLE notices (
  receiver TEXT NOT NULL,                    -- the name of a [[notify]]
  event    TEXT NOT NULL,
  subject  TEXT NOT NULL,                    -- what it is about: a hold, a person, a source ...
  summary  TEXT NOT NULL,
  remedy   TEXT NOT NULL,
  since    DOUBLE PRECISION NOT NULL,
  ended_at DOUBLE PRECISION,                 -- NULL: it is true
  pending  TEXT,                             -- 'new', 'again' or 'over' is still to be delivered; NULL: nothing is
  told_at  DOUBLE PRECISION,                 -- when it was last delivered
  PRIMARY KEY (receiver, event, subject)
);
CREATE TABLE receivers (                     -- how delivering to a [[notify]] goes
  name          TEXT PRIMARY KEY,
  attempts      INTEGER NOT NULL,            -- failures in a row
  error         TEXT,
  failing_since DOUBLE PRECISION,
  next_at       DOUBLE PRECISION NOT NULL,   -- not before then
  delivered_at  DOUBLE PRECISION
);
-- The audit entries that are told: found without reading the trail.
CREATE INDEX audit_told ON audit (at) WHERE action IN ('departure.reasserted', 'spend.after_departure');
