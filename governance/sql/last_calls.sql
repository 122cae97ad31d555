-- Give the last calls that were served, to be simulated.
--
-- Takes  :count, how many at most.
-- Gives  one row per call, the latest first: request_id, key, model_asked, model, deployment, input and
--        output tokens, cost_nusd, decision. Calls that were copied for an experiment are nobody's and
--        left out.

SELECT request_id, key, model_asked, model, deployment, input_tokens, output_tokens, cost_nusd,
       decision
FROM entries
WHERE outcome = 'ok' AND instr(attempt_id, '+') = 0
  AND NOT (key = '' AND experiment LIKE '%/shadow')
ORDER BY at_us DESC, attempt_id DESC
LIMIT :count;
