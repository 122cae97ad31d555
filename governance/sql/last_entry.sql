-- Give the number of the row that was entered last.
--
-- Takes  nothing.
-- Gives  one row: its number, 0 when there is no entry.

SELECT coalesce(max(rowid), 0) FROM entries;
