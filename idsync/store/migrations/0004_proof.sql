-- When access was read back as ended, and every call made for a departure: they outlive a run that failed or was killed.
ALTER TABLE departures ADD COLUMN access_ended_at REAL;
UPDATE departures SET access_ended_at = blocked_at;
CREATE TABLE departure_calls (
  departure_id TEXT    NOT NULL,
  seq          INTEGER NOT NULL,
  at           REAL    NOT NULL,
  method       TEXT    NOT NULL,
  path         TEXT    NOT NULL,
  target       TEXT    NOT NULL,
  status       INTEGER,
  ms           REAL    NOT NULL,
  PRIMARY KEY (departure_id, seq)
);
-- When a job can be claimed, so that asking for the next one costs the same however many wait (store/jobs.py, next_due).
CREATE INDEX jobs_next ON jobs (
  (CASE WHEN lease_until IS NOT NULL AND lease_until > run_at THEN lease_until ELSE run_at END)
);
-- Everybody's own departures, which are the tags of their fences; without it each leaver read the whole ledger.
CREATE INDEX departures_by_person ON departures (person_id);
