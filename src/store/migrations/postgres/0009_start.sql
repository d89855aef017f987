-- What a start of the daemon looks for: the start before it, among millions of other entries.
CREATE INDEX audit_start ON audit (cluster, seq) WHERE kind = 'start';
