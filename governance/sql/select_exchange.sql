-- Read every entry of one exchange, attempts in their order, each followed by its correction.
--
-- Takes  request_id.
-- Gives  the rows of entries.

SELECT * FROM entries
WHERE attempt_id >= ?1 || '.' AND attempt_id < ?1 || '/'  -- the sign after the dot
  AND request_id = ?1
ORDER BY attempt, attempt_id;
