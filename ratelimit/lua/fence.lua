-- End the life of replicas that stopped beating, so that the reaper may take what they held.
--
-- KEYS[1]  beats  zset  replica.boot -> heartbeat expiry; -1 is fenced
-- ARGV[1]  now    us since 2024-01-01; empty asks the server
--
-- Returns the fenced members, old and new.

--- @include gcra

local now = clock(ARGV[1])
-- Nobody promises to live longer than a minute: what says so was written before the clock stepped back.
local soon = string.format('%.0f', now + MINUTE)
for _, member in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. soon, '+inf')) do
  redis.call('ZADD', KEYS[1], soon, member)
end
local dead = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now))
for _, member in ipairs(dead) do redis.call('ZADD', KEYS[1], -1, member) end
return dead
