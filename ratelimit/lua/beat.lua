-- A replica says that it lives.
--
-- A replica whose life has ended in the eyes of the store (its beat is gone, or the reaper has
-- fenced it) is told so: it must come back under a new boot id before it admits again.
--
-- KEYS[1]  beats   zset  replica.boot -> heartbeat expiry, us since 2024-01-01
-- ARGV[1]  now     us since 2024-01-01; empty asks the server
-- ARGV[2]  member  this replica.boot
-- ARGV[3]  life    us that this beat is good for
-- ARGV[4]  fresh   1 at the first beat of a boot
--
-- Returns OK, or FENCED.

--- @include gcra

local now = clock(ARGV[1])
if ARGV[4] ~= '1' then
  local known = redis.call('ZSCORE', KEYS[1], ARGV[2])
  if not known or tonumber(known) < 0 then return 'FENCED' end
end
redis.call('ZADD', KEYS[1], string.format('%.0f', now + tonumber(ARGV[3])), ARGV[2])
return 'OK'
