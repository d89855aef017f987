-- What happened once in this cluster and decides later starts.
CREATE TABLE mark (
  cluster TEXT NOT NULL,
  name TEXT NOT NULL,
  at_ms BIGINT NOT NULL,
  PRIMARY KEY (cluster, name)
);
