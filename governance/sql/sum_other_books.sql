-- Sum what earlier lives of the store left in the database.
--
-- Takes  books, those that do not count, as a JSON array: one of each cell.
-- Gives  one row: entries, cost_nusd.

SELECT count(*) AS entries, coalesce(sum(cost_nusd), 0) AS cost_nusd
FROM entries
WHERE book NOT IN (SELECT value FROM json_each(?));
