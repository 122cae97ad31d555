-- Give what is entered of an attempt.
--
-- Takes  attempt_id.
-- Gives  the fields of an entry in their order, then book, stream_ms, stream_seq; no row when it is not entered.

SELECT * FROM entries WHERE attempt_id = ?;
