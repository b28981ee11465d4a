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
