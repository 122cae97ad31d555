-- Read every entry of one exchange, attempts in their order, each followed by its correction.
--
-- Takes  request_id.
-- Gives  the rows of entries.

SELECT * FROM entries
WHERE attempt_id >= :request_id || '.' AND attempt_id < :request_id || '/'  -- the sign after the dot
  AND request_id = :request_id
ORDER BY attempt, attempt_id;
