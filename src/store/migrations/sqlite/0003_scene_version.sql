-- Counts the readings of a scene, so that who knows one need not read it again.
ALTER TABLE scene ADD COLUMN version INTEGER NOT NULL DEFAULT 1;
