-- Enter one attempt; one that is entered already stays as it is.
--
-- Takes  the fields of an entry in their order, then book, stream_ms, stream_seq.
-- Gives  nothing; the number of changed rows tells whether it was new.

INSERT INTO entries VALUES (
  ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?,
  ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?
)
ON CONFLICT (attempt_id) DO NOTHING;
