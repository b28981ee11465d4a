-- What polled sources leave behind: when a membership was last listed or ended, who was missing, what the guard holds.
ALTER TABLE groups ADD COLUMN listed_at DOUBLE PRECISION;  -- a polled group: when its last full listing was asked for
CREATE TABLE ended_memberships (              -- noted where several sources of one directory may speak of a person
  group_id  TEXT NOT NULL,
  member_id TEXT NOT NULL,
  ended_at  DOUBLE PRECISION NOT NULL,
  PRIMARY KEY (group_id, member_id)
);
CREATE INDEX ended_by_member ON ended_memberships (member_id);
CREATE TABLE absences (                       -- users a source did not find: counts only when it says so again
  source      TEXT NOT NULL,
  external_id TEXT NOT NULL,
  first_at    DOUBLE PRECISION NOT NULL,
  last_at     DOUBLE PRECISION NOT NULL,
  times       INTEGER NOT NULL,
  PRIMARY KEY (source, external_id)
);
CREATE TABLE held_losses (                    -- confirmed losses that wait for a person: nothing of them is done
  source      TEXT NOT NULL,
  external_id TEXT NOT NULL,
  hold_id     TEXT NOT NULL,
  person_id   TEXT NOT NULL,
  loss        TEXT NOT NULL,                  -- JSON: what is applied when the hold is approved
  noted_at    DOUBLE PRECISION NOT NULL,
  PRIMARY KEY (source, external_id)
);
CREATE INDEX held_losses_by_hold ON held_losses (hold_id, person_id);
CREATE TABLE polled_losses (                  -- what polling took, for the guard's 24 hours
  source    TEXT NOT NULL,
  person_id TEXT NOT NULL,
  team      TEXT NOT NULL,                    -- '' for a departure
  at        DOUBLE PRECISION NOT NULL,
  PRIMARY KEY (source, person_id, team)
);
CREATE TABLE poll_parts (                     -- what a listing under way has read, so that it goes on after a restart
  source TEXT NOT NULL,
  name   TEXT NOT NULL,
  text   TEXT NOT NULL,
  at     DOUBLE PRECISION NOT NULL,
  PRIMARY KEY (source, name)
);
