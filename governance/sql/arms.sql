-- Sum what the arms of one experiment did, from what came into the ledger after a row.
--
-- Takes  :name of the experiment, :since in unix microseconds, :after (a row's number; 0: all of them);
--        {index} says how to find them: by the experiment the first time, by the row from then on.
--        The function ln is given by governance/arms.py.
-- Gives  one row per arm as `experiment/arm`: tries, errors among them, then count, sum and sum of
--        squares of the logarithm of the first-byte time in us, and of the cost in nano-USD, of the
--        tries that its own places answered; and the sum of what was wrong with those answers (0 to 1).
--        A call that went to the last resort at once is a try that failed: the arm's own places could
--        not take it. One that went there after a try of the arm's has been counted as that.
--        What went down with a gateway of ours tells nothing of an arm, and a correction is no try.

WITH tries AS (
  SELECT
    CASE WHEN experiment LIKE '%/%/fallback'
         THEN substr(experiment, 1, length(experiment) - length('/fallback'))
         ELSE experiment END                                              AS arm,
    experiment LIKE '%/%/fallback'                                        AS resort,
    outcome, ttft_us, cost_nusd, defect
  FROM entries {index}
  WHERE rowid > :after AND experiment <> ''
    AND experiment > :name || '/' AND experiment < :name || '0'  -- the sign after the slash
    AND at_us >= :since
    AND instr(attempt_id, '+') = 0
    AND outcome NOT IN ('void', 'drained', 'reaped', 'internal')
    AND (attempt = 1 OR experiment NOT LIKE '%/%/fallback')
)
SELECT
  arm,
  count(*)                                                                AS tries,
  sum(resort OR outcome NOT IN ('ok', 'client_left', 'hedged'))                     AS errors,
  sum(outcome = 'ok' AND ttft_us > 0 AND NOT resort)                      AS ttft_count,
  total(CASE WHEN outcome = 'ok' AND ttft_us > 0 AND NOT resort
        THEN ln(ttft_us) END)                                             AS ttft_sum,
  total(CASE WHEN outcome = 'ok' AND ttft_us > 0 AND NOT resort
        THEN ln(ttft_us) * ln(ttft_us) END)                               AS ttft_squares,
  sum(outcome = 'ok' AND NOT resort)                                      AS cost_count,
  total(CASE WHEN outcome = 'ok' AND NOT resort THEN cost_nusd END)       AS cost_sum,
  total(CASE WHEN outcome = 'ok' AND NOT resort
        THEN 1.0 * cost_nusd * cost_nusd END)                             AS cost_squares,
  total(CASE WHEN outcome = 'ok' AND NOT resort THEN defect / 1000.0 END) AS defect_sum
FROM tries
GROUP BY arm;
