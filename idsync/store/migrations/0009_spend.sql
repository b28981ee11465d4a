-- Spend after a departure: what was booked when everything of before had to be, and what came on top of it.
CREATE TABLE spend_accounted (
  departure_id TEXT NOT NULL,
  told_by      TEXT NOT NULL,                -- 'activity' (the account's days), 'counter' (the key's own)
  account_id   TEXT NOT NULL,                -- '' for a counter
  key_id       TEXT NOT NULL,                -- '': what the days do not tell by key
  spend        DOUBLE PRECISION NOT NULL,
  at           DOUBLE PRECISION NOT NULL,
  PRIMARY KEY (departure_id, told_by, account_id, key_id)
);
CREATE TABLE spend_looks (
  departure_id TEXT PRIMARY KEY,
  at           DOUBLE PRECISION NOT NULL
);
CREATE TABLE spend_after (
  departure_id TEXT NOT NULL,
  account_id   TEXT NOT NULL,
  key_id       TEXT NOT NULL,                -- '': not told by key
  person_id    TEXT NOT NULL,
  key_name     TEXT,
  spend        DOUBLE PRECISION NOT NULL,    -- after access had ended
  used_at      DOUBLE PRECISION,             -- the last request the gateway tells of, NULL: it tells days or sums only
  first_at     DOUBLE PRECISION NOT NULL,    -- when idsync first saw it
  last_at      DOUBLE PRECISION NOT NULL,    -- and when it last saw it grow
  PRIMARY KEY (departure_id, account_id, key_id)
);
CREATE INDEX spend_after_by_time ON spend_after (last_at);
CREATE INDEX departures_ended ON departures (access_ended_at);
