-- The cell-rate arithmetic of every rate limit, and the cell's clock.
--
-- A limit of N per minute is a bucket that holds N and regains N per minute (GCRA: one
-- theoretical arrival time, "tat", per limit; ITU-T I.371, and brandur.org/rate-limiting).
-- Times are microseconds since 2024-01-01 UTC: they stay far below 2^53, where Lua's numbers
-- stop being exact. A settlement may push a tat beyond the bucket: that is debt, paid by waiting.

local EPOCH = 1704067200
local MINUTE = 60000000
-- No debt is longer than an hour beyond the bucket. A tat that is further ahead, and not by a hair,
-- was written before the clock stepped back.
local DEBT_CAP = 3600000000
local FAR = DEBT_CAP + 2 * MINUTE
-- Seconds for which the store remembers what a replica has done, beyond that replica's life.
local REMEMBER = 604800

-- Takes the override of the tests ("" asks the server). Returns now.
local function clock(override)
  if override ~= '' then return tonumber(override) end
  local t = redis.call('TIME')
  return (t[1] - EPOCH) * 1000000 + t[2]
end

-- Takes a tat and now. Returns the tat that a settlement may leave: never in the past, no debt
-- without end.
local function bounded(tat, now)
  if tat < now then return now end
  if tat > now + MINUTE + DEBT_CAP then return now + MINUTE + DEBT_CAP end
  return tat
end

-- Takes a tat that is not in the past, now, and the limit per minute. Returns what the bucket still holds.
local function left(tat, now, per_minute)
  local n = math.floor((MINUTE - (tat - now)) * per_minute / MINUTE + 1e-6)
  if n < 0 then return 0 end
  return n
end
