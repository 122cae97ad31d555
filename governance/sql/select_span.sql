-- Read every entry of a span of time, corrections included, in the order of time.
--
-- Takes  :since and :until, unix microseconds (from the first, before the second).
-- Gives  the rows of entries.

SELECT * FROM entries
WHERE at_us >= :since AND at_us < :until
ORDER BY at_us, attempt_id;
