-- Rollouts that tell their own difference (edits of ConfigMaps, Services, quotas) are of the kind `edit`; `name` is the
-- namespace of the object, whose scenes ask for them.
CREATE INDEX signal_edit ON signal (cluster, name, heard_ms) WHERE kind = 'edit';
