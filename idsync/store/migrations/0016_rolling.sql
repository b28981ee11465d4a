-- A replica says which schema its release knows, so that nothing is taken away that one of them still uses.
ALTER TABLE replicas ADD COLUMN knows TEXT;  -- the newest migration of its release; NULL: older than this one
