-- Sum what earlier lives of the store left in the database.
--
-- Takes  book, the one that does not count.
-- Gives  one row: entries, cost_nusd.

SELECT count(*) AS entries, coalesce(sum(cost_nusd), 0) AS cost_nusd
FROM entries
WHERE book <> ?;
