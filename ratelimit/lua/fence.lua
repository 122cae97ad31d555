-- End the life of replicas that stopped beating, so that the reaper may take what they held.
--
-- KEYS[1]  beats  zset  replica.boot -> heartbeat expiry, or how its life ended (see lives.lua)
-- ARGV[1]  now    us since 2024-01-01; empty asks the server
--
-- Returns the members of whom something is to be freed: the dead, old and new, and the silent whose
-- reservations have stayed long enough.

--- @include gcra
--- @include lives

local now = clock(ARGV[1])
-- Nobody promises to live longer than a minute, and nothing stays longer than it may: what says so was
-- written before the clock stepped back.
local function clamp(from, to, most)
  local soon = string.format('%.0f', most)
  for _, member in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], from, to)) do
    redis.call('ZADD', KEYS[1], soon, member)
  end
end
clamp(string.format('(%.0f', now + MINUTE), '+inf', now + MINUTE)
clamp('-inf', string.format('(%.0f', -now - STAYS), -now - STAYS)
local silent = redis.call('ZRANGEBYSCORE', KEYS[1], 0, string.format('%.0f', now))
for _, member in ipairs(silent) do redis.call('ZADD', KEYS[1], SILENT, member) end
return redis.call('ZRANGEBYSCORE', KEYS[1], string.format('%.0f', -now), DEAD)
