-- Open a book, unless it is open.
--
-- Takes  its name.
-- Gives  nothing.

INSERT INTO books (name) VALUES (?) ON CONFLICT (name) DO NOTHING;
