-- Keys that idsync makes and renews. No secret is ever here: it goes from the gateway's answer to its sink.
CREATE TABLE team_keys (                     -- a [[teams.keys]], and how its rotation goes
  alias        TEXT PRIMARY KEY,
  team         TEXT NOT NULL,                -- the alias of its team
  key_id       TEXT,                         -- the key that is in the sink; NULL: none was delivered yet
  sink         TEXT,                         -- where it is; NULL: taken over, and in none
  name         TEXT,                         -- what the gateway calls it, where it would not be renamed
  made_at      DOUBLE PRECISION NOT NULL,    -- who had lost access before cannot know it; 0: taken over
  delivered_at DOUBLE PRECISION,
  expires_at   DOUBLE PRECISION,
  rotate_at    DOUBLE PRECISION,             -- when it is to be rotated because it expires
  served       TEXT NOT NULL DEFAULT '[]',   -- leavers it was made for who seem to have left after it was made: a clock was set back
  asked_at     DOUBLE PRECISION,             -- somebody asked for a rotation that is still to be done
  asked_by     TEXT,
  compromised  INTEGER NOT NULL DEFAULT 0,
  attempts     INTEGER NOT NULL DEFAULT 0,   -- failures in a row
  error        TEXT,
  failing_since DOUBLE PRECISION,
  next_try_at  DOUBLE PRECISION
);
CREATE TABLE undelivered_keys (              -- written before the gateway is asked to make one, gone once it is delivered or dead
  called   TEXT PRIMARY KEY,                 -- its alias at the gateway until then, never used twice: it is found by it
  alias    TEXT NOT NULL,
  owner    TEXT,                             -- the user_id of a personal key; NULL: a key of a team
  key_id   TEXT,                             -- NULL: the gateway has not answered, or its answer was lost
  offered  INTEGER NOT NULL DEFAULT 0,       -- 1: the sink may have taken it
  made_at  DOUBLE PRECISION NOT NULL
);
CREATE TABLE ending_keys (                   -- replaced: the sink has taken another one
  key_id TEXT PRIMARY KEY,
  alias  TEXT NOT NULL,
  why    TEXT NOT NULL,
  end_at DOUBLE PRECISION NOT NULL           -- when its grace is over
);
