-- The cell-rate arithmetic of every rate limit, and the cell's clock.
--
-- A limit of N per window is a bucket that regains N per window and holds its burst (GCRA: one
-- theoretical arrival time, "tat", per limit; ITU-T I.371, and brandur.org/rate-limiting).
-- Times are microseconds since 2024-01-01 UTC, tats in sixteenths of one: both stay exact in a Lua
-- number (2^53), and what is taken is rounded up to a sixteenth, so that no rounding ever grants.
-- A settlement may push a tat beyond the bucket: that is debt, paid by waiting.

local floor, ceil = math.floor, math.ceil
local EPOCH = 1704067200
local MINUTE = 60000000
-- Seconds for which the store remembers what a replica has done, beyond that replica's life.
local REMEMBER = 604800

-- What a limit counts: 1 requests, 2 tokens, 3 input tokens, 4 output tokens.
local REQUESTS, TOKENS, INPUT = 1, 2, 3
-- By a limit's code: 1 rps, 2 rpm, 3 rph, 4 rpd, 5 tpm, 6 tpd, 7 itpm, 8 itpd, 9 otpm, 10 otpd.
-- Its window in sixteenths of a microsecond.
local WINDOW = { 1.6e7, 9.6e8, 5.76e10, 1.3824e12, 9.6e8, 1.3824e12, 9.6e8, 1.3824e12, 9.6e8, 1.3824e12 }
-- No debt is longer than an hour, or the window where that is longer, beyond the bucket. A tat that
-- is further ahead, and not by a hair, was written before the clock stepped back.
local DEBT = { 3.6e9, 3.6e9, 3.6e9, 8.64e10, 3.6e9, 8.64e10, 3.6e9, 8.64e10, 3.6e9, 8.64e10 }

-- Takes the override of the tests ("" asks the server). Returns now.
local function clock(override)
  if override ~= '' then return tonumber(override) end
  local t = redis.call('TIME')
  return (t[1] - EPOCH) * 1000000 + t[2]
end

-- Takes a code, its limit and an amount. Returns how far taking that amount moves the tat.
local function moved(code, limit, amount)
  local sixteenths = amount * WINDOW[code] / limit
  -- Rounded up; an operator costs a fifth of what math.ceil does.
  return (sixteenths + -sixteenths % 1) / 16
end

-- Takes limits, the place of one in them, a tat that is not in the past, and now. Returns how much
-- the bucket still gives.
local function left(l, r, tat, now)
  local free = (l[r + 2] - tat + now) * 16
  if free <= 0 then return 0 end
  local window, limit = WINDOW[l[r + 5]], l[r + 3]
  if l[r] == REQUESTS then return floor(free / ceil(window / limit)) end
  local whole = floor(free * limit / window)
  return whole < l[r + 4] and whole or l[r + 4]
end
