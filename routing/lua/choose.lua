-- The health of a deployment and the choice among several: peak-EWMA times work in flight.
--
-- The expected wait at a deployment is its first-byte latency times (in flight + 1), over its
-- weight (Finagle's peak EWMA: a worse sample counts at once, a better one slowly).
-- An idle deployment's latency fades, so that it is tried again, but only so far that it draws no
-- herd; in the end it is forgotten, and the deployment counts as its peers do on average.

local TAU = 10000000
local FORGET = 30000000
-- A failure weighs like an answer this slow, so that failing fast attracts nobody.
local FAILURE_US = 5000000
local COOL_US = 1000000
local COOL_MOST_US = 30000000
-- The longest that a vendor is taken at its word.
local THROTTLE_MOST_US = 3600000000
-- Failures in a row before a deployment is left alone for a while.
local PATIENCE = 3

-- Takes a moment, now, and the longest that may lie between them. Returns how long it still is; what
-- lies further ahead was written before the clock stepped back, and counts no more.
local function remaining(moment, now, most)
  local wait = moment - now
  if wait > 0 and wait <= most then return wait end
  return 0
end

-- Takes a deployment's scope and now. Returns for how long it is left alone because it was failing.
local function cooling(d, now)
  return remaining(d.s[6], now, COOL_MOST_US)
end

-- Takes a deployment's scope and now. Returns for how long its vendor asked to be left alone.
local function throttled(d, now)
  return remaining(d.s[7], now, THROTTLE_MOST_US)
end

-- Takes a deployment's scope and now. Returns its faded latency, 0 when nothing is known.
local function latency(d, now)
  local s = d.s
  if s[3] <= 0 then return 0 end
  if d.lat then return d.lat end
  local age = now - s[4]
  if age < 0 then age = 0 end
  if age > FORGET then
    d.lat = 0
  else
    d.lat = s[3] * math.exp(-math.min(age, TAU) / TAU)
  end
  return d.lat
end

-- Takes a deployment, its latency (or that of its peers) and the work in flight. Returns the cost.
local function expected_wait(d, lat)
  return lat * (d.s[2] + 1) / d.l[4]
end

-- Takes a deployment's scope, now and a first-byte time in us. Teaches it.
local function observe(d, now, sample)
  local s = d.s
  local known = latency(d, now)
  if sample > known then
    s[3] = sample
  else
    local age = now - s[4]
    if age < 0 then age = 0 end
    -- A busy deployment gets many samples per tau; each weighs at least a little.
    local keep = math.exp(-age / TAU)
    if keep > 0.95 then keep = 0.95 end
    s[3] = known * keep + sample * (1 - keep)
  end
  s[4] = now
  d.lat = nil
end

-- Takes a deployment's scope, now, its health word (1 fine, 2 failed, 3 throttled, 0 says
-- nothing), the first-byte time, and the cooling that the vendor asked for in us.
local function learn(d, now, health, ttft, cool)
  local s = d.s
  if health == 1 then
    s[5] = 0
    if ttft > 0 then observe(d, now, ttft) end
  elseif health == 2 then
    observe(d, now, FAILURE_US)
    -- What fails while it cools was under way before, and says nothing new.
    if cooling(d, now) == 0 then
      s[5] = s[5] + 1
      if s[5] >= PATIENCE then
        s[6] = now + math.min(COOL_US * 2 ^ math.min(s[5] - PATIENCE, 5), COOL_MOST_US)
      end
    end
  end
  -- What the vendor asked for is kept apart from our own judgement: it is never overridden.
  if health == 3 and cool < COOL_US then cool = COOL_US end
  if cool > THROTTLE_MOST_US then cool = THROTTLE_MOST_US end
  if cool > throttled(d, now) then s[7] = now + cool end
end
