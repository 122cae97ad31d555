-- Sum what was used, by any dimensions.
--
-- Takes  :since and :until, unix microseconds (from the first, before the second);
--        the two marks in braces stand for expressions of governance/usage.py alone, never for
--        what a user typed.
-- Gives  one row per group: the dimensions, then requests, attempts, input_tokens, cached_tokens,
--        output_tokens, cost_nusd, errors. A correction adds to the sums, but is no attempt.

SELECT
  {dimensions}
  count(DISTINCT request_id)                                             AS requests,
  coalesce(sum(instr(attempt_id, '+') = 0), 0)                           AS attempts,
  coalesce(sum(input_tokens), 0)                                         AS input_tokens,
  coalesce(sum(cached_tokens), 0)                                        AS cached_tokens,
  coalesce(sum(output_tokens), 0)                                        AS output_tokens,
  coalesce(sum(cost_nusd), 0)                                            AS cost_nusd,
  coalesce(sum(
    instr(attempt_id, '+') = 0 AND outcome NOT IN ('ok', 'client_left')
  ), 0)                                                                  AS errors
FROM entries
WHERE at_us >= :since AND at_us < :until
{group};
