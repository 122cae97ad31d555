-- Read every entry of a span of time, corrections included, in the order of time.
--
-- Takes  :since and :until, unix microseconds (from the first, before the second); the mark in braces stands
--        for expressions of governance/usage.py alone, and what a dimension has to be is :is_0, :is_1, …
-- Gives  the rows of entries.

SELECT * FROM entries
WHERE at_us >= :since AND at_us < :until{where}
ORDER BY at_us, attempt_id;
