-- End the life of replicas that stopped beating, so that the reaper may take what they held.
--
-- KEYS[1]  beats  zset  replica.boot -> heartbeat expiry, or how its life ended (see lives.lua)
-- ARGV[1]  now    us since 2024-01-01; empty asks the server
--
-- Returns {member, how its life ended, ...} of whom something is to be freed: the dead, and those that fell
-- silent and were not reaped yet.

--- @include gcra
--- @include lives

local now = clock(ARGV[1])
-- Nobody promises to live longer than a minute: what says so was written before the clock stepped back.
local soon = string.format('%.0f', now + MINUTE)
for _, member in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. soon, '+inf')) do
  redis.call('ZADD', KEYS[1], soon, member)
end
local silent = redis.call('ZRANGEBYSCORE', KEYS[1], 0, string.format('%.0f', now))
for _, member in ipairs(silent) do redis.call('ZADD', KEYS[1], SILENT, member) end
return redis.call('ZRANGEBYSCORE', KEYS[1], SILENT, DEAD, 'WITHSCORES')
