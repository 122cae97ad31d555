-- Count what could not be entered.
--
-- Takes  book.
-- Gives  one row: rejected.

SELECT count(*) AS rejected FROM rejected WHERE book = ?;
