-- Keep what is no entry, once per place in the stream.
--
-- Takes  book, stream_ms, stream_seq, reason, bytes.
-- Gives  nothing; the number of changed rows tells whether it was new.

INSERT INTO rejected VALUES (?, ?, ?, ?, ?)
ON CONFLICT (book, stream_ms, stream_seq) DO NOTHING;
