-- Tell whether a place of the stream was set aside.
--
-- Takes  book, stream_ms, stream_seq.
-- Gives  reason; no row when it was not.

SELECT reason FROM rejected WHERE book = ? AND stream_ms = ? AND stream_seq = ?;
