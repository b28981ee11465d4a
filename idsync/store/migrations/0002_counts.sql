-- What the guard counts is on the departure itself, so that counting does not read every person of a wave.
ALTER TABLE departures ADD COLUMN counts INTEGER NOT NULL DEFAULT 1;  -- 1: of somebody with something to lose
UPDATE departures SET counts = 0 WHERE person_id IN
  (SELECT id FROM persons WHERE ever_had_access = 0 AND account_id IS NULL);
DROP INDEX departures_pushed;
CREATE INDEX departures_pushed ON departures (source, counts, pushed_at);
CREATE INDEX hold_items_by_person ON hold_items (person_id, team);
