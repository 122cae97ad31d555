-- Tell whether anything was ever entered.
--
-- Takes  nothing.
-- Gives  one row, or none when there is no entry.

SELECT 1 FROM entries LIMIT 1;
