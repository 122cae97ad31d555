-- Sum the entries of one book up to a place in the stream.
--
-- Takes  book, stream_ms, stream_seq (of the last entry that counts).
-- Gives  one row: entries, input_tokens, output_tokens, cost_nusd.

SELECT
  count(*)                        AS entries,
  coalesce(sum(input_tokens), 0)  AS input_tokens,
  coalesce(sum(output_tokens), 0) AS output_tokens,
  coalesce(sum(cost_nusd), 0)     AS cost_nusd
FROM entries
WHERE book = ? AND (stream_ms, stream_seq) <= (?, ?);
