-- Tokens may end by themselves; NULL: they do not.
ALTER TABLE tokens ADD COLUMN expires_at DOUBLE PRECISION;
-- What the status page looks at again and again, without reading receipts past which it would have to go.
DROP INDEX departures_in_order;
CREATE INDEX departures_newest ON departures (accepted_at DESC, id);
CREATE INDEX departures_unproven ON departures (received_at) WHERE closed_at IS NULL AND verified_at IS NULL;
CREATE INDEX departures_took ON departures (hold_id, accepted_at, verified_at, received_at, delete_at, fence, label)
  WHERE verified_at IS NOT NULL;
