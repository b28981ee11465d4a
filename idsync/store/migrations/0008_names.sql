-- Every name somebody ever had: a record is renamed, taken over or purged, and their gateway account keeps the old one.
-- Filled by store/upgrade.py.
CREATE TABLE names (
  person_id TEXT NOT NULL,
  kind      TEXT NOT NULL,                   -- 'address' (the e-mail, or a userName like one), 'user_name', 'external_id'
  source    TEXT NOT NULL,                   -- '': no source, but the gateway or whoever revoked them called them so
  name_key  TEXT NOT NULL,                   -- as it is compared: folded, an external_id as it is
  name      TEXT NOT NULL,                   -- as it was sent
  since     DOUBLE PRECISION NOT NULL,
  PRIMARY KEY (person_id, kind, source, name_key)
);
CREATE INDEX names_by_key ON names (name_key, kind);
