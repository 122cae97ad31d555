-- Read the board, and what time it is there: when it holds is told by this clock.
--
-- KEYS[1]  board  string  packed {version, content, from}
-- ARGV[1]  now    us since 2024-01-01; empty asks the server (tests pass a value)
--
-- Returns {the board, or false where there is none; now}.

--- @include moment

return { redis.call('GET', KEYS[1]), moment(ARGV[1]) }
