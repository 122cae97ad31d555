-- Read every entry of one exchange, attempts in their order, each followed by its correction.
--
-- Takes  request_id.
-- Gives  the rows of entries.

SELECT * FROM entries WHERE request_id = ? ORDER BY attempt, attempt_id;
