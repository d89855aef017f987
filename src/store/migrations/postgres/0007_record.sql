-- Standing leaves that a bad outcome has ended until they are given again.
CREATE TABLE leave_suspended (
  cluster TEXT NOT NULL,
  leave TEXT NOT NULL,                      -- person, tool, namespace, last day
  approval TEXT NOT NULL,
  why TEXT NOT NULL,
  at_ms BIGINT NOT NULL,
  PRIMARY KEY (cluster, leave)
);

-- One person's word on one card; the last counts.
CREATE TABLE thumb (
  cluster TEXT NOT NULL,
  incident TEXT NOT NULL,
  person TEXT NOT NULL,
  up BIGINT NOT NULL,                      -- 1 up, 0 down
  reason TEXT,                              -- of a down
  at_ms BIGINT NOT NULL,
  PRIMARY KEY (cluster, incident, person)
);
CREATE INDEX thumb_at ON thumb (cluster, at_ms);

-- What a turn costs, in millionths of the currency in which the configuration gives prices.
ALTER TABLE charge ADD COLUMN micros BIGINT NOT NULL DEFAULT 0;
