-- Documents are JSON as TEXT; beside them stand only the columns that queries need. Instants are milliseconds since the
-- Unix epoch. Both engines have the same tables and run the same statements.

CREATE TABLE signal (
  seq BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, -- order of arrival
  id TEXT NOT NULL UNIQUE,
  cluster TEXT NOT NULL,
  kind TEXT NOT NULL,                       -- alert, warning, rollout
  heard_ms BIGINT NOT NULL,
  state TEXT NOT NULL DEFAULT 'new',        -- new, resolved, placed, ignored
  subject TEXT,                             -- ObjectRef as JSON
  note TEXT NOT NULL DEFAULT '',
  incident TEXT,
  why TEXT,                                 -- why it was ignored
  alert TEXT,                               -- fingerprint, alerts only; so are the next four
  name TEXT,
  status TEXT,                              -- firing, resolved
  starts_ms BIGINT,
  ends_ms BIGINT,
  doc TEXT NOT NULL
);
CREATE INDEX signal_new ON signal (cluster, seq) WHERE state = 'new';
CREATE INDEX signal_resolved ON signal (cluster, seq) WHERE state = 'resolved';
CREATE INDEX signal_incident ON signal (incident, seq) WHERE incident IS NOT NULL;

CREATE TABLE incident (
  id TEXT PRIMARY KEY NOT NULL,
  cluster TEXT NOT NULL,
  subject TEXT NOT NULL,                    -- `Deployment shop/checkout`
  state TEXT NOT NULL,                      -- open, over
  severity BIGINT NOT NULL,                -- 0 none .. 4 critical
  opened_ms BIGINT NOT NULL,
  updated_ms BIGINT NOT NULL,
  over_ms BIGINT,
  version BIGINT NOT NULL DEFAULT 0,       -- counts what its card should show
  delivered_version BIGINT NOT NULL DEFAULT 0,
  progress TEXT NOT NULL,                   -- of the investigation: off, waiting, running, done, failed
  investigation TEXT NOT NULL,
  doc TEXT NOT NULL
);
CREATE INDEX incident_subject ON incident (cluster, subject);
CREATE INDEX incident_open ON incident (cluster, opened_ms) WHERE state = 'open';
CREATE INDEX incident_over ON incident (cluster, over_ms) WHERE state = 'over';
CREATE INDEX incident_waiting ON incident (cluster, severity) WHERE progress IN ('waiting', 'running');
CREATE INDEX incident_undelivered ON incident (cluster, updated_ms) WHERE version > delivered_version;

CREATE TABLE scene (
  cluster TEXT NOT NULL,
  subject TEXT NOT NULL,
  read_ms BIGINT NOT NULL,
  doc TEXT NOT NULL,
  PRIMARY KEY (cluster, subject)
);

CREATE TABLE evidence (
  cluster TEXT NOT NULL,
  incident TEXT NOT NULL,
  number BIGINT NOT NULL,                  -- e1 is 1
  missing BIGINT NOT NULL,                 -- 1: a read that failed, may be filled later
  doc TEXT NOT NULL,
  PRIMARY KEY (incident, number)
);

CREATE TABLE report (
  incident TEXT PRIMARY KEY NOT NULL,
  cluster TEXT NOT NULL,
  doc TEXT NOT NULL
);

CREATE TABLE findings (
  incident TEXT PRIMARY KEY NOT NULL,
  cluster TEXT NOT NULL,
  doc TEXT NOT NULL
);

CREATE TABLE turn (
  cluster TEXT NOT NULL,
  incident TEXT NOT NULL,
  number BIGINT NOT NULL,
  at_ms BIGINT NOT NULL,
  input_tokens BIGINT NOT NULL,
  output_tokens BIGINT NOT NULL,
  messages TEXT NOT NULL,
  PRIMARY KEY (incident, number)
);

CREATE TABLE charge (
  cluster TEXT NOT NULL,
  incident TEXT NOT NULL,
  key TEXT NOT NULL,
  at_ms BIGINT NOT NULL,
  tokens BIGINT NOT NULL,
  PRIMARY KEY (incident, key)
);
CREATE INDEX charge_at ON charge (cluster, at_ms);

CREATE TABLE approval (
  id TEXT PRIMARY KEY NOT NULL,
  cluster TEXT NOT NULL,
  incident TEXT NOT NULL,
  object TEXT NOT NULL,
  state TEXT NOT NULL,
  created_ms BIGINT NOT NULL,
  started_ms BIGINT,                       -- when its execution began
  doc TEXT NOT NULL
);
CREATE UNIQUE INDEX approval_executing ON approval (cluster, object) WHERE state = 'executing';
CREATE INDEX approval_incident ON approval (incident);
CREATE INDEX approval_state ON approval (cluster, state, created_ms);
CREATE INDEX approval_started ON approval (cluster, started_ms) WHERE started_ms IS NOT NULL;

CREATE TABLE click (
  id TEXT PRIMARY KEY NOT NULL,
  cluster TEXT NOT NULL,
  heard_ms BIGINT NOT NULL,
  handled_ms BIGINT,
  answer TEXT,
  doc TEXT NOT NULL
);
CREATE INDEX click_unhandled ON click (cluster, heard_ms) WHERE handled_ms IS NULL;

CREATE TABLE post (
  nonce TEXT PRIMARY KEY NOT NULL,
  cluster TEXT NOT NULL,
  incident TEXT NOT NULL,
  kind TEXT NOT NULL,                       -- card, reply:<key>
  posting_ms BIGINT NOT NULL,
  ts TEXT,
  doc TEXT NOT NULL
);
CREATE UNIQUE INDEX post_kind ON post (cluster, incident, kind);

CREATE TABLE call (
  id TEXT PRIMARY KEY NOT NULL,
  cluster TEXT NOT NULL,
  incident TEXT NOT NULL,
  called_ms BIGINT NOT NULL,
  doc TEXT NOT NULL
);
CREATE INDEX call_incident ON call (incident, called_ms);

CREATE TABLE claim (
  cluster TEXT NOT NULL,
  stage TEXT NOT NULL,
  unit TEXT NOT NULL,
  owner TEXT NOT NULL,                      -- empty: nobody holds it
  attempt BIGINT NOT NULL,
  until_ms BIGINT NOT NULL,                -- end of the lease, or the earliest retry
  PRIMARY KEY (cluster, stage, unit)
);

CREATE TABLE audit (
  seq BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, -- provisional id, never used again
  number BIGINT,                           -- place in the chain, once sealed
  hash TEXT,
  cluster TEXT NOT NULL,
  at_ms BIGINT NOT NULL,
  kind TEXT NOT NULL,
  incident TEXT,
  body TEXT NOT NULL                        -- the canonical text that is hashed; holds the four columns above too
);
CREATE UNIQUE INDEX audit_number ON audit (number) WHERE number IS NOT NULL;
CREATE INDEX audit_unsealed ON audit (seq) WHERE number IS NULL;
CREATE INDEX audit_incident ON audit (incident) WHERE incident IS NOT NULL;

-- One row: where the chain begins (all before was pruned) and its head.
CREATE TABLE chain (
  one BIGINT PRIMARY KEY NOT NULL CHECK (one = 1),
  base_number BIGINT NOT NULL,
  base_hash TEXT NOT NULL,
  number BIGINT NOT NULL,
  hash TEXT NOT NULL
);
INSERT INTO chain (one, base_number, base_hash, number, hash) VALUES
  (1, 0, '0000000000000000000000000000000000000000000000000000000000000000',
   0, '0000000000000000000000000000000000000000000000000000000000000000');
