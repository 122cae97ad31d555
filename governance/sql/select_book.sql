-- Find a book.
--
-- Takes  its name.
-- Gives  number; no row when it was never opened.

SELECT number FROM books WHERE name = ?;
