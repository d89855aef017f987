-- The incidents of a storm that share one message.
CREATE TABLE digest (
  incident TEXT PRIMARY KEY NOT NULL,
  cluster TEXT NOT NULL,
  digest TEXT NOT NULL,                     -- the first incident on it, by which it goes
  at_ms INTEGER NOT NULL,
  doc TEXT NOT NULL                         -- what its line tells
) STRICT;
CREATE INDEX digest_members ON digest (cluster, digest);

-- How many messages went into the channel of late.
CREATE INDEX post_channel ON post (cluster, posting_ms) WHERE kind IN ('card', 'digest');
