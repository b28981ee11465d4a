-- What retention has taken from a row, and up to where the audit trail was exported and taken out.
ALTER TABLE departures ADD COLUMN receipt_pruned_at DOUBLE PRECISION;
ALTER TABLE departures ADD COLUMN details_pruned_at DOUBLE PRECISION;
CREATE INDEX departures_with_receipt ON departures ((COALESCE(closed_at, settled_at))) WHERE receipt_pruned_at IS NULL;
CREATE INDEX departures_with_details ON departures (closed_at) WHERE details_pruned_at IS NULL;
ALTER TABLE users ADD COLUMN pruned_at DOUBLE PRECISION;
CREATE INDEX users_tombstones ON users (deleted_at) WHERE deleted_at IS NOT NULL AND pruned_at IS NULL;
CREATE INDEX groups_tombstones ON groups (deleted_at) WHERE deleted_at IS NOT NULL;
CREATE TABLE audit_checkpoints (
  seq     INTEGER PRIMARY KEY,               -- the last entry that was exported and may go
  hash    TEXT NOT NULL,                     -- its hash: the next entry carries it on
  entries INTEGER NOT NULL,                  -- how many entries went with this export
  sha256  TEXT NOT NULL,                     -- of the exported file
  at      DOUBLE PRECISION NOT NULL
);
