-- What kind of fault the findings see, so that incidents of one kind are found again.
ALTER TABLE incident ADD COLUMN signature TEXT;
CREATE INDEX incident_signature ON incident (cluster, signature) WHERE signature IS NOT NULL;
