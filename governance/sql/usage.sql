-- Sum what was used, by any dimensions.
--
-- Takes  :since and :until, unix microseconds (from the first, before the second);
--        the marks in braces stand for expressions of governance/usage.py alone, never for what a
--        user typed; what a dimension has to be is :is_0, :is_1, …
-- Gives  one row per group: the dimensions, then requests, attempts, input_tokens, cached_tokens,
--        output_tokens, cost_nusd, errors, images, audio_us, characters, search_units. A correction adds
--        to the sums, but is no attempt.

SELECT
  {dimensions}
  count(DISTINCT request_id)                                             AS requests,
  coalesce(sum(instr(attempt_id, '+') = 0), 0)                           AS attempts,
  coalesce(sum(input_tokens), 0)                                         AS input_tokens,
  coalesce(sum(cached_tokens), 0)                                        AS cached_tokens,
  coalesce(sum(output_tokens), 0)                                        AS output_tokens,
  coalesce(sum(cost_nusd), 0)                                            AS cost_nusd,
  coalesce(sum(
    instr(attempt_id, '+') = 0 AND outcome NOT IN ('ok', 'client_left', 'hedged')
  ), 0)                                                                  AS errors,
  coalesce(sum(images), 0)                                               AS images,
  coalesce(sum(audio_input_us + audio_output_us), 0)                     AS audio_us,
  coalesce(sum(characters), 0)                                           AS characters,
  coalesce(sum(search_units), 0)                                         AS search_units
FROM entries
WHERE at_us >= :since AND at_us < :until{where}
{group};
