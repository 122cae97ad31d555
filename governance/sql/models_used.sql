-- Sum what each model was asked and gave, task by task.
--
-- Takes  :since and :until, unix microseconds (from the first, before the second);
--        {task} stands for an expression of governance/insight.py alone.
-- Gives  one row per task and model: task, model, requests, attempts, errors, served (attempts whose
--        answer was used), the tokens and the cost of all of them, and the sum of first-byte times
--        with their number. A correction adds to the sums, but is no attempt.
--        What was copied to a model for an experiment's sake is no call of anybody's and left out.

SELECT
  {task}                                                                 AS task,
  model,
  count(DISTINCT request_id)                                             AS requests,
  coalesce(sum(instr(attempt_id, '+') = 0), 0)                           AS attempts,
  coalesce(sum(
    instr(attempt_id, '+') = 0 AND outcome NOT IN ('ok', 'client_left', 'hedged')
  ), 0)                                                                  AS errors,
  coalesce(sum(instr(attempt_id, '+') = 0 AND outcome = 'ok'), 0)        AS served,
  coalesce(sum(input_tokens), 0)                                         AS input_tokens,
  coalesce(sum(cached_tokens), 0)                                        AS cached_tokens,
  coalesce(sum(cache_write_tokens), 0)                                   AS cache_write_tokens,
  coalesce(sum(output_tokens), 0)                                        AS output_tokens,
  coalesce(sum(reasoning_tokens), 0)                                     AS reasoning_tokens,
  coalesce(sum(cost_nusd), 0)                                            AS cost_nusd,
  coalesce(sum(CASE WHEN outcome = 'ok' THEN ttft_us END), 0)            AS ttft_sum_us,
  coalesce(sum(outcome = 'ok' AND ttft_us > 0), 0)                       AS ttft_count
FROM entries
WHERE at_us >= :since AND at_us < :until
  AND NOT (key = '' AND experiment LIKE '%/shadow')
GROUP BY 1, model
ORDER BY 1, model;
