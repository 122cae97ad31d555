-- Tell where the entry of an attempt came from.
--
-- Takes  attempt_id.
-- Gives  book, stream_ms, stream_seq; no row when it is not entered.

SELECT book, stream_ms, stream_seq FROM entries WHERE attempt_id = ?;
